"""How good a shuffle is: what an order does to the samples and their labels, as numbers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from rightbatch.data.dataset import Dataset
from rightbatch.errors import OptionError
from rightbatch.loading.batches import Batches
from rightbatch.loading.label_measures import (
    WORST_RATIO,
    LabelMeasures,
    measure_labels,
    uniform_band,
)
from rightbatch.loading.part_labels import PartLabels, target_labels
from rightbatch.loading.parts import Part, Parts, whole
from rightbatch.loading.refused_options import refuse_options
from rightbatch.loading.shuffle_result import ShuffleQuality, share_text
from rightbatch.loading.window_search import try_windows
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.plan.order import Order
from rightbatch.plan.order_measures import Measure, measure_order
from rightbatch.plan.plan import Plan
from rightbatch.plan.sampled_epoch import SampledEpoch

logger = logging.getLogger(__name__)

_BATCH_SIZE = 256
_BLOCK = 1024
_FEWEST_BLOCKS = 64
# Points of the charts.
_MOST_PLACES = 1500
_MOST_BATCHES = 500
# From this correlation of neighbours on, the labels come in runs of more than two samples.
_SORTED = 0.5
_ONCE = "it measures orders in which every sample comes once: leave it out"
_NOT_TAKEN = {
    "weights": _ONCE,
    "epoch_samples": _ONCE,
    "batch_tokens": "it measures batches of as many samples each: give batch_size",
}


def shuffle_quality(
    part: Part | Dataset | Batches | Any,
    labels: ArrayLike | str | None = None,
    *,
    batch_size: int | str | None = None,
    shuffle: bool | None = None,
    window: int | None = None,
    block: int | None = None,
    memory: str | int | float | None = None,
    seed: int | None = None,
    epoch: int = 0,
    **not_taken: Never,
) -> ShuffleQuality:
    """How far samples travel, how mixed batches are, and how their labels compare to the whole.

    `part` is a part, a data set or anything that `rb.open` takes, and the order is that of
    `Batches` with these options: batches of 256, a uniform shuffle and the seed 0 where nothing
    is said. It may be a `Batches` too, whose options are then its own. `labels` (n,) are whole
    numbers, booleans or texts, one a sample of the part, or the name of a column; without, they
    are the target's, where it is one of classes. Numbers that are no classes have to be sorted
    into bins by the caller, since the choice of bins decides what is balanced.

    `ShuffleQuality` defines the numbers. Blocks are those of the block-window order, else of
    1,024 samples, or a 64th of the data where these are fewer than 65,536. At most 2^20 positions
    are worked out at a time and as many labels read, so that the cost does not grow with the data;
    their fingerprint is taken too, which reads up to 1 GiB once.

    Where the order is not uniform and mixes the labels badly, an imbalance above 1.5 times the
    uniform shuffle's or a correlation of consecutive batches above 0.25, the result has a
    `warning`, which is logged too. Larger windows are then measured in the same way, and the
    smallest that would do is named, or else the uniform shuffle; none that was not measured is.

    Raises OptionError for options that are not valid, labels that do not fit and batches longer
    than 2^20 samples, DataError where `labels` names no column of classes.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("digits"), val=0.2, seed=7)
    >>> rb.shuffle_quality(parts.train, batch_size=64)
    <ShuffleQuality of digits, train: order uniform, batches of 64: travel 0.96 of uniform,
    label imbalance 1.02 times uniform>
    """
    refuse_options("shuffle_quality", not_taken, _NOT_TAKEN)
    given = {
        "batch_size": batch_size,
        "shuffle": shuffle,
        "window": window,
        "block": block,
        "memory": memory,
        "seed": seed,
    }
    part, plan = _planned(part, given)
    if not isinstance(plan.order, Order) or part.mixture is not None:
        raise OptionError(
            "shuffle_quality measures orders in which every sample comes once, and this one draws "
            "them by weight or from a mixture, evenly over each epoch by law: measure the sources, "
            "or leave the weights out"
        )
    epoch = whole_number("epoch", epoch, at_least=0)
    sampled = SampledEpoch.of(plan, epoch)
    length = plan.length
    blocks = plan.order.block or min(_BLOCK, -(-length // _FEWEST_BLOCKS))
    ordered = measure_order(sampled, blocks)
    known, note = target_labels(part) if labels is None else (PartLabels.of(part, labels), None)
    notes = [] if note is None else [note]
    if not sampled.is_whole:
        notes.append(
            f"{len(sampled.rows):,} of {length:,} positions were looked at, "
            f"{len(sampled.sizes):,} whole batches spread over the epoch"
        )
    shown = _spread(len(sampled.rows), _MOST_PLACES)
    quality = ShuffleQuality(
        data=part.data.name,
        part=part.name,
        fingerprint=part.fingerprint,
        samples=length,
        batch_size=plan.batch_size,
        batches=plan.batch_count(),
        order=plan.order,
        seed=plan.seed,
        epoch=epoch,
        block=blocks,
        evaluated=len(sampled.rows),
        is_sampled=not sampled.is_whole,
        travel=ordered.travel,
        travel_low=ordered.travel_low,
        travel_high=ordered.travel_high,
        distinct_blocks=ordered.distinct_blocks,
        neighbours=ordered.neighbours,
        notes=notes,
        places=list(
            zip(sampled.positions[shown].tolist(), sampled.rows[shown].tolist(), strict=True)
        ),
    )
    return quality if known is None else _with_labels(quality, sampled, known)


def _planned(source: Any, given: dict[str, Any]) -> tuple[Part, Plan]:
    """The part and the plan that the arguments ask for."""
    if isinstance(source, Batches):
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise OptionError(
                f"{', '.join(named)} cannot be given with Batches, which have their own: leave "
                "them out, or hand over the part"
            )
        if not isinstance(source.plan, Plan):
            raise OptionError(
                "the quality of a shuffle is measured on batches of equal size, and these hold up "
                f"to {source.plan.tokens:,} tokens: hand over the part"
            )
        return source.part, source.plan
    if isinstance(source, Parts):
        parts = ", ".join(f"parts.{name}" for name in source.all)
        raise OptionError(f"shuffle_quality takes one part, and was given all of them: {parts}")
    part = source if isinstance(source, Part) else whole(source)
    length = len(part)
    shuffle = True if given["shuffle"] is None else given["shuffle"]
    size = _BATCH_SIZE if given["batch_size"] is None else given["batch_size"]
    if given["memory"] is not None:
        asked = {name: value for name, value in given.items() if value is not None}
        return _planned(Batches(part, **{"batch_size": size, **asked}), {})
    plan = Plan(
        length=length,
        batch_size=resolve_batch_size(size, length),
        order=Order.resolve(shuffle, given["window"], length, given["block"]),
        seed=0 if given["seed"] is None else given["seed"],
    )
    return part, plan


def _with_labels(
    quality: ShuffleQuality, sampled: SampledEpoch, labels: PartLabels
) -> ShuffleQuality:
    """The same with what the order does to the labels, and a warning where it mixes them badly."""
    plan = sampled.plan
    measured = measure_labels(sampled, labels)
    shown = _spread(len(sampled.sizes), _MOST_BATCHES)
    quality = replace(
        quality,
        label_imbalance=measured.imbalance,
        consecutive_labels=measured.consecutive,
        equal_neighbours=Measure(value=labels.equal_neighbours(), uniform=labels.equal_by_chance),
        classes=len(labels.known),
        batch_imbalances=list(
            zip(sampled.numbers[shown].tolist(), measured.of_batches[shown].tolist(), strict=True)
        ),
        uniform_band=uniform_band(plan, labels),
    )
    if measured.is_mixed or plan.order.kind == "uniform":
        return quality
    quality = replace(quality, tried=try_windows(plan, quality.epoch, labels))
    if not any(one.is_mixed for one in quality.tried):
        note = "the uniform shuffle that was tried is no better: there are too few samples to tell"
        return replace(quality, notes=[*quality.notes, note])
    quality = replace(quality, warning=_warning(quality, measured))
    logger.warning(f"{quality.data}: {quality.warning}")
    return quality


def _warning(quality: ShuffleQuality, measured: LabelMeasures) -> str:
    """What is seen, why, and what was tried that would do."""
    order, imbalance, neighbours = quality.order, measured.imbalance, quality.equal_neighbours
    assert neighbours is not None  # there are labels
    seen = (
        f"the label shares of a batch of {quality.batch_size:,} are off by "
        f"{share_text(imbalance.value)}, {imbalance.ratio:.3g} times as far as in a uniform shuffle"
    )
    if imbalance.ratio <= WORST_RATIO and measured.consecutive is not None:
        seen = (
            f"samples of consecutive batches of {quality.batch_size:,} have the same label in "
            f"{share_text(measured.consecutive.value)} of cases, and in "
            f"{share_text(measured.consecutive.uniform)} in a uniform shuffle"
        )
    excess = neighbours.value - neighbours.uniform
    is_sorted = excess > _SORTED * (1 - neighbours.uniform)
    cause = "the data are sorted by label" if is_sorted else "the shares drift along the data"
    cause += (
        f" ({share_text(neighbours.value)} of neighbours have the same label, "
        f"{share_text(neighbours.uniform)} would by chance)"
    )
    is_sequential = order.kind == "sequential"
    cause += (
        ", and are read in this order"
        if is_sequential
        else f", and a window of {order.window:,} is too small"
    )
    return f"{seen}: {cause}. {_advice(quality, is_about_shares=imbalance.ratio > WORST_RATIO)}"


def _advice(quality: ShuffleQuality, *, is_about_shares: bool) -> str:
    """What was tried and mixes well, and that the data could be shuffled themselves."""
    window, is_sequential = quality.window_that_would_do, quality.order.kind == "sequential"
    blocks = "" if quality.order.block is None else f", block={quality.order.block}"
    best = next(one for one in quality.tried if one.is_mixed)
    has = f"({share_text(best.imbalance)}, {best.imbalance_ratio:.3g} times)"
    if not is_about_shares:
        has = f"(a correlation of {best.label_correlation:.2f})"
    if window is not None:
        or_all = "shuffle=True, or " if is_sequential else ""
        told = f"Take {or_all}window={window}{blocks}, the smallest tried that would do {has}"
    else:
        uniform = "Take shuffle=True" if is_sequential else "Leave window out"
        told = f"{uniform}: the uniform shuffle would do {has}"
        smaller = [one.window for one in quality.tried if one.window < quality.samples]
        if smaller:
            told += f", and a window of {smaller[-1]:,}{blocks}, the largest tried, would not"
    return f"{told}; or shuffle the data when they are written"


def _spread(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Up to `most` of `count` places, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))

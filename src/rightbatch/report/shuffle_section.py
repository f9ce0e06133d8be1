"""What the report says about the quality of a shuffle: titles, facts, tables and captions."""

from __future__ import annotations

from collections.abc import Iterator

from rightbatch.loading.shuffle_result import ShuffleQuality, share_text
from rightbatch.report.alert import Alert
from rightbatch.report.figure import Figure
from rightbatch.report.findings import Origin
from rightbatch.report.shuffle_chart import batch_balance, shuffle_places
from rightbatch.report.tables import Table
from rightbatch.report.wording import sentence
from rightbatch.training.provenance import Provenance

# A sample travels by a third of the length in a uniform shuffle.
_FAR = 0.9
_MOST_ALIKE = 1.1


def shuffle_title(quality: ShuffleQuality) -> str:
    """What was measured."""
    return f"Shuffle of {quality.data}, {quality.part}: {quality.order}"


def origin_of_shuffle(quality: ShuffleQuality) -> Origin:
    """Where the measurement comes from."""
    return Origin(
        name=shuffle_title(quality),
        provenance=Provenance(
            data=quality.data,
            fingerprint=quality.fingerprint,
            sizes={quality.part: quality.samples},
        ),
        facts={
            "part": quality.part,
            "order": str(quality.order),
            "batch size": quality.batch_size,
            "seed": quality.seed,
            "epoch": quality.epoch,
        },
    )


def shuffle_facts(quality: ShuffleQuality) -> list[str]:
    """What the numbers show, in a few sentences."""
    blocks = quality.distinct_blocks
    facts = [
        f"A sample travels by {quality.travel.value:.3g} of the length on average, and by "
        f"{quality.travel.uniform:.3g} in a uniform shuffle.",
        f"A batch of {quality.batch_size:,} comes from {blocks.value:.3g} different blocks of "
        f"{quality.block:,} neighbours, and from {blocks.uniform:.3g} in a uniform shuffle.",
    ]
    imbalance = quality.label_imbalance
    if imbalance is not None:
        facts.append(
            f"The label shares of a batch are off by {share_text(imbalance.value)} on average, and "
            f"by {share_text(imbalance.uniform)} in a uniform shuffle."
        )
    return [*facts, *(sentence(note[:1].upper() + note[1:]) for note in quality.notes)]


def shuffle_alerts(quality: ShuffleQuality) -> list[Alert]:
    """The warning, where there is one."""
    if quality.warning is None:
        return []
    text = sentence(f"{quality.warning[:1].upper()}{quality.warning[1:]}")
    return [Alert(kind="shuffle", severity="warning", text=text, advice="")]


def shuffle_tables(quality: ShuffleQuality) -> list[Table]:
    """Every measure beside the uniform shuffle's, and the windows that were tried."""
    tables = [
        Table(
            title=f"Beside a uniform shuffle: {quality.order}, batches of {quality.batch_size:,}",
            columns=["", "here", "uniform shuffle", "times"],
            rows=quality.rows(),
        )
    ]
    if quality.tried:
        tables.append(
            Table(
                title="Windows that were tried",
                columns=["window", "label imbalance", "times uniform", "correlation", ""],
                rows=[
                    [
                        f"{one.window:,}"
                        if one.window < quality.samples
                        else "all, the uniform shuffle",
                        share_text(one.imbalance),
                        f"{one.imbalance_ratio:.2f}",
                        f"{one.label_correlation:.3f}",
                        "mixes well" if one.is_mixed else "too small",
                    ]
                    for one in quality.tried
                ],
            )
        )
    return tables


def shuffle_figures(quality: ShuffleQuality, prefix: str) -> Iterator[Figure]:
    """Where the samples go, and how balanced the batches are."""
    group = shuffle_title(quality)
    yield Figure(
        name=f"{prefix}shuffle-places",
        section="shuffle",
        group=group,
        title="Where each sample goes",
        caption=_places_caption(quality),
        draw=lambda **how: shuffle_places(quality, **how),
        is_wide=False,
    )
    yield Figure(
        name=f"{prefix}shuffle-balance",
        section="shuffle",
        group=group,
        title="Label imbalance of the batches",
        caption=_balance_caption(quality),
        draw=lambda **how: batch_balance(quality, **how),
        is_wide=False,
    )


def _places_caption(quality: ShuffleQuality) -> str:
    words = (
        f"Each dot is a sample, {len(quality.places):,} of {quality.samples:,}; the dashed line is "
        "the order of the data."
    )
    if quality.travel.value == 0:
        return f"{words} All lie on it: nothing is shuffled."
    if quality.travel.ratio < _FAR:
        return (
            f"{words} A uniform shuffle fills the square; here a sample travels by "
            f"{quality.travel.ratio:.2g} of its way."
        )
    if quality.neighbours.ratio > _MOST_ALIKE:
        return (
            f"{words} Samples travel as far as in a uniform shuffle, but neighbours share a batch "
            f"{quality.neighbours.ratio:,.3g} times as often."
        )
    return f"{words} They fill the square, as in a uniform shuffle."


def _balance_caption(quality: ShuffleQuality) -> str:
    words = (
        "The part of a batch that had to be exchanged to give it the label shares of the whole; "
        "nine of ten batches of a uniform shuffle lie in the grey band."
    )
    band, values = quality.uniform_band, [value for _, value in quality.batch_imbalances]
    if band is None or not values:
        return words
    above = sum(value > band[1] for value in values) / len(values)
    return f"{words} {share_text(above)} of the batches here lie above it."

"""`speed`: what a sample costs at each batch size, measured."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Never

import numpy as np
import torch
from torch import Tensor

from rightbatch.advice.law import fit_step_time
from rightbatch.advice.speed_notes import notes_of
from rightbatch.advice.stopwatch import (
    Floats,
    SpeedWatcher,
    Watched,
    median_intervals,
    read_rounds,
    resampled_medians,
    warm_up,
)
from rightbatch.advice.subject import (
    Model,
    Pool,
    Predicting,
    Training,
    find_subject,
    pool_size,
    refused,
)
from rightbatch.advice.timing import Neighbours, Speed, SpeedPoint
from rightbatch.errors import OptionError, did_you_mean, is_out_of_memory
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Part, Parts, whole
from rightbatch.loading.refused_options import refuse_options
from rightbatch.loading.tensors import find_device
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import is_integer, whole_number
from rightbatch.training.options import FitOptions
from rightbatch.training.provenance import Provenance, describe_environment, describe_transforms

logger = logging.getLogger(__name__)

MODES = ("predict", "train")
_LARGEST_BY_DEFAULT = 1024
# Below 4 a power of two and its neighbours are mostly powers of two.
_LEAST_POWER = 4
_LOADING_SECONDS = 0.25
_ANY_SAMPLES = "which samples a batch holds does not change its time: leave it out"
_NOT_TAKEN = {
    "batch_size": "it is batch_sizes, one or several",
    "batch_tokens": "it times batches of so many samples: attach rb.pad() for those that vary in "
    "length and give batch_sizes",
    "weights": _ANY_SAMPLES,
    "epoch_samples": _ANY_SAMPLES,
}


def speed(
    model: Model,
    part: Part | Any,
    *,
    batch_sizes: Iterable[int | str] | int | str | None = None,
    mode: str = "predict",
    threads: int = 1,
    seconds: float = 5.0,
    seed: int = 0,
    neighbours: bool = True,
    activation: str | None = None,
    learning_rate: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    device: str | torch.device | None = None,
    progress: SpeedWatcher | None = None,
    **not_taken: Never,
) -> Speed:
    """Measure the time that a sample costs at each batch size.

    `model` is the name of a built-in model, a `torch.nn.Module`, what `fit` gave, the folder of a
    run, or weights (a file or a mapping of W1, b1, …; `activation` stands between their layers).
    It is copied: its weights and modes, the random state and the threads of torch are as before
    when this returns. `part` is a part of a split or anything that `open` takes; its samples are
    loaded beforehand, so that the times are those of the computation, in seconds.

    `mode="predict"` times the forward pass, `mode="train"` a whole step, with the gradient and
    the update of `optimizer`. `batch_sizes` are numbers of samples, or "full"; the default is
    the powers of two up to 1,024 that the part has. Where a size is larger than the part, its
    samples are repeated, which `notes` tells. A size that does not fit in memory is left out, with
    a warning. `device` is that of the model unless given.

    How: `threads` threads of the CPU's arithmetic, a fixed number; every size is warmed up; then
    rounds follow for `seconds` (five at least), each of which takes all sizes once in a new random
    order, repeating the short ones for a millisecond. A point is the median over the rounds, with
    a 95 % bootstrap interval. The law t(B) = (aᵖ + (b B)ᵖ)^(1/p) is fitted to the points, see
    `fit_step_time`. With `neighbours` the sizes beside each power of two from 4 on are measured in
    the same rounds. How fast the part's batches can be made is measured apart from that.

    Raises OptionError where an option is not valid or the model can not take the batches, DataError
    where the data do not fit the model, TrainingError where the loss becomes NaN or infinite.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("digits"), val=0.1).transform(rb.scale(1 / 16))
    >>> timing = rb.speed("mlp:50,50", parts.train, batch_sizes=[1, 8, 64], seconds=0.1)
    >>> [point.batch_size for point in timing.points]
    [1, 8, 64]
    >>> timing.points[0].seconds_per_sample > timing.points[-1].seconds_per_sample
    True
    """
    refuse_options("speed", not_taken, _NOT_TAKEN)
    _check_mode(mode)
    threads = whole_number("threads", threads, at_least=1)
    seed = whole_number("seed", seed)
    if not _is_number(seconds) or not math.isfinite(seconds) or seconds <= 0:
        raise OptionError(f"seconds={seconds!r} is not valid; give a number of seconds above 0")
    is_training = mode == "train"
    options = FitOptions(
        learning_rate=learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        loss=loss,
        activation=activation or "relu",
        seed=seed,
    )
    if isinstance(part, Parts):
        named = ", ".join(f"parts.{name}" for name in part.all)
        raise OptionError(f"speed measures on one part, and was given all of them: {named}")
    part = part if isinstance(part, Part) else whole(part)
    # Which samples they are does not matter here; that every one comes once makes them countable.
    part = replace(part, mixture=None)
    asked = find_batch_sizes(batch_sizes, len(part))
    powers = _powers(asked) if neighbours else []
    sizes = list(dict.fromkeys([*asked, *(n for power in powers for n in _beside(power))]))
    with torch.random.fork_rng(()), _threads(threads):
        subject = find_subject(
            model, part, is_training=is_training, options=options, activation=activation
        )
        where = _device(subject.network, device)
        subject.network.to(where)
        work = Training(subject, options) if is_training else Predicting(subject)
        pool = Pool(subject.part, pool_size(subject.part, max(sizes)), seed=seed, device=where)
        with _random_state(where), torch.inference_mode(not is_training):
            sizes, watched, calls = _warm_up(work, pool, sizes, where, part.data.name)
            began = time.perf_counter()
            readings = read_rounds(watched, calls, seconds=seconds, seed=seed, progress=progress)
            round_seconds = time.perf_counter() - began
        points, trios = _measured(sizes, asked, powers, readings, seed=seed)
        fastest = min(points, key=lambda point: point.seconds_per_sample)
        loading = loading_seconds(
            subject.part,
            fastest.batch_size,
            seconds=min(seconds, _LOADING_SECONDS),
            seed=seed,
            device=where,
        )
        environment = describe_environment()
    fit = None
    if len(points) > 1:
        fit = fit_step_time(
            [point.batch_size for point in points], [point.seconds_per_batch for point in points]
        )
    settings: dict[str, Any] = {"seconds": float(seconds), "seed": seed}
    if activation is not None:
        settings["activation"] = activation
    if is_training and subject.loss is not None:
        settings["loss"] = subject.loss.name
        settings |= {name: getattr(options, name) for name in ("optimizer", "learning_rate")}
        settings["momentum"] = options.momentum
    return Speed(
        model=subject.name,
        mode=mode,
        threads=threads,
        device=str(where),
        points=points,
        fit=fit,
        neighbours=trios,
        loading_seconds_per_sample=loading,
        rounds=len(readings),
        notes=notes_of(
            points,
            trios,
            fit=fit,
            loading=loading,
            samples=len(part),
            left_out=[size for size in asked if size not in sizes],
            rounds=len(readings),
            round_seconds=round_seconds,
            asked_seconds=seconds,
        ),
        settings=settings,
        provenance=Provenance(
            data=part.data.name,
            fingerprint=part.fingerprint,
            sizes={part.name: len(part)},
            transforms=describe_transforms(part),
            environment=environment,
        ),
    )


def find_batch_sizes(
    batch_sizes: Iterable[int | str] | int | str | None, samples: int
) -> list[int]:
    """The sizes that are meant, in the order given and each once; OptionError where one is none.

    >>> find_batch_sizes(None, 20), find_batch_sizes([8, 1, "full", 8], 20)
    ([1, 2, 4, 8, 16], [8, 1, 20])
    """
    if batch_sizes is None:
        largest = min(samples, _LARGEST_BY_DEFAULT)
        return [2**power for power in range(largest.bit_length())]
    if isinstance(batch_sizes, str) or is_integer(batch_sizes):
        batch_sizes = [batch_sizes]  # type: ignore[list-item]  # mypy does not narrow the integers
    try:
        sizes = list(batch_sizes)  # type: ignore[arg-type]  # the same
    except TypeError as error:
        raise OptionError(
            f"batch_sizes={batch_sizes!r} is not valid; give numbers of samples, such as "
            "range(1, 31) or [1, 32, 128, 'full']"
        ) from error
    if not sizes:
        raise OptionError("batch_sizes is empty; give one at least, such as [1, 32, 128]")
    return list(dict.fromkeys(resolve_batch_size(size, samples) for size in sizes))


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise OptionError(
            f"mode={mode!r} is not valid.{did_you_mean(str(mode), MODES)} Valid are: "
            f"{', '.join(MODES)}."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _powers(sizes: list[int]) -> list[int]:
    return sorted(size for size in sizes if size >= _LEAST_POWER and size.bit_count() == 1)


def _beside(power: int) -> tuple[int, int]:
    return power - 1, power + 1


def _warm_up(
    work: Predicting | Training, pool: Pool, sizes: list[int], device: torch.device, data: str
) -> tuple[list[int], list[Watched], list[int]]:
    """The sizes that run, each as a thing to watch with the calls that make a reading."""
    runs: list[int] = []
    watched: list[Watched] = []
    calls: list[int] = []
    finish = _finish(device)
    # From small to large, so that what is too large for memory is met last.
    for size in sorted(sizes):
        thing = Watched(call=work.call_with(pool.views(size)), prepare=work.prepare, finish=finish)
        try:
            count = warm_up(thing)
        except Exception as error:
            if is_out_of_memory(error) and runs:
                logger.warning(
                    f"batch size {size:,} does not fit in memory and is left out, with all larger "
                    "ones"
                )
                break
            told = refused(error, batch_size=size, data=data)
            if told is error:
                raise
            raise told from error
        runs.append(size)
        watched.append(thing)
        calls.append(count)
    return runs, watched, calls


def _measured(
    sizes: list[int], asked: list[int], powers: list[int], readings: Floats, *, seed: int
) -> tuple[list[SpeedPoint], list[Neighbours]]:
    """Points and neighbours from the seconds a call, (rounds, sizes)."""
    medians, low, high = median_intervals(readings)
    column = {size: position for position, size in enumerate(sizes)}
    points = {
        size: SpeedPoint(
            batch_size=size,
            seconds_per_batch=float(medians[k]),
            seconds_per_sample=float(medians[k]) / size,
            low=float(low[k]) / size,
            high=float(high[k]) / size,
        )
        for size, k in column.items()
    }
    whole = [power for power in powers if {power, *_beside(power)} <= points.keys()]
    drawn = resampled_medians(readings, seed=seed) if whole else readings
    trios = []
    for power in whole:
        trio = [column[size] for size in (power - 1, power, power + 1)]
        low_saving, high_saving = np.percentile(_saving(drawn[:, trio]), [2.5, 97.5])
        trios.append(
            Neighbours(
                below=points[power - 1],
                at=points[power],
                above=points[power + 1],
                saving=float(_saving(medians[trio])),
                low=float(low_saving),
                high=float(high_saving),
            )
        )
    return [points[size] for size in asked if size in points], trios


def _saving(medians: Floats) -> Floats:
    """By how much the middle one of three times is below the mean of the other two."""
    # Of whole batches: times of the form a + bB then give zero, and times a sample would not.
    return np.asarray(1 - 2 * medians[..., 1] / (medians[..., 0] + medians[..., 2]))


def loading_seconds(
    part: Part, batch_size: int, *, seconds: float, seed: int, device: torch.device
) -> float:
    """Seconds a sample that making batches takes, with the one thread that `fit` gives it."""
    size = min(batch_size, len(part))
    batches = Batches(part, size, seed=seed, output="torch", device=device, threads=1)
    for _ in batches.epoch(0):
        break
    taken = 0
    began = time.perf_counter()
    # Epoch after epoch, from the first batch that a loop would wait for.
    for epoch in itertools.count(1):
        for number, _ in enumerate(batches.epoch(epoch)):
            taken += min(size, len(part) - number * size)
            spent = time.perf_counter() - began
            if spent >= seconds:
                return spent / taken
    raise AssertionError("the count of epochs has no end")


def _device(network: torch.nn.Module, device: str | torch.device | None) -> torch.device:
    if device is not None:
        found: torch.device = find_device(device)
        return found
    first = next(network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _finish(device: torch.device) -> Callable[[], object]:
    """What waits for the work that was given to `device`."""
    if device.type == "cpu":
        return lambda: None
    module = getattr(torch, device.type)
    synchronize: Callable[[], object] = module.synchronize
    return synchronize


@contextmanager
def _random_state(device: torch.device) -> Iterator[None]:
    """The random state of a device put back; that of the CPU is a matter of the caller's."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

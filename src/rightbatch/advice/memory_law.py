"""The law of memory: what a process needs and holds above its loaded state, by batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from rightbatch.errors import OptionError

# One-sided: of twenty runs of a size one takes more than `high` says.
_CONFIDENCE = 0.95
# Few points on a straight line by chance prove no exactness.
_LEAST_SPREAD = 0.02
# What the C library keeps of freed memory differs from run to run, and the short runs of probes
# show the lesser part of it. Convolutions and attention held up to 2.5 times what they needed,
# where probes had seen 1.3 to 1.8; linear layers the same within some per cent
# (benchmarks/advice_memory.py).
RUNS_DIFFER = 0.15
_KEPT_STRAYS, _MOST_KEPT = 2.5, 1.8
# Below this a byte weighs as much at a small size as at a large one.
_SMALL_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Loader:
    """The batches that a loader holds at once, in bytes: known, and no straight line.

    `slabs` of consecutive batches exist at once, each of about `slab_bytes`, or of one batch where
    that is larger; but an epoch of `samples` samples has no more than it has.
    """

    sample_bytes: float
    samples: int
    slabs: int
    slab_bytes: int

    def bytes(self, batch_size: float) -> float:
        """What is held at a batch size."""
        return min(self.slabs * self.one_slab(batch_size), self.samples * self.sample_bytes)

    def one_slab(self, batch_size: float) -> float:
        """The bytes of one slab."""
        batch_bytes = batch_size * self.sample_bytes
        whole = batch_bytes * max(1, math.floor(self.slab_bytes / batch_bytes))
        return min(whole, self.samples * self.sample_bytes)


@dataclass(frozen=True, kw_only=True)
class MemoryFit:
    """Bytes in use at once, above the loaded process: M(B) = m0 + m1 B + what the loader holds.

    m0 is `base_bytes`, m1 `bytes_per_sample`. `spread` is the standard deviation of the relative
    residuals, on `points` measurements. Where these bend away from the law by more than chance,
    `bends` are the relative corrections at the sizes that were measured, between which is
    interpolated. `held` are the factors by which the processes of some sizes held more than they
    needed.

    >>> fit = fit_memory([100, 200, 400], [200e6, 300e6, 500e6])
    >>> round(fit.bytes(300) / 1e6), fit.high(300) > fit.bytes(300)
    (400, True)
    >>> fit.bytes(fit.largest(10**9, at_most=4000)) < 10**9
    True
    """

    base_bytes: float
    bytes_per_sample: float
    spread: float
    points: int
    mean: float
    scatter: float
    loader: Loader | None = None
    bends: tuple[tuple[int, float], ...] = ()
    held: tuple[tuple[int, float], ...] = ()

    def bytes(self, batch_size: float) -> int:
        """The prediction at a batch size."""
        expected = self.base_bytes + self.bytes_per_sample * batch_size
        if self.loader is not None:
            expected += self.loader.bytes(batch_size)
        if self.bends:
            sizes, factors = zip(*self.bends, strict=True)
            expected *= float(np.interp(batch_size, sizes, factors))
        return max(0, round(expected))

    def high(self, batch_size: float) -> int:
        """The upper prediction bound: one run in twenty of that size holds more.

        For a straight line it is the textbook's, t · s · √(1 + 1/n + (B - mean)²/scatter), with
        relative residuals; the loader may hold one slab more than it did in the probes; and the
        process may hold more than it needs, by more than what those of the probes held, which
        ended early, and the difference between one run and the next.
        """
        expected = self.bytes(batch_size)
        # With two points there is no freedom left, and the bound says what one point would.
        quantile = float(student_t.ppf(_CONFIDENCE, max(1, self.points - 2)))
        leverage = 1 + 1 / self.points
        if self.scatter > 0:
            leverage += (math.log(batch_size) - self.mean) ** 2 / self.scatter
        more = min(quantile * self.spread * math.sqrt(leverage), 1.0) * expected
        slab = 0.0 if self.loader is None else self.loader.one_slab(batch_size)
        return round(max(expected + max(more, slab), self.most_held(expected) + slab))

    def most_held(self, needed_bytes: float) -> float:
        """The bytes that a process may hold where `needed_bytes` are in use at once."""
        if not self.held:
            return needed_bytes
        seen = max(factor for _, factor in self.held) - 1
        kept = min(_KEPT_STRAYS * seen, max(_MOST_KEPT, seen))
        # The first megabytes are small blocks, which stay where they are.
        return (1 + RUNS_DIFFER) * (needed_bytes + kept * max(0.0, needed_bytes - _SMALL_BYTES))

    def largest(self, limit_bytes: int, *, at_most: int) -> int:
        """The largest batch size up to `at_most` whose bound is within the limit; 0 for none."""
        low, high = 0, at_most + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.high(middle) <= limit_bytes:
                low = middle
            else:
                high = middle
        return low

    def of_ranks(self, world_size: int) -> MemoryFit:
        """The law of a rank's share as one of the global batch, which so many ranks share.

        >>> fit = fit_memory([100, 200, 400], [200e6, 300e6, 500e6])
        >>> fit.of_ranks(4).bytes(1200) == fit.bytes(300)
        True
        """
        loader = self.loader
        if loader is not None:
            # Of an epoch's samples a rank reads its share, too.
            loader = replace(loader, sample_bytes=loader.sample_bytes / world_size)
        return replace(
            self,
            bytes_per_sample=self.bytes_per_sample / world_size,
            mean=self.mean + math.log(world_size),
            loader=loader,
            bends=tuple((size * world_size, factor) for size, factor in self.bends),
            held=tuple((size * world_size, factor) for size, factor in self.held),
        )

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        loader = stored["loader"]
        return cls(
            **{
                **stored,
                "loader": None if loader is None else Loader(**loader),
                **{
                    name: tuple((int(size), float(factor)) for size, factor in stored[name])
                    for name in ("bends", "held")
                },
            }
        )


def fit_memory(
    batch_sizes: Sequence[int],
    measured_bytes: ArrayLike,
    *,
    held_bytes: ArrayLike | None = None,
    loader: Loader | None = None,
) -> MemoryFit:
    """Fit m0 + m1 B (+ what the loader holds) to the bytes that runs of several sizes needed.

    `held_bytes` is what their processes held, which enters the bound.

    Least squares of the *relative* errors, so that the prediction is as good in per cent at a
    middle size as at the largest; sizes of some megabytes, where nothing is exact, weigh less.

    Raises OptionError where there are fewer than two different sizes.
    """
    sizes = np.asarray(batch_sizes, np.float64)
    bytes_ = np.asarray(measured_bytes, np.float64)
    if len(np.unique(sizes)) < 2:
        raise OptionError(
            f"the law of memory takes two different batch sizes at least, and was given "
            f"{sorted({int(size) for size in sizes})}"
        )
    known = np.array([0.0 if loader is None else loader.bytes(size) for size in sizes])
    scale = np.maximum(bytes_, _SMALL_BYTES)
    columns = np.stack([np.ones(len(sizes)), sizes], axis=1) / scale[:, None]
    wanted = (bytes_ - known) / scale
    (base, slope), *_ = np.linalg.lstsq(columns, wanted, rcond=None)
    if slope < 0:  # a larger batch never needs less
        base, slope = float(np.average(bytes_ - known, weights=scale**-2)), 0.0
    left = wanted - columns @ np.array([base, slope])
    spread = float(np.sqrt(np.square(left).sum() / max(1, len(sizes) - 2)))
    logs = np.log(sizes)
    return MemoryFit(
        base_bytes=float(base),
        bytes_per_sample=float(slope),
        spread=max(spread, _LEAST_SPREAD),
        points=len(sizes),
        mean=float(logs.mean()),
        scatter=float(np.square(logs - logs.mean()).sum()),
        loader=loader,
        bends=_bends(sizes, bytes_, base + slope * sizes + known),
        held=() if held_bytes is None else _held(sizes, bytes_, np.asarray(held_bytes, np.float64)),
    )


def _held(
    sizes: NDArray[np.float64], needed: NDArray[np.float64], held: NDArray[np.float64]
) -> tuple[tuple[int, float], ...]:
    factors = np.maximum(held, _SMALL_BYTES) / np.maximum(needed, _SMALL_BYTES)
    return tuple(
        (int(size), max(1.0, float(factors[sizes == size].max()))) for size in np.unique(sizes)
    )


def _bends(
    sizes: NDArray[np.float64], measured: NDArray[np.float64], fitted: NDArray[np.float64]
) -> tuple[tuple[int, float], ...]:
    large = measured >= _SMALL_BYTES
    if len(np.unique(sizes)) < 3 or (fitted <= 0).any():
        return ()
    if not (np.abs(measured / fitted - 1)[large] > _BEND).any():
        return ()
    return tuple(
        (int(size), float(np.mean((measured / fitted)[sizes == size]))) for size in np.unique(sizes)
    )


# Relative differences below it are those between one run and the next.
_BEND = 0.02

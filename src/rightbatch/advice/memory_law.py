"""The law of memory: what a process takes above its loaded state, by batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from rightbatch.errors import OptionError

# One-sided: of twenty runs of a size one takes more than `high` says.
_CONFIDENCE = 0.95
# Few points on a straight line by chance prove no exactness: what a run takes varies by so much,
# because the C library keeps more or less of what was freed.
_LEAST_SPREAD = 0.05
# Below this a byte weighs as much at a small size as at a large one.
_SMALL_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Loader:
    """The batches that a loader holds at once, in bytes: known, and no straight line.

    `slabs` of consecutive batches exist at once, each of about `slab_bytes`, or of one batch where
    that is larger; but an epoch of `samples` samples has no more than it has.
    """

    sample_bytes: int
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
    """Bytes above the loaded process: M(B) = m0 + m1 B + what the loader holds.

    m0 is `base_bytes`, m1 `bytes_per_sample`. `spread` is the standard deviation of the relative
    residuals, on `points` measurements. Where these bend away from the law by more than chance,
    `bends` are the relative corrections at the sizes that were measured, between which is
    interpolated.

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
        """The upper prediction bound: one run in twenty of that size takes more.

        For a straight line it is the textbook's, t · s · √(1 + 1/n + (B - mean)²/scatter), with
        relative residuals; and the loader may hold one slab more than it did in the probes.
        """
        expected = self.bytes(batch_size)
        # With two points there is no freedom left, and the bound says what one point would.
        quantile = float(student_t.ppf(_CONFIDENCE, max(1, self.points - 2)))
        leverage = 1 + 1 / self.points
        if self.scatter > 0:
            leverage += (math.log(batch_size) - self.mean) ** 2 / self.scatter
        more = min(quantile * self.spread * math.sqrt(leverage), 1.0) * expected
        slab = 0.0 if self.loader is None else self.loader.one_slab(batch_size)
        return round(expected + max(more, slab))

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
                "bends": tuple((int(size), float(factor)) for size, factor in stored["bends"]),
            }
        )


def fit_memory(
    batch_sizes: Sequence[int], measured_bytes: ArrayLike, *, loader: Loader | None = None
) -> MemoryFit:
    """Fit m0 + m1 B (+ what the loader holds) to the bytes that runs of several sizes took.

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

"""The gradient noise from pairs: the gradients of the ranks' shares, and that of the whole batch.

The mean gradient over b samples has E|g_b|² = |G|² + tr Σ / b, so that two sizes tell both terms
apart (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1). Ranks that train together have both
in every step: each its own share's gradient before they are added up, all of them the batch's
afterwards. Two norms a step is what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.advice.noise import jackknife_interval

Floats = NDArray[np.float64]

# The jackknife leaves out one stretch of steps at a time: neighbours are alike.
_GROUPS = 16


@dataclass(frozen=True, kw_only=True)
class GradientPairs:
    """Unbiased estimates of |G|² and tr Σ, one a step: float64 (steps,).

    `samples` are those of each step's batch, which it is weighed by.
    """

    gradient_square: Floats
    trace: Floats
    samples: Floats

    @classmethod
    def of(
        cls, share_squares: ArrayLike, share_samples: ArrayLike, batch_squares: ArrayLike
    ) -> GradientPairs:
        """From the squared norms of the mean gradients of shares, and of batches.

        `share_squares` and `share_samples` are (ranks, steps), `batch_squares` (steps,). Shares may
        differ in size; a rank without samples has no say, and so has a step whose samples one rank
        holds alone.

        >>> pairs = GradientPairs.of([[3.0], [5.0]], [[2], [2]], [3.0])
        >>> pairs.trace.tolist(), pairs.gradient_square.tolist()  # (4 - 3) / (1/2 - 1/4), 3 - 4 / 4
        ([4.0], [2.0])
        """
        squares = np.asarray(share_squares, np.float64)
        samples = np.asarray(share_samples, np.float64)
        whole = np.asarray(batch_squares, np.float64)
        holds = samples > 0
        told = holds.sum(axis=0) > 1
        squares, samples, holds = squares[:, told], samples[:, told], holds[:, told]
        count = holds.sum(axis=0)
        of_shares = np.where(holds, squares, 0.0).sum(axis=0) / count
        inverse = np.where(holds, 1.0 / np.maximum(samples, 1.0), 0.0).sum(axis=0) / count
        total = samples.sum(axis=0)
        trace = (of_shares - whole[told]) / (inverse - 1.0 / total)
        return cls(gradient_square=whole[told] - trace / total, trace=trace, samples=total)

    @classmethod
    def joined(cls, several: Sequence[GradientPairs]) -> GradientPairs:
        """Those of several stretches of steps, one after the other."""
        return cls(
            **{
                name: np.concatenate([getattr(pairs, name) for pairs in several])
                for name in ("gradient_square", "trace", "samples")
            }
        )

    def __len__(self) -> int:
        return len(self.samples)

    def inverse_interval(self) -> tuple[float, float, float]:
        """1/B_simple = |G|² / tr Σ over all steps, by the jackknife, and its 95 % interval.

        Two steps are needed at least.
        """
        groups = np.array_split(np.arange(len(self)), min(_GROUPS, len(self)))
        sums = np.array(
            [[(self.samples * values)[group].sum() for values in self._terms] for group in groups]
        )
        square, trace = sums.sum(axis=0)
        left_out = [
            _ratio(square - own_square, trace - own_trace) for own_square, own_trace in sums
        ]
        return jackknife_interval(_ratio(square, trace), left_out)

    @property
    def _terms(self) -> tuple[Floats, Floats]:
        return self.gradient_square, self.trace


def _ratio(square: float, trace: float) -> float:
    return float(square / max(trace, 1e-300))

"""Which piece of an image is taken: the centre, all of it, or one drawn at random."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rightbatch.loading.row_random import RowRandom

# So many pieces are tried for one that fits, and after that the centre is taken.
_ATTEMPTS = 10


class Box(NamedTuple):
    """A piece of an image, in pixels from its upper left corner."""

    top: int
    left: int
    height: int
    width: int


class CropDraws:
    """Random draws for the crops and flips of a batch, a row of numbers for each sample.

    They belong to (seed, epoch, row): the same for any thread and any batch.
    """

    def __init__(self, rng: RowRandom) -> None:
        numbers = rng.uniform(shape=(2 * _ATTEMPTS + 3,))
        self._areas = numbers[:, :_ATTEMPTS]
        self._ratios = numbers[:, _ATTEMPTS : 2 * _ATTEMPTS]
        self._rest = numbers[:, 2 * _ATTEMPTS :]

    def is_flipped(self, place: int) -> bool:
        """Whether the sample at `place` of the batch is mirrored: half of them are."""
        return bool(self._rest[place, 2] < 0.5)

    def box(
        self,
        place: int,
        height: int,
        width: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
    ) -> Box:
        """The piece of an image of this size for the sample at `place` of the batch.

        Its area is a share of the image's, uniform in `scale`, and its width by its height uniform
        in the logarithm of `ratio` (Szegedy et al. 2015). Where ten draws do not fit into the image
        it is the largest piece in the centre whose ratio is in the range.
        """
        areas: NDArray[np.float64] = self._areas[place]
        lowest, highest = math.log(ratio[0]), math.log(ratio[1])
        for share, where in zip(areas.tolist(), self._ratios[place].tolist(), strict=True):
            area = (scale[0] + (scale[1] - scale[0]) * share) * height * width
            shape = math.exp(lowest + (highest - lowest) * where)
            wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < wide <= width and 0 < high <= height:
                top = int(self._rest[place, 0] * (height - high + 1))
                left = int(self._rest[place, 1] * (width - wide + 1))
                return Box(top, left, high, wide)
        return center_box(height, width, min(max(width / height, ratio[0]), ratio[1]))


def center_box(height: int, width: int, ratio: float) -> Box:
    """The largest piece in the centre of an image whose width by its height is `ratio`.

    >>> center_box(100, 200, 1.0)
    Box(top=0, left=50, height=100, width=100)
    """
    high = min(height, max(1, round(width / ratio)))
    wide = min(width, max(1, round(height * ratio)))
    return Box((height - high) // 2, (width - wide) // 2, high, wide)

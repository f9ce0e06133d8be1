"""One affine map, (x - center) · factor, however many scalings it was put together from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameter = NDArray[np.float64] | float

# In the unit of the result, for a standardised feature its deviation: a float32 near 1 has an
# accuracy of 6e-8.
_MOST_ROUNDING = 1e-6


class AffineMap:
    """`(x - center) · factor`, float32, written into memory that is given.

    `center` and `factor` are numbers or arrays of the per-sample shape.

    >>> half = AffineMap(2.0, 0.5)
    >>> half(np.array([2.0, 4.0]), out=np.empty(2, np.float32)).tolist()
    [0.0, 1.0]
    >>> half.then(1.0, 10.0)(np.array([2.0, 4.0]), out=np.empty(2, np.float32)).tolist()
    [-10.0, 0.0]
    """

    def __init__(self, center: Parameter, factor: Parameter) -> None:
        self.center = np.asarray(center, np.float64)
        self.factor = np.asarray(factor, np.float64)
        self._narrow_center = self.center.astype(np.float32)
        self._narrow_factor = self.factor.astype(np.float32)
        self._shifts = bool(self.center.any())
        # A mean of 1,234,567.8 is 0.05 off as a float32: nothing beside a deviation of 1,000,
        # and a twentieth of a deviation of 1.
        rounding = np.abs((self._narrow_center - self.center) * self.factor)
        self._is_narrow = bool(rounding.max(initial=0.0) <= _MOST_ROUNDING)

    def then(self, center: Parameter, factor: Parameter) -> AffineMap:
        """This map and another one after it: ((x - c) f - d) g = (x - (c + d / f)) · f g."""
        return AffineMap(self.center + center / self.factor, self.factor * factor)

    def __call__(self, values: NDArray[Any], *, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map `values`, (B, …), into `out` of the same shape.

        Values wider than float32 are centred in float64 first: of a time stamp of 1.5e9 seconds
        minus its mean no digit would be left.
        """
        if self._is_narrow and np.can_cast(values.dtype, np.float32):
            if values.dtype != np.float32:
                # Converting first and scaling in place takes 37 us for 128 x 784 bytes; a single
                # multiply, which converts through small buffers, 43.
                np.copyto(out, values)
                values = out
            if self._shifts:
                values = np.subtract(values, self._narrow_center, out=out)
            np.multiply(values, self._narrow_factor, out=out)
        else:
            centred = np.subtract(values, self.center, dtype=np.float64)
            np.multiply(centred, self.factor, out=out, casting="same_kind")
        return out

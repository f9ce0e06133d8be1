"""One affine map, (x - center) · factor, however many scalings it was put together from."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameter = NDArray[np.float64] | float
Parameters = tuple[NDArray[Any], NDArray[Any]]

# In the unit of the result, for a standardised feature its deviation: a float32 near 1 has an
# accuracy of 6e-8.
_MOST_ROUNDING = 1e-6

# NumPy starts its loop anew for every sample where each feature has a center of its own. So several
# samples are taken as one long row of about this many values, beside the parameters repeated: 2
# times as fast with 30 features, 10 times with 3. With rows of 4096 a third of that was lost.
_ROW_LENGTH = 8192


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
        self._shifts = bool(self.center.any())
        # A mean of 1,234,567.8 is 0.05 off as a float32: nothing beside a deviation of 1,000,
        # and a twentieth of a deviation of 1.
        narrow_center = self.center.astype(np.float32)
        rounding = np.abs((narrow_center - self.center) * self.factor)
        self._is_narrow = bool(rounding.max(initial=0.0) <= _MOST_ROUNDING)
        self._sample_shape = np.broadcast_shapes(self.center.shape, self.factor.shape)
        self._features = math.prod(self._sample_shape)
        self._samples_a_row = max(1, _ROW_LENGTH // max(1, self._features))
        self._wide: Parameters = (self.center, self.factor)
        self._narrow: Parameters = (narrow_center, self.factor.astype(np.float32))

    def then(self, center: Parameter, factor: Parameter) -> AffineMap:
        """This map and another one after it: ((x - c) f - d) g = (x - (c + d / f)) · f g."""
        return AffineMap(self.center + center / self.factor, self.factor * factor)

    def parameters(self, dtype: np.dtype[Any]) -> tuple[NDArray[Any] | None, NDArray[Any]]:
        """Center and factor for values of `dtype`, in the dtype that they are mapped in.

        The center is None where nothing is subtracted.
        """
        if self._is_narrow and np.can_cast(dtype, np.float32):
            center, factor = self._narrow
            return (center if self._shifts else None), factor
        return self._wide

    def __call__(
        self, values: NDArray[Any], *, out: NDArray[np.float32], overwrite: bool = False
    ) -> NDArray[np.float32]:
        """Map `values`, (B, …), into `out` of the same shape; with `overwrite` they may be spoilt.

        Values wider than float32 are centred in float64 first: of a time stamp of 1.5e9 seconds
        minus its mean no digit would be left.
        """
        rows = len(values) // self._samples_a_row
        takes_rows = (
            rows > 0
            and self._sample_shape == values.shape[1:] != ()
            and values.flags.c_contiguous
            and out.flags.c_contiguous
        )
        if takes_rows:
            end, shape = rows * self._samples_a_row, (rows, self._samples_a_row * self._features)
            long_values, long_out = values[:end].reshape(shape), out[:end].reshape(shape)
            self._map(long_values, long_out, in_rows=True, overwrite=overwrite)
            values, rest = values[end:], out[end:]
        else:
            rest = out
        self._map(values, rest, in_rows=False, overwrite=overwrite)
        return out

    def _map(
        self, values: NDArray[Any], out: NDArray[np.float32], *, in_rows: bool, overwrite: bool
    ) -> None:
        if self._is_narrow and np.can_cast(values.dtype, np.float32):
            center, factor = self._narrow_rows if in_rows else self._narrow
            if values.dtype != np.float32:
                # Converting first and scaling in place takes 37 us for 128 x 784 bytes; a single
                # multiply, which converts through small buffers, 43.
                np.copyto(out, values)
                values = out
            if self._shifts:
                values = np.subtract(values, center, out=out)
            np.multiply(values, factor, out=out)
        else:
            center, factor = self._wide_rows if in_rows else self._wide
            room = values if overwrite and values.dtype == np.float64 else None
            centred = np.subtract(values, center, out=room, dtype=np.float64)
            np.multiply(centred, factor, out=centred)
            np.copyto(out, centred, casting="same_kind")

    @cached_property
    def _narrow_rows(self) -> Parameters:
        center, factor = self._narrow
        return self._in_rows(center), self._in_rows(factor)

    @cached_property
    def _wide_rows(self) -> Parameters:
        center, factor = self._wide
        return self._in_rows(center), self._in_rows(factor)

    def _in_rows(self, parameter: NDArray[Any]) -> NDArray[Any]:
        """A parameter beside as many samples as make a row; a single number stays one."""
        if parameter.ndim == 0:
            return parameter
        return np.tile(np.broadcast_to(parameter, self._sample_shape).ravel(), self._samples_a_row)

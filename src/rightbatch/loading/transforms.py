"""The built-in transforms: scale, standardize, one_hot, flatten, cast."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from typing_extensions import override

from rightbatch.data.column import Column
from rightbatch.data.ragged import MAKE_ARRAYS
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.loading.affine import AffineMap
from rightbatch.loading.pad import Pad, pad
from rightbatch.loading.tokenize import tokenize
from rightbatch.loading.transform import Transform, Values

# Deviations this small beside the mean are rounding errors of it: a few units in the last place.
_ROUNDING_OF_MEAN = 8 * float(np.finfo(np.float64).eps)


class Affine(Transform):
    """`(x - center) · factor` in float32, which a loader fuses with gathering and casting."""

    @property
    @abstractmethod
    def center(self) -> NDArray[np.float64] | float:
        """What is subtracted: a number, or an array of the per-sample shape."""

    @property
    @abstractmethod
    def factor(self) -> NDArray[np.float64] | float:
        """What the difference is multiplied by."""

    @override
    def describe(self, column: Column) -> Column:
        _require_numbers(self, column)
        return replace(column, dtype=np.dtype(np.float32), categories=None)

    @override
    def apply(self, values: Values) -> Values:
        return AffineMap(self.center, self.factor)(values, out=np.empty(values.shape, np.float32))


@dataclass(frozen=True)
class Scale(Affine):
    """See `scale`."""

    by: float
    column: str | None = None

    @property
    @override
    def center(self) -> float:
        return 0.0

    @property
    @override
    def factor(self) -> float:
        return self.by

    @override
    def to_json(self) -> dict[str, Any]:
        return {"kind": "scale", "factor": self.by, "column": self.column}


def scale(factor: float, *, column: str | None = None) -> Scale:
    """Multiply the inputs (or `column`) by `factor`; float32 comes out.

    Raises OptionError where the factor is zero or not finite.

    >>> scale(1 / 255).apply(np.array([[0, 255]], dtype=np.uint8)).tolist()
    [[0.0, 1.0]]
    """
    if not isinstance(factor, Real) or not math.isfinite(factor) or factor == 0:
        raise OptionError(f"scale({factor!r}): the factor must be a finite number other than zero")
    return Scale(float(factor), column)


@dataclass(frozen=True, eq=False)
class Standardize(Affine):
    """See `standardize`."""

    column: str | None = None
    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None
    channel_axis: int | None = None

    @override
    def describe(self, column: Column) -> Column:
        axes, axis = len(column.shape), self.channel_axis
        if axis is not None and not -axes <= axis < axes and not column.is_ragged:
            raise DataError(
                f"standardize(channel_axis={axis}): a sample of {column.name!r} has the shape "
                f"{column.shape}; valid axes are 0 to {axes - 1}, counted within a sample"
            )
        return super().describe(column)

    @property
    @override
    def needs_fit(self) -> bool:
        return self.mean is None

    @property
    @override
    def center(self) -> NDArray[np.float64]:
        if self.mean is None:
            raise OptionError("standardize() is not fitted: attach it to parts (rb.split)")
        return self.mean

    @property
    @override
    def factor(self) -> NDArray[np.float64]:
        if self.std is None:
            raise OptionError("standardize() is not fitted: attach it to parts (rb.split)")
        return 1.0 / self.std

    def fitted(self, chunks: Iterable[Values]) -> Self:
        """Mean and standard deviation of every feature in one pass.

        Chunks are merged by the update of Chan, Golub and LeVeque (1979):
        M2 = M2_a + M2_b + δ² · n_a n_b / n. All values are counted from the mean of the first
        chunk: of a large mean the last digits would be lost, which are many of a small deviation's.
        """
        count = 0
        origin: Any = 0.0
        mean: Any = 0.0
        squares: Any = 0.0
        shape: tuple[int, ...] = ()
        for chunk in chunks:
            values, shape = self._by_feature(chunk.astype(np.float64))
            added = len(values)
            if added == 0:
                continue
            total = count + added
            # Infinities are refused below, by feature.
            with np.errstate(invalid="ignore", over="ignore"):
                if count == 0:
                    origin = values.mean(axis=0)
                values = values - origin
                chunk_mean = values.mean(axis=0)
                chunk_squares = np.square(values - chunk_mean).sum(axis=0)
                delta = chunk_mean - mean
                mean = mean + delta * (added / total)
                squares = squares + chunk_squares + np.square(delta) * (count * added / total)
            count = total
        if count == 0:
            raise DataError("standardize() has no training samples to learn from")
        with np.errstate(invalid="ignore"):
            mean = origin + mean
        std = np.sqrt(squares / count)
        _refuse_non_finite(mean, std)
        # A feature that is constant in train carries nothing: it is centred and left at that.
        # Rounding leaves a constant like 0.1 with a deviation near 1e-17, hence the threshold.
        constant = std <= _ROUNDING_OF_MEAN * np.abs(mean)
        std = np.where(constant, 1.0, std)
        return replace(self, mean=np.reshape(mean, shape), std=np.reshape(std, shape))

    def _by_feature(self, values: Values) -> tuple[Values, tuple[int, ...]]:
        """The values with one column a feature, and the shape of the features in a sample."""
        if self.channel_axis is None:
            return values, values.shape[1:]
        place = self.channel_axis % (values.ndim - 1)
        channels = values.shape[1 + place]
        shape = tuple(channels if axis == place else 1 for axis in range(values.ndim - 1))
        return np.moveaxis(values, 1 + place, -1).reshape(-1, channels), shape

    @override
    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "standardize",
            "column": self.column,
            "mean": None if self.mean is None else self.mean.tolist(),
            "std": None if self.std is None else self.std.tolist(),
            **({} if self.channel_axis is None else {"channel_axis": self.channel_axis}),
        }


def standardize(*, column: str | None = None, channel_axis: int | None = None) -> Standardize:
    """Subtract each feature's mean and divide by its standard deviation, both of train alone.

    With `channel_axis`, counted within a sample, a feature is a channel: one mean and one deviation
    over all samples and the other axes, as for images (0 where channels come first).

    The deviation is the population's (divided by n), as scikit-learn's StandardScaler has it;
    float32 comes out. A feature that is constant in train is only centred.
    Raises DataError where a feature holds NaN or infinity.

    >>> fitted = standardize().fitted([np.array([[1.0], [3.0]])])
    >>> fitted.apply(np.array([[1.0], [5.0]])).tolist()
    [[-1.0], [3.0]]
    """
    return Standardize(column, channel_axis=channel_axis)


@dataclass(frozen=True)
class OneHot(Transform):
    """See `one_hot`."""

    classes: int | None = None
    column: str | None = None

    @property
    @override
    def needs_fit(self) -> bool:
        return self.classes is None

    @override
    def fitted(self, chunks: Iterable[Values]) -> Self:
        if self.classes is not None:
            return self
        return replace(self, classes=1 + max(int(chunk.max()) for chunk in chunks if len(chunk)))

    @override
    def describe(self, column: Column) -> Column:
        _refuse_ragged(self, column)
        if column.dtype.kind not in "bui" or column.shape != ():
            raise DataError(
                f"one_hot() takes a column of whole numbers, one a sample; {column.name!r} is "
                f"{column.dtype} of shape {column.shape}"
            )
        return replace(
            column, dtype=np.dtype(np.float32), shape=(self.classes or 0,), categories=None
        )

    @override
    def apply(self, values: Values) -> Values:
        classes = self.classes or 0
        if len(values) and (int(values.min()) < 0 or int(values.max()) >= classes):
            wrong = values[(values < 0) | (values >= classes)][0]
            raise DataError(
                f"one_hot({classes}) met the class {wrong}; valid are 0 to {classes - 1}. "
                "Pass the number of classes: rb.one_hot(classes=…)"
            )
        result = np.zeros((len(values), classes), np.float32)
        result[np.arange(len(values)), values.astype(np.intp)] = 1.0
        return result

    @override
    def to_json(self) -> dict[str, Any]:
        return {"kind": "one_hot", "classes": self.classes, "column": self.column}


def one_hot(classes: int | None = None, *, column: str) -> OneHot:
    """Turn class numbers of `column` (0 to classes - 1) into float32 rows with a single one.

    `column` is usually the target. Without `classes`, their number is the largest class in
    train plus one. Raises DataError where a class lies outside.

    >>> one_hot(3, column="label").apply(np.array([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if classes is not None and classes < 1:
        raise OptionError(f"one_hot(classes={classes}): there must be one class at the least")
    return OneHot(classes, column)


@dataclass(frozen=True)
class Flatten(Transform):
    """See `flatten`."""

    column: str | None = None

    @override
    def describe(self, column: Column) -> Column:
        _refuse_ragged(self, column)
        return replace(column, shape=(math.prod(column.shape),))

    @override
    def apply(self, values: Values) -> Values:
        return values.reshape(len(values), math.prod(values.shape[1:]))

    @override
    def to_json(self) -> dict[str, Any]:
        return {"kind": "flatten", "column": self.column}


def flatten(*, column: str | None = None) -> Flatten:
    """Make one axis of all axes but the first: (B, 28, 28) becomes (B, 784).

    >>> flatten().apply(np.zeros((2, 28, 28))).shape
    (2, 784)
    """
    return Flatten(column)


@dataclass(frozen=True)
class Cast(Transform):
    """See `cast`."""

    dtype: np.dtype[Any]
    column: str | None = None

    @override
    def describe(self, column: Column) -> Column:
        _require_numbers(self, column)
        return replace(column, dtype=self.dtype)

    @override
    def apply(self, values: Values) -> Values:
        return values.astype(self.dtype)

    @override
    def to_json(self) -> dict[str, Any]:
        return {"kind": "cast", "dtype": self.dtype.name, "column": self.column}


def cast(dtype: DTypeLike, *, column: str | None = None) -> Cast:
    """Convert the inputs (or `column`) to another dtype, as NumPy's `astype` does.

    Raises OptionError where the dtype is not one of numbers.

    >>> cast("float32").apply(np.array([1, 2])).dtype
    dtype('float32')
    """
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise OptionError(f"cast({dtype!r}): NumPy knows no such dtype; try 'float32'") from error
    if wanted.kind not in "buif":
        raise OptionError(f"cast({dtype!r}): only dtypes of numbers are valid, such as 'float32'")
    return Cast(wanted, column)


_KINDS = ("scale", "standardize", "one_hot", "flatten", "cast", "decode_images", "tokenize", "pad")


def transform_from_json(described: dict[str, Any]) -> Transform | Pad:
    """The transform that `to_json` described; OptionError where the kind is not built in.

    >>> transform_from_json(scale(0.5).to_json())
    Scale(by=0.5, column=None)
    """
    kind, column = described.get("kind"), described.get("column")
    if kind == "scale":
        return Scale(described["factor"], column)
    if kind == "standardize":
        mean, std = described["mean"], described["std"]
        return Standardize(
            column,
            None if mean is None else np.asarray(mean, np.float64),
            None if std is None else np.asarray(std, np.float64),
            described.get("channel_axis"),
        )
    if kind == "one_hot":
        return OneHot(described["classes"], column)
    if kind == "flatten":
        return Flatten(column)
    if kind == "cast":
        return Cast(np.dtype(described["dtype"]), column)
    if kind == "decode_images":
        from rightbatch.loading.decode_images import DecodeImages

        return DecodeImages.from_json(described)
    if kind == "tokenize":
        return tokenize(described["how"], alphabet=described["alphabet"], column=column)
    if kind == "pad":
        return pad(**{name: value for name, value in described.items() if name != "kind"})
    if kind == "function":
        raise OptionError(
            f"the transform {described.get('name')!r} is a function; code is not stored with a "
            "run, so pass the function again"
        )
    raise OptionError(
        f"no transform is called {kind!r}.{did_you_mean(str(kind), _KINDS)} "
        f"Valid are: {', '.join(_KINDS)}."
    )


def _refuse_ragged(transform: Transform, column: Column) -> None:
    if column.is_ragged:
        raise DataError(
            f"{type(transform).__name__.lower()}() takes arrays, and the entries of "
            f"{column.name!r} vary in length ({column.kind}): first {MAKE_ARRAYS}. Or name "
            "another column: column=…"
        )


def _require_numbers(transform: Transform, column: Column) -> None:
    _refuse_ragged(transform, column)
    if not column.is_numeric:
        raise DataError(
            f"{type(transform).__name__.lower()}() takes numbers; column {column.name!r} "
            f"is {column.dtype}"
        )


def _refuse_non_finite(mean: Any, std: Any) -> None:
    wrong = ~np.isfinite(np.atleast_1d(std)) | ~np.isfinite(np.atleast_1d(mean))
    if wrong.any():
        feature = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"standardize() met NaN or infinity in feature {feature} of the training samples; "
            "drop or fill them when opening: missing='drop' or missing='fill'"
        )

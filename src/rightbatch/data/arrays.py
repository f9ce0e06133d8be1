"""Arrays, tensors, lists, and dicts of them: anything that NumPy can see without a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.arrow_columns import read_series
from rightbatch.data.categories import encode_texts
from rightbatch.data.options import OpenOptions
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError

# DLPack's device types that NumPy can read: CPU, and host memory pinned by CUDA or ROCm.
_HOST_DEVICES = {1, 3, 11}
_DEVICE_NAMES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 13: "CUDA managed"}


def is_array(thing: Any) -> bool:
    """Whether `thing` is an array, a tensor or a list, rather than a path or a frame."""
    return isinstance(thing, (list, range)) or hasattr(thing, "__array__") or is_dlpack(thing)


def is_dlpack(thing: Any) -> bool:
    """Whether `thing` speaks the DLPack protocol."""
    return hasattr(thing, "__dlpack__") and hasattr(thing, "__dlpack_device__")


def open_arrays(
    things: Mapping[Any, Any],
    options: OpenOptions,
    *,
    source: str = "arrays",
    default_target: str | None = None,
) -> ArrayDataset:
    """A data set of the named arrays; row k of every one belongs to sample k.

    Text becomes category codes, dates become seconds since 1970; all else keeps its dtype. A
    `Ragged` is a column of entries that vary in length.
    Raises DataError where an array cannot be a column.
    """
    options.refuse_unused(source)
    name = options.name or source
    if not things:
        raise DataError(f"{name} has no columns; a data set needs one at the least.")
    for column in things:
        if not isinstance(column, str) or not column:
            raise DataError(f"{name}: the column name {column!r} is no text; name it by a string.")
    chosen = options.choose(name, list(things), default_target=default_target)
    arrays: dict[str, NDArray[Any] | Ragged] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for column in chosen.columns:
        described = f"{name}: column {column!r}"
        thing = things[column]
        if isinstance(thing, Ragged):
            arrays[column] = _as_ragged_column(thing, described)
            continue
        array = as_array(thing, described)
        if array.dtype.hasobject and hasattr(thing, "__arrow_c_stream__"):
            # Frames keep text and nullable numbers as objects for NumPy, but not for Arrow.
            array, texts = read_series(thing, described)
        else:
            array, texts = as_column(array, described)
        arrays[column] = array
        if texts is not None:
            categories[column] = texts
    data = ArrayDataset(arrays, name=name, target=chosen.target, categories=categories)
    if chosen.target is not None:
        check_target(name, chosen.target, arrays[chosen.target])
    return data


def as_array(thing: Any, described: str) -> NDArray[Any]:
    """`thing` as a NumPy array, sharing its memory where that is possible.

    Raises DataError for memory of an accelerator, ragged lists and mixed lists.
    """
    if isinstance(thing, np.ma.MaskedArray):
        masked = int(np.count_nonzero(np.ma.getmaskarray(thing)))
        if masked:
            raise DataError(
                f"{described} is a masked array with {masked:,} masked "
                "values; fill them (array.filled(0)) or drop those rows first."
            )
        thing = thing.data
    if is_dlpack(thing):
        _refuse_device(thing, described)
    if hasattr(thing, "requires_grad") and hasattr(thing, "detach"):
        thing = thing.detach()
    if isinstance(thing, (list, tuple)):
        return _from_list(thing, described)
    if not hasattr(thing, "__array__") and not is_dlpack(thing) and not isinstance(thing, range):
        raise DataError(
            f"{described} is {_article(thing)}, no array; give a NumPy array, a tensor or a list."
        )
    try:
        if isinstance(thing, range) or hasattr(thing, "__array__"):
            return np.asarray(thing)
        return np.from_dlpack(thing)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise DataError(
            f"{described}: {_article(thing)} that NumPy cannot read ({error}); convert it to a "
            "dtype and layout that NumPy knows, as with .float() or .toarray()."
        ) from error


def as_column(array: NDArray[Any], described: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """The array as column values, and the texts of its codes where it held text.

    Raises DataError for objects, records, complex numbers and arrays without samples.
    """
    if array.dtype.hasobject and array.dtype.kind != "T":
        raise DataError(
            f"{described} holds Python objects{_first_object(array)}; convert it to numbers or "
            "text (array.astype(float), array.astype(str))."
        )
    if array.dtype.names:
        raise DataError(
            f"{described} holds records with the fields {', '.join(array.dtype.names)}; give each "
            "field as a column of its own: {name: array[name] for name in array.dtype.names}."
        )
    if array.ndim == 0:
        raise DataError(
            f"{described} is a single value; a column needs a first axis that counts the samples."
        )
    if len(array) == 0:
        raise DataError(f"{described} has zero samples; there is nothing to make batches of.")
    if array.size == 0:
        raise DataError(
            f"{described} has the shape {array.shape}: samples without a single value; "
            "leave the column out or repair its shape."
        )
    kind = array.dtype.kind
    if kind in "SUT":
        return encode_texts(array)
    if kind in "Mm":
        return dates_as_seconds(array), None
    if kind not in "buif":
        raise DataError(
            f"{described} has the dtype {array.dtype}, which is neither numbers nor text; "
            "convert it first (complex numbers: one column each for array.real and array.imag)."
        )
    if kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64), None
    # Base-class views: a memory map's own class would follow every slice into the batches.
    plain = np.asarray(array)
    return plain.astype(plain.dtype.newbyteorder("="), copy=False), None


def dates_as_seconds(array: NDArray[Any]) -> NDArray[np.float64]:
    """Dates as float64 seconds since 1970-01-01, time differences as seconds; NaT as NaN."""
    whole = array.astype("m8[s]" if array.dtype.kind == "m" else "M8[s]")
    seconds: NDArray[np.float64] = whole.astype(np.int64).astype(np.float64)
    if np.datetime_data(array.dtype)[0] in ("ms", "us", "ns", "ps", "fs", "as"):
        seconds += (array - whole.astype(array.dtype)) / np.timedelta64(1, "s")
    seconds[np.isnat(array)] = np.nan
    return seconds


def _as_ragged_column(ragged: Ragged, described: str) -> Ragged:
    """The entries as column values; DataError where there are none, or not of numbers."""
    if len(ragged) == 0:
        raise DataError(f"{described} has zero samples; there is nothing to make batches of.")
    if ragged.dtype.kind not in "buif" or 0 in ragged.shape:
        raise DataError(
            f"{described} holds {ragged.dtype} of shape {ragged.shape} in entries of varying "
            "length; valid are numbers, and texts as bytes: Ragged.from_list(texts)."
        )
    native = ragged.dtype.newbyteorder("=")
    if ragged.dtype == native:
        return ragged
    return Ragged(ragged.values.astype(native), ragged.offsets, is_text=ragged.is_text)


def check_target(name: str, target: str, array: NDArray[Any] | Ragged) -> None:
    """Raise DataError, naming the row, where the target is NaN or infinite."""
    if array.dtype.kind != "f":
        return
    if isinstance(array, Ragged):
        _check_ragged_target(name, target, array)
        return
    for start in range(0, len(array), 2**20):
        finite = np.isfinite(array[start : start + 2**20])
        if not finite.all():
            row, *rest = (int(axis[0]) for axis in np.nonzero(~finite))
            value = array[(start + row, *rest)]
            count = int(np.count_nonzero(~np.isfinite(array)))
            raise DataError(
                f"{name}: the target {target!r} is {value} in row {start + row} (counting from 0)"
                f"{f', and not finite in {count:,} places' if count > 1 else ''}; a target needs "
                "finite values. Leave out such rows first, as with array[np.isfinite(y)]."
            )


def _check_ragged_target(name: str, target: str, ragged: Ragged) -> None:
    values = ragged.values
    for start in range(0, len(values), 2**20):
        finite = np.isfinite(values[start : start + 2**20])
        if not finite.all():
            place = start + int(np.nonzero(~finite)[0][0])
            row = int(np.searchsorted(ragged.offsets, place, side="right")) - 1
            raise DataError(
                f"{name}: the target {target!r} is not finite in row {row} (counting from 0), at "
                f"place {place - int(ragged.offsets[row])} of it; a target needs finite values. "
                "Leave out such rows first: Ragged.take(rows)."
            )


def _refuse_device(thing: Any, described: str) -> None:
    try:
        device_type, device_index = thing.__dlpack_device__()
    except (ValueError, RuntimeError, BufferError, TypeError):
        return  # a device that DLPack has no number for; the conversion will say what is wrong
    if int(device_type) not in _HOST_DEVICES:
        device = _DEVICE_NAMES.get(int(device_type), f"DLPack type {int(device_type)}")
        raise DataError(
            f"{described} lies in the memory of an accelerator ({device} device {device_index}); "
            "move it to the host first, as with tensor.cpu(). Batches can be moved to the device "
            "as they are made."
        )


def _from_list(values: Sequence[Any], described: str) -> NDArray[Any]:
    if values and all(hasattr(value, "__array__") or is_dlpack(value) for value in values):
        values = [as_array(value, f"{described}, row {row}") for row, value in enumerate(values)]
    _refuse_ragged(values, described)
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError, TypeError) as error:
        raise DataError(
            f"{described}: a list that does not form an array ({error}); every row needs the same "
            "shape and kind."
        ) from error
    if array.dtype.kind in "SU":
        _refuse_mixed(values, described)
    return array


def _refuse_ragged(values: Sequence[Any], described: str) -> None:
    """Compare the shapes of the rows one level down; NumPy's own error names no row."""
    first: tuple[int, ...] | None = None
    for row, value in enumerate(values):
        shape = _shape(value)
        if first is None:
            first = shape
        elif shape != first:
            raise DataError(
                f"{described} is ragged: row {row} (counting from 0) has the shape {shape}, row 0 "
                f"has {first}. Every sample needs the same shape: pad, cut or drop; or keep their "
                "lengths, as a column of rb.Ragged.from_list(rows)."
            )


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, (list, tuple)):
        return (len(value), *(_shape(value[0]) if value else ()))
    return tuple(getattr(value, "shape", ()))


def _refuse_mixed(values: ArrayLike, described: str) -> None:
    """NumPy would turn [1, "a"] into two texts without a word."""
    stack: list[Any] = [values]
    while stack:
        value = stack.pop()
        if isinstance(value, (list, tuple)):
            stack.extend(value)
        elif not (isinstance(value, (str, bytes)) or getattr(value, "dtype", None) is not None):
            raise DataError(
                f"{described} mixes text with other values ({value!r}); give all texts or all "
                "numbers."
            )


def _first_object(array: NDArray[Any]) -> str:
    if array.dtype.names or array.size == 0:
        return ""
    for position, value in zip(np.ndindex(array.shape), array.flat, strict=True):
        if not isinstance(value, (int, float, np.number)):
            row = f"row {position[0]} (counting from 0): " if position else ""
            return f" ({row}{_article(value)})"
    return ""


def _article(thing: object) -> str:
    kind = type(thing).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"

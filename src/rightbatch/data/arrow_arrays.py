"""Arrow arrays of any layout that batches can be made of, seen as NumPy arrays without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.arrow_columns import plain_column
from rightbatch.data.ragged import Ragged, offsets_of
from rightbatch.errors import DataError

_REMEDY = "Leave the column out (columns=…), or make it plain first"


def arrow_values(array: Any, described: str) -> NDArray[Any] | Ragged:
    """The values of an Arrow array, (N, …), or as a `Ragged` where they vary in length.

    Numbers, fixed-size lists of them, texts, bytes and lists are views of Arrow's memory; booleans,
    dates and decimals are converted. A structure of `bytes` and `path`, as images and audio have
    it, gives its bytes. Lists that are all of one length are an array when they stand in
    others.

    Raises DataError for missing values and for layouts that can not be a column.

    >>> import pyarrow as pa
    >>> arrow_values(pa.array([[1, 2], [], [3]]), "x").lengths
    array([2, 0, 1])
    """
    import pyarrow as pa

    types = pa.types
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if types.is_dictionary(kind):
        return arrow_values(array.dictionary_decode(), described)
    _refuse_missing(array, described)
    if types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        return _encoded_files(array, described)
    if types.is_boolean(kind):
        return _numpy(array, copies=True)
    if types.is_integer(kind) or types.is_floating(kind):
        return _numpy(array)
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return _bytes(array.cast(pa.large_string()), is_text=True)
    if types.is_binary(kind) or types.is_large_binary(kind) or str(kind) == "binary_view":
        return _bytes(array.cast(pa.large_binary()), is_text=False)
    if types.is_fixed_size_list(kind):
        inner = arrow_values(array.flatten(), described)
        if isinstance(inner, Ragged):
            inner = _as_array(inner, described)
        return inner.reshape(len(array), kind.list_size, *inner.shape[1:])
    if types.is_list(kind) or types.is_large_list(kind):
        return _lists(array, described)
    if types.is_temporal(kind) or types.is_decimal(kind):
        return _numpy(plain_column(pa.chunked_array([array]), described).values.combine_chunks())
    raise DataError(
        f"{described} has the type {kind}; valid are numbers, true/false, texts, bytes, dates, "
        f"lists of numbers, and encoded images. {_REMEDY}."
    )


def same_length(ragged: Ragged) -> int | None:
    """The length that all entries have, of one value at least; None where they differ.

    >>> same_length(Ragged.from_list([[1, 2], [3, 4]]))
    2
    """
    lengths = ragged.lengths
    if not len(lengths) or ragged.is_text or lengths[0] == 0 or (lengths != lengths[0]).any():
        return None
    return int(lengths[0])


def _numpy(array: Any, *, copies: bool = False) -> NDArray[Any]:
    values: NDArray[Any] = array.to_numpy(zero_copy_only=not copies)
    return values


def _bytes(array: Any, *, is_text: bool) -> Ragged:
    """Texts or bytes as they lie in Arrow's memory, of which the offsets alone are looked at."""
    _, offsets_buffer, data = array.buffers()
    if len(array) == 0 or offsets_buffer is None:
        return Ragged(np.empty(0, np.uint8), offsets_of([0] * len(array)), is_text=is_text)
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    values = np.frombuffer(data, np.uint8)[first:last] if data else np.empty(0, np.uint8)
    return Ragged(values, offsets - first, is_text=is_text)


def _lists(array: Any, described: str) -> Ragged:
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    inner = arrow_values(array.values.slice(first, last - first), described)
    if isinstance(inner, Ragged):
        inner = _as_array(inner, described)
    return Ragged(inner, offsets - first)


def _as_array(inner: Ragged, described: str) -> NDArray[Any]:
    """Lists inside of lists as an array, which they are where all have one length."""
    length = same_length(inner)
    if inner.is_text or (length is None and len(inner)):
        held = "texts" if inner.is_text else "lists (or bytes) of different lengths"
        raise DataError(
            f"{described} holds lists of {held}: samples may vary in the length of one axis, the "
            f"first. {_REMEDY}."
        )
    return inner.values.reshape(len(inner), length or 0, *inner.shape)


def _encoded_files(array: Any, described: str) -> Ragged:
    content = array.field("bytes")
    if content.null_count:
        row = int(np.flatnonzero(content.is_null().to_numpy(zero_copy_only=False))[0])
        path = array.field("path")[row].as_py()
        raise DataError(
            f"{described}: row {row:,} (counting from 0) holds no bytes but the path {path!r}. "
            "Embed the files first: dataset.with_format('arrow').map("
            "datasets.table.embed_table_storage, batched=True).with_format(None)."
        )
    values = arrow_values(content, described)
    assert isinstance(values, Ragged)  # bytes are
    return values


def _refuse_missing(array: Any, described: str) -> None:
    if array.null_count:
        place = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(
            f"{described} has {array.null_count:,} missing values, the first at place {place:,} "
            "(counting from 0). Fill them, or leave those samples out."
        )

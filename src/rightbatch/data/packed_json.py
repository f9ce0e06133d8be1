"""Arrays and columns as manifest.json describes them, written once and read strictly."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np

from rightbatch.data.packed_array import FILE_NAME, PackedArray
from rightbatch.data.packed_column import PackedColumn
from rightbatch.data.packed_ragged import OFFSETS_DTYPE, PackedOffsets, PackedValues
from rightbatch.data.stored_fields import Fields, WrongFieldError, is_whole, texts_or_none

# Numbers and fixed-width text: NumPy would read a text of other kinds as a record.
_DTYPE = re.compile(r"[<>|][buifcSU][0-9]{1,6}")


def array_to_json(array: PackedArray) -> dict[str, Any]:
    """The description of an array; `read_array` reads it back."""
    return {
        "file": array.file,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "header_bytes": array.header_bytes,
        "header_checksum": f"{array.header_checksum:08x}",
        "block_rows": array.block_rows,
        "checksums": [f"{block:08x}" for block in array.checksums],
    }


def column_to_json(column: PackedColumn) -> dict[str, Any]:
    """The description of a column; `read_column` reads it back."""
    described: dict[str, Any] = {
        "name": column.name,
        "categories": None if column.categories is None else list(column.categories),
    }
    if column.offsets is None:
        # Of tokens alone: what packs of other columns say stays as it was.
        token = {"is_token": True} if column.is_token else {}
        return {**described, **token, **array_to_json(column.array)}
    assert isinstance(column.array, PackedValues)  # what has offsets has blocks of varying size
    ends = list(column.array.block_ends)
    return {
        **described,
        "is_text": column.is_text,
        "values": {**array_to_json(column.array), "block_ends": ends},
        "offsets": array_to_json(column.offsets),
    }


def read_array(fields: Fields, length: int) -> PackedArray:
    """The array of `length` rows that the fields describe; WrongFieldError names one that lies."""
    array = PackedArray(
        shape=fields.take("shape", f"a list of {length} and whole numbers from 1", _shape),
        **_common(fields),
    )
    if array.shape[0] != length:
        raise WrongFieldError(f"{array.file}: the field 'shape' has not the length {length}")
    _check_blocks(array)
    return array


def read_column(found: Any, where: str, length: int) -> PackedColumn:
    """The column that a JSON object describes; WrongFieldError names a field that is not valid."""
    is_ragged = isinstance(found, dict) and "offsets" in found
    fields = Fields(found, where)
    name = fields.text("name")
    categories = fields.take(
        "categories",
        "null or a list of texts",
        lambda found: (
            None if found is not None and texts_or_none(found) is None else (texts_or_none(found),)
        ),
    )[0]
    if is_ragged:
        column = _ragged_column(fields, where, name, length)
    else:
        column = PackedColumn(
            name=name,
            categories=categories,
            array=read_array(fields, length),
            is_token="is_token" in found and _flag(fields, "is_token"),
        )
        if column.is_token and column.array.dtype.kind not in "iu":
            raise WrongFieldError(
                f"{column.array.file}: tokens are whole numbers, and the values are "
                f"{column.array.dtype}"
            )
    fields.done()
    return column


def _ragged_column(fields: Fields, where: str, name: str, length: int) -> PackedColumn:
    is_text = _flag(fields, "is_text")
    described = Fields(fields.mapping("values"), f"{where}values.")
    values = PackedValues(
        shape=described.take(
            "shape", "a list of whole numbers, those after the first from 1", _flat
        ),
        entries=length,
        block_ends=described.take("block_ends", "a list of ascending whole numbers", _ends),
        **_common(described),
    )
    described.done()
    if not values.block_ends or values.block_ends[-1] != values.shape[0]:
        raise WrongFieldError(
            f"{values.file}: the field 'block_ends' does not end with {values.shape[0]}, the "
            "number of values"
        )
    if len(values.block_ends) != len(values.checksums):
        raise WrongFieldError(f"{values.file}: 'block_ends' and 'checksums' differ in length")
    _check_blocks(values)
    described = Fields(fields.mapping("offsets"), f"{where}offsets.")
    offsets = PackedOffsets(
        shape=described.take("shape", f"[{length}]", lambda found: _same(found, length)),
        **_common(described),
    )
    described.done()
    if offsets.dtype != OFFSETS_DTYPE:
        raise WrongFieldError(f"{offsets.file}: the field 'dtype' is {offsets.dtype}, not int64")
    _check_blocks(offsets)
    if is_text and (values.dtype != np.uint8 or len(values.shape) > 1):
        raise WrongFieldError(
            f"{values.file}: texts are uint8 in one axis, and the values are {values.dtype} of "
            f"shape {values.shape}"
        )
    return PackedColumn(name=name, categories=None, array=values, offsets=offsets, is_text=is_text)


def _flag(fields: Fields, name: str) -> bool:
    found: tuple[bool] = fields.take(
        name, "true or false", lambda found: (found,) if isinstance(found, bool) else None
    )
    return found[0]


def _common(fields: Fields) -> dict[str, Any]:
    """What arrays of every kind have."""
    return {
        "file": fields.take(
            "file",
            "a name of letters, digits and _.%- that ends with .npy",
            lambda found: found if isinstance(found, str) and FILE_NAME.fullmatch(found) else None,
        ),
        "dtype": fields.take("dtype", "a dtype of numbers or text, such as '<f4'", _dtype),
        "header_bytes": fields.whole("header_bytes", 1),
        "header_checksum": fields.take("header_checksum", "8 hexadecimal digits", _crc),
        "block_rows": fields.whole("block_rows", 1),
        "checksums": fields.take(
            "checksums", "a list of texts of 8 hexadecimal digits", _checksums
        ),
    }


def _check_blocks(array: PackedArray) -> None:
    if len(array.checksums) != -(-array.rows // array.block_rows):
        raise WrongFieldError(
            f"{array.file}: the field 'checksums' has {len(array.checksums)} entries, not one for "
            f"each {array.block_rows} of {array.rows} rows"
        )


def _crc(found: Any) -> int | None:
    is_crc = isinstance(found, str) and re.fullmatch("[0-9a-f]{8}", found)
    return int(found, 16) if is_crc else None


def _checksums(found: Any) -> tuple[int, ...] | None:
    if not isinstance(found, list):
        return None
    sums = tuple(_crc(item) for item in found)
    return None if None in sums else sums  # type: ignore[return-value]  # None is ruled out


def _dtype(found: Any) -> np.dtype[Any] | None:
    if not isinstance(found, str) or not _DTYPE.fullmatch(found):
        return None
    try:
        dtype = np.dtype(found)
    except TypeError:
        return None
    return dtype if dtype.itemsize else None


def _shape(found: Any) -> tuple[int, ...] | None:
    if not isinstance(found, list) or not found or not all(is_whole(size, 1) for size in found):
        return None
    return tuple(found)


def _flat(found: Any) -> tuple[int, ...] | None:
    """A shape whose first axis may be empty."""
    if not isinstance(found, list) or not found or not is_whole(found[0], 0):
        return None
    return tuple(found) if all(is_whole(size, 1) for size in found[1:]) else None


def _same(found: Any, length: int) -> tuple[int, ...] | None:
    return (length,) if _shape(found) == (length,) else None


def _ends(found: Any) -> tuple[int, ...] | None:
    if not isinstance(found, list) or not all(is_whole(end, 0) for end in found):
        return None
    is_ascending = all(end <= after for end, after in itertools.pairwise(found))
    return tuple(found) if is_ascending else None

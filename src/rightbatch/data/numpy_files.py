"""NumPy's own files: `.npy` mapped into memory, `.npz` mapped where its members are stored."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rightbatch.byte_sizes import bytes_text
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.arrays import open_arrays
from rightbatch.data.dataset import Dataset
from rightbatch.data.options import OpenOptions
from rightbatch.data.remote_path import RemotePath, is_remote
from rightbatch.errors import DataError
from rightbatch.free_memory import free_memory

MAGIC = b"\x93NUMPY"
# Deflate cannot compress further than this, so a promise beyond it is a lie (zlib's own bound).
MOST_COMPRESSION = 1032
_LOCAL_HEADER_BYTES = 30
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError)


def open_npy(path: Path, options: OpenOptions) -> Dataset:
    """One column, `x`, mapped into memory: opening reads only the header.

    Of a remote file, numbers stay where they are, and are read as they are asked for.
    """
    with path.open("rb") as file:
        header = read_header(file, str(path), total_bytes=path.stat().st_size)
        _refuse_contents(header, str(path))
    if is_remote(path) and _is_read_by_rows(header):
        return _open_remote(path, header, options)
    return open_arrays({"x": map_values(path, header)}, options, source=str(path))


def _is_read_by_rows(header: Header) -> bool:
    """Whether rows lie one after the other, as numbers that batches have as they are."""
    is_plain = header.dtype.kind in "buif" and header.dtype.isnative and len(header.shape) > 0
    return is_plain and not header.fortran_order


def _open_remote(path: RemotePath, header: Header, options: OpenOptions) -> Dataset:
    from rightbatch.data.remote_arrays import RemoteArrays
    from rightbatch.data.remote_region import RemoteColumn

    options.refuse_unused(str(path))
    name = options.name or str(path)
    column = RemoteColumn(
        path,
        offset=header.header_bytes,
        length=header.shape[0],
        dtype=header.dtype,
        shape=header.shape[1:],
    )
    chosen = options.choose(name, ("x",))
    return RemoteArrays({"x": column}, name=name, target=chosen.target)


def open_npz(path: Path, options: OpenOptions) -> ArrayDataset:
    """One column a member; members that are stored uncompressed are mapped into memory.

    Compressed members are read and their checksums verified.
    """
    arrays, target = read_npz(path, options)
    # The choice is made: positions would count other columns a second time.
    options = replace(options, columns=None, target=target)
    return open_arrays(arrays, options, source=str(path))


def read_npz(path: Path, options: OpenOptions) -> tuple[dict[str, NDArray[Any]], str | None]:
    """The chosen members by name, and the name of the target; DataError where one is refused."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_members(path, file, archive, options)
        # The file is open: an OSError now is a position that a damaged archive made up.
        except (*_ZIP_ERRORS, OSError) as error:
            raise _broken_archive(path, error) from error


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every member by name, from the headers alone; DataError as `read_npz`."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return {
                _column_name(path, member): _member_header(path, archive, member).shape
                for member in archive.infolist()
            }
    except (*_ZIP_ERRORS, OSError) as error:
        raise _broken_archive(path, error) from error


def _broken_archive(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is no readable .npz archive ({error}); it may be cut off. Save it anew with "
        "numpy.savez."
    )


class Header(NamedTuple):
    """What stands before the values of a .npy file; `header_bytes` is where the values begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    header_bytes: int


def _read_members(
    path: Path, file: IO[bytes], archive: zipfile.ZipFile, options: OpenOptions
) -> tuple[dict[str, NDArray[Any]], str | None]:
    """The chosen members in the order of the choice, and the name of the target."""
    members = {}
    for member in archive.infolist():
        name = _column_name(path, member)
        if name in members:
            raise DataError(f"{path} holds the member {name!r} twice; save it anew.")
        members[name] = member
    if not members:
        raise DataError(f"{path} holds no arrays; save some with numpy.savez.")
    chosen, target = options.choose(options.name or str(path), tuple(members))
    # Headers first: nothing is mapped or read before every member is known to be good.
    headers = {name: _member_header(path, archive, members[name]) for name in chosen}
    arrays = {
        name: _member_array(path, file, archive, members[name], headers[name]) for name in chosen
    }
    return arrays, target


def read_header(file: IO[bytes], described: str, *, total_bytes: int) -> Header:
    """Read the header and compare the size that it promises with the size there is.

    Raises DataError, beginning with `described`, where they differ or the header is not valid.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
    except _ZIP_ERRORS:
        raise  # the archive around the member is broken, not the header
    except Exception as error:  # a header is parsed as text, and hostile text fails in many ways
        raise DataError(
            f"{described} has no valid .npy header ({error}); valid are versions 1.0 and 2.0, as "
            "numpy.save writes them for numbers and text."
        ) from error
    header = Header(shape, fortran_order, dtype, file.tell())
    _refuse_contents(header, described)
    values_bytes = math.prod(shape) * dtype.itemsize
    found = total_bytes - header.header_bytes
    if found != values_bytes:
        state = "is truncated" if found < values_bytes else "has bytes left over"
        raise DataError(
            f"{described} {state}: its header promises {values_bytes:,} bytes of values (shape "
            f"{shape}, {dtype}), and {found:,} follow. Copy or save it anew."
        )
    return header


def _refuse_contents(header: Header, described: str) -> None:
    if header.dtype.hasobject:
        raise DataError(
            f"{described} holds Python objects, which could run code when read, and is not opened; "
            "save it as numbers or text (array.astype(float))."
        )
    if math.prod(header.shape) == 0:
        raise DataError(f"{described} has the shape {header.shape}: zero samples or no values.")


def map_values(path: Path, header: Header, *, offset: int = 0) -> NDArray[Any]:
    """The values after the header at `offset`, mapped into memory to be read only."""
    if header.dtype.itemsize == 0:
        return np.zeros(header.shape, dtype=header.dtype)  # texts that are all empty take no bytes
    if is_remote(path):
        return _fetched_values(path, header, offset + header.header_bytes)
    return np.asarray(
        np.memmap(
            path,
            dtype=header.dtype,
            mode="r",
            offset=offset + header.header_bytes,
            shape=header.shape,
            order="F" if header.fortran_order else "C",
        )
    )


def _fetched_values(path: RemotePath, header: Header, at: int) -> NDArray[Any]:
    values_bytes = math.prod(header.shape) * header.dtype.itemsize
    free = free_memory()
    if free is not None and values_bytes > free.bytes:
        raise DataError(
            f"{path} would take {bytes_text(values_bytes)} in memory, and {bytes_text(free.bytes)} "
            f"is {free.source}: copy it here first, or store it as a pack (rb.pack), which is read "
            "as it is needed"
        )
    values = np.empty(math.prod(header.shape), header.dtype)
    path.remote_file().read_into(at, values.view(np.uint8).data)
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


def map_closed(path: Path, header: Header) -> NDArray[Any]:
    """The values after the header in C order, mapped as by `map_values`, with no file kept open.

    Python's own maps keep the file open, and a process may open about a thousand.
    """
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        content = file.read_buffer()
    count = math.prod(header.shape)
    values: NDArray[Any] = np.frombuffer(content, header.dtype, count, header.header_bytes)
    return values.reshape(header.shape)


def _column_name(path: Path, member: zipfile.ZipInfo) -> str:
    if not member.filename.endswith(".npy"):
        raise DataError(
            f"{path}: the member {member.filename!r} is no .npy array; an .npz holds nothing else."
        )
    return member.filename.removesuffix(".npy")


def _member_header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    described = f"{path}: the member {member.filename!r}"
    if member.flag_bits & 1:
        raise DataError(f"{described} is encrypted; save it anew without a password.")
    if member.file_size > MOST_COMPRESSION * max(64, member.compress_size):
        raise DataError(
            f"{described} promises {member.file_size:,} bytes from {member.compress_size:,} "
            "compressed ones, which is impossible; the archive is damaged."
        )
    with archive.open(member) as file:
        return read_header(file, described, total_bytes=member.file_size)


def _member_array(
    path: Path,
    file: IO[bytes],
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    header: Header,
) -> NDArray[Any]:
    if member.compress_type == zipfile.ZIP_STORED:
        # The local header repeats the name and may pad; the central directory does not say how.
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER_BYTES)
        extra = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        offset = member.header_offset + _LOCAL_HEADER_BYTES + extra
        if offset + member.file_size > path.stat().st_size:
            raise DataError(f"{path}: the member {member.filename!r} is truncated; save it anew.")
        return map_values(path, header, offset=offset)
    array = np.empty(math.prod(header.shape), dtype=header.dtype)
    with archive.open(member) as values:
        values.seek(header.header_bytes)
        target = array.view(np.uint8).data if array.nbytes else memoryview(b"")
        filled = 0
        while filled < len(target):
            count = values.readinto(target[filled:])  # type: ignore[attr-defined]  # ZipExtFile has it
            if not count:
                raise DataError(f"{path}: the member {member.filename!r} ends too early.")
            filled += count
        values.read(1)  # at the end of the member, its checksum is compared
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")

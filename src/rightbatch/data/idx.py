"""IDX, the format of MNIST: one array a file, plain or gzipped, and the folder of four files."""

from __future__ import annotations

import gzip
import math
import zlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.arrays import as_column, open_arrays
from rightbatch.data.numpy_files import MOST_COMPRESSION
from rightbatch.data.options import OpenOptions
from rightbatch.data.remote_path import is_remote
from rightbatch.data.unzipped import open_unzipped
from rightbatch.errors import DataError

# The third byte of the magic number says the type of the values, which are big-endian.
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 32
_READ_BYTES = 2**24


class IdxHeader(NamedTuple):
    """What stands before the values: their dtype (big-endian) and shape, samples first."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def header_bytes(self) -> int:
        """The size of the header: the magic number, and four bytes an axis."""
        return 4 + 4 * len(self.shape)

    @property
    def values_bytes(self) -> int:
        """The size of the values that the header promises."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_idx(path: Path) -> bool:
    """Whether the name or the first bytes of a file say that it is IDX."""
    name = path.name.removesuffix(".gz")
    if name.endswith(("ubyte", ".idx")) or any(f"idx{axes}-" in name for axes in range(1, 10)):
        return True
    with path.open("rb") as file:
        start = file.read(4)
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in DTYPES and start[3] > 0


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder holds files named like MNIST's."""
    return any(
        path.name.startswith(("train-images", "train-labels", "t10k-"))
        for path in folder.iterdir()
        if path.is_file()
    )


def open_idx(path: Path, options: OpenOptions) -> ArrayDataset:
    """A single IDX file as one column: `image`, `label` or `x`, as its name says."""
    header = read_header(path)
    column = "image" if "images" in path.name else "label" if "labels" in path.name else "x"
    return open_arrays({column: _map_or_read(header)}, options, source=str(path))


def open_idx_folder(folder: Path, options: OpenOptions) -> ArrayDataset:
    """The columns `image` and `label` of MNIST's four files, train first, test after it.

    The two parts stand in `own_parts`; a folder with the train pair alone has no test part.
    """
    options.refuse_unused(f"{folder} (IDX files)")
    name = options.name or str(folder)
    train = _read_pair(folder, "train")
    test = _read_pair(folder, "t10k") if _has_part(folder, "t10k") else None
    columns = ("image", "label")
    chosen = options.choose(name, columns, default_target="label")
    arrays: dict[str, NDArray[Any]] = {}
    for column in chosen.columns:
        headers = [pair[columns.index(column)] for pair in (train, test) if pair is not None]
        arrays[column] = _read_together(headers)
    own_parts = {}
    if test is not None:
        train_length, test_length = train[0].shape[0], test[0].shape[0]
        own_parts = {
            "train": range(train_length),
            "test": range(train_length, train_length + test_length),
        }
    return ArrayDataset(arrays, name=name, target=chosen.target, own_parts=own_parts)


def read_header(path: Path) -> IdxHeader:
    """Read and check the header of an IDX file, before anything is allocated.

    Raises DataError where the magic number is wrong, there are zero samples, or the promised
    size cannot be that of the file.
    """
    with _open_bytes(path) as file:
        magic = _read_exactly(file, path, 4, "the magic number")
        if magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 0 < magic[3] <= _MOST_AXES:
            valid = ", ".join(f"{code:#04x}" for code in DTYPES)
            raise DataError(
                f"{path} has the wrong magic number {magic.hex(' ')} for an IDX file; valid are "
                f"two zero bytes, a type ({valid}) and a number of axes from 1 to {_MOST_AXES}. "
                "Is it another format, or a gzip file without the ending .gz?"
            )
        axes = _read_exactly(file, path, 4 * magic[3], "the sizes of its axes")
    shape = tuple(np.frombuffer(axes, dtype=">u4").tolist())
    header = IdxHeader(path, np.dtype(DTYPES[magic[2]]), shape)
    if 0 in shape:
        raise DataError(f"{path} has the shape {shape} in its header: zero samples or no values.")
    _check_promise(header)
    return header


def _check_promise(header: IdxHeader) -> None:
    path, promised = header.path, header.header_bytes + header.values_bytes
    found = path.stat().st_size
    if not _is_gzip(path):
        if found != promised:
            state = "is truncated" if found < promised else "is oversized"
            raise DataError(
                f"{path} {state}: its header promises {promised:,} bytes (shape {header.shape}, "
                f"{header.dtype.name}) and it has {found:,}. Fetch it anew."
            )
    elif promised > MOST_COMPRESSION * (found + 64):
        raise DataError(
            f"{path} is truncated or damaged: its header promises {promised:,} bytes (shape "
            f"{header.shape}, {header.dtype.name}), more than {found:,} compressed bytes can "
            "hold. Fetch it anew."
        )


def _has_part(folder: Path, part: str) -> bool:
    return any(_find(folder, f"{part}-{kind}") for kind in ("images", "labels"))


def _read_pair(folder: Path, part: str) -> tuple[IdxHeader, IdxHeader]:
    """The headers of one part's images and labels; DataError where the two do not match."""
    images, labels = (_find(folder, f"{part}-{kind}") for kind in ("images", "labels"))
    if images is None or labels is None:
        lacking = "labels" if labels is None else "images"
        present = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise DataError(
            f"{folder} has no {part}-{lacking}… file. Valid is the pair train-images… and "
            "train-labels…, alone or with the pair t10k-images… and t10k-labels…, each plain "
            f"or .gz. It holds: {present}."
        )
    pair = read_header(images), read_header(labels)
    image_count, label_count = pair[0].shape[0], pair[1].shape[0]
    if image_count != label_count:
        raise DataError(
            f"{folder}: {images.name} has {image_count:,} images and {labels.name} has "
            f"{label_count:,} labels; they must be of equal length. One of the two belongs to "
            "another set."
        )
    return pair


def _find(folder: Path, start: str) -> Path | None:
    """The file whose name begins with `start`; the plain one where a .gz lies beside it."""
    found = sorted(
        (path for path in folder.iterdir() if path.is_file() and path.name.startswith(start)),
        key=lambda path: (_is_gzip(path), path.name),
    )
    kinds = [_is_gzip(path) for path in found]
    if len(found) > len(set(kinds)):
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} has several {start}… files ({names}); leave one of them.")
    return found[0] if found else None


def _map_or_read(header: IdxHeader) -> NDArray[Any]:
    if _is_read(header.path):
        return _read_together([header])
    mapped: NDArray[Any] = np.memmap(
        header.path,
        dtype=header.dtype,
        mode="r",
        offset=header.header_bytes,
        shape=header.shape,
    )
    return as_column(mapped, str(header.path))[0]


def _read_together(headers: list[IdxHeader]) -> NDArray[Any]:
    """The values of all files, one after the other, read right into one array."""
    first = headers[0]
    for header in headers[1:]:
        if (header.dtype, header.shape[1:]) != (first.dtype, first.shape[1:]):
            raise DataError(
                f"{first.path} holds samples of shape {first.shape[1:]} ({first.dtype.name}), "
                f"{header.path} of shape {header.shape[1:]} ({header.dtype.name}); they must be "
                "alike."
            )
    if len(headers) == 1 and not _is_read(first.path):
        return _map_or_read(first)
    length = sum(header.shape[0] for header in headers)
    # Untouched pages cost no memory, so a header that lies within its bound stays harmless.
    array = np.empty((length, *first.shape[1:]), dtype=first.dtype)
    start = 0
    for header in headers:
        stop = start + header.shape[0]
        _read_into(header, array[start:stop])
        start = stop
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return array


def _read_into(header: IdxHeader, array: NDArray[Any]) -> None:
    path, promised = header.path, header.values_bytes
    target = array.reshape(-1).view(np.uint8).data
    filled = 0
    with _open_bytes(path) as file:
        _read_exactly(file, path, header.header_bytes, "its header")
        try:
            while filled < promised:
                # Files read into buffers, which IO[bytes] does not promise.
                count = cast("Any", file).readinto(target[filled : filled + _READ_BYTES])
                if not count:
                    break
                filled += count
            is_oversized = filled == promised and file.read(1) != b""
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{path} is truncated or damaged: after {filled:,} of the {promised:,} bytes that "
                f"its header promises, the gzip stream breaks ({error}). Fetch it anew."
            ) from error
    if filled < promised:
        raise DataError(
            f"{path} is truncated: its header promises {promised:,} bytes of values (shape "
            f"{header.shape}, {header.dtype.name}), and it holds {filled:,}. Fetch it anew."
        )
    if is_oversized:
        raise DataError(
            f"{path} is oversized: bytes follow after the {promised:,} that its header promises "
            f"(shape {header.shape}, {header.dtype.name}). Fetch it anew."
        )


def _read_exactly(file: IO[bytes], path: Path, count: int, what: str) -> bytes:
    try:
        found = file.read(count)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no readable gzip file ({error}). Fetch it anew.") from error
    if not found and path.stat().st_size == 0:
        raise DataError(f"{path} is empty; an IDX file begins with a magic number.")
    if len(found) < count:
        raise DataError(
            f"{path} is truncated: {what} needs {count} bytes, and {len(found)} are there. "
            "Fetch it anew."
        )
    return found


def _is_read(path: Path) -> bool:
    """Whether the values have to be read, since they can not be mapped."""
    return _is_gzip(path) or is_remote(path)


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _open_bytes(path: Path) -> AbstractContextManager[IO[bytes]]:
    return open_unzipped(path)

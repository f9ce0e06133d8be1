"""Rows of 784 pseudo-random bytes in the format of every contender; one of them: run as a script.

    python large_data.py FORMAT FOLDER ROWS

Row i begins with its number (int64, little-endian), so that every row can be told apart; the
bytes are a pure function of the number. Shards are as large as the formats' documentation advises.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURES = 784
NUMBER_BYTES = 8
_BLOCK_ROWS = 2**15
_SHARD_BYTES = 128 * 2**20
_LEAST_SHARDS = 8
_ARROW_BATCH_ROWS = 1000
_SEED = 784


def rows_of(gibibytes: float) -> int:
    """How many rows take up so much."""
    return int(gibibytes * 2**30) // FEATURES


def blocks(start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
    """The rows `start` up to `stop`, uint8 of shape (up to 32,768, 784) each."""
    for number in range(start // _BLOCK_ROWS, -(-stop // _BLOCK_ROWS)):
        generator = np.random.Generator(np.random.SFC64([_SEED, number]))
        rows = np.frombuffer(bytearray(generator.bytes(_BLOCK_ROWS * FEATURES)), np.uint8)
        rows = rows.reshape(_BLOCK_ROWS, FEATURES)
        first = number * _BLOCK_ROWS
        numbers = np.arange(first, first + _BLOCK_ROWS, dtype="<i8")
        rows[:, :NUMBER_BYTES] = numbers.view(np.uint8).reshape(-1, NUMBER_BYTES)
        yield rows[max(0, start - first) : stop - first]


def numbers_of(batch: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The row numbers of a batch, int64 of shape (B,)."""
    return np.ascontiguousarray(batch[:, :NUMBER_BYTES]).view("<i8").reshape(-1)


def make(name: str, folder: Path, rows: int) -> None:
    """Write the format `name` below `folder`, unless it is there."""
    own = folder / name
    done = own / "complete.json"
    if done.is_file() and json.loads(done.read_text(encoding="ascii")) == rows:
        return
    own.mkdir(parents=True, exist_ok=True)
    FORMATS[name](own, rows)
    for path in files_of(own):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # only clean pages leave the cache
    done.write_text(json.dumps(rows), encoding="ascii")


def files_of(folder: Path) -> list[Path]:
    """All the files of a format."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def bytes_of(folder: Path) -> int:
    """What the files of a format take up."""
    return sum(path.stat().st_size for path in files_of(folder))


def drop_from_cache(folder: Path) -> float:
    """Take all files of a format out of the page cache; gives the share of pages that stayed."""
    stayed = pages = 0
    for path in files_of(folder):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            resident = _resident_pages(file.fileno())
            stayed, pages = stayed + int(resident.sum()), pages + len(resident)
    return stayed / max(1, pages)


def _resident_pages(descriptor: int) -> NDArray[np.uint8]:
    """Which pages of a file are in the cache, 0 or 1 each: mincore(2)."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return np.zeros(0, np.uint8)
    resident = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    # Private and writable, because ctypes gives no address of memory that is read-only.
    with mmap.mmap(descriptor, size, mmap.MAP_PRIVATE) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(first)),
            ctypes.c_size_t(size),
            ctypes.c_void_p(resident.ctypes.data),
        )
        del first  # else the mapping cannot be closed
        if failed:
            raise OSError(ctypes.get_errno(), "mincore failed")
    return resident & 1


def _shards(rows: int) -> Iterator[tuple[int, int, int]]:
    """The number and the rows (start, stop) of each shard."""
    count = max(_LEAST_SHARDS, math.ceil(rows * FEATURES / _SHARD_BYTES))
    edges = [rows * number // count for number in range(count + 1)]
    return ((number, edges[number], edges[number + 1]) for number in range(count))


def _records(start: int, stop: int) -> Iterator[bytes]:
    for block in blocks(start, stop):
        content = block.tobytes()
        for at in range(0, len(content), FEATURES):
            yield content[at : at + FEATURES]


def write_npy(folder: Path, rows: int) -> None:
    with (folder / "x.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, FEATURES)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks(0, rows):
            file.write(block.data)


def write_tfrecord(folder: Path, rows: int) -> None:
    import tensorflow as tf

    for number, start, stop in _shards(rows):
        with tf.io.TFRecordWriter(str(folder / f"{number:05d}.tfrecord")) as writer:
            for record in _records(start, stop):
                writer.write(record)


def write_arrow(folder: Path, rows: int) -> None:
    import pyarrow as pa

    # A list of fixed length: a row is a slice of one buffer, not an object.
    kind = pa.list_(pa.uint8(), FEATURES)
    schema = pa.schema([pa.field("x", kind)])
    for number, start, stop in _shards(rows):
        path = str(folder / f"{number:05d}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for block in blocks(start, stop):
                values = pa.array(block.reshape(-1))
                column = pa.FixedSizeListArray.from_arrays(values, type=kind)
                batch = pa.record_batch([column], schema=schema)
                for at in range(0, len(block), _ARROW_BATCH_ROWS):
                    writer.write_batch(batch.slice(at, _ARROW_BATCH_ROWS))


def write_mds(folder: Path, rows: int) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"x": "bytes"}, exist_ok=True) as writer:
        for record in _records(0, rows):
            writer.write({"x": record})


def write_array_record(folder: Path, rows: int) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    # A record a chunk, as its documentation advises for random access; random bytes do not
    # compress, and so nobody has to undo it.
    for number, start, stop in _shards(rows):
        path = str(folder / f"{number:05d}.array_record")
        writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
        for record in _records(start, stop):
            writer.write(record)
        writer.close()


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "npy": write_npy,
    "tfrecord": write_tfrecord,
    "arrow": write_arrow,
    "mds": write_mds,
    "array_record": write_array_record,
}

if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

"""The loaders of data larger than memory, each set up as its own documentation advises.

A loader is a function of a `Job` that imports what it needs and gives a function: called, it opens
the files and iterates over shuffled batches, uint8 of shape (B, 784), NumPy arrays or tensors.
Each runs in a process of its own (`cold.py`), which starts the clock at that call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from large_data import FEATURES

_READ_BYTES = 4 * 2**20
_WORKERS = 2
# What a row of 784 bytes takes in a shuffle buffer, as an object with its header.
_BUFFERED_ROW_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be loaded: `rows` rows in the files of `folder`, in batches, within a budget."""

    folder: str
    rows: int
    batch_size: int
    budget_bytes: int
    seed: int = 1

    def files(self, suffix: str) -> list[str]:
        """The shards, in order."""
        return sorted(str(path) for path in Path(self.folder).glob(f"*{suffix}"))


Batches = Callable[[], Iterable[Any]]


def sequential_read(job: Job) -> Batches:
    """The limit: every byte of the file once, in order, into one buffer."""

    def batches() -> Iterator[Any]:
        buffer = np.empty(_READ_BYTES, np.uint8)
        (path,) = job.files(".npy")
        with Path(path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]

    return batches


def rightbatch(job: Job, **options: Any) -> Batches:
    import rightbatch as rb

    (path,) = job.files(".npy")
    return lambda: rb.Batches(rb.open(path), job.batch_size, seed=job.seed, **options)


def rightbatch_within_budget(job: Job) -> Batches:
    return rightbatch(job, memory=job.budget_bytes)


class _MappedRows:
    """A map-style data set over a memory map, as torch's documentation describes one."""

    def __init__(self, path: str) -> None:
        # Seen as a plain array: np.memmap's own indexing is slower. Copy-on-write, because torch
        # warns of arrays that are read-only.
        self._rows = np.asarray(np.load(path, mmap_mode="c"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        return self._rows[row]


def torch_memory_map(job: Job) -> Batches:
    from torch.utils.data import DataLoader

    (path,) = job.files(".npy")

    def batches() -> Iterable[Any]:
        data: Any = _MappedRows(path)
        return DataLoader(data, job.batch_size, shuffle=True, num_workers=_WORKERS)

    return batches


def torch_memory_map_by_batch(job: Job) -> Batches:
    # "Disable automatic batching": the sampler gives lists of rows, the data set whole batches.
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    (path,) = job.files(".npy")

    def batches() -> Iterable[Any]:
        data: Any = _MappedRows(path)
        sampler = BatchSampler(RandomSampler(data), job.batch_size, drop_last=False)
        return DataLoader(
            data,
            batch_size=None,
            sampler=sampler,
            num_workers=_WORKERS,
            collate_fn=torch.from_numpy,
        )

    return batches


def tf_data(job: Job) -> Batches:
    import tensorflow as tf

    def decode(records: Any) -> Any:
        return tf.io.decode_raw(records, tf.uint8, fixed_length=FEATURES)

    def batches() -> Iterable[Any]:
        # The performance guide: interleave the files in parallel, without keeping an order that
        # is shuffled anyway; batch before a vectorised map; prefetch. Blocks of rows, since
        # taking turns row by row is five times slower.
        files = job.files(".tfrecord")
        data = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=job.seed)
        data = data.interleave(
            tf.data.TFRecordDataset,
            cycle_length=4,
            block_length=job.batch_size,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
        data = data.shuffle(max(1, job.budget_bytes // _BUFFERED_ROW_BYTES), seed=job.seed)
        data = data.batch(job.batch_size).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        return data.prefetch(tf.data.AUTOTUNE)

    return batches


def hugging_face(job: Job) -> Batches:
    from datasets import Dataset, concatenate_datasets, disable_progress_bars

    disable_progress_bars()

    def batches() -> Iterator[Any]:
        data = concatenate_datasets([Dataset.from_file(path) for path in job.files(".arrow")])
        # Many shards and a buffer of 10,000: the example of "to_iterable_dataset". Its NumPy
        # format would turn the bytes into int64; tables of Arrow keep them, and are faster.
        stream = data.with_format("arrow").to_iterable_dataset(num_shards=64)
        stream = stream.shuffle(seed=job.seed, buffer_size=10_000)
        return (_plain(table) for table in stream.iter(batch_size=job.batch_size))

    return batches


def hugging_face_by_index(job: Job) -> Batches:
    from datasets import Dataset, concatenate_datasets, disable_progress_bars

    disable_progress_bars()

    def batches() -> Iterator[Any]:
        data = concatenate_datasets([Dataset.from_file(path) for path in job.files(".arrow")])
        # In memory, or the permutation would be written beside the data.
        data = data.with_format("arrow").shuffle(seed=job.seed, keep_in_memory=True)
        return (_plain(table) for table in data.iter(batch_size=job.batch_size))

    return batches


def _plain(table: Any) -> Any:
    return table["x"].combine_chunks().flatten().to_numpy().reshape(-1, FEATURES)


def mosaic_streaming(job: Job) -> Batches:
    import torch
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()

    def together(rows: list[dict[str, bytes]]) -> Any:
        return torch.from_numpy(_joined([row["x"] for row in rows]))

    def batches() -> Iterator[Any]:
        data = StreamingDataset(
            local=job.folder, shuffle=True, shuffle_seed=job.seed, batch_size=job.batch_size
        )
        # Bytes joined a batch at a time are faster than an array a row and torch's collation.
        return iter(
            StreamingDataLoader(
                data, batch_size=job.batch_size, num_workers=_WORKERS, collate_fn=together
            )
        )

    return batches


def grain_array_record(job: Job) -> Batches:
    import grain
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    def batches() -> Iterable[Any]:
        source: Any = ArrayRecordDataSource(job.files(".array_record"))
        data = grain.MapDataset.source(source).shuffle(seed=job.seed)
        # Joined a batch at a time, which is faster than an array a record. Reading threads and
        # buffer are grain's defaults, which are meant for data on a disk.
        return data.batch(job.batch_size, batch_fn=_joined).to_iter_dataset()

    return batches


def grain_memory_map(job: Job) -> Batches:
    import grain

    (path,) = job.files(".npy")

    def batches() -> Iterable[Any]:
        source: Any = _MappedRows(path)
        data = grain.MapDataset.source(source).shuffle(seed=job.seed).batch(job.batch_size)
        # One thread: taking a row from a map holds the interpreter, and 16 contend for it.
        return data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))

    return batches


def _joined(records: Any) -> Any:
    return np.frombuffer(bytearray(b"".join(records)), np.uint8).reshape(-1, FEATURES)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """A loader, and the format that it reads."""

    load: Callable[[Job], Batches]
    reads: str


LOADERS = {
    "sequential read": Loader(load=sequential_read, reads="npy"),
    "rightbatch, memory=": Loader(load=rightbatch_within_budget, reads="npy"),
    "rightbatch, uniform order": Loader(load=rightbatch, reads="npy"),
    "torch DataLoader over a memory map": Loader(load=torch_memory_map, reads="npy"),
    "torch DataLoader over a memory map, BatchSampler as sampler": Loader(
        load=torch_memory_map_by_batch, reads="npy"
    ),
    "tf.data over TFRecord": Loader(load=tf_data, reads="tfrecord"),
    "HF datasets, iterable with a shuffle buffer": Loader(load=hugging_face, reads="arrow"),
    "HF datasets, shuffled by index": Loader(load=hugging_face_by_index, reads="arrow"),
    "MosaicML Streaming": Loader(load=mosaic_streaming, reads="mds"),
    "grain over a memory map": Loader(load=grain_memory_map, reads="npy"),
    "grain over ArrayRecord": Loader(load=grain_array_record, reads="array_record"),
}

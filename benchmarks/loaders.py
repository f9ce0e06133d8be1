"""The loaders of the first table, each set up as its own documentation advises.

A loader is a function that prepares once and gives an `Epoch`: called with the number of an
epoch, it iterates over (inputs float32 (B, 784) in [0, 1], labels (B,)) in an order shuffled anew.
Libraries are imported inside, so that one that is missing or slow to start burdens nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mnist
from measure import Work
from mnist import BATCH_SIZE, FEATURES, SAMPLES

Epoch = Callable[[int], Iterable[tuple[Any, Any]]]


class BatchWork(Work):
    """One epoch of batches, each of which is taken and let go."""

    def __init__(self, loader: Callable[[], Epoch]) -> None:
        self._epoch = loader()
        self._number = 0

    def warm_up(self) -> None:
        """Check the content of an epoch: every sample once, float32, scaled, shuffled."""
        pixels, labels = mnist.load()
        samples, total, seen, first = 0, 0.0, np.zeros(mnist.CLASSES, np.int64), None
        for inputs, target in self._epoch(0):
            array = np.asarray(inputs)
            assert array.dtype == np.float32, f"inputs are {array.dtype}"
            assert array.shape[1:] == (FEATURES,), f"inputs have shape {array.shape}"
            assert len(array) <= BATCH_SIZE, f"a batch has {len(array)} samples"
            first = array.copy() if first is None else first
            samples += len(array)
            total += float(array.sum(dtype=np.float64))
            seen += np.bincount(np.asarray(target).reshape(-1), minlength=mnist.CLASSES)
        expected = pixels.sum(dtype=np.int64) / 255
        assert samples == SAMPLES, f"{samples:,} samples came out"
        assert abs(total - expected) < 1e-4 * expected, "the pixels are not those that went in"
        assert (seen == np.bincount(labels)).all(), "the labels are not those that went in"
        assert first is not None  # samples have been counted
        assert not np.allclose(first, pixels[:BATCH_SIZE] / 255), "not shuffled"

    def run(self) -> None:
        """Go through one epoch."""
        self._number += 1
        samples = 0
        for inputs, _ in self._epoch(self._number):
            samples += inputs.shape[0]
        assert samples == SAMPLES, f"{samples:,} samples came out"


class PassWork(Work):
    """A part of the job alone, over one epoch: a limit."""

    def __init__(self, prepare: Callable[[], Callable[[], None]]) -> None:
        self._pass = prepare()

    def warm_up(self) -> None:
        """Run once."""
        self._pass()

    def run(self) -> None:
        """Run once."""
        self._pass()


def numpy_by_hand() -> Epoch:
    pixels, labels = mnist.load()

    def epoch(number: int) -> Iterator[tuple[Any, Any]]:
        permutation = np.random.default_rng(number).permutation(SAMPLES)
        for start in range(0, SAMPLES, BATCH_SIZE):
            rows = permutation[start : start + BATCH_SIZE]
            yield pixels[rows].astype(np.float32) / 255, labels[rows]

    return epoch


def rightbatch(**options: Any) -> Epoch:
    import rightbatch as rb

    parts = rb.split(rb.open(mnist.load())).transform(rb.scale(1 / 255))
    return rb.Batches(parts.train, BATCH_SIZE, **options).epoch


class _Rows:
    """A map-style data set of torch tensors that is asked for the rows of a whole batch."""

    def __init__(self) -> None:
        import torch

        pixels, labels = mnist.load()
        self._pixels, self._labels = torch.from_numpy(pixels), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, rows: list[int]) -> tuple[Any, Any]:
        return self._pixels[rows].float().div_(255), self._labels[rows]


def torch_batch_sampler() -> Epoch:
    # "Disable automatic batching": the sampler gives lists of rows, the data set whole batches.
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    rows: Any = _Rows()
    sampler = BatchSampler(RandomSampler(rows), batch_size=BATCH_SIZE, drop_last=False)
    loader: Any = DataLoader(rows, sampler=sampler, batch_size=None)
    return lambda _: loader


def torch_tensor_dataset(workers: int) -> Epoch:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    pixels, labels = mnist.load()
    data = TensorDataset(torch.from_numpy(pixels), torch.from_numpy(labels))
    # Workers that stay alive between epochs: starting them is not what is measured.
    loader: Any = DataLoader(
        data,
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def epoch(_: int) -> Iterator[tuple[Any, Any]]:
        # Scaled a batch at a time, which is faster than sample by sample in the data set.
        for inputs, target in loader:
            yield inputs.float().div_(255), target

    return epoch


def tf_data(*, maps_batches: bool) -> Epoch:
    import tensorflow as tf

    def convert(inputs: Any, target: Any) -> tuple[Any, Any]:
        return tf.cast(inputs, tf.float32) / 255.0, target

    data = tf.data.Dataset.from_tensor_slices(mnist.load()).shuffle(SAMPLES)
    # The performance guide: vectorise the map by batching first, map in parallel, prefetch.
    if maps_batches:
        data = data.batch(BATCH_SIZE).map(convert, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        data = data.map(convert, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE)
    data = data.prefetch(tf.data.AUTOTUNE)
    return lambda _: data


def hugging_face() -> Epoch:
    from datasets import Dataset, Features, Sequence, Value, disable_progress_bars

    disable_progress_bars()
    pixels, labels = mnist.load()
    features = Features(
        # A list of fixed length comes out as one array without a copy for each sample.
        {"image": Sequence(Value("uint8"), length=FEATURES), "label": Value("int64")}
    )
    data = Dataset.from_dict({"image": pixels, "label": labels}, features=features)
    data = data.with_format("numpy")

    def epoch(number: int) -> Iterator[tuple[Any, Any]]:
        for batch in data.shuffle(seed=number).iter(batch_size=BATCH_SIZE):
            yield batch["image"].astype(np.float32) / 255, batch["label"]

    return epoch


class _Samples:
    """A random-access source of single samples, as grain wants it."""

    def __init__(self) -> None:
        self._pixels, self._labels = mnist.load()

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, row: int) -> tuple[NDArray[np.uint8], np.int64]:
        return self._pixels[row], self._labels[row]


def grain_map_dataset() -> Epoch:
    import grain

    source: Any = _Samples()

    def convert(batch: tuple[Any, Any]) -> tuple[Any, Any]:
        return batch[0].astype(np.float32) / 255, batch[1]

    def epoch(number: int) -> Iterator[tuple[Any, Any]]:
        # Batched before it is mapped, as for tf.data. One reading thread: with the samples in
        # memory, grain's default of 16 only contend for the interpreter.
        data = grain.MapDataset.source(source).shuffle(seed=number).batch(BATCH_SIZE).map(convert)
        return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=1)))

    return epoch


def copy_alone() -> Callable[[], None]:
    pixels, _ = mnist.load()
    values = (pixels / np.float32(255)).astype(np.float32)
    out = np.empty((BATCH_SIZE, FEATURES), np.float32)

    def copy() -> None:
        for start in range(0, SAMPLES, BATCH_SIZE):
            piece = values[start : start + BATCH_SIZE]
            np.copyto(out[: len(piece)], piece)

    return copy


def gather_alone() -> Callable[[], None]:
    pixels, _ = mnist.load()
    permutation = np.random.default_rng(0).permutation(SAMPLES)
    out = np.empty((BATCH_SIZE, FEATURES), np.uint8)

    def gather() -> None:
        for start in range(0, SAMPLES, BATCH_SIZE):
            rows = permutation[start : start + BATCH_SIZE]
            np.take(pixels, rows, axis=0, out=out[: len(rows)], mode="clip")

    return gather

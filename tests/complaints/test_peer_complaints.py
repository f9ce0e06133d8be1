"""What users of other loaders complain about, one test each: it fails with the peer's behaviour.

Here what loading costs; `test_peer_complaints_exactness.py` has what it gives.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import WeightedRandomSampler

import rightbatch as rb
from rightbatch.data.column import Column


class Counted(rb.Dataset):
    """Samples made on request, which notes what it was asked for."""

    def __init__(self, length: int) -> None:
        column = Column(name="x", dtype=np.dtype(np.int64), shape=(8,))
        super().__init__(name="counted", columns=[column])
        self.length = length
        self.asked: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return self.length

    def rows(self, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        self.asked.append(indices.copy())
        return {"x": np.repeat(indices[:, None], 8, axis=1)}

    def span(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        return {"x": np.repeat(np.arange(start, stop)[:, None], 8, axis=1)}

    @property
    def fingerprint(self) -> str:
        return f"counted {self.length}"


def python_calls(run: Callable[[], None]) -> int:
    """The Python functions that are entered while `run` runs in this thread."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def run_alone(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Complaint 1: a loader that indexes sample by sample and collates.


def test_1_a_batch_is_gathered_at_once_and_not_sample_by_sample() -> None:
    data = Counted(6000)
    batches = rb.Batches(data, 100, with_rows=True, threads=0)
    for x, rows in batches:
        np.testing.assert_array_equal(x[:, 0], rows)
    assert len(data.asked) <= len(batches) == 60
    assert sum(len(rows) for rows in data.asked) == 6000


def test_1_python_is_called_less_than_once_a_sample() -> None:
    X, y = np.zeros((20_000, 28, 28), np.uint8), np.zeros(20_000, np.int64)
    part = rb.split((X, y)).transform(rb.scale(1 / 255), rb.standardize()).train
    batches = rb.Batches(part, 128, threads=0)

    def epoch() -> None:
        for _ in batches:
            pass

    assert python_calls(epoch) < 20_000


# Complaint 2: memory grows with the workers, and from epoch to epoch.

MANY_EPOCHS = """
import gc, resource, sys
import numpy as np
import rightbatch as rb

X = np.random.default_rng(0).integers(0, 255, (20_000, 784)).astype(np.uint8)
part = rb.split((X, np.arange(20_000))).transform(rb.scale(1 / 255)).train
batches = rb.Batches(part, 128, threads=THREADS)

def epochs(count):
    for _ in range(count):
        for x, y in batches:
            x[0, 0] + y[0]
    gc.collect()
    # The most this process ever took, in KiB on Linux: it can only grow.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

first = epochs(5)
sys.stdout.write(f"{first} {epochs(45)}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux alone")
def test_2_memory_does_not_grow_over_epochs_or_with_threads() -> None:
    after_fifty = {}
    for threads in (0, 8):
        after_five, after_fifty[threads] = map(
            int, run_alone(MANY_EPOCHS.replace("THREADS", str(threads))).split()
        )
        # An epoch of float32 batches is 60 MiB; 45 of them that nobody frees would be 2.7 GiB.
        assert after_fifty[threads] - after_five < 15
    # Eight copies of the data would be 120 MiB.
    assert after_fifty[8] - after_fifty[0] < 60


# Complaint 3: the shuffled index alone takes 100 GB at 180 million samples.


def test_3_batches_of_180_million_samples_take_a_few_slabs_and_no_index() -> None:
    length = 180_000_000
    tracemalloc.start()
    try:
        batches = rb.Batches(Counted(length), 256, seed=7, with_rows=True, threads=2)
        rows = np.concatenate([rows for _, rows in islice(iter(batches), 100)])
        middle = rb.Batches(Counted(length), 256, seed=7, with_rows=True, threads=2)
        middle.load_state_dict({**batches.state_dict(), "samples": 90_000_000})
        more = np.concatenate([rows for _, rows in islice(iter(middle), 100)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(np.unique(np.concatenate([rows, more]))) == 2 * 100 * 256
    assert rows.max() > 0.99 * length
    # Two iterations hold some five slabs of 3 MiB each. As int32 the permutation would be 720 MB;
    # tests/plan holds the order alone to 4 MB.
    assert peak < 45e6


def test_3_a_split_of_180_million_samples_takes_neither_integers_nor_bits() -> None:
    length = 180_000_000
    tracemalloc.start()
    try:
        parts = rb.split(Counted(length), val=1_000_000)
        batches = rb.Batches(parts.train, 256, with_rows=True)
        rows = np.concatenate([rows for _, rows in islice(batches, 700)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert parts.val is not None
    assert not parts.val.rows.contains(rows).any()
    # As int64 it would be 1.4 GB, and as bitmaps with their directories 67 MB. Here are some slabs
    # of 49,000 rows from everywhere, and what finding them takes.
    assert peak < 40e6
    # Of bits this long, which lie in a file, that would not tell.
    assert "scattered" not in vars(parts.train.rows)


@pytest.mark.parametrize("length", [10**6, 10**9, 10**12])
def test_3_the_first_batch_waits_for_no_row_but_its_own(length: int) -> None:
    data = Counted(length)
    train = rb.split(data, val=0.1).train
    data.asked.clear()  # of a million samples a split looks for equal ones
    _, first = next(iter(rb.Batches(train, 256, with_rows=True, threads=0)))
    assert [asked.tolist() for asked in data.asked] == [first.tolist()]
    assert train.rows._taken_far_apart == len(first)
    assert train.rows.contains(first).all()


def test_3_weighted_sampling_goes_on_above_2_to_24_samples() -> None:
    length = 2**24 + 1_000
    weights = np.zeros(length)
    weights[-64:] = 1.0
    with pytest.raises(RuntimeError, match="2\\^24"):
        list(WeightedRandomSampler(torch.from_numpy(weights), 128))
    batches = rb.Batches(
        Counted(length), 32, weights=weights, epoch_samples=128, with_rows=True, threads=0
    )
    rows = np.concatenate([rows for _, rows in batches])
    assert np.bincount(rows - (length - 64)).tolist() == [2] * 64


# Complaint 6: resuming is inexact, or replays everything before the stop.


@pytest.mark.parametrize("threads", [0, 2])
def test_6_resume_asks_only_for_the_samples_still_to_come(threads: int) -> None:
    whole = Counted(50_000)
    first = rb.Batches(whole, 64, seed=5, with_rows=True, threads=threads)
    iterator = iter(first)
    for _ in range(700):
        next(iterator)
    state = first.state_dict()
    expected = [rows.tolist() for _, rows in iterator]

    rest = Counted(50_000)
    second = rb.Batches(rest, 64, seed=5, with_rows=True, threads=threads)
    second.load_state_dict(state)
    assert rest.asked == []
    assert [rows.tolist() for _, rows in second] == expected
    assert sum(len(rows) for rows in rest.asked) == 50_000 - 700 * 64
    # Prefetching threads ask in any order.
    asked = np.sort(np.concatenate(rest.asked))
    np.testing.assert_array_equal(asked, np.sort(np.concatenate(expected)))


def test_6_a_seek_costs_the_same_anywhere() -> None:
    length = 10**12
    calls = []
    for samples in (0, 999_999_000_000):
        batches = rb.Batches(Counted(length), 100, threads=0)
        batches.load_state_dict({**batches.state_dict(), "samples": samples})
        iterator = iter(batches)
        calls.append(python_calls(lambda: next(iterator)))  # noqa: B023 - called at once
        assert sum(len(rows) for rows in batches.part.data.asked) <= 60_000  # type: ignore[attr-defined]  # Counted
    assert abs(calls[0] - calls[1]) < 0.5 * max(calls) < 5000


# Complaint 11: bus errors from shared memory, forks that hang.

THOUSAND_BATCHES = """
import glob, multiprocessing, os, sys
import numpy as np
import torch
import rightbatch as rb

def children():
    files = glob.glob(f"/proc/{os.getpid()}/task/*/children")
    return [child for file in files for child in open(file).read().split()]

def shared_segments():
    with open("/proc/self/maps") as maps:
        mapped = {line.split()[-1] for line in maps if "/dev/shm" in line or "/torch_" in line}
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if "/dev/shm" in target:
            mapped.add(target)
    return mapped

part = rb.split((np.zeros((128_000, 64), np.float32), np.zeros(128_000))).train
count, found = 0, set()
for x, y in rb.Batches(part, 128, threads=4, output="torch"):
    count += 1
    assert not x.is_shared() and not y.is_shared()
    if count % 50 == 0:
        found |= {*children(), *shared_segments(), *multiprocessing.active_children()}
sys.stdout.write(f"{count} {sorted(map(str, found))} {'forkserver' in sys.modules}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells, on Linux")
def test_11_a_thousand_batches_take_no_process_and_no_shared_memory() -> None:
    assert run_alone(THOUSAND_BATCHES) == "1000 [] False"

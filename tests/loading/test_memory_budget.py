"""A budget of memory: the order it calls for, what is refused, what a process really takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.errors import OptionError, ResumeError
from rightbatch.free_memory import Limit
from rightbatch.loading.memory_budget import warn_of_random_reads
from rightbatch.plan.order import Order

LENGTH, WIDTH = 40_000, 1_000


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """40 MB of rows of 1,000 bytes, the row number in the first eight of them."""
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.uint8, (LENGTH, WIDTH))
    rows[:, :8] = np.arange(LENGTH, dtype="<u8").view(np.uint8).reshape(-1, 8)
    rows.flush()
    return path


def test_memory_chooses_blocks_and_a_window_that_fit(file) -> None:
    order = rb.Batches(file, 64, memory="16MB").order
    assert order.kind == "block-window"
    assert order.window % order.block == 0
    # Two windows, and room for the batches beside them.
    assert 3e6 < order.window * WIDTH < 8e6
    larger = rb.Batches(file, 64, memory="32MB").order
    assert larger.window > 1.9 * order.window


def test_where_everything_fits_the_shuffle_is_uniform(file) -> None:
    assert rb.Batches(file, 64, memory="100MB").order == Order(kind="uniform")
    assert rb.Batches(np.zeros((LENGTH, 30)), 64, memory="5MB").order == Order(kind="uniform")
    table = {"a": np.zeros(LENGTH), "b": np.zeros(LENGTH), "c": np.zeros(LENGTH)}
    assert rb.Batches(table, 64, memory="500kB").order == Order(kind="uniform")


def test_without_shuffling_the_order_is_kept(file) -> None:
    batches = rb.Batches(file, 64, memory="16MB", shuffle=False, with_rows=True)
    assert batches.order == Order(kind="sequential")
    rows = np.concatenate([rows for _, rows in batches])
    assert np.array_equal(rows, np.arange(LENGTH))


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_the_order_does_not_depend_on_the_threads(file, threads) -> None:
    expected = rb.Batches(file, 64, memory="16MB").order
    assert rb.Batches(file, 64, memory="16MB", threads=threads).order == expected


def test_a_part_that_fits_is_shuffled_uniformly_and_read_in_one_window(file) -> None:
    parts = rb.split(rb.open(file), val=0.1, seed=1)
    batches = rb.Batches(parts.val, 64, memory="24MB", with_rows=True, seed=3)
    assert batches.order == Order(kind="uniform")
    whole = rb.Batches(parts.val, 64, with_rows=True, seed=3)
    for (x, rows), (expected, expected_rows) in zip(batches, whole, strict=True):
        assert np.array_equal(rows, expected_rows)
        assert np.array_equal(x, expected)


def test_every_row_comes_once_with_its_own_bytes(file) -> None:
    seen = []
    for x, rows in rb.Batches(file, 100, memory="16MB", with_rows=True, seed=2):
        assert np.array_equal(x[:, :8].copy().view("<u8")[:, 0], rows.astype(np.uint64))
        seen.append(rows)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(LENGTH))


def test_a_state_goes_on_with_its_order_whatever_memory_there_is(file) -> None:
    little = rb.Batches(file, 64, memory="16MB", with_rows=True, seed=5)
    expected = [rows.tolist() for _, rows in little.epoch(0)]
    iterator = iter(little)
    before = [next(iterator)[1].tolist() for _ in range(100)]
    for memory in ("12MB", "24MB", "1GB"):
        goes_on = rb.Batches(file, 64, memory=memory, with_rows=True, seed=5)
        assert goes_on.order != little.order
        goes_on.load_state_dict(little.state_dict())
        assert goes_on.order == little.order
        assert before + [rows.tolist() for _, rows in goes_on] == expected
    with pytest.raises(ResumeError, match="order: block-window"):
        rb.Batches(file, 64, with_rows=True, seed=5).load_state_dict(little.state_dict())


def test_blocks_may_be_given_instead(file) -> None:
    batches = rb.Batches(file, 64, block=100, window=2_000)
    assert batches.order == Order(kind="block-window", block=100, window=2_000)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"memory": "16MB", "window": 100}, "leave out those two, or memory"),
        ({"memory": "16MB", "block": 100}, "leave out those two, or memory"),
        ({"memory": "4MB"}, r"memory=4\.00 MB has no room for two windows .* give 6\.\d+ MB"),
        ({"memory": "little"}, "memory='little' is not a size of memory"),
        ({"block": 100}, "say how many samples a window has"),
    ],
)
def test_what_makes_no_sense_is_refused(file, options, match) -> None:
    with pytest.raises(OptionError, match=match):
        rb.Batches(file, 64, **options)


def test_random_reads_of_what_memory_does_not_hold_are_warned_of(file, caplog) -> None:
    reader = rb.Batches(file, 64)._rows
    free = Limit(bytes=10_000_000, source="free on this machine")
    warn_of_random_reads("rows", Order(kind="uniform"), LENGTH, reader, free)
    assert "rows: 40.0 MB are read in a uniform order, and 10.0 MB is free" in caplog.text
    assert "such as memory='2.50 MB'" in caplog.text
    caplog.clear()
    enough = Limit(bytes=50_000_000, source="free on this machine")
    warn_of_random_reads("rows", Order(kind="uniform"), LENGTH, reader, enough)
    warn_of_random_reads("rows", Order(kind="sequential"), LENGTH, reader, free)
    warn_of_random_reads("rows", Order(kind="uniform"), LENGTH, reader, None)
    assert caplog.text == ""


PEAK = """
import resource, sys
import numpy as np
import rightbatch as rb
from rightbatch.loading.batches import Batches

def kib(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

before = kib("VmHWM")
batches = Batches(rb.open(sys.argv[1]), 64, memory=sys.argv[2], seed=1)
total = sum(int(x[:, 8:].any()) + len(x) for x in batches)
assert total == len(batches.part), total
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize("memory", [16_000_000, 32_000_000])
def test_a_process_takes_the_budget_and_a_tenth_more_at_most(file, memory) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(file), str(memory)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 1.1 * memory

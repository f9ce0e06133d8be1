"""What goes wrong while data are read: said with file and row within seconds, or left out."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.file_region import FileReader, FileRegion
from rightbatch.errors import BadSampleError, DataError, OptionError, ResumeError
from rightbatch.loading.windows import WindowPool

LENGTH = 2_000
# Rows of 6,000 bytes, so that the file is more than what is read at once.
WIDTH = 750
WINDOWS = {"block": 20, "window": 200}


class Failing(rb.Dataset):
    """A source that fails on some rows, as a folder of images with broken ones does."""

    def __init__(self, bad: set[int]) -> None:
        self.held = ArrayDataset({"x": np.arange(LENGTH * 3).reshape(LENGTH, 3)})
        super().__init__(name="failing", columns=self.held.columns)
        self.bad = bad

    def __len__(self) -> int:
        return LENGTH

    def rows(self, indices) -> dict[str, np.ndarray]:
        wrong = sorted(self.bad & set(np.asarray(indices).tolist()))
        if wrong:
            raise OSError(f"image {wrong[0]} is broken")
        return self.held.rows(indices)

    def span(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self.rows(np.arange(start, stop))

    @property
    def fingerprint(self) -> str:
        return "failing"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.arange(LENGTH * WIDTH).reshape(LENGTH, WIDTH))
    return tmp_path / "x.npy"


def cut(path: Path, rows: int) -> None:
    """Leave so many rows of the file."""
    header_bytes = path.stat().st_size - LENGTH * WIDTH * 8
    os.truncate(path, header_bytes + rows * WIDTH * 8)


def batches(data: object, **options) -> rb.Batches:
    return rb.Batches(data, 50, seed=3, with_rows=True, **options)


# A thread that reads from a map at the very moment would end the process: no thread there.
@pytest.mark.parametrize(
    ("order", "threads"), [(WINDOWS, 0), (WINDOWS, 1), ({}, 0), ({"window": 100}, 0)]
)
def test_a_file_that_is_cut_off_in_the_middle_of_an_epoch_stops_it(file, order, threads) -> None:
    iterator = iter(batches(file, threads=threads, **order))
    next(iterator)
    cut(file, 1_000)
    with pytest.raises(DataError, match=r"x\.npy ends before row 1,\d{3}, and had 2,000 rows"):
        list(iterator)


@pytest.mark.parametrize("order", [WINDOWS, {}])
def test_rows_that_were_cut_off_are_left_out_where_that_is_asked_for(file, order) -> None:
    whole = batches(file, **order)
    expected = [(x.tolist(), rows.tolist()) for x, rows in whole.epoch(0)]
    loader = batches(file, on_bad_sample="quarantine", max_bad=10, **order)
    cut(file, LENGTH - 7)
    found = list(loader.epoch(0))
    bad = set(range(LENGTH - 7, LENGTH))
    assert {sample.row for sample in loader.bad_samples} == bad
    assert all("ends before row" in sample.reason for sample in loader.bad_samples)
    for (x, rows, weights), (whole_x, whole_rows) in zip(found, expected, strict=True):
        is_bad = np.isin(whole_rows, list(bad))
        # A batch is as large as it would be, and what stands in for a bad sample weighs nothing.
        assert len(x) == len(whole_x)
        assert np.array_equal(weights, (~is_bad).astype(np.float32))
        assert np.array_equal(rows, np.where(is_bad, -1, whole_rows))
        assert np.array_equal(x[~is_bad], np.array(whole_x)[~is_bad])
        assert set(map(tuple, x[is_bad].tolist())) <= set(map(tuple, whole_x)) | {
            tuple(row) for batch, _ in expected for row in batch
        }


@pytest.mark.parametrize("order", [WINDOWS, {}])
def test_a_file_that_is_gone_is_named(file, order) -> None:
    loader = batches(file, **order)
    file.unlink()
    if order:
        with pytest.raises(DataError, match=r"x\.npy can not be opened any more \(No such file"):
            next(iter(loader))
    else:
        # It is mapped, so that its content is still there.
        assert len(list(loader)) == 40


def test_a_read_error_names_the_file_and_the_row(tmp_path) -> None:
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("no /proc/self/mem here: a file whose first bytes can not be read is needed")
    region = FileRegion(path=memory, offset=0, length=9, dtype=np.dtype(np.int64), shape=())
    reader = FileReader(region)
    with pytest.raises(DataError, match=r"/proc/self/mem: reading row 3 failed \(Input/output"):
        reader.read(3, np.empty(2, np.int64))
    reader.close()


@pytest.mark.parametrize("order", [WINDOWS, {}])
@pytest.mark.parametrize("threads", [0, 2])
def test_what_a_source_raises_is_raised_in_its_place(order, threads) -> None:
    loader = batches(Failing({7}), threads=threads, **order)
    seen = []
    with pytest.raises(OSError, match="image 7 is broken"):
        seen.extend(loader)
    assert len(seen) < 40


@pytest.mark.parametrize("order", [WINDOWS, {}])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_source_that_fails_on_some_rows_goes_on_without_them(order, threads) -> None:
    bad = {0, 7, 8, 999, LENGTH - 1}
    loader = batches(
        Failing(bad), threads=threads, on_bad_sample="quarantine", max_bad=0.01, **order
    )
    for _ in range(2):
        rows, weights = zip(*((rows, weights) for _, rows, weights in loader), strict=True)
        together = np.concatenate(rows)
        assert set(together[together >= 0].tolist()) == set(range(LENGTH)) - bad
        assert int(np.concatenate(weights).sum()) == LENGTH - len(bad)
    assert [sample.row for sample in loader.bad_samples] == sorted(bad)
    assert loader.bad_samples[1].reason == "OSError: image 7 is broken"


def test_a_whole_slab_of_bad_samples_is_filled_from_elsewhere() -> None:
    loader = batches(
        Failing(set(range(LENGTH - 1))), shuffle=False, on_bad_sample="quarantine", max_bad=LENGTH
    )
    found = list(loader)
    assert sum(int(weights.sum()) for _, _, weights in found) == 1
    assert all((x == found[-1][0][-1]).all() for x, _, _ in found)


@pytest.mark.parametrize("order", [WINDOWS, {}])
def test_more_than_are_allowed_stop_the_run(order) -> None:
    loader = batches(Failing({3, 5, 9}), on_bad_sample="quarantine", max_bad=2, **order)
    with pytest.raises(BadSampleError, match=r"3 samples can not be read .* max_bad allows 2"):
        list(loader)


def test_a_run_that_goes_on_leaves_the_same_samples_out() -> None:
    source = Failing({3, 700, 1_500})
    options = {"on_bad_sample": "quarantine", "max_bad": 5, **WINDOWS}
    whole = [rows.tolist() for _, rows, _ in batches(source, **options)]
    stopped = batches(source, **options)
    iterator = iter(stopped)
    before = [next(iterator)[1].tolist() for _ in range(20)]
    state = json.loads(json.dumps(stopped.state_dict()))
    source.bad = {3, 700, 1_500} - {sample["row"] for sample in state["bad_samples"]}
    # What was bad has been repaired in the meantime, and is left out all the same.
    goes_on = batches(source, **options)
    goes_on.load_state_dict(state)
    assert before + [rows.tolist() for _, rows, _ in goes_on] == whole
    assert [sample.row for sample in goes_on.bad_samples] == [3, 700, 1_500]


def test_a_state_with_bad_samples_needs_a_quarantine() -> None:
    stopped = batches(Failing({3}), on_bad_sample="quarantine", max_bad=5)
    list(stopped)
    state = stopped.state_dict()
    with pytest.raises(ResumeError, match="has left 1 bad samples out"):
        batches(Failing({3})).load_state_dict(state)
    state["bad_samples"] = [{"row": "x"}]
    with pytest.raises(ResumeError, match="can not be read"):
        stopped.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"on_bad_sample": "quarantin", "max_bad": 1}, "Did you mean 'quarantine'"),
        ({"on_bad_sample": "quarantine"}, "say how many at most"),
        ({"max_bad": 3}, "leaves none out"),
        ({"on_bad_sample": "quarantine", "max_bad": 0}, "max_bad=0 is not valid"),
        ({"on_bad_sample": "quarantine", "max_bad": 1.5}, "max_bad=1.5 is not valid"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, match) -> None:
    with pytest.raises(OptionError, match=match):
        batches(Failing(set()), **options)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="ends a thread as CPython can")
def test_a_thread_that_is_ended_from_outside_is_told_and_nobody_waits(file) -> None:
    before = set(threading.enumerate())
    iterator = iter(batches(file, threads=1, **WINDOWS))
    next(iterator)
    reading = [t for t in set(threading.enumerate()) - before if "reader" in t.name]
    assert reading
    for thread in reading:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
    began = time.monotonic()
    with pytest.raises(DataError, match="was ended before the epoch was over"):
        list(iterator)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_an_epoch_that_is_given_up_leaves_no_thread_and_no_open_file(
    file, threads, files_open
) -> None:
    before = set(threading.enumerate())
    loader = batches(file, threads=threads, **WINDOWS)
    by_the_map = files_open(file)
    for _ in range(5):
        iterator = iter(loader)
        next(iterator)
        iterator.close()
    assert set(threading.enumerate()) - before == set()
    assert files_open(file) == by_the_map


def test_epochs_that_were_given_up_leave_the_next_ones_right(file, monkeypatch) -> None:
    # Slowed down where a thread of the loader and the one that gives up meet.
    whole = WindowPool.give_back

    def slow(pool, buffers) -> None:
        whole(pool, buffers)
        time.sleep(0.002)

    monkeypatch.setattr(WindowPool, "give_back", slow)
    loader = batches(file, threads=2, block=10, window=50)
    generator = np.random.default_rng(0)
    for number in range(20):
        for place, _ in enumerate(loader.epoch(number)):
            if place == generator.integers(1, 30):
                break
    for number in range(2):
        for x, rows in loader.epoch(number):
            assert np.array_equal(x[:, 0], rows * WIDTH)


def test_ctrl_c_while_threads_start_leaves_none(file, monkeypatch) -> None:
    before, starts = set(threading.enumerate()), []
    whole = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        whole(thread)
        starts.append(thread)
        if len(starts) == 3:
            raise KeyboardInterrupt

    loader = batches(file, **WINDOWS)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        next(iter(loader))
    monkeypatch.undo()
    assert set(threading.enumerate()) - before == set()


def test_a_file_in_the_place_of_the_one_that_was_opened_is_refused(file) -> None:
    loader = batches(file, **WINDOWS)
    list(loader.epoch(0))
    other = file.with_name("other.npy")
    np.save(other, np.zeros((LENGTH, WIDTH), np.int64))
    other.replace(file)
    with pytest.raises(DataError, match="replaced by another file since the data were opened"):
        list(loader.epoch(1))


CUT = """
import os, sys
import numpy as np
import rightbatch as rb

folder, doing = sys.argv[1:]
data = rb.pack({"x": np.ones((5000, 300)), "y": np.arange(5000) % 2}, folder, target="y")
os.truncate(f"{folder}/x.npy", 100_000)
try:
    eval(doing)
except rb.DataError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "doing",
    [
        "data.rows([4999])",
        "data.span(10, 5000)",
        "rb.split(data, val=0.1, stratify='y') and data.rows([4999])",
        "rb.split(data, val=0.1).transform(rb.standardize())",
        "rb.pack(data, folder + '2')",
        "rb.open(folder + '/y.npy') and data.rows([4999])",
        "list(rb.Batches(data, 32))",
        "rb.fit('logistic', rb.split(data), on_bad_sample='quarantine', max_bad=10)",
    ],
)
def test_what_reads_a_file_that_was_cut_off_says_so_and_lives(tmp_path, doing) -> None:
    """Through the map of a file that has become shorter, reading would end the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(tmp_path / "pack"), doing],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "x.npy" in done.stdout
    assert "ends before row" in done.stdout


def test_a_split_goes_on_where_equal_samples_can_not_be_looked_for() -> None:
    class Strange(Failing):
        def rows(self, indices) -> dict[str, np.ndarray]:
            if 7 in np.asarray(indices):
                raise ValueError("no image")
            return self.held.rows(indices)

    assert rb.split(Strange(set()), val=0.1).duplicate_samples is None
    with pytest.raises(DataError, match=r"can not be looked for, .* ValueError: no image"):
        rb.split(Strange(set()), val=0.1, on_duplicates="error")

"""What users of other loaders complain about when the data are large, dirty, or in many files.

Complaints 3, 7 and 8: an index that grows with the data, a sample that ends the run, files that do
not divide among the workers. Each test fails with the peer's behaviour.
"""

from __future__ import annotations

import os
import tracemalloc
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.column import Column
from rightbatch.errors import BadSampleError, DataError
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.ranks import rank_span
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import split_rows

SAMPLES = 180_000_000


# Complaint 3: the shuffled index alone takes 100 GB at 180 million samples (pytorch #50201).


@pytest.mark.parametrize(
    "order",
    [Order(kind="uniform"), Order(kind="block-window", block=512, window=262_144)],
    ids=lambda order: order.kind,
)
def test_3_a_split_and_a_batch_of_180_million_samples_take_a_few_megabytes(order) -> None:
    tracemalloc.start()
    parts = split_rows(RowSet.from_range(SAMPLES, 0, SAMPLES), val=0.1, test=0.1, seed=7)
    train = parts["train"]
    plan = Plan(length=len(train), batch_size=256, order=order, seed=7)
    for number in (0, plan.batch_count() // 2, plan.batch_count() - 1):
        rows = train.take(plan.positions(3, *plan.span(number)))
        assert len(set(rows.tolist())) == len(rows)
        assert train.contains(rows).all()
        assert not parts["val"].contains(rows).any()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A tenth of a byte a sample would be 18 MB.
    assert peak_bytes < 12e6


def test_3_a_file_of_180_million_samples_is_shuffled_within_a_small_budget(tmp_path) -> None:
    """A sparse file: it has 180 million rows and takes no room on the disk."""
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (SAMPLES, 16)}
        np.lib.format.write_array_header_1_0(file, header)
        size = file.tell() + SAMPLES * 16
    os.truncate(path, size)
    parts = rb.split(rb.open(path), val=0.1, seed=1)
    tracemalloc.start()
    batches = rb.Batches(parts.train, 256, memory="24MB", seed=1, with_rows=True)
    seen = [rows for _, (_, rows) in zip(range(200), batches.epoch(5), strict=False)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batches.order.kind == "block-window"
    together = np.concatenate(seen)
    assert len(np.unique(together)) == 200 * 256
    assert peak_bytes < 26.4e6


# Complaint 7: one corrupt sample ends the run (pytorch #1137), or is dropped without a word.


class Photographs(rb.Dataset):
    """Files of which some are cut off, as downloads are."""

    def __init__(self, folder: Path, count: int) -> None:
        column = Column(name="x", dtype=np.dtype(np.uint8), shape=(64,))
        super().__init__(name="photographs", columns=[column])
        self.folder = folder
        self.count = count

    def __len__(self) -> int:
        return self.count

    def rows(self, indices) -> dict[str, np.ndarray]:
        images = []
        for row in np.asarray(indices).tolist():
            content = (self.folder / f"{row}.raw").read_bytes()
            if len(content) != 64:
                raise DataError(f"{row}.raw has {len(content)} bytes, 64 expected")
            images.append(np.frombuffer(content, np.uint8))
        return {"x": np.array(images).reshape(-1, 64)}

    def span(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self.rows(np.arange(start, stop))

    @property
    def fingerprint(self) -> str:
        return f"photographs {self.count}"


@pytest.fixture
def photographs(tmp_path: Path) -> Photographs:
    for row in range(200):
        content = bytes([row]) * 64
        (tmp_path / f"{row}.raw").write_bytes(content[:10] if row in (17, 120) else content)
    return Photographs(tmp_path, 200)


@pytest.mark.parametrize("order", [{}, {"block": 10, "window": 40}])
def test_7_a_corrupt_sample_stops_the_run_by_name_or_is_left_out_and_listed(
    photographs, order
) -> None:
    with pytest.raises(DataError, match=r"(17|120)\.raw has 10 bytes, 64 expected"):
        list(rb.Batches(photographs, 16, **order))
    batches = rb.Batches(
        photographs, 16, on_bad_sample="quarantine", max_bad=5, with_rows=True, **order
    )
    rows, weights = zip(*((rows, weights) for _, rows, weights in batches), strict=True)
    assert [len(batch) for batch in rows] == [16] * 12 + [8]
    present = np.concatenate(rows)[np.concatenate(weights) > 0]
    assert np.array_equal(np.sort(present), [row for row in range(200) if row not in (17, 120)])
    # Nothing is lost in silence: who was left out, and why.
    assert [(sample.row, sample.reason) for sample in batches.bad_samples] == [
        (17, "DataError: 17.raw has 10 bytes, 64 expected"),
        (120, "DataError: 120.raw has 10 bytes, 64 expected"),
    ]
    with pytest.raises(BadSampleError, match="max_bad allows 1"):
        list(rb.Batches(photographs, 16, on_bad_sample="quarantine", max_bad=1, **order))


# Complaint 8: workers duplicate samples or starve where the files do not divide (datasets #3423,
# #8669). Here a sample has a number whatever file it is in.


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 16])
def test_8_files_of_any_number_and_length_divide_among_any_number_of_ranks(tmp_path, ranks) -> None:
    lengths = [1, 250, 3, 90, 17]
    row = 0
    for number, length in enumerate(lengths):
        lines = ["x,y", *(f"{value}.5,{value}" for value in range(row, row + length))]
        (tmp_path / f"{number}.csv").write_text("\n".join(lines))
        row += length
    pack = rb.pack(str(tmp_path / "*.csv"), tmp_path / "pack", target="y")
    assert len(pack) == sum(lengths)
    batches = rb.Batches(pack, 50, block=8, window=64, with_rows=True, seed=4)
    expected = [rows.tolist() for _, _, rows in batches.epoch(0)]
    plan = batches.plan
    shares = [
        [plan.positions(0, *rank_span(start, stop, rank, ranks)).tolist() for rank in range(ranks)]
        for start, stop in plan.spans()
    ]
    # The global batch is the same for every number of ranks, and its shares differ by one at most.
    assert [list(chain(*batch)) for batch in shares] == expected
    for batch in shares:
        sizes = [len(share) for share in batch]
        assert max(sizes) - min(sizes) <= 1
    assert sorted(chain(*chain(*shares))) == list(range(sum(lengths)))


def test_8_threads_neither_repeat_nor_starve(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5_003 * 20).reshape(5_003, 20))
    for threads in (0, 1, 2, 4):
        batches = rb.Batches(
            tmp_path / "x.npy", 64, block=32, window=320, threads=threads, with_rows=True
        )
        rows = np.concatenate([rows for _, rows in batches])
        assert np.array_equal(np.sort(rows), np.arange(5_003))

"""Batches of a rank: what it reads, what it leaves out, what is refused, and shares of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.file_region import FileReader
from rightbatch.errors import BadSampleError, OptionError
from rightbatch.testing import check_ranks, check_resume

LENGTH = 300


class Asked(rb.Dataset):
    """A source without arrays that keeps what it is asked for, and fails on some rows."""

    def __init__(self, bad: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.held = ArrayDataset(
            {"x": np.arange(LENGTH * 3.0).reshape(LENGTH, 3), "y": np.arange(LENGTH)}, target="y"
        )
        super().__init__(name="asked", columns=self.held.columns, target="y")
        self.bad = bad
        self.asked: list[int] = []

    def __len__(self) -> int:
        return LENGTH

    def rows(self, indices: Any) -> dict[str, np.ndarray]:
        rows = np.asarray(indices).tolist()
        self.asked += rows
        if wrong := sorted(self.bad & set(rows)):
            raise OSError(f"image {wrong[0]} is broken")
        return self.held.rows(indices)

    def span(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self.rows(np.arange(start, stop))

    @property
    def fingerprint(self) -> str:
        return "asked"


def ranks_of(data: Any, batch_size: int, world_size: int, **options: Any) -> list[rb.Batches]:
    options = {"seed": 5, "with_rows": True, **options}
    return [
        rb.Batches(data, batch_size, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"block": 10, "window": 60}], ids=str)
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(("batch_size", "world_size"), [(32, 3), (7, 2), (300, 4)])
def test_a_rank_asks_for_its_own_samples_alone(options, threads, batch_size, world_size) -> None:
    everything: list[int] = []
    for rank in range(world_size):
        data = Asked()
        own = rb.Batches(
            data,
            batch_size,
            seed=5,
            with_rows=True,
            threads=threads,
            rank=rank,
            world_size=world_size,
            **options,
        )
        rows = np.concatenate([batch[-1] for batch in own.epoch(0)])
        if batch_size == 7:  # the last batch has 6 samples, and each rank some
            assert abs(len(rows) - LENGTH / world_size) <= LENGTH // batch_size
        assert sorted(data.asked) == sorted(rows.tolist())
        everything += data.asked
    assert sorted(everything) == list(range(LENGTH))


def test_a_rank_without_a_sample_asks_for_one_to_know_what_a_batch_is() -> None:
    data = Asked()
    *_, none = ranks_of(data, 2, 3)
    sizes = [(x.shape, y.dtype, rows.shape) for x, y, rows in none]
    assert sizes == [((0, 3), np.dtype(np.int64), (0,))] * 150
    assert len(data.asked) == 1


@pytest.mark.parametrize("memory", ["8MB", 8_000_000])
def test_within_a_budget_a_rank_reads_its_share_of_the_bytes(
    memory, tmp_path: Path, monkeypatch
) -> None:
    width, length = 6000, 3000
    np.save(tmp_path / "x.npy", np.arange(length * width, dtype=np.uint8).reshape(length, width))
    data = rb.open(tmp_path / "x.npy")
    read: list[int] = []
    plain = FileReader._read

    def counted(self: FileReader, descriptor: int, start: int, view: memoryview) -> None:
        read.append(len(view))
        plain(self, descriptor, start, view)

    monkeypatch.setattr(FileReader, "_read", counted)
    for own in ranks_of(data, 32, 4, memory=memory):
        assert own.order.kind == "block-window"
        assert own._windows is not None
        assert own._windows.samples <= own.order.window / 4 + 2 * 8  # and so much memory
        read.clear()
        rows = np.concatenate([rows for _, rows in own.epoch(0)])
        assert len(rows) * width <= sum(read) <= 1.01 * len(rows) * width


@pytest.mark.parametrize("options", [{}, {"block": 10, "window": 60}], ids=str)
@pytest.mark.parametrize("threads", [0, 2])
def test_bad_samples_are_left_out_by_the_rank_that_holds_them(options, threads) -> None:
    bad = {3, 50, 51, 52, 170, 299}
    options = {"on_bad_sample": "quarantine", "max_bad": 20, "threads": threads, **options}
    whole = rb.Batches(Asked(bad), 8, seed=5, with_rows=True, **options)
    expected = [(rows, weights) for _, _, rows, weights in whole]
    ranks = ranks_of(Asked(bad), 8, 3, **options)
    found = [[(rows, weights) for _, _, rows, weights in own] for own in ranks]
    for k, both in enumerate(expected):
        for j in range(2):
            joined = np.concatenate([shares[k][j] for shares in found])
            np.testing.assert_array_equal(joined, both[j])
    rows = sorted(sample.row for own in ranks for sample in own.bad_samples)
    assert rows == sorted(bad)


def test_a_share_of_bad_samples_alone_weighs_nothing() -> None:
    order = np.concatenate([rows for _, _, rows in rb.Batches(Asked(), 4, seed=5, with_rows=True)])
    bad = set(order[10:12].tolist())
    first, second = ranks_of(Asked(bad), 4, 2, on_bad_sample="quarantine", max_bad=2)
    third = list(second)[2]
    assert third[0].shape == (2, 3)
    assert np.isfinite(third[0]).all()
    assert third[2].tolist() == [-1, -1]
    assert third[3].tolist() == [0, 0]
    assert all(weights.all() for *_, weights in first)
    assert {sample.row for sample in second.bad_samples} == bad


def test_too_many_bad_samples_of_one_rank_stop_it() -> None:
    first, second = ranks_of(
        Asked({1, 3, 5}), 2, 2, shuffle=False, on_bad_sample="quarantine", max_bad=2
    )
    assert len(list(first)) == 150
    with pytest.raises(BadSampleError, match="3 samples can not be read"):
        list(second)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("options", [{}, {"block": 10, "window": 60}, {"shuffle": False}], ids=str)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_filled_rank_by_rank_each_share_is_a_batch_of_its_own(threads, options, world_size) -> None:
    size = 32
    ranks = ranks_of(
        Asked(), size * world_size, world_size, _rank_samples=size, threads=threads, **options
    )
    alone = [rows for *_, rows in rb.Batches(Asked(), size, seed=5, with_rows=True, **options)]
    found = [[rows for *_, rows in own] for own in ranks]
    shares = [rows for of_batch in zip(*found, strict=True) for rows in of_batch if len(rows)]
    assert [rows.tolist() for rows in shares] == [rows.tolist() for rows in alone]


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_rank_resumes_like_any_loader(rank, threads) -> None:
    check_resume(
        lambda: rb.Batches(
            Asked(), 40, seed=5, with_rows=True, threads=threads, rank=rank, world_size=3
        )
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"remainder": "drop"}, {"window": 30}, {"block": 10, "window": 60}, {"output": "torch"}],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_kit_finds_nothing_to_say(options, batch_size) -> None:
    check_ranks(
        lambda rank, world_size: rb.Batches(
            Asked(), batch_size, with_rows=True, rank=rank, world_size=world_size, **options
        )
    )


def test_what_a_batch_is_made_of_without_samples() -> None:
    columns = {"image": np.zeros((5, 2, 2), np.uint8), "z": np.zeros(5), "text": list("abcde")}
    *_, none = ranks_of(rb.open(columns), 2, 3)
    inputs, rows = next(iter(none))
    assert inputs["image"].shape == (0, 2, 2)
    assert inputs["image"].dtype == np.uint8
    assert inputs["z"].shape == rows.shape == (0,)
    assert len(inputs["text"]) == 0
    *_, tensors = ranks_of(np.zeros((5, 2), np.float32), 2, 3, output="torch")
    x, rows = next(iter(tensors))
    assert (x.shape, x.dtype, rows.dtype) == ((0, 2), torch.float32, torch.int64)


def test_everything_but_the_batches_counts_those_of_all_ranks() -> None:
    own = ranks_of(Asked(), 40, 3)[2]
    assert (len(own), own.batch_size, own.batches_left) == (8, 40, 8)
    assert (own.rank, own.world_size) == (2, 3)
    assert repr(own) == (
        "<Batches of asked, all: 300 samples, 8 batches of 40, the last of 20, rank 2 of 3>"
    )
    iterator = iter(own)
    assert len(next(iterator)[0]) == 13
    assert own.state_dict()["samples"] == 40
    assert own.batches_left == 7
    assert not own.at_epoch_start
    assert len(own.epoch(3, first_batch=6)) == 2
    assert [len(rows) for *_, rows in own.epoch(3, first_batch=6)] == [13, 6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "world_size": 2}, r"rank=2 .* world_size of 2; ranks are 0 and 1"),
        ({"rank": 1}, r"rank=1 .* world_size of 1; rank 0 is the only one"),
        ({"rank": "0", "world_size": 2}, r"rank='0' is not valid; give an integer of at least 0"),
        ({"world_size": 0}, r"world_size=0 is not valid; give an integer of at least 1"),
        ({"world_size": True}, r"world_size=True is not valid"),
        ({"world_size": 2, "remainder": "pad"}, r'remainder="pad" .* 2 ranks .* "drop"'),
        ({"world_size": 2, "_rank_samples": 9}, r"2 ranks with a share of 9 .* at least 10"),
    ],
    ids=str,
)
def test_what_is_not_possible_is_refused(options, message) -> None:
    with pytest.raises(OptionError, match=message):
        rb.Batches(Asked(), 20, **options)


def test_batches_of_tokens_are_not_shared_yet() -> None:
    with pytest.raises(OptionError, match=r"batch_tokens=9 and world_size=2 .* give batch_size"):
        rb.Batches(rb.open({"text": ["a", "bc"]}), batch_tokens=9, rank=1, world_size=2)

"""Splits by arithmetic: exact sizes, every sample as likely, neighbours kept, nothing stored."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.block_split import BLOCK_LENGTH, BlockSplit
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import BLOCKED_LENGTH, split_rows

keys = st.integers(0, 2**64 - 1)


@st.composite
def splits(draw: st.DrawFn) -> BlockSplit:
    length = draw(st.integers(2, 3_000))
    val = draw(st.integers(0, length))
    test = draw(st.integers(0, length - val))
    assume(BlockSplit.is_possible(length, val, test))
    return BlockSplit(length=length, val=val, test=test, key=draw(keys))


@given(splits())
def test_the_parts_are_disjoint_ascending_and_hold_every_sample(split) -> None:
    parts = [split.part(number).take(np.arange(split.size(number))) for number in range(3)]
    assert [len(part) for part in parts] == [
        split.length - split.val - split.test,
        split.val,
        split.test,
    ]
    assert all((np.diff(part) > 0).all() for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(split.length))
    for number, part in enumerate(parts):
        is_inside = split.part(number).contains(np.arange(split.length))
        assert np.array_equal(np.flatnonzero(is_inside), part)


@given(splits(), st.data())
def test_any_positions_are_found_without_the_others(split, data) -> None:
    number = data.draw(st.sampled_from([n for n in range(3) if split.size(n)]))
    part = split.part(number)
    whole = part.take(np.arange(len(part)))
    some = np.array(data.draw(st.lists(st.integers(0, len(part) - 1), max_size=20)), np.int64)
    assert np.array_equal(part.take(some), whole[some])


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.2), (0.001, 0.5)])
def test_every_block_gives_its_share(val, test) -> None:
    length = 1_000 * BLOCK_LENGTH
    sizes = [round(val * length), round(test * length)]
    split = BlockSplit(length=length, val=sizes[0], test=sizes[1], key=3)
    for number, size in enumerate(sizes, start=1):
        members = split.part(number).take(np.arange(size))
        in_blocks = np.bincount(members // BLOCK_LENGTH, minlength=1_000)
        assert in_blocks.max() - in_blocks.min() <= 1


def test_every_sample_is_as_likely_to_be_held_out() -> None:
    length, rounds = 300, 3_000
    counts = np.zeros(length, np.int64)
    for key in range(rounds):
        split = BlockSplit(length=length, val=30, test=60, key=key)
        counts[split.part(1).take(np.arange(30))] += 1
    # Five standard deviations of 300 shares of fixed seeds.
    assert np.abs(counts / rounds - 0.1).max() < 5 * (0.1 * 0.9 / rounds) ** 0.5


def test_large_splits_take_no_memory() -> None:
    total = 10**11
    rows = RowSet.from_range(total, 0, total)
    tracemalloc.start()
    parts = split_rows(rows, val=0.1, test=1_000, seed=7)
    middle = np.arange(len(parts["train"]) // 2, len(parts["train"]) // 2 + 256)
    found = parts["train"].take(middle)
    assert parts["train"].contains(found).all()
    assert not parts["val"].contains(found).any()
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
    assert {name: len(part) for name, part in parts.items()} == {
        "train": total - total // 10 - 1_000,
        "val": total // 10,
        "test": 1_000,
    }
    assert sum(part.nbytes for part in parts.values()) == 0
    assert parts["train"].count_common(parts["val"]) == 0
    # Neighbours stay near: the 256 rows come from little more than 256 rows of the data.
    assert np.ptp(found) < 400


def test_a_split_by_blocks_is_a_set_of_rows_like_any_other() -> None:
    total = BLOCKED_LENGTH + 1
    parts = split_rows(RowSet.from_range(total, 0, total), val=0.01, test=None, seed=7)
    val = parts["val"]
    listed = val.take(np.arange(len(val)))
    assert np.array_equal(np.concatenate(list(val.chunks())), listed)
    as_list = RowSet.from_rows(total, listed)
    assert np.array_equal(val.mask_bits(), as_list.mask_bits())
    assert val.count_common(as_list) == len(val)
    assert parts["train"].count_common(as_list) == 0
    assert not val.contains(np.array([-1, total, total + 5])).any()
    assert val.fingerprint != parts["train"].fingerprint
    with pytest.raises(IndexError, match="lies outside"):
        val.take(np.array([len(val)]))


def test_another_seed_is_another_split() -> None:
    total = BLOCKED_LENGTH + 1
    rows = RowSet.from_range(total, 0, total)
    one, other = (split_rows(rows, val=0.01, test=None, seed=seed)["val"] for seed in (1, 2))
    assert one.fingerprint != other.fingerprint
    # A hundredth of a hundredth of the rows are in both by chance.
    assert one.count_common(other) < 300


def test_where_hardly_any_are_left_to_train_on_a_bitmap_is_kept() -> None:
    total = BLOCKED_LENGTH + 1
    parts = split_rows(RowSet.from_range(total, 0, total), val=total - 10, test=None, seed=1)
    assert len(parts["train"]) == 10
    with pytest.raises(ValueError, match="too few"):
        BlockSplit(length=total, val=total - 10, test=0, key=1)


def test_a_share_of_other_data_is_refused() -> None:
    share = BlockSplit(length=1_000, val=100, test=0, key=1).part(1)
    with pytest.raises(OptionError, match="describes no part of 999 rows"):
        RowSet.from_share(999, share)


@pytest.mark.parametrize(
    ("total", "val", "test", "train_rows", "val_rows", "test_rows"),
    [
        (
            2**20 + 1,
            0.1,
            0.2,
            [524288, 524289, 524292, 524294, 524295, 524299],
            [524284, 524293, 524296, 524297, 524298, 524307],
            [524291, 524301, 524303, 524314, 524316, 524323],
        ),
        (
            10**12,
            0.1,
            1000,
            [500000000000, 500000000001, 500000000002, 500000000003, 500000000005, 500000000007],
            [500000000004, 500000000006, 500000000028, 500000000029, 500000000039, 500000000044],
            [500701654975, 501701655066, 502701655234, 503701655108, 504701655293, 505701655090],
        ),
    ],
)
def test_golden_splits_by_blocks(total, val, test, train_rows, val_rows, test_rows) -> None:
    parts = split_rows(RowSet.from_range(total, 0, total), val=val, test=test, seed=7)
    for name, rows in (("train", train_rows), ("val", val_rows), ("test", test_rows)):
        middle = len(parts[name]) // 2
        # Pinned: an upgrade must never move somebody's validation samples into training.
        assert parts[name].take(np.arange(middle, middle + 6)).tolist() == rows


@pytest.mark.parametrize("most_listed", [10**6, 10])
def test_a_share_has_a_copy_for_random_access(monkeypatch, most_listed) -> None:
    monkeypatch.setattr("rightbatch.plan.row_set.LISTED_ROWS", most_listed)
    total = BLOCKED_LENGTH + 1
    val = split_rows(RowSet.from_range(total, 0, total), val=0.1, test=None, seed=7)["val"]
    places = np.random.default_rng(0).permutation(len(val))
    assert val.is_arithmetic
    assert not val.scattered.is_arithmetic
    assert np.array_equal(val.scattered.take(places), val.take(places))
    assert val.scattered.scattered is val.scattered


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_all_rows_of_a_share_in_turn_are_those_that_are_taken(name) -> None:
    total = BLOCKED_LENGTH * 3 + 1
    part = split_rows(RowSet.from_range(total, 0, total), val=0.1, test=5, seed=7)[name]
    chunks = list(part.chunks())
    assert max(map(len, chunks)) <= 2**17
    expected = part.take(np.arange(len(part)))
    assert np.array_equal(np.concatenate(chunks), expected)
    assert RowSet.from_mask_bits(total, part.mask_bits()) == RowSet.from_rows(total, expected)


def test_rows_far_apart_are_written_down_once_that_has_paid() -> None:
    total = BLOCKED_LENGTH + 1
    train = split_rows(RowSet.from_range(total, 0, total), val=0.1, test=None, seed=7)["train"]
    order = np.random.default_rng(0).permutation(len(train))
    expected = train.take(order)
    # A hundredth of the rows, and one more.
    first = len(train) // 100
    assert np.array_equal(train.take_far_apart(order[:first]), expected[:first])
    assert "scattered" not in vars(train)
    assert train.take_far_apart(order[:1]).tolist() == expected[:1].tolist()
    assert "scattered" not in vars(train)
    assert np.array_equal(train.take_far_apart(order), expected)
    assert "scattered" in vars(train)

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.plan.order import Order
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import part_sizes, split_rows

GOLDEN_SPLITS = json.loads(Path(__file__).with_name("golden_splits.json").read_text())


def everything(length: int) -> RowSet:
    return RowSet.from_range(length, 0, length)


def rows_of(rows: RowSet) -> np.ndarray:
    return rows.take(np.arange(len(rows)))


@pytest.mark.parametrize(
    ("length", "val", "test", "sizes"),
    [
        (569, 0.16, 0.2, (364, 91, 114)),
        (60_000, 5_000, None, (55_000, 5_000, 0)),
        (10, 0.1, 0.1, (8, 1, 1)),
        (1_797, 0.1, 0.1, (1_437, 180, 180)),
        (100, 7, 0.3, (63, 7, 30)),
        (10, 0, None, (10, 0, 0)),
        (3, 0.5, None, (1, 2, 0)),
        (1_000, np.int64(10), np.float64(0.1), (890, 10, 100)),
        # 0.29 x 100 is 28.999999999999996 in floating point, and 29 as written.
        (100, 0.29, None, (71, 29, 0)),
    ],
)
def test_part_sizes(length, val, test, sizes):
    assert part_sizes(length, val, test) == sizes


@pytest.mark.parametrize(
    ("length", "val", "test", "message"),
    [
        (10, 10, None, "leaves none to train on"),
        (10, 5, 0.5, "leaves none to train on"),
        (10, 0.96, None, "leaves none to train on"),
        (10, 11, None, "more than the 10 samples"),
        (10, 0.01, None, "rounds to no sample"),
        (10, None, 0.01, "test=0.01"),
        (10, 1.0, None, "val=1.0 is not valid"),
        (10, 0.0, None, "val=0.0 is not valid"),
        (10, -1, None, "val=-1 is not valid"),
        (10, None, float("nan"), "test=nan is not valid"),
        (10, True, None, "val=True is not valid"),
        (10, "0.1", None, "val='0.1' is not valid"),
        (0, None, None, "of 0 samples leaves none"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(length, val, test, message):
    with pytest.raises(OptionError, match=message):
        part_sizes(length, val, test)


def codes(kind: str, length: int) -> np.ndarray | None:
    """Codes by arithmetic, the same on every machine."""
    return {
        "none": None,
        "tens": np.arange(length) % 10,
        "runs": np.arange(length) // 7,
        "skewed": np.where(np.arange(length) % 9 == 0, 1, 0),
    }[kind]


@pytest.mark.parametrize("golden", GOLDEN_SPLITS, ids=lambda golden: golden["name"])
def test_golden_splits(golden):
    length = golden["length"]
    parts = split_rows(
        RowSet.from_range(length + 5, 5, length + 5),
        val=golden["val"],
        test=golden["test"],
        seed=golden["seed"],
        strata=codes(golden["strata"], length),
        groups=codes(golden["groups"], length),
    )
    assert {name: rows.fingerprint for name, rows in parts.items()} == golden["fingerprints"], (
        "this split is pinned: an upgrade must never move a sample of somebody's validation "
        "set into training. Restore the split; do not edit the golden file."
    )


def test_a_part_that_was_not_asked_for_has_no_rows():
    parts = split_rows(everything(10), val=2, test=None, seed=0)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [8, 2, 0]


def test_only_candidates_are_split():
    candidates = RowSet.from_rows(1_000, np.arange(3, 1_000, 7))
    parts = split_rows(candidates, val=0.2, test=0.1, seed=1)
    together = np.concatenate([rows_of(rows) for rows in parts.values()])
    assert np.array_equal(np.sort(together), np.arange(3, 1_000, 7))
    assert all(rows.total == 1_000 for rows in parts.values())


def test_a_split_is_random_and_unlike_any_epoch():
    length = 10_000
    val = rows_of(split_rows(everything(length), val=0.1, test=None, seed=3)["val"])
    # 1,000 of 10,000 rows: the mean has a standard deviation of 2,887 x sqrt(0.9 / 1,000) = 87.
    assert abs(val.mean() - length / 2) < 5 * 87
    for epoch in range(3):
        head = Order(kind="uniform").positions(length, 3, epoch, 0, 1_000)
        # Unrelated sets of a tenth share a tenth: 100 +- 9.
        assert abs(len(np.intersect1d(val, head)) - 100) < 5 * 9


def test_strata_may_be_any_integers_and_their_names_do_not_matter():
    strata = np.arange(500) % 3
    expected = split_rows(everything(500), val=50, test=50, seed=1, strata=strata)
    for names in ([-5, 0, 10**15], [100, 200, 300]):
        renamed = np.array(names)[strata]
        assert split_rows(everything(500), val=50, test=50, seed=1, strata=renamed) == expected


def test_a_stratum_with_one_sample_is_no_obstacle():
    strata = np.array([7] + [1] * 99)
    parts = split_rows(everything(100), val=10, test=10, seed=2, strata=strata)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 80, "val": 10, "test": 10}


@pytest.mark.parametrize("wrong", [np.zeros(9, int), np.zeros(10), np.zeros((10, 1), int)])
def test_codes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(OptionError, match=r"strata .* do not fit"):
        split_rows(everything(10), val=2, test=None, seed=0, strata=wrong)
    with pytest.raises(OptionError, match=r"groups .* do not fit"):
        split_rows(everything(10), val=2, test=None, seed=0, groups=wrong)


def test_group_sizes_come_near_to_what_was_asked():
    groups = np.repeat(np.arange(400), np.arange(400) % 13 + 1)
    parts = split_rows(everything(len(groups)), val=0.1, test=0.2, seed=5, groups=groups)
    # A cut is at most half of the largest group away.
    assert abs(len(parts["val"]) - 0.1 * len(groups)) <= 7
    assert abs(len(parts["test"]) - 0.2 * len(groups)) <= 7


def test_groups_with_strata_keep_the_shares_of_strata():
    groups = np.arange(3_000) // 5
    strata = (groups % 10 < 2).astype(int)
    parts = split_rows(everything(3_000), val=0.1, test=0.1, seed=5, groups=groups, strata=strata)
    for rows in parts.values():
        assert abs(strata[rows_of(rows)].mean() - 0.2) < 0.01
        assert np.all(np.bincount(groups[rows_of(rows)])[np.unique(groups[rows_of(rows)])] == 5)


def test_a_group_has_the_stratum_of_most_of_its_samples():
    # Groups of three; groups 0 to 9 have two samples of stratum 1, the others none.
    groups = np.arange(300) // 3
    strata = ((groups < 10) & (np.arange(300) % 3 > 0)).astype(int)
    parts = split_rows(everything(300), val=0.1, test=None, seed=1, groups=groups, strata=strata)
    assert np.count_nonzero(np.unique(groups[rows_of(parts["val"])]) < 10) == 1


def test_every_part_that_was_asked_for_gets_a_group():
    groups = np.array([0] * 1_000 + [1] + [2])
    for seed in range(20):
        parts = split_rows(everything(1_002), val=1, test=1, seed=seed, groups=groups)
        assert sorted(len(rows) for rows in parts.values()) == [1, 1, 1_000]


def test_fewer_groups_than_parts_are_refused():
    with pytest.raises(OptionError, match="2 groups cannot fill 3 parts"):
        split_rows(everything(10), val=2, test=2, seed=0, groups=np.arange(10) % 2)


def _split_peak_bytes(length: int) -> int:
    tracemalloc.start()
    try:
        parts = split_rows(everything(length), val=0.1, test=None, seed=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert parts["train"].count_common(parts["val"]) == 0
    assert len(parts["train"]) + len(parts["val"]) == length
    return peak


def test_a_split_stores_no_permutation():
    # 20 million rows: a stored permutation alone would take 160 MB.
    assert _split_peak_bytes(20_000_000) < 30e6


@pytest.mark.slow
def test_a_split_of_180_million_rows_fits_in_100_megabytes():
    assert _split_peak_bytes(180_000_000) < 100e6

"""Samples of equal content on both sides of a split: counted, refused, or kept together."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset

GENERATOR = np.random.default_rng(0)
# 150 contents; the first 50 of them occur twice.
CONTENT = np.concatenate([np.arange(150), np.arange(50)])
X = np.stack([CONTENT * 1.5, -CONTENT], axis=1)
DISTINCT = np.arange(200.0)


def rows_of(part) -> np.ndarray:
    return part.rows.take(np.arange(len(part)))


def straddling(parts: rb.Parts, codes=CONTENT) -> int:
    """Counted by hand: val against train, test against both."""
    train, val, test = (
        {*codes[rows_of(part)]} if part is not None else set()
        for part in (parts.train, parts.val, parts.test)
    )
    in_val = sum(code in train for code in codes[rows_of(parts.val)]) if parts.val else 0
    in_test = sum(code in train | val for code in codes[rows_of(parts.test)]) if parts.test else 0
    del test
    return in_val + in_test


@pytest.mark.parametrize("seed", range(4))
def test_they_are_counted_and_reported(seed: int, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        parts = rb.split(X, val=40, test=30, seed=seed)
    assert parts.duplicate_samples == straddling(parts) > 0
    (record,) = caplog.records
    assert f"{parts.duplicate_samples:,} held-out samples" in record.getMessage()
    assert "on_duplicates='together'" in record.getMessage()


def test_none_are_none_and_nothing_is_said(caplog) -> None:
    parts = rb.split(DISTINCT, val=40)
    assert parts.duplicate_samples == 0
    assert not caplog.records


def test_the_target_plays_no_part() -> None:
    assert rb.split((X, np.arange(200)), val=0.5).duplicate_samples > 0  # type: ignore[operator]


def test_they_can_be_refused() -> None:
    with pytest.raises(rb.DuplicateError, match=r"held-out samples have inputs equal"):
        rb.split(X, val=0.5, on_duplicates="error")
    assert rb.split(DISTINCT, val=0.5, on_duplicates="error").duplicate_samples == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stratify", [None, True])
def test_they_can_be_kept_together(seed: int, stratify) -> None:
    data = (X, CONTENT % 3)
    parts = rb.split(data, val=40, test=30, seed=seed, on_duplicates="together", stratify=stratify)
    assert parts.duplicate_samples == straddling(parts) == 0
    assert parts.sizes["val"] == pytest.approx(40, abs=3)
    assert sum(parts.sizes.values()) == 200


@pytest.mark.parametrize("seed", range(4))
def test_together_and_groups_cut_neither(seed: int) -> None:
    # Chains: a group is tied to another one by a content they share.
    group = np.arange(200) // 3
    data = rb.open({"x": X, "group": group})
    part_of = rb.split(
        rb.open({"x": X, "y": group}),
        val=0.2,
        test=0.2,
        group="y",
        seed=seed,
        on_duplicates="together",
    )
    assert straddling(part_of) == 0
    assert straddling(part_of, group) == 0
    assert part_of.duplicate_samples == 0
    # The group is no input, so samples of different groups may have equal content.
    assert (rb.split(data, val=0.2, group="group", seed=seed).duplicate_samples or 0) > 0


def test_groups_tied_into_one_cannot_be_divided() -> None:
    chain = np.repeat(np.arange(101), 2)[1:-1]  # 0 1 1 2 2 … 99 99 100
    group = np.arange(200) // 2
    data = rb.open({"x": chain, "y": group})
    assert rb.split(data, val=0.2, group="y").sizes["val"] == pytest.approx(40, abs=2)
    with pytest.raises(rb.OptionError, match="1 groups cannot fill 2 parts"):
        rb.split(data, val=0.2, group="y", on_duplicates="together")


def test_an_own_test_part_is_counted_and_kept() -> None:
    own = {"train": range(150), "test": range(150, 200)}
    data = ArrayDataset({"x": X}, own_parts=own)
    parts = rb.split(data, val=30, on_duplicates="together")
    # Each test sample equals one of the first 50, on either side of the split of train.
    assert parts.sizes == {"train": 120, "val": 30, "test": 50}
    assert parts.duplicate_samples == 50
    with pytest.raises(rb.DuplicateError):
        rb.split(data, val=30, on_duplicates="error")


def test_past_one_gibibyte_they_are_not_counted_unless_asked() -> None:
    # One row, seen 1,025 times: more than 1 GiB of inputs in a megabyte of memory.
    large = np.broadcast_to(np.zeros(2**20, np.uint8), (1025, 2**20))
    assert rb.split(ArrayDataset({"x": large}), val=40).duplicate_samples is None
    assert rb.split(ArrayDataset({"x": large[:3, :10]}), val=1).duplicate_samples == 1


def test_mnist_s_own_duplicates_are_counted(real_data) -> None:
    parts = rb.split(rb.open(real_data / "mnist"), val=5000)
    images = [
        np.asarray(parts.data.array(parts.data.inputs[0].name))[rows_of(part)]
        for part in parts.all.values()
    ]
    seen: set[bytes] = set()
    expected = 0
    for number, part in enumerate(images):
        keys = [image.tobytes() for image in part]
        if number:
            expected += sum(key in seen for key in keys)
        seen.update(keys)
    assert parts.duplicate_samples == expected

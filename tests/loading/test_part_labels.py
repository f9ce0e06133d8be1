"""Labels of a part: where they come from, what they are not, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.column import Column
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.part_labels import PartLabels, target_labels
from rightbatch.loading.parts import whole

X = np.arange(12.0)


class Unread(rb.Dataset):
    """Samples that are worked out where they are asked for: label k of every 2^40 // 4."""

    fingerprint = "unread"

    def __len__(self) -> int:
        return 2**40

    def rows(self, indices):
        return {"x": np.zeros(len(indices)), "label": np.asarray(indices) // 2**38}

    def span(self, start, stop):
        return self.rows(np.arange(start, stop))


def unread() -> Unread:
    columns = [
        Column(name=name, dtype=np.dtype(kind)) for name, kind in (("x", "f8"), ("label", "i8"))
    ]
    return Unread(name="unread", columns=columns, target="label")


def test_the_target_of_a_part_is_read_by_the_rows_of_the_part() -> None:
    data = rb.open({"x": X, "y": np.arange(12) % 3}, target="y")
    part = rb.split(data, val=4, seed=1).train
    labels, why = target_labels(part)
    assert why is None
    rows = part.rows.take(np.arange(8))
    assert labels.codes(np.arange(8)).tolist() == (rows % 3).tolist()
    assert labels.counts.tolist() == np.bincount(rows % 3).tolist()


@pytest.mark.parametrize(
    "given",
    [
        ["b", "a"] * 6,
        np.array(["b", "a"] * 6, object),
        np.array([True, False] * 6),
        np.array([7, -1] * 6, np.int8),
    ],
)
def test_texts_booleans_and_whole_numbers_are_labels(given) -> None:
    labels = PartLabels.of(whole({"x": X}), given)
    assert labels.codes(np.arange(4)).tolist() == [1, 0, 1, 0]
    assert labels.equal_neighbours() == 0
    assert labels.equal_by_chance == pytest.approx(2 * 6 * 5 / (12 * 11))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X, r"float64 are no classes.*np\.digitize"),
        ([0, 1], r"shape \(2,\) do not fit the 12 samples of arrays, all"),
        (np.zeros((12, 2), int), r"shape \(12, 2\)"),
        (np.array([None, "a"] * 6, object), "object are no classes"),
    ],
)
def test_labels_that_are_none_are_refused(given, message) -> None:
    with pytest.raises(OptionError, match=message):
        PartLabels.of(whole({"x": X}), given)


def test_columns_of_quantities_and_unknown_ones_are_refused() -> None:
    part = whole({"x": X, "z": np.zeros((12, 2), int)})
    with pytest.raises(DataError, match=r"labels='x': the column 'x' is float64.*np\.digitize"):
        PartLabels.of(part, "x")
    with pytest.raises(DataError, match="one value a sample"):
        PartLabels.of(part, "z")
    with pytest.raises(DataError, match="no column 'w'"):
        PartLabels.of(part, "w")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, "no target"),
        (np.arange(1500) / 2, "quantities and no classes"),
        (np.arange(1500), "1,500 distinct values"),
    ],
)
def test_without_classes_there_is_a_reason(target, message) -> None:
    columns = {"x": np.zeros(1500)}
    data = rb.open(columns) if target is None else rb.open({**columns, "y": target}, target="y")
    labels, why = target_labels(whole(data))
    assert labels is None
    assert message in why


def test_labels_of_endless_data_are_read_where_they_are_asked_for() -> None:
    labels, _ = target_labels(whole(unread()))
    assert labels.counts.tolist() == [2**18] * 4
    assert labels.codes(np.array([2**40 - 1, 0, 2**38])).tolist() == [3, 0, 1]
    assert labels.equal_neighbours() == pytest.approx(1, abs=1e-4)


def test_a_label_that_was_not_seen_has_a_code_of_its_own() -> None:
    labels = PartLabels(whole({"x": X}), np.array([5, 1] * 6))
    labels.known, labels.counts = labels.known[:1], labels.counts[:1]
    assert labels.codes(np.arange(2)).tolist() == [1, 0]

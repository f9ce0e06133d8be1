"""Splitting data: sizes, disjointness, strata, groups, the source's own test part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset

X = np.arange(400.0).reshape(200, 2)
Y = np.arange(200) % 4


def rows_of(part) -> list[int]:
    return part.rows.take(np.arange(len(part))).tolist()


def test_counts_and_shares() -> None:
    assert rb.split((X, Y), val=0.1, test=30).sizes == {"train": 150, "val": 20, "test": 30}
    assert rb.split((X, Y)).sizes == {"train": 200, "val": 0, "test": 0}


def test_what_was_not_asked_for_is_not_there() -> None:
    parts = rb.split((X, Y), test=10)
    assert parts.val is None
    assert list(parts.all) == ["train", "test"]


def test_parts_are_disjoint_and_together_all() -> None:
    parts = rb.split((X, Y), val=0.2, test=0.1, seed=3)
    rows = [row for part in parts.all.values() for row in rows_of(part)]
    assert sorted(rows) == list(range(200))
    assert all(rows_of(part) == sorted(rows_of(part)) for part in parts.all.values())


def test_the_seed_decides_and_the_fingerprint_tells() -> None:
    one, again, other = (rb.split((X, Y), val=20, seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert rows_of(one.val) == rows_of(again.val) != rows_of(other.val)
    changed = rb.split((X + 1, Y), val=20, seed=1)
    assert rows_of(changed.val) == rows_of(one.val)
    assert changed.fingerprint != one.fingerprint
    assert len({part.fingerprint for part in one.all.values()}) == 2


def test_parts_are_frozen() -> None:
    parts = rb.split((X, Y), val=20)
    with pytest.raises(AttributeError):
        parts.train = parts.val  # type: ignore[misc, assignment]  # the point
    with pytest.raises(AttributeError):
        parts.train.rows = parts.train.rows  # type: ignore[misc]  # the point


def test_batches_of_a_part_hold_its_rows_only() -> None:
    parts = rb.split((X, Y), val=30, test=30, seed=5)
    for part in parts.all.values():
        batches = rb.Batches(part, 16, with_rows=True)
        for _ in range(3):
            taken = [row for x, y, rows in batches for row in rows]
            assert sorted(taken) == rows_of(part)
        for x, y, rows in batches:
            np.testing.assert_array_equal(x, X[rows])
            np.testing.assert_array_equal(y, Y[rows])


@pytest.mark.parametrize("target", [Y, Y.astype(str), Y.astype(bool), Y.astype(np.uint8)])
def test_strata_keep_their_proportions(target) -> None:
    parts = rb.split((X, target), val=0.2, test=0.1, stratify=True, seed=1)
    whole = np.unique(target, return_counts=True)[1] / 200
    for part in parts.all.values():
        counts = np.unique(target[rows_of(part)], return_counts=True)[1]
        assert counts == pytest.approx(whole * len(part), abs=1)


def test_stratify_by_another_column() -> None:
    town = np.repeat(["here", "there"], [50, 150])
    parts = rb.split({"x": X, "town": town}, val=40, stratify="town")
    assert (town[rows_of(parts.val)] == "here").sum() == 10


@pytest.mark.parametrize(
    ("data", "stratify", "message"),
    [
        ((X, X[:, 0]), True, "stratify='y': the column is float64"),
        ((X, Y), "x", r"'x': the column is float64 of shape \(2,\)"),
        ((X, Y), "z", "no column 'z'"),
    ],
)
def test_what_has_no_classes_cannot_be_stratified(data, stratify, message: str) -> None:
    with pytest.raises(rb.DataError, match=message):
        rb.split(data, val=10, stratify=stratify)


def test_stratify_needs_a_target() -> None:
    with pytest.raises(rb.OptionError, match="has none: name the column"):
        rb.split(X, val=10, stratify=True)


@pytest.mark.parametrize("stratify", [None, True])
@pytest.mark.parametrize("kind", [int, str, float])
def test_a_group_never_straddles(stratify, kind) -> None:
    patient = (np.arange(200) // 7).astype(kind)
    data = rb.open({"x": X, "patient": patient, "y": Y}, target="y")
    parts = rb.split(data, val=0.2, test=0.2, group="patient", stratify=stratify, seed=2)
    sides = [set(patient[rows_of(part)]) for part in parts.all.values()]
    assert len(set.union(*sides)) == sum(len(side) for side in sides) == 29
    assert parts.sizes["val"] == pytest.approx(40, abs=7)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(rb.OptionError, match="1 groups cannot fill 2 parts"):
        rb.split({"x": X, "g": np.zeros(200, int)}, val=10, group="g")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 200}, "leaves none to train on"),
        ({"val": 0.6, "test": 0.5}, "leaves none to train on"),
        ({"val": 1.5}, "val=1.5"),
        ({"val": -1}, "val=-1"),
        ({"test": "10%"}, "test='10%'"),
        ({"val": 0.001}, "rounds to no sample"),
        ({"on_duplicates": "reprot"}, "Did you mean 'report'"),
    ],
)
def test_sizes_and_options_are_checked(options, message: str) -> None:
    with pytest.raises(rb.OptionError, match=message):
        rb.split((X, Y), **options)


def own_parts() -> ArrayDataset:
    parts = {"train": range(150), "test": range(150, 200)}
    return ArrayDataset({"x": X, "y": Y}, target="y", name="digits", own_parts=parts)


def test_the_source_s_own_test_part_is_kept() -> None:
    parts = rb.split(own_parts(), val=0.1, seed=4)
    assert parts.sizes == {"train": 135, "val": 15, "test": 50}
    assert rows_of(parts.test) == list(range(150, 200))
    assert set(rows_of(parts.val)) < set(range(150))


def test_strata_and_groups_beside_an_own_test_part() -> None:
    parts = rb.split(own_parts(), val=40, stratify=True)
    assert np.bincount(Y[rows_of(parts.val)]) == pytest.approx(10, abs=1)
    data = ArrayDataset(
        {"x": X, "g": np.arange(200) // 10},
        own_parts={"train": range(150), "test": range(150, 200)},
    )
    grouped = rb.split(data, val=0.2, group="g")
    assert grouped.sizes == {"train": 120, "val": 30, "test": 50}


def test_asking_for_another_test_part_is_refused() -> None:
    with pytest.raises(rb.OptionError, match=r"brings its own test part of 50.*leave test out"):
        rb.split(own_parts(), test=0.1)


def test_mnist_s_folder(real_data: Path) -> None:
    parts = rb.split(rb.open(real_data / "mnist"), val=5000)
    assert parts.sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert parts.test is not None
    assert parts.test.rows.is_range == (60_000, 70_000)
    batches = rb.Batches(parts.train, 128)
    assert len(batches) == 430
    assert [len(y) for _, y in batches][-1] == 88


def test_transforms_attached_to_the_data_come_along_and_fit_on_train() -> None:
    data = rb.open((X, Y)).transform(rb.standardize())
    parts = rb.split(data, val=50, seed=1)
    fitted = parts.train.transforms[0].to_json()
    assert fitted["mean"] == pytest.approx(X[rows_of(parts.train)].mean(axis=0).tolist())
    assert parts.val is not None
    assert parts.val.transforms[0].to_json() == fitted


def test_the_shape_of_inputs_is_that_after_the_transforms() -> None:
    parts = rb.split((np.zeros((9, 4, 5)), np.arange(9))).transform(rb.flatten())
    assert parts.train.input_shape == (20,)


def test_transform_leaves_the_parts_it_came_from_alone() -> None:
    parts = rb.split((X, Y), val=20)
    parts.transform(rb.scale(2.0))
    assert parts.train.transforms == ()


def test_a_transform_for_training_alone_leaves_the_other_parts_as_they_were() -> None:
    parts = rb.split(rb.open("iris"), val=30, seed=3)
    noisy = parts.transform(lambda inputs: inputs + 100, train_only=True).transform(rb.scale(0.5))
    for name, shift in (("train", 50.0), ("val", 0.0)):
        plain = next(iter(rb.Batches(parts.all[name], "full", shuffle=False)))[0]
        found = next(iter(rb.Batches(noisy.all[name], "full", shuffle=False)))[0]
        np.testing.assert_allclose(found, plain * 0.5 + shift, rtol=1e-6)


def test_a_group_column_is_no_input_of_the_split() -> None:
    data = rb.open(
        {"age": [3, 5, 4, 6], "patient": [1, 1, 2, 2], "ill": [0, 1, 0, 1]}, target="ill"
    )
    parts = rb.split(data, val=2, group="patient")
    assert [column.name for column in parts.data.inputs] == ["age"]
    assert rb.split(parts.data, val=2, group="patient").fingerprint == parts.fingerprint


def test_the_target_is_no_group_and_missed_sizes_are_told(caplog) -> None:
    data = rb.open({"x": np.arange(100), "g": np.repeat([0, 1], [30, 70]), "y": np.arange(100) % 2})
    with pytest.raises(rb.OptionError, match="group='y' is the target"):
        rb.split(rb.open({"x": np.arange(4), "y": [0, 1, 0, 1]}, target="y"), val=2, group="y")
    rb.split(data, val=0.1, group="g")
    assert "val has 30 samples where 10 were asked for" in caplog.text
    with pytest.raises(rb.OptionError, match="seed"):
        rb.split(data, val=0.1, seed=1.5)  # type: ignore[arg-type]


def test_a_validation_part_that_the_data_bring_is_kept() -> None:
    own_parts = {"train": range(10, 90), "val": range(10), "test": range(90, 100)}
    data = ArrayDataset(
        {"x": np.arange(100.0), "y": np.arange(100) % 2}, target="y", own_parts=own_parts
    )
    parts = rb.split(data)
    for name, rows in own_parts.items():
        part = parts.all[name]
        assert part.rows.take(np.arange(len(part))).tolist() == list(rows)
    with pytest.raises(rb.OptionError, match=r"its own validation part of 10 .*leave val out"):
        rb.split(data, val=0.1)

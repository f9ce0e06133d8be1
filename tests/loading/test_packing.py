"""`pack`: what becomes of attached transforms, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.loading.applied import Applied

X = np.arange(40, dtype=np.uint8).reshape(10, 4)
Y = np.arange(10) % 3


def test_anything_that_open_takes_is_packed(tmp_path):
    np.save(tmp_path / "a.npy", X)
    for name, thing in {"array": X, "path": str(tmp_path / "a.npy"), "name": "iris"}.items():
        packed = rb.pack(thing, tmp_path / name)
        assert packed.fingerprint == rb.open(thing).fingerprint


def test_transforms_that_are_left_run_when_batches_are_made(tmp_path):
    source = rb.open((X, Y)).transform(rb.scale(0.5), rb.standardize(), np.negative)
    packed = rb.pack(source, tmp_path / "pack")
    assert packed.transforms == source.transforms
    assert packed.column("x").dtype == np.uint8
    for ours, theirs in zip(rb.Batches(packed, 4), rb.Batches(source, 4), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])


def test_opening_says_which_transforms_were_left(tmp_path):
    rb.pack(rb.open((X, Y)).transform(rb.scale(0.5), np.negative), tmp_path / "pack")
    (note,) = rb.open(tmp_path / "pack").notes
    assert "were not packed (scale, function)" in note


def test_transforms_can_be_packed_in(tmp_path):
    source = rb.open((X, Y)).transform(rb.scale(0.5), rb.one_hot(3, column="y"))
    packed = rb.pack(source, tmp_path / "pack", transforms="apply")
    np.testing.assert_array_equal(packed.array("x"), X.astype(np.float32) / 2)
    np.testing.assert_array_equal(packed.array("y"), np.eye(3, dtype=np.float32)[Y])
    assert packed.transforms == packed.notes == ()
    assert packed.fingerprint not in (rb.open((X, Y)).fingerprint, source.fingerprint)
    assert packed.manifest.fingerprint == source.fingerprint
    assert [t["kind"] for t in packed.manifest.packed_transforms] == ["scale", "one_hot"]


def test_other_transforms_are_another_pack(tmp_path):
    source = rb.open((X, Y))
    prints = set()
    for factor in (0.5, 0.25):
        scaled = source.transform(rb.scale(factor))
        prints.add(rb.pack(scaled, tmp_path / str(factor), transforms="apply").fingerprint)
    assert len(prints) == 2
    with pytest.raises(rb.OptionError, match="packed transforms"):
        rb.pack(source.transform(rb.scale(0.1)), tmp_path / "0.5", transforms="apply")
    again = rb.pack(source.transform(rb.scale(0.5)), tmp_path / "0.5", transforms="apply")
    assert "nothing was written" in again.notes[0]


def test_stacked_inputs_become_one_column(tmp_path):
    source = rb.open({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "y": [0, 1, 0]}, target="y")
    packed = rb.pack(source.transform(rb.scale(2.0)), tmp_path / "pack", transforms="apply")
    assert [column.name for column in packed.columns] == ["inputs", "y"]
    assert packed.array("inputs").tolist() == [[2.0, 1.0], [4.0, 3.0], [6.0, 5.0]]
    named = rb.open({"a": [1, 2], "b": [1, 2], "inputs": [0, 1]}, target="inputs")
    with pytest.raises(rb.OptionError, match="give the target another name"):
        rb.pack(named.transform(rb.scale(2.0)), tmp_path / "other", transforms="apply")


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (rb.standardize(), "carry the validation samples into training"),
        (rb.one_hot(column="y"), "learns from the data"),
        (np.negative, "may draw at random"),
    ],
)
def test_what_would_leak_or_freeze_is_not_packed_in(transform, reason, tmp_path):
    source = rb.open((X, Y)).transform(rb.scale(0.5), transform)
    with pytest.raises(rb.OptionError, match=rf"{reason}.*transforms='leave'"):
        rb.pack(source, tmp_path / "pack", transforms="apply")
    assert not list(tmp_path.iterdir())


def test_a_fitted_transform_is_packed_in(tmp_path):
    fitted = rb.split(rb.open((X, Y)), val=3).transform(rb.standardize()).train.transforms
    packed = rb.pack(rb.open((X, Y)).transform(*fitted), tmp_path / "pack", transforms="apply")
    np.testing.assert_array_equal(packed.array("x"), fitted[0].apply(X))


def test_there_has_to_be_something_to_apply(tmp_path):
    with pytest.raises(rb.OptionError, match="has none attached"):
        rb.pack(X, tmp_path / "pack", transforms="apply")
    with pytest.raises(rb.OptionError, match="Did you mean 'apply'"):
        rb.pack(X, tmp_path / "pack", transforms="aply")


def test_the_source_is_not_stacked_in_memory(tmp_path, monkeypatch):
    source = rb.open({"a": [1, 2, 3], "b": [1, 2, 3]}).transform(rb.scale(2.0))
    monkeypatch.setattr(type(source), "stacked", lambda *_: pytest.fail("stacked was called"))
    rb.pack(source, tmp_path / "pack", transforms="apply")


def test_what_runs_code_of_others_does_so_with_transforms_applied():
    data = rb.open(torch.utils.data.StackDataset(torch.zeros(8, 2)))
    assert Applied(data, [rb.scale(0.5)]).runs_others_code

"""A pack that is opened is the source, read from the disk."""

from __future__ import annotations

import logging
import os
import pickle

import numpy as np
import pandas as pd
import pytest

import rightbatch as rb
from rightbatch.data.packed import PackedDataset
from rightbatch.testing import check_dataset

X = np.random.default_rng(0).random((50, 3)).astype(np.float32)
Y = np.arange(50) % 4
COLUMNS = {"x": X, "Größe / cm": np.arange(50, dtype=np.int16), "y": Y}


@pytest.fixture
def folder(tmp_path):
    rb.pack(rb.open(COLUMNS, target="y"), tmp_path / "pack")
    return tmp_path / "pack"


def test_it_is_the_source(folder):
    source, packed = rb.open(COLUMNS, target="y"), rb.open(folder)
    assert packed.columns == source.columns
    assert packed.target == "y"
    assert packed.fingerprint == source.fingerprint
    check_dataset(packed)


def test_numpy_opens_every_file(folder):
    np.testing.assert_array_equal(np.load(folder / "x.npy", mmap_mode="r"), X)
    names = {path.name for path in folder.iterdir()}
    assert names == {"x.npy", "y.npy", "Gr%C3%B6%C3%9Fe%20%2F%20cm.npy", "manifest.json"}


def test_the_values_can_not_be_written_to(folder):
    with pytest.raises(ValueError, match="read-only"):
        rb.open(folder).array("x")[0] = 1


def test_own_parts_categories_and_notes_stay(tmp_path):
    source = rb.open(pd.DataFrame({"a": ["u", "v", "u"], "b": [1.0, 2.0, 3.0]}), target="a")
    source.own_parts = {"train": range(0, 2), "test": range(2, 3)}
    source.notes = ("one row was dropped",)
    rb.pack(source, tmp_path / "pack")
    packed = rb.open(tmp_path / "pack")
    assert packed.column("a").categories == ("u", "v")
    assert packed.own_parts == {"train": range(0, 2), "test": range(2, 3)}
    assert packed.notes == ("one row was dropped",)


def test_columns_target_and_name_can_be_chosen(folder):
    packed = rb.open(folder, columns=["x"], target="Größe / cm", name="mine")
    assert [column.name for column in packed.columns] == ["x", "Größe / cm"]
    assert packed.target == "Größe / cm"
    assert packed.name == "mine"
    assert rb.open(folder, target=-2).target == "Größe / cm"


def test_a_choice_of_columns_has_a_fingerprint_of_its_own(folder):
    prints = {
        rb.open(folder).fingerprint,
        rb.open(folder, columns=["x"]).fingerprint,
        rb.open(folder, columns=["Größe / cm"]).fingerprint,
    }
    assert len(prints) == 3
    same = rb.open(folder, columns=["x", "Größe / cm"])
    assert same.fingerprint == rb.open(folder).fingerprint


@pytest.mark.parametrize(
    "option", [{"header": True}, {"missing": "drop"}, {"categories": "one-hot"}]
)
def test_options_of_tables_have_no_meaning(option, folder):
    with pytest.raises(rb.OptionError, match="has no meaning for the packed data set"):
        rb.open(folder, **option)


def test_a_missing_file_is_named(folder):
    (folder / "x.npy").unlink()
    with pytest.raises(rb.DataError, match=r"x\.npy .*column 'x'.* is missing; expected are 728"):
        rb.open(folder)


def test_a_truncated_file_is_named(folder):
    os.truncate(folder / "y.npy", 300)
    with pytest.raises(rb.DataError, match=r"y\.npy .*column 'y'.* is truncated.* 400 bytes"):
        rb.open(folder)


@pytest.mark.parametrize("other", [X[:, :2].copy(), X.astype(np.int32), np.asfortranarray(X)])
def test_another_array_in_its_place_is_refused(other, folder):
    np.save(folder / "x.npy", other)
    with pytest.raises(rb.DataError, match=r"manifest\.json says float32 of shape \(50, 3\)"):
        rb.open(folder)


def test_an_unfinished_pack_says_how_to_go_on(tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rb.pack(X, tmp_path / "pack", progress=stop)
    for name in ("pack.partial", "pack"):
        with pytest.raises(rb.DataError, match=r"did not finish.*rightbatch pack DATA .*pack$"):
            rb.open(tmp_path / name)


def test_a_source_that_changed_is_told(tmp_path, caplog):
    source = tmp_path / "a.npy"
    np.save(source, X)
    rb.pack(source, tmp_path / "pack")
    with caplog.at_level(logging.WARNING):
        assert rb.open(tmp_path / "pack").notes == ()
        assert not caplog.records
        np.save(source, X + 1)
        os.utime(source, ns=(1, 1))
        (note,) = rb.open(tmp_path / "pack").notes
    assert "a.npy changed since it was packed" in note
    assert "--overwrite" in note
    assert [record.getMessage() for record in caplog.records] == [note]
    source.unlink()
    assert rb.open(tmp_path / "pack").notes == ()


def test_known_duplicates_are_those_of_the_inputs(tmp_path):
    source = rb.open({"a": [5, 7, 5, 5], "b": [1, 1, 1, 2], "y": [0, 1, 2, 3]}, target="y")
    packed = rb.pack(source, tmp_path / "pack")
    rows, firsts = packed.known_duplicates
    assert (rows.tolist(), firsts.tolist()) == ([2], [0])
    reordered = rb.open(tmp_path / "pack", columns=["b", "a"])
    assert reordered.known_duplicates is not None
    assert rb.open(tmp_path / "pack", columns=["a"]).known_duplicates is None
    assert rb.open(tmp_path / "pack", target="a").known_duplicates is None
    assert source.known_duplicates is None


def test_no_duplicates_are_known_to_be_none(folder):
    rows, firsts = rb.open(folder).known_duplicates
    assert len(rows) == len(firsts) == 0


def test_row_numbers_of_the_source_stay(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n,3\n4,5\n6,\n7,8\n")
    packed = rb.pack(rb.open(tmp_path / "a.csv", missing="drop"), tmp_path / "pack")
    assert packed.source_rows.tolist() == [0, 2, 4]
    assert pickle.loads(pickle.dumps(packed)).source_rows.tolist() == [0, 2, 4]  # noqa: S301  # ours
    assert rb.verify_pack(tmp_path / "pack") == []
    os.truncate(tmp_path / "pack" / "source-rows.npy", 140)
    with pytest.raises(rb.DataError, match=r"source-rows\.npy .* is truncated"):
        rb.open(tmp_path / "pack")


def test_another_process_maps_the_files_itself(folder):
    packed = rb.open(folder)
    content = pickle.dumps(packed)
    assert X.tobytes() not in content
    again = pickle.loads(content)  # noqa: S301  # made two lines above
    assert isinstance(again, PackedDataset)
    np.testing.assert_array_equal(again.array("x"), X)
    assert again.known_duplicates is not None
    rb.pack(rb.open({**COLUMNS, "x": X + 1}, target="y"), folder, overwrite=True)
    with pytest.raises(rb.DataError, match="packed anew since it was opened"):
        pickle.loads(content)  # noqa: S301  # made above


def test_large_scalar_columns_are_not_stacked_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("rightbatch.data.dataset._MOST_STACKED_BYTES", 100)
    source = rb.open({"a": np.arange(50.0), "b": np.arange(50), "y": Y}, target="y")
    packed = rb.pack(source, tmp_path / "pack")
    assert packed.stacked(("a", "b"), np.dtype(np.float64)) is None
    for ours, theirs in zip(
        rb.Batches(rb.split(packed).train, 7, seed=1),
        rb.Batches(rb.split(source).train, 7, seed=1),
        strict=True,
    ):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])

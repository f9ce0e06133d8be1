"""Packing tables that are read in chunks: the same pack as of the table that is read whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.pack_source import open_to_pack
from rightbatch.data.packing import write_pack
from rightbatch.data.table_chunks import ChunkedTable
from rightbatch.errors import DataError, OptionError


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = ["distance,kind,when,fare"]
    for row in range(3_000):
        distance = "" if row % 50 == 7 else f"{generator.exponential(3):.2f}"
        kind = ["day", "night", "airport"][row % 3]
        lines.append(f"{distance},{kind},2019-01-{row % 28 + 1:02} 10:00:00,{row / 8}")
    path = tmp_path / "trips.csv"
    path.write_text("\r\n".join(lines))
    return path


OPTIONS = {"target": "fare", "missing": "drop"}


def packed(trips: Path, folder: Path, **options) -> rb.Dataset:
    data = open_to_pack(trips, chunked_bytes=0, **OPTIONS)
    assert isinstance(data, ChunkedTable)
    return write_pack(data, folder, **options)


def test_the_pack_of_chunks_is_that_of_the_whole_table(trips, tmp_path) -> None:
    ours = packed(trips, tmp_path / "chunks")
    whole = rb.open(trips, **OPTIONS)
    theirs = rb.pack(whole, tmp_path / "whole")
    assert ours.fingerprint == theirs.fingerprint == whole.fingerprint
    assert ours.columns == theirs.columns
    assert np.array_equal(ours.source_rows, theirs.source_rows)
    for file in (tmp_path / "whole").glob("*.npy"):
        assert (tmp_path / "chunks" / file.name).read_bytes() == file.read_bytes()
    assert rb.verify_pack(tmp_path / "chunks") == []


def test_the_same_files_are_not_packed_again(trips, tmp_path) -> None:
    packed(trips, tmp_path / "pack")
    again = packed(trips, tmp_path / "pack")
    assert any("nothing was written" in note for note in again.notes)


def test_a_changed_file_is_noticed(trips, tmp_path, caplog) -> None:
    packed(trips, tmp_path / "pack")
    trips.write_text(trips.read_text() + "\r\n1.0,day,2019-01-01 10:00:00,5.0")
    opened = rb.open(tmp_path / "pack")
    assert "changed since it was packed" in caplog.text
    assert len(opened) == 2_940
    with pytest.raises(OptionError, match="overwrite"):
        packed(trips, tmp_path / "pack")
    assert len(packed(trips, tmp_path / "pack", overwrite=True)) == 2_941


def test_options_of_open_are_those_of_pack(trips, tmp_path) -> None:
    pack = rb.pack(trips, tmp_path / "pack", target="fare", missing="fill:1", columns=["distance"])
    assert [column.name for column in pack.columns] == ["distance", "fare"]
    assert len(pack) == 3_000
    with pytest.raises(DataError, match="missing values by column"):
        rb.pack(trips, tmp_path / "other", target="fare")
    with pytest.raises(DataError, match="is open already"):
        rb.pack(rb.open(trips, **OPTIONS), tmp_path / "other", target="fare")


def test_a_run_goes_on_over_the_pack_of_its_table(trips, tmp_path) -> None:
    packed(trips, tmp_path / "pack")
    states = []
    for data in (rb.open(trips, **OPTIONS), rb.open(tmp_path / "pack")):
        batches = rb.Batches(rb.split(data, val=0.1, seed=3).train, 32, seed=1)
        iterator = iter(batches)
        first = [next(iterator)[1].tolist() for _ in range(3)]
        states.append((first, json.dumps(batches.state_dict())))
    assert states[0] == states[1]

"""Whatever happened to a pack, verifying it names the file and the rows."""

from __future__ import annotations

import os

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data import block_checksums

X = np.random.default_rng(0).integers(0, 2, (40, 3)).astype(np.uint8)
BLOCK_ROWS = 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # Blocks of 8 rows: the widest column has 8 bytes a row.
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", 64)
    rb.pack((X, np.arange(40)), tmp_path / "pack")
    return tmp_path / "pack"


def test_a_whole_pack_has_no_faults(folder):
    assert rb.verify_pack(folder) == []
    assert rb.verify_pack(str(folder)) == []


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["x.npy", "y.npy", "duplicates.npy", "manifest.json"])
def test_every_flipped_bit_is_found_and_located(name, step, folder):
    path = folder / name
    content = path.read_bytes()
    row_bytes = {"x.npy": 3, "y.npy": 8, "duplicates.npy": 16}.get(name)
    # Of the manifest a bit a byte: every bit of one is flipped in its own tests.
    places = range(0, 8 * len(content), step) if row_bytes else range(3, 8 * len(content), 8)
    for bit in places:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        (fault,) = rb.verify_pack(folder)
        assert fault.file == name
        if row_bytes is None or bit // 8 < 128:
            assert fault.start is None
        else:
            row = (bit // 8 - 128) // row_bytes
            block = BLOCK_ROWS if name != "duplicates.npy" else 2**16
            assert fault.start == row // block * block
            assert fault.start <= row < fault.stop
    path.write_bytes(content)
    assert rb.verify_pack(folder) == []


@pytest.mark.parametrize("kept", [0, 60, 128, 150, 247])
def test_a_truncated_file_is_found(kept, folder):
    os.truncate(folder / "x.npy", kept)
    faults = rb.verify_pack(folder)
    assert {fault.file for fault in faults} == {"x.npy"}
    (cut,) = (fault for fault in faults if "cut off" in fault.problem)
    assert (cut.start, cut.stop) == (max(0, kept - 128) // 3, 40)
    assert f"{kept} bytes, expected are 248" in cut.problem


def test_a_file_that_grew_is_found(folder):
    with (folder / "x.npy").open("ab") as file:
        file.write(b"more")
    (fault,) = rb.verify_pack(folder)
    assert "longer than it was" in fault.problem


def test_a_missing_file_is_found(folder):
    (folder / "x.npy").unlink()
    (fault,) = rb.verify_pack(folder)
    assert str(fault) == "x.npy, rows 0 up to 40: the file is missing"


def test_another_header_of_the_same_length_is_found(folder):
    path = folder / "x.npy"
    path.write_bytes(path.read_bytes().replace(b"'|u1'", b"'|i1'"))
    (fault,) = rb.verify_pack(folder)
    assert "header" in fault.problem


def test_all_faults_are_told_together(folder):
    for name, place in (("x.npy", 130), ("x.npy", 240), ("y.npy", 200)):
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 255
        (folder / name).write_bytes(content)
    assert [(fault.file, fault.start) for fault in rb.verify_pack(folder)] == [
        ("x.npy", 0),
        ("x.npy", 32),
        ("y.npy", 8),
    ]


def test_progress_ends_with_all_bytes(folder):
    told = []
    rb.verify_pack(folder, progress=lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    assert told[-1] == (size, size)


def test_what_is_no_pack_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(rb.DataError, match=r"is no packed data set"):
            rb.verify_pack(place)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(rb.DataError, match="no manifest of a packed data set"):
        rb.verify_pack(tmp_path)

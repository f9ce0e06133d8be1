"""The manifest says what a pack holds, and is read strictly."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data.packed_array import FILE_NAME, file_names
from rightbatch.data.packed_manifest import read_manifest


@pytest.fixture
def folder(tmp_path):
    rb.pack((np.arange(6.0) // 2, [0, 1, 0, 1, 0, 1]), tmp_path / "pack")
    return tmp_path / "pack"


def edit(folder, change) -> None:
    """Change the manifest and seal it anew, as somebody might who wants to do harm."""
    path = folder / "manifest.json"
    described = json.loads(path.read_text())
    described.pop("checksum")
    change(described)
    head = (json.dumps(described, indent=1).removesuffix("\n}") + ',\n "checksum": ').encode()
    digest = hashlib.blake2b(head, digest_size=16).hexdigest()
    path.write_bytes(head + f'"{digest}"\n}}\n'.encode())


def test_what_is_written_is_read(folder):
    manifest = read_manifest(folder)
    assert manifest.to_bytes() == (folder / "manifest.json").read_bytes()
    assert manifest.length == 6
    assert [column.name for column in manifest.columns] == ["x", "y"]


def setting(*path, value):
    def change(described):
        place = described
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("version", setting("version", value="1")),
        ("length", setting("length", value=0)),
        ("length", setting("length", value=True)),
        ("target", setting("target", value="z")),
        ("fingerprint", setting("fingerprint", value=3)),
        ("notes", setting("notes", value="one")),
        ("options", setting("options", value=[])),
        ("columns", setting("columns", value={})),
        ("columns", setting("columns", value=[])),
        ("columns[0]", setting("columns", 0, value="x")),
        ("columns[0].file", setting("columns", 0, "file", value="../x.npy")),
        ("columns[0].file", setting("columns", 0, "file", value="/etc/x.npy")),
        ("columns[0].file", setting("columns", 0, "file", value="a\\b.npy")),
        ("columns[1].file", setting("columns", 1, "file", value="passwd")),
        ("columns[0].dtype", setting("columns", 0, "dtype", value="O")),
        ("columns[0].dtype", setting("columns", 0, "dtype", value="<f4,<i8")),
        ("columns[0].dtype", setting("columns", 0, "dtype", value="<f3")),
        ("columns[0].shape", setting("columns", 0, "shape", value=[6, -1])),
        ("shape", setting("columns", 0, "shape", value=[7])),
        ("columns[0].block_rows", setting("columns", 0, "block_rows", value=0)),
        ("columns[0].checksums", setting("columns", 0, "checksums", value=["12"])),
        ("checksums", setting("columns", 0, "checksums", value=[])),
        ("columns[0].categories", setting("columns", 0, "categories", value=[1])),
        ("own_parts.train", setting("own_parts", "train", value=[0, 9])),
        ("source_files[0].bytes", setting("source_files", value=[{"path": "a"}])),
        ("duplicate_rows", setting("duplicate_rows", value=0)),
        ("duplicates.shape", setting("duplicates", "shape", value=["a"])),
        ("more", setting("more", value=1)),
        ("columns[0].more", setting("columns", 0, "more", value=1)),
    ],
)
def test_a_field_that_is_not_valid_is_named(field, change, folder):
    edit(folder, change)
    with pytest.raises(rb.DataError) as caught:
        rb.open(folder)
    assert "manifest.json" in str(caught.value)
    assert field in str(caught.value)


def test_every_field_is_needed(folder):
    names = set(json.loads((folder / "manifest.json").read_text())) - {"checksum", "format"}
    before = (folder / "manifest.json").read_bytes()
    for name in names:
        edit(folder, lambda described, name=name: described.pop(name))
        with pytest.raises(rb.DataError, match=rf"'{name}' is missing"):
            rb.open(folder)
        (folder / "manifest.json").write_bytes(before)


def test_two_columns_of_one_file_are_refused(folder):
    edit(folder, setting("columns", 1, "file", value="X.npy"))
    with pytest.raises(rb.DataError, match="no name or file twice"):
        rb.open(folder)


def test_a_newer_version_is_told(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(rb.DataError, match="version 2, and this rightbatch reads 1"):
        rb.open(folder)


def test_a_manifest_of_something_else_is_told(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a page"}')
    with pytest.raises(rb.DataError, match="its field 'format' is None"):
        rb.open(tmp_path)


def test_no_flipped_bit_of_the_manifest_passes(tmp_path):
    folder = tmp_path / "pack"
    rb.pack(np.arange(3), folder)
    path = folder / "manifest.json"
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(rb.DataError):
            read_manifest(folder)


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_file_names_are_safe_and_differ_where_case_is_ignored(names):
    files = file_names(names)
    assert len({file.casefold() for file in files}) == len(names)
    assert all(FILE_NAME.fullmatch(file) for file in files)
    assert "duplicates.npy" not in files


def test_long_names_become_short_ones():
    first, second = file_names(["ü" * 300 + "a", "ü" * 300 + "b"])
    assert first != second
    assert len(first) < 200

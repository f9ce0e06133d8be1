"""A file is replaced whole or not at all."""

from __future__ import annotations

import errno

import pytest

from rightbatch.durable_files import write_atomically
from rightbatch.errors import DiskSpaceError


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    path.with_name("file.partial").mkdir()
    with pytest.raises(OSError, match=r"file\.partial"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_told_of_with_the_file_and_leaves_no_half(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskSpaceError, match=r"the disk of .*checkpoint is full\. Make room"):
        write_atomically(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
    assert path.read_bytes() == b"old"

"""A file is replaced whole or not at all."""

from __future__ import annotations

import pytest

from rightbatch.durable_files import write_atomically


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    path.with_name("file.partial").mkdir()
    with pytest.raises(OSError, match=r"file\.partial"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"

"""Data in files travel to other processes as the way to the files, and arrive as they were."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.mapped_file import MappedFile
from rightbatch.data.ragged import Ragged

MANY = 4_000_000  # bytes: what must not travel
FEW = 20_000


@pytest.fixture
def values():
    return np.random.default_rng(3).normal(size=(5_000, 100)).astype(np.float64)


def through_pickle(data):
    sent = pickle.dumps(data)
    return received(sent), len(sent)


def received(sent):
    return pickle.loads(sent)  # noqa: S301  # our own


def test_a_mapped_file_of_4_mb_travels_as_its_path(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    data = rb.open(tmp_path / "x.npy")
    there, sent_bytes = through_pickle(data)
    assert values.nbytes == MANY
    assert sent_bytes < FEW
    assert there.fingerprint == data.fingerprint
    assert np.array_equal(there.array("x"), values)
    assert not there.array("x").flags.writeable
    # Still known as a file, so that rows are read without the map, and a cut is seen.
    assert there.region("x") == data.region("x")
    os.truncate(tmp_path / "x.npy", 2_000_000)
    with pytest.raises(rb.DataError, match="cut off since"):
        there.rows([4_999])


def test_so_do_members_of_an_archive_and_parts_with_transforms(tmp_path, values):
    labels = (values[:, 0] > 0).astype(np.int64)
    np.savez(tmp_path / "set.npz", x=values, y=labels)
    parts = rb.split(rb.open(tmp_path / "set.npz", target="y"), val=0.1).transform(rb.standardize())
    next(iter(rb.Batches(parts.train, 64)))
    there, sent_bytes = through_pickle(parts)
    assert sent_bytes < 2 * FEW + 4 * len(values)
    assert there.fingerprint == parts.fingerprint
    for mine, theirs in zip(
        rb.Batches(parts.train, 640), rb.Batches(there.train, 640), strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", ["x", "y"])
def test_what_is_not_in_one_piece_is_mapped_as_it_was(tmp_path, values, name):
    np.save(tmp_path / "x.npy", np.asfortranarray(values))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = rb.open({"x": mapped[::-2, 10:20], "y": mapped[1::2, 3]})
    there, sent_bytes = through_pickle(data)
    assert sent_bytes < FEW
    assert np.array_equal(there.array(name), data.array(name))


def test_ragged_columns_and_streams_of_tokens_in_files_do_the_same(tmp_path):
    flat = np.arange(1_000_000, dtype=np.uint32)
    np.save(tmp_path / "flat.npy", flat)
    mapped = np.load(tmp_path / "flat.npy", mmap_mode="r")
    ragged = Ragged(mapped, np.arange(0, 1_000_001, 1_000))
    there, sent_bytes = through_pickle(rb.open({"words": ragged}))
    assert sent_bytes < FEW
    assert np.array_equal(there.ragged("words")[999], ragged[999])

    windows = rb.open(tmp_path / "flat.npy", sequence_length=100, stride=50)
    there, sent_bytes = through_pickle(windows)
    assert sent_bytes < FEW
    assert there.region("next") == windows.region("next")
    assert np.array_equal(there.rows([7])["next"], windows.rows([7])["next"])
    assert there.fingerprint == windows.fingerprint


def test_what_was_written_through_a_map_travels_with_the_file(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    mapped[0, 0] = 7.0
    there, sent_bytes = through_pickle(rb.open(mapped))
    assert sent_bytes < FEW
    assert there.array("x")[0, 0] == 7.0


def test_what_no_file_has_travels_with_its_values(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0, 0] = 7.0
    there, sent_bytes = through_pickle(rb.open(private))
    assert sent_bytes > MANY
    assert there.array("x")[0, 0] == 7.0

    data = rb.open(tmp_path / "x.npy")
    # Another file takes its name: the values that were opened are in this process alone.
    np.save(tmp_path / "other.npy", values + 1)
    (tmp_path / "other.npy").replace(tmp_path / "x.npy")
    there, sent_bytes = through_pickle(data)
    assert sent_bytes > MANY
    assert np.array_equal(there.array("x"), values)

    assert MappedFile.of(values) is None


def test_a_file_that_is_missing_or_another_there_is_refused_with_what_to_do(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    sent = pickle.dumps(rb.open(tmp_path / "x.npy"))
    status = (tmp_path / "x.npy").stat()
    np.save(tmp_path / "x.npy", values + 1)
    os.utime(tmp_path / "x.npy", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    with pytest.raises(rb.DataError, match=r"x\.npy on .* is not the file that was opened.*rsync"):
        received(sent)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(rb.DataError, match=r"No such file.*Share the folder between the machines"):
        received(sent)

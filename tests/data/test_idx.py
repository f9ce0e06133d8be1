"""IDX files and MNIST-like folders."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

import rightbatch.data as rb
from rightbatch.errors import DataError, OptionError

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, train: int = 6, test: int = 3, *, ending: str = "") -> np.ndarray:
    images = np.arange((train + test) * 4, dtype=np.uint8).reshape(-1, 2, 2)
    labels = (np.arange(train + test) % 10).astype(np.uint8)
    parts = {"train": slice(0, train), "t10k": slice(train, train + test)}
    for part, rows in parts.items():
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(values[rows])
            path = folder / f"{part}-{kind}-ubyte{ending}"
            path.write_bytes(gzip.compress(content) if ending else content)
    return images


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda name: numpy_strategies.arrays(
            name, numpy_strategies.array_shapes(max_dims=4, max_side=5)
        )
    ),
    zipped=st.booleans(),
)
def test_every_dtype_and_shape_comes_back(tmp_path_factory, array, zipped):
    path = tmp_path_factory.mktemp("idx") / ("values.idx" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    data = rb.open(path)
    opened = data.span(0, len(data))["x"]
    assert opened.dtype == array.dtype
    assert opened.dtype.isnative
    assert opened.tobytes() == array.tobytes()
    assert opened.shape == array.shape


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_has_train_first_and_test_after_it(tmp_path, ending):
    images = write_mnist(tmp_path, ending=ending)
    data = rb.open(tmp_path)
    assert [column.name for column in data.columns] == ["image", "label"]
    assert data.target == "label"
    assert dict(data.own_parts) == {"train": range(6), "test": range(6, 9)}
    np.testing.assert_array_equal(data.span(0, 9)["image"], images)
    assert data.span(5, 8)["label"].tolist() == [5, 6, 7]


def test_plain_and_zipped_folders_have_one_fingerprint(tmp_path):
    for kind in ("plain", "zipped"):
        (tmp_path / kind).mkdir()
    write_mnist(tmp_path / "plain")
    write_mnist(tmp_path / "zipped", ending=".gz")
    assert rb.open(tmp_path / "plain").fingerprint == rb.open(tmp_path / "zipped").fingerprint


def test_the_train_pair_alone_has_no_own_parts(tmp_path):
    write_mnist(tmp_path)
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    data = rb.open(tmp_path)
    assert len(data) == 6
    assert not data.own_parts


def test_the_plain_file_is_taken_where_a_zipped_one_lies_beside_it(tmp_path):
    write_mnist(tmp_path)
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"{path.name}.gz").write_bytes(b"not read")
    assert len(rb.open(tmp_path)) == 9


def test_a_plain_file_is_mapped_and_not_read(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(np.zeros((5, 2, 2), np.uint8)))
    data = rb.open(path)
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"\x07")
    assert data.span(0, 1)["image"][0, 0, 0] == 7


@pytest.mark.parametrize(
    ("name", "column"),
    [("t10k-images-idx3-ubyte", "image"), ("train-labels-idx1-ubyte", "label"), ("a.idx", "x")],
)
def test_a_single_file_is_one_column_named_after_its_file(tmp_path, name, column):
    (tmp_path / name).write_bytes(idx_bytes(np.arange(4, dtype=np.int16)))
    data = rb.open(tmp_path / name)
    assert [c.name for c in data.columns] == [column]
    assert data.target is None


def test_idx_is_recognised_by_its_first_bytes(tmp_path):
    (tmp_path / "noname").write_bytes(idx_bytes(np.arange(4, dtype=np.int32)))
    assert rb.open(tmp_path / "noname").span(0, 4)["x"].tolist() == [0, 1, 2, 3]


def header(*sizes: int, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


BAD = {
    "empty": (b"", ["is empty", "magic number"]),
    "cut in the magic number": (b"\0\0", ["truncated", "magic number needs 4 bytes, and 2"]),
    "cut in the sizes": (header(5, 2)[:7], ["truncated", "sizes of its axes", "8 bytes, and 3"]),
    "cut in the values": (header(5, 2) + b"\0" * 9, ["truncated", "(5, 2)", "Fetch it anew"]),
    "bytes after the values": (header(5) + b"\0" * 6, ["oversized", "(5,)", "Fetch it anew"]),
    "wrong magic": (b"GIF8" + b"\0" * 20, ["wrong magic number 47 49 46 38", "0x08"]),
    "unknown type": (b"\0\0\x0a\x01" + b"\0" * 20, ["wrong magic number", "0x0b"]),
    "no axes": (b"\0\0\x08\0" + b"\0" * 20, ["wrong magic number", "number of axes from 1"]),
    "zero samples": (header(0, 28, 28), ["zero samples", "(0, 28, 28)"]),
    "absurd sizes": (header(2**32 - 1, 2**32 - 1, 2**32 - 1) + b"\0" * 99, ["truncated"]),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name(tmp_path, case, zipped):
    content, words = BAD[case]
    path = tmp_path / ("bad-idx3-ubyte" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content) if zipped else content)
    if zipped and case == "empty":
        words = ["truncated", "needs 4 bytes, and 0"]
    with pytest.raises(DataError) as refusal:
        rb.open(path)
    for word in [str(path), *words]:
        assert word in str(refusal.value)


def test_a_cut_gzip_stream_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100)).astype(np.uint8)
    path = tmp_path / "a-idx2-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(noise))[:-2000])
    with pytest.raises(DataError, match=r"a-idx2-ubyte\.gz is truncated or damaged.*Fetch it anew"):
        rb.open(path)


def test_a_file_that_is_no_gzip_is_refused(tmp_path):
    path = tmp_path / "a-idx2-ubyte.gz"
    path.write_bytes(idx_bytes(np.zeros((3, 3), np.uint8)))
    with pytest.raises(DataError, match="no readable gzip file"):
        rb.open(path)


def test_images_and_labels_of_different_lengths_are_refused(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match=r"6 images and train-labels-idx1-ubyte has 5 labels"):
        rb.open(tmp_path)


@pytest.mark.parametrize(
    "lost", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"]
)
def test_a_lost_file_is_named(tmp_path, lost):
    write_mnist(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(DataError) as refusal:
        rb.open(tmp_path)
    assert f"has no {lost.split('-idx')[0]}… file" in str(refusal.value)
    assert "It holds: t10k-images" in str(refusal.value)


def test_parts_of_different_image_sizes_are_refused(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((3, 5, 5), np.uint8)))
    with pytest.raises(DataError, match=r"shape \(2, 2\).*shape \(5, 5\)"):
        rb.open(tmp_path)


def test_an_option_for_tables_is_refused(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(OptionError, match="header=True has no meaning"):
        rb.open(tmp_path, header=True)


def test_refusals_leave_no_file_open(tmp_path, files_open):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(2, np.uint8)))
    bad = tmp_path / "bad.idx"
    bad.write_bytes(header(5) + b"\0" * 6)
    for thing in (tmp_path, bad):
        with pytest.raises(DataError):
            rb.open(thing)
    assert files_open(tmp_path) == []


def test_mnist(real_data):
    data = rb.open(real_data / "mnist")
    assert len(data) == 70_000
    assert data.column("image").shape == (28, 28)
    assert data.column("image").dtype == np.uint8
    assert dict(data.own_parts) == {"train": range(60_000), "test": range(60_000, 70_000)}
    assert data.span(0, 5)["label"].tolist() == [5, 0, 4, 1, 9]
    assert data.span(60_000, 60_005)["label"].tolist() == [7, 2, 1, 0, 4]
    # The mean and deviation of the training pixels that everybody quotes.
    images = data.span(0, 60_000)["image"]
    assert images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert images.std() / 255 == pytest.approx(0.3081, abs=1e-4)

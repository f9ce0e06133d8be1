"""The folder of CIFAR-10's binary version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rightbatch.data as rb
from rightbatch.errors import DataError, OptionError

NAMES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
RECORDS = np.random.default_rng(0).integers(0, 256, (6, 3, 3073), dtype=np.uint8)
RECORDS[:, :, 0] = np.arange(18).reshape(6, 3) % 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, records in zip(NAMES, RECORDS, strict=True):
        (tmp_path / name).write_bytes(records.tobytes())
    return tmp_path


def test_images_labels_classes_and_the_own_parts(folder):
    data = rb.open(folder)
    assert [column.kind for column in data.columns] == ["uint8[3, 32, 32]", "int64"]
    assert data.target == "label"
    assert data.column("label").categories[:2] == ("airplane", "automobile")
    assert data.column("label").categories[9] == "truck"
    assert dict(data.own_parts) == {"train": range(15), "test": range(15, 18)}
    whole = data.span(0, 18)
    assert whole["label"].tolist() == (np.arange(18) % 10).tolist()
    # A record is the label, then all of red, all of green, all of blue, in rows of pixels.
    record = RECORDS[2, 1]
    assert whole["image"][7, 0, 0, 1] == record[2]
    assert whole["image"][7, 1, 0, 0] == record[1 + 1024]
    assert whole["image"][7, 2, 31, 31] == record[3072]
    assert data.files == tuple(folder / name for name in NAMES)


def test_columns_and_target_can_be_chosen(folder):
    data = rb.open(folder, target="image", columns=["label"])
    assert (data.target, [column.name for column in data.inputs]) == ("image", ["label"])
    with pytest.raises(DataError, match="no column 'pixels'"):
        rb.open(folder, columns=["pixels"])
    with pytest.raises(OptionError, match="missing='drop' has no meaning"):
        rb.open(folder, missing="drop")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_lacks_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"has no {name}.*fetch it anew"):
        rb.open(folder)


@pytest.mark.parametrize("content", [b"", b"x" * 3072, b"x" * 3074])
def test_a_file_that_is_cut_off_is_named(folder, content):
    (folder / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3\.bin has [\d,]+ bytes, which is no whole"):
        rb.open(folder)


def test_a_label_of_no_class_is_named(folder):
    records = RECORDS[5].copy()
    records[1, 0] = 10
    (folder / "test_batch.bin").write_bytes(records.tobytes())
    with pytest.raises(DataError, match=r"test_batch\.bin, record 2: the label 10 is of no class"):
        rb.open(folder)

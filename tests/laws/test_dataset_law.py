"""Every source keeps the promises of a Dataset."""

from __future__ import annotations

import gzip
import importlib.util
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import StackDataset, Subset, TensorDataset

import rightbatch.data as rb
from rightbatch.data.builtin import BUILTIN_NAMES
from rightbatch.data.options import OpenOptions
from rightbatch.data.ragged import Ragged
from rightbatch.data.table_chunks import open_table_chunks
from rightbatch.data.without_input import WithoutInput
from rightbatch.loading.applied import Applied
from rightbatch.loading.packing import pack
from rightbatch.loading.transforms import scale
from rightbatch.testing import check_dataset

GENERATOR = np.random.default_rng(0)
X = GENERATOR.random((37, 3)).astype(np.float32)
Y = GENERATOR.integers(0, 4, 37)
FRAME = {"a": X[:, 0].tolist(), "b": [f"word {k % 5}" for k in range(37)], "y": Y.tolist()}


def npy(folder: Path, **options) -> Path:
    np.save(folder / "a.npy", np.asarray(X, **options))
    return folder / "a.npy"


def npz(folder: Path, save: Callable[..., None]) -> Path:
    save(folder / "a.npz", x=X, y=Y)
    return folder / "a.npz"


def idx_folder(folder: Path, ending: str) -> Path:
    for part, count in (("train", 30), ("t10k", 7)):
        for kind, shape in (("images-idx3", (count, 4, 5)), ("labels-idx1", (count,))):
            values = GENERATOR.integers(0, 10, shape).astype(np.uint8)
            content = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
            content += values.tobytes()
            path = folder / f"{part}-{kind}-ubyte{ending}"
            path.write_bytes(gzip.compress(content) if ending else content)
    return folder


def cifar_folder(folder: Path) -> Path:
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = GENERATOR.integers(0, 10, (4, 3073)).astype(np.uint8)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def csv_folder(folder: Path) -> Path:
    for name in ("one", "two"):
        pd.DataFrame(FRAME).to_csv(folder / f"{name}.csv", index=False)
    return folder


def parquet(folder: Path) -> Path:
    pq.write_table(pa.table(FRAME), folder / "a.parquet")
    return folder / "a.parquet"


def packed(folder: Path, **options) -> rb.Dataset:
    pack(rb.open(csv_folder(folder) / "one.csv", target="y"), folder / "pack")
    return rb.open(folder / "pack", **options)


def packed_transformed(folder: Path) -> rb.Dataset:
    source = rb.open(table_of_numbers(), target="y").transform(scale(0.5))
    return pack(source, folder / "pack", transforms="apply")


def ragged_columns() -> dict[str, object]:
    lengths = GENERATOR.integers(0, 9, 37)
    return {
        "text": Ragged.from_list([f"né {'o' * length}" for length in lengths]),
        "steps": Ragged.from_list([X[:length, :2] for length in lengths]),
        "empty": Ragged.from_list([b""] * 37),
        "x": X,
        "y": Y,
    }


def packed_ragged(folder: Path) -> rb.Dataset:
    return pack(rb.open(ragged_columns(), target="y"), folder / "pack")


def grouped(_folder: Path) -> rb.Dataset:
    data = rb.open({**ragged_columns(), "patient": Y}, target="y")
    return WithoutInput(data, "patient")


def text_file(folder: Path) -> Path:
    (folder / "a.txt").write_text("so it goes, né? " * 12)
    return folder / "a.txt"


def table_of_numbers() -> dict[str, np.ndarray]:
    return {"a": X[:, 0], "b": Y.astype(np.uint8), "y": Y}


def images(folder: Path, classes: tuple[str, ...]) -> Path:
    folder = folder / "images"
    for number, length in enumerate(GENERATOR.integers(0, 90, 37).tolist()):
        home = folder / classes[number % len(classes)]
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{number} ü.jpg").write_bytes(GENERATOR.bytes(length))
    return folder


def in_chunks(paths: list[Path], **options) -> rb.Dataset:
    return open_table_chunks(paths, OpenOptions(**options), source="t", chunk_bytes=100)


def torch_items() -> StackDataset:
    return StackDataset(torch.tensor(X), [f"word {label}" for label in Y])


def hugging_face(view: str, _folder: Path) -> rb.Dataset:
    import datasets

    rows = datasets.Dataset.from_dict({**FRAME, "x": X, "steps": [[1] * (k % 4) for k in Y]})
    if view == "parts":
        return rb.open(rows.train_test_split(9, seed=1))
    return rb.open(rows if view == "whole" else rows.shuffle(seed=1))


def builtin(name: str, _folder: Path) -> rb.Dataset:
    return rb.open(name)


SOURCES: dict[str, Callable[[Path], rb.Dataset]] = {
    "pair": lambda _: rb.open((X, Y)),
    "lists": lambda _: rb.open((X.tolist(), Y.tolist())),
    "one sample": lambda _: rb.open((X[:1], Y[:1])),
    "tensors": lambda _: rb.open({"x": torch.tensor(X), "y": torch.tensor(Y)}, target="y"),
    "Fortran order": lambda _: rb.open((np.asfortranarray(X), Y)),
    "strided": lambda _: rb.open((X[:, ::2], Y)),
    "big-endian": lambda _: rb.open((X.astype(">f4"), Y.astype(">i8"))),
    "NaN": lambda _: rb.open(np.where(X > 0.5, np.nan, X)),
    "text": lambda _: rb.open((X, [f"class {label}" for label in Y])),
    "pandas": lambda _: rb.open(pd.DataFrame(FRAME), target="y"),
    "polars": lambda _: rb.open(pl.DataFrame(FRAME), target="b"),
    "npy": lambda folder: rb.open(npy(folder)),
    "npy in Fortran order": lambda folder: rb.open(npy(folder, order="F")),
    "npz": lambda folder: rb.open(npz(folder, np.savez), target="y"),
    "npz compressed": lambda folder: rb.open(npz(folder, np.savez_compressed), target="y"),
    "idx": lambda folder: rb.open(idx_folder(folder, "") / "t10k-images-idx3-ubyte"),
    "idx folder": lambda folder: rb.open(idx_folder(folder, "")),
    "idx folder gz": lambda folder: rb.open(idx_folder(folder, ".gz")),
    "cifar folder": lambda folder: rb.open(cifar_folder(folder)),
    "csv": lambda folder: rb.open(csv_folder(folder) / "one.csv", target="y"),
    "csv folder one-hot": lambda folder: rb.open(csv_folder(folder), categories="one-hot"),
    "parquet": lambda folder: rb.open(parquet(folder), target=-1),
    "packed": packed,
    "packed, some columns": partial(packed, columns=["b"], target="a"),
    "packed with transforms": packed_transformed,
    "transforms applied": lambda _: Applied(rb.open(table_of_numbers(), target="y"), [scale(2.0)]),
    "csv in chunks": lambda folder: in_chunks([csv_folder(folder) / "one.csv"] * 3),
    "parquet in chunks": lambda folder: in_chunks([parquet(folder)] * 2, categories="one-hot"),
    "windows of text": lambda folder: rb.open(text_file(folder), sequence_length=9),
    "windows that overlap, in a file": lambda folder: rb.open(
        text_file(folder), sequence_length=9, stride=2, tokenizer="bytes"
    ),
    "ragged": lambda _: rb.open(ragged_columns(), target="y"),
    "ragged, big-endian": lambda _: rb.open(
        Ragged(X.reshape(-1).astype(">f4"), np.arange(0, 112, 3))
    ),
    "ragged, packed": packed_ragged,
    "ragged, without an input": grouped,
    "ragged, transforms applied": lambda _: Applied(
        rb.open(ragged_columns(), target="y"), [scale(2.0, column="x")]
    ),
    "images": lambda folder: rb.open(images(folder, ("a", "é", "z"))),
    "images without classes": lambda folder: rb.open(images(folder, ("",))),
    "images, packed": lambda folder: pack(images(folder, ("a", "b")), folder / "pack"),
    "transformed": lambda _: rb.open((X, Y)).transform(np.negative),
    "torch tensors": lambda _: rb.open(TensorDataset(torch.tensor(X), torch.tensor(Y))),
    "torch items": lambda _: rb.open(torch_items()),
    "torch subset": lambda _: rb.open(Subset(torch_items(), [3, 1, 30, 3])),
    **{name: partial(builtin, name) for name in BUILTIN_NAMES},
}
# The library comes with the group `integrations`.
if importlib.util.find_spec("datasets"):
    SOURCES |= {
        f"hugging face, {view}": partial(hugging_face, view)
        for view in ("whole", "shuffled", "parts")
    }


@pytest.fixture(params=SOURCES, scope="module")
def data(request, tmp_path_factory) -> rb.Dataset:
    return SOURCES[request.param](tmp_path_factory.mktemp("source"))


def test_every_source_keeps_the_promises(data):
    check_dataset(data)


@given(drawn=st.data())
def test_rows_equal_the_whole_span_indexed(data, drawn):
    length = len(data)
    indices = np.array(drawn.draw(st.lists(st.integers(0, length - 1), max_size=50)), np.int64)
    start = drawn.draw(st.integers(0, length))
    stop = drawn.draw(st.integers(start, length))
    whole, part, taken = data.span(0, length), data.span(start, stop), data.rows(indices)
    for column in data.columns:
        name = column.name
        if column.is_ragged:
            assert taken[name] == whole[name][indices]
            assert part[name] == whole[name][start:stop]
            continue
        np.testing.assert_array_equal(taken[name], whole[name][indices])
        np.testing.assert_array_equal(part[name], whole[name][start:stop])


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("mnist", {}),
        ("fashion-mnist", {}),
        ("adult", {"header": False, "target": -1, "missing": "drop"}),
        ("flowers", {}),
        ("cifar10-jpeg", {}),
        ("nyc-taxi-2019", {"target": "fare_amount", "missing": "fill"}),
    ],
)
def test_real_data_keep_the_promises(real_data, folder, options):
    check_dataset(rb.open(real_data / folder, **options))

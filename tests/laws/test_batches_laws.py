"""The laws of batches over sources and plans: exactly once, one global batch, resume, draws."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import rightbatch as rb
from rightbatch.loading.row_random import RowRandom
from rightbatch.testing import check_resume

MOST_ROWS = 150


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides which samples are in batch k."""

    batch_size: int | Literal["full"]
    seed: int
    shuffle: bool
    window: int | None
    remainder: Literal["keep", "drop", "pad"]

    def batches(self, part: Any, **more: Any) -> rb.Batches:
        options: dict[str, Any] = {"with_rows": True, **vars(self), **more}
        return rb.Batches(part, options.pop("batch_size"), **options)


@st.composite
def options(draw: st.DrawFn, length: int) -> Options:
    remainder = draw(st.sampled_from(["keep", "drop", "pad"]))
    most = length if remainder == "drop" else length + 5
    window = draw(st.none() | st.integers(1, length + 5))
    return Options(
        batch_size=draw(st.just("full") | st.integers(1, most)),
        seed=draw(st.integers(-(2**63), 2**64)),
        shuffle=window is not None or draw(st.booleans()),
        window=window,
        remainder=remainder,
    )


@st.composite
def parts_and_options(draw: st.DrawFn, source: rb.Dataset) -> tuple[rb.Part, Options]:
    val = draw(st.integers(0, len(source) - 1))
    test = draw(st.integers(0, len(source) - 1 - val))
    parts = rb.split(source, val=val, test=test, seed=draw(st.integers(0, 100)))
    part = parts.all[draw(st.sampled_from(sorted(parts.all)))]
    return part, draw(options(len(part)))


def columns() -> dict[str, NDArray[Any]]:
    """Numbers that CSV writes and reads back exactly."""
    generator = np.random.default_rng(0)
    return {
        "whole": generator.integers(-1000, 1000, MOST_ROWS),
        "real": generator.normal(size=MOST_ROWS),
        "large": 1_700_000_000 + generator.integers(0, 100, MOST_ROWS),
        "y": generator.integers(0, 3, MOST_ROWS),
    }


def write_csv(folder: Path) -> Path:
    pa.csv.write_csv(pa.table(columns()), folder / "table.csv")
    return folder / "table.csv"


def write_csv_folder(folder: Path) -> Path:
    (folder / "csv").mkdir()
    for number, (start, stop) in enumerate([(0, 1), (1, 100), (100, MOST_ROWS)]):
        table = pa.table(columns()).slice(start, stop - start)
        pa.csv.write_csv(table, folder / "csv" / f"{number}.csv")
    return folder / "csv"


def write_parquet(folder: Path) -> Path:
    pq.write_table(pa.table(columns()), folder / "table.parquet", row_group_size=40)
    return folder / "table.parquet"


def write_npz(folder: Path, save: Callable[..., None]) -> Path:
    path = folder / f"{save.__name__}.npz"
    save(path, **columns())
    return path


TABLES: dict[str, Callable[[Path], Any]] = {
    "arrays": lambda _: columns(),
    "lists": lambda _: {name: values.tolist() for name, values in columns().items()},
    "tensors": lambda _: {name: torch.from_numpy(values) for name, values in columns().items()},
    "pandas": lambda _: pd.DataFrame(columns()),
    "polars": lambda _: pl.DataFrame(columns()),
    "arrow": lambda _: pa.table(columns()),
    "csv": write_csv,
    "csv folder": write_csv_folder,
    "parquet": write_parquet,
    "npz": lambda folder: write_npz(folder, np.savez),
    "npz compressed": lambda folder: write_npz(folder, np.savez_compressed),
}


@pytest.fixture(scope="module")
def tables() -> Iterator[dict[str, rb.Dataset]]:
    with tempfile.TemporaryDirectory() as folder:
        yield {name: rb.open(make(Path(folder)), target="y") for name, make in TABLES.items()}


@pytest.fixture(scope="module")
def matrices() -> Iterator[dict[str, rb.Dataset]]:
    matrix = np.random.default_rng(1).integers(0, 256, (MOST_ROWS, 4, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "c.npy", matrix)
        np.save(folder / "f.npy", np.asfortranarray(matrix))
        content = bytes([0, 0, 8, 3]) + np.array(matrix.shape, ">u4").tobytes() + matrix.tobytes()
        (folder / "images-idx3-ubyte").write_bytes(content)
        yield {
            "memory": rb.open(matrix),
            "mapped": rb.open(folder / "c.npy"),
            "mapped, Fortran order": rb.open(folder / "f.npy"),
            "IDX": rb.open(folder / "images-idx3-ubyte"),
        }


def equal(left: Any, right: Any) -> bool:
    return all(
        type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(left, right, strict=True)
    )


def noise(inputs: NDArray[Any], rng: RowRandom) -> NDArray[Any]:
    return inputs + rng.normal(shape=inputs.shape[1:]) * rng.integers(1, 5)[:, None]


@given(data=st.data())
def test_law_1_an_epoch_holds_every_sample_once(data: st.DataObject, tables) -> None:
    source = tables[data.draw(st.sampled_from(sorted(TABLES)))]
    part, chosen = data.draw(parts_and_options(source))
    expected = part.rows.take(np.arange(len(part)))
    batches = chosen.batches(part)
    whole = source.span(0, len(source))
    for epoch in range(2):
        taken, weight, count = [], 0.0, 0
        for _, y, rows, *weights in batches:
            real = rows >= 0
            np.testing.assert_array_equal(y[real], whole["y"][rows[real]])
            taken.append(rows[real])
            weight += float(weights[0].sum()) if weights else len(rows)
            count += 1
            if chosen.remainder != "keep":
                assert len(rows) == batches.batch_size
        assert count == len(batches)
        rows = np.concatenate(taken)
        assert len(rows) == weight == len(part) - batches.dropped_samples
        assert len(np.unique(rows)) == len(rows)
        assert np.isin(rows, expected).all()
        assert batches.state_dict()["epoch"] == epoch + 1
    assert batches.dropped_samples in range(batches.batch_size)
    assert chosen.remainder == "drop" or batches.dropped_samples == 0


@given(data=st.data())
def test_law_3_tables_give_the_same_batches_wherever_they_are_stored(
    data: st.DataObject, tables
) -> None:
    part, chosen = data.draw(parts_and_options(tables["arrays"]))
    name, threads = data.draw(st.sampled_from(sorted(TABLES))), data.draw(st.integers(0, 3))
    parts = rb.Parts(data=tables["arrays"], train=part)
    elsewhere = rb.Parts(
        data=tables[name], train=rb.Part(data=tables[name], rows=part.rows, name="train")
    )
    transforms = data.draw(st.sampled_from([(), (rb.standardize(),), (rb.standardize(), noise)]))
    one = chosen.batches(parts.transform(*transforms).train if transforms else part, threads=0)
    two = chosen.batches(
        elsewhere.transform(*transforms).train if transforms else elsewhere.train, threads=threads
    )
    for epoch in (0, 3):
        pairs = zip(one.epoch(epoch), two.epoch(epoch), strict=True)
        assert all(equal(left, right) for left, right in pairs)


@given(data=st.data())
def test_law_3_arrays_give_the_same_batches_mapped_or_in_memory(
    data: st.DataObject, matrices
) -> None:
    chosen = data.draw(options(MOST_ROWS))
    name, threads = data.draw(st.sampled_from(sorted(matrices))), data.draw(st.integers(0, 3))
    one, two = (
        chosen.batches(matrices[source].transform(rb.scale(1 / 255)), threads=count)
        for source, count in (("memory", 0), (name, threads))
    )
    assert all(equal(left, right) for left, right in zip(one, two, strict=True))


@given(data=st.data(), threads=st.integers(0, 3), output=st.sampled_from(["numpy", "torch"]))
def test_law_4_resume_is_exact(data: st.DataObject, threads: int, output, tables) -> None:
    part, chosen = data.draw(parts_and_options(tables["arrays"]))
    if data.draw(st.booleans()):
        part = rb.Parts(data=part.data, train=part).transform(rb.standardize(), noise).train
    check_resume(lambda: chosen.batches(part, threads=threads, output=output))


@given(data=st.data())
def test_law_4_the_rest_is_the_same_at_another_batch_size(data: st.DataObject, tables) -> None:
    part, chosen = data.draw(parts_and_options(tables["parquet"]))
    before = chosen.batches(part, remainder="keep")
    after = chosen.batches(
        part, remainder="keep", batch_size=data.draw(st.integers(1, len(part) + 3))
    )
    order = np.concatenate([rows for _, _, rows in before.epoch(0)])
    stop = data.draw(st.integers(1, len(before)))
    for _, _ in zip(range(stop), before, strict=False):
        pass
    after.load_state_dict(before.state_dict(), allow_new_batch_size=True)
    taken = stop * before.batch_size
    epoch = np.concatenate([rows for _, _, rows in after])
    if taken < len(part):
        np.testing.assert_array_equal(epoch, order[taken:])
    else:
        np.testing.assert_array_equal(
            epoch, np.concatenate([rows for _, _, rows in before.epoch(1)])
        )


@given(data=st.data())
def test_law_7_draws_belong_to_the_sample(data: st.DataObject, tables) -> None:
    part, chosen = data.draw(parts_and_options(tables["arrays"]))
    part = rb.Parts(data=part.data, train=part).transform(noise).train
    epoch = data.draw(st.integers(0, 1000))
    plain = rb.Batches(part, "full", seed=chosen.seed, shuffle=False, with_rows=True, threads=0)
    ((expected, _, in_order),) = plain.epoch(epoch)
    batches = chosen.batches(part, threads=data.draw(st.integers(0, 3)))
    for x, _, rows, *_ in batches.epoch(epoch):
        real = rows >= 0
        np.testing.assert_array_equal(x[real], expected[np.searchsorted(in_order, rows[real])])

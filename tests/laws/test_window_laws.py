"""Laws 1 to 4 of data that are read window by window from their files: equal to data in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.testing import check_resume

LENGTH = 603


class RowsAlone(rb.Dataset):
    """A source that has no arrays: it is asked for rows and spans."""

    def __init__(self, arrays: dict[str, np.ndarray], target: str) -> None:
        self.held = ArrayDataset(arrays, target=target)
        super().__init__(name="rows alone", columns=self.held.columns, target=target)

    def __len__(self) -> int:
        return len(self.held)

    def rows(self, indices) -> dict[str, np.ndarray]:
        return self.held.rows(indices)

    def span(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self.held.span(start, stop)

    @property
    def fingerprint(self) -> str:
        return self.held.fingerprint


def images() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (LENGTH, 6, 5)).astype(np.uint8)
    return {"x": pixels, "y": np.arange(LENGTH)}


def table() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "a": generator.normal(size=LENGTH).astype(np.float32),
        "b": generator.integers(-9, 9, LENGTH),
        "c": generator.random(LENGTH),
        "y": np.arange(LENGTH),
    }


def mixed() -> dict[str, np.ndarray]:
    return {**images(), "a": table()["a"]}


def mapped(arrays: dict[str, np.ndarray], folder: Path) -> ArrayDataset:
    found = {}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        found[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return ArrayDataset(found, target="y")


def partly_mapped(arrays: dict[str, np.ndarray], folder: Path) -> ArrayDataset:
    files = mapped(arrays, folder)
    return ArrayDataset(
        {name: arrays[name] if name == "y" else files.array(name) for name in arrays}, target="y"
    )


def rows_alone(arrays: dict[str, np.ndarray], folder: Path) -> RowsAlone:
    del folder
    return RowsAlone(arrays, "y")


Source = Callable[[dict[str, np.ndarray], Path], rb.Dataset]
SOURCES: list[Source] = [mapped, partly_mapped, rows_alone]
KINDS = [images, table, mixed]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[Any, tuple[rb.Dataset, rb.Dataset]]:
    """For each kind of columns and each source: the data in memory, and as the source has them."""
    made = {}
    for kind in KINDS:
        arrays = kind()
        for source in SOURCES:
            folder = tmp_path_factory.mktemp(f"{kind.__name__}-{source.__name__}")
            made[kind, source] = ArrayDataset(arrays, target="y"), source(arrays, folder)
    return made


def as_bytes(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: as_bytes(values) for name, values in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(as_bytes, batch))
    return batch.dtype, batch.shape, batch.tobytes()


def epoch_bytes(batches: rb.Batches, number: int = 0) -> list[Any]:
    return [as_bytes(batch) for batch in batches.epoch(number)]


# Nine combinations of kinds and sources, so many examples each.
@settings(max_examples=settings().max_examples // 5)
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_law_3_batches_from_windows_equal_those_from_memory(kind, source, sets, data) -> None:
    held, stored = sets[kind, source]
    block = data.draw(st.integers(1, 100))
    window = block * data.draw(st.integers(1, 20))
    val = data.draw(st.sampled_from([None, 0.1, 0.8]))
    name = data.draw(st.sampled_from(["train", "val"])) if val else "train"
    options = {
        "batch_size": data.draw(st.integers(4, 60)),
        "remainder": data.draw(st.sampled_from(["keep", "drop", "pad"])),
        "seed": data.draw(st.integers(0, 9)),
        "with_rows": True,
    }
    scale = data.draw(st.booleans())

    def batches(source: rb.Dataset, threads: int) -> rb.Batches:
        parts = rb.split(source, val=val, seed=3)
        if scale:
            parts = parts.transform(
                *([rb.scale(0.5)] if kind is not mixed else [rb.cast("float32")])
            )
        part = getattr(parts, name)
        order = {"block": block, "window": window} if window < len(part) else {"window": window}
        return rb.Batches(part, threads=threads, **order, **options)

    number = data.draw(st.integers(0, 3))
    expected = epoch_bytes(batches(held, 1), number)
    assert epoch_bytes(batches(stored, data.draw(st.integers(0, 2))), number) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_law_1_every_sample_comes_once(kind, source, sets) -> None:
    _, stored = sets[kind, source]
    batches = rb.Batches(stored, 50, block=16, window=320, with_rows=True, seed=1)
    for number in range(2):
        rows = np.concatenate([batch[-1] for batch in batches.epoch(number)])
        assert np.array_equal(np.sort(rows), np.arange(LENGTH))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_law_4_resume_is_exact(source, threads, sets) -> None:
    _, stored = sets[images, source]
    check_resume(
        lambda: rb.Batches(
            stored, 32, block=10, window=200, seed=5, with_rows=True, threads=threads
        )
    )


@pytest.mark.parametrize("source", SOURCES)
def test_law_4_a_cursor_goes_on_over_data_in_memory(source, sets) -> None:
    held, stored = sets[images, source]
    options = {"block": 10, "window": 200, "seed": 5, "with_rows": True}
    stopped, whole = rb.Batches(stored, 32, **options), rb.Batches(held, 32, **options)
    expected = epoch_bytes(whole)
    iterator = iter(stopped)
    before = [as_bytes(next(iterator)) for _ in range(9)]
    goes_on = rb.Batches(held, 32, **options)
    state = json.loads(json.dumps(stopped.state_dict()))
    # The data are the same, and so is what names them.
    goes_on.load_state_dict(state)
    assert before + [as_bytes(batch) for batch in goes_on] == expected

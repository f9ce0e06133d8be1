"""Laws 3 and 4 of batches that ranks share: one after another they are those of one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.loading.row_random import RowRandom

LENGTH = 120


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.integers(0, 256, (LENGTH, 3, 2)).astype(np.uint8),
        "y": np.arange(LENGTH),
    }


def in_memory(folder: Path) -> rb.Dataset:
    del folder
    return rb.open(arrays(), target="y")


def in_files(folder: Path) -> rb.Dataset:
    found = {}
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array)
        found[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return ArrayDataset(found, target="y")


def table(folder: Path) -> rb.Dataset:
    del folder
    generator = np.random.default_rng(1)
    columns = {"a": generator.normal(size=LENGTH), "b": generator.integers(-9, 9, LENGTH)}
    return rb.open({**columns, "y": np.arange(LENGTH)}, target="y")


def fields(folder: Path) -> rb.Dataset:
    del folder
    return rb.open({**arrays(), "z": np.linspace(0, 1, LENGTH)}, target="y")


def texts(folder: Path) -> rb.Dataset:
    del folder
    return rb.open({"text": [f"{n:o}" * (n % 7) for n in range(LENGTH)], "y": list(range(LENGTH))})


SOURCES: dict[str, Callable[[Path], rb.Dataset]] = {
    "memory": in_memory,
    "files": in_files,
    "table": table,
    "fields": fields,
    "texts": texts,
}
ORDERS: list[dict[str, Any]] = [
    {},
    {"shuffle": False},
    {"window": 11},
    {"window": 24, "block": 4},
    {"weights": np.arange(LENGTH) % 4 * 0.5},
    {"memory": "1GB"},
    {"memory": "1GB", "shuffle": False},
]


def noise(inputs: Any, rng: RowRandom) -> Any:
    return inputs + rng.normal(shape=inputs.shape[1:])


def one_by_one(inputs: Any) -> Any:
    return np.stack([np.float32(sample).reshape(-1)[:1] for sample in inputs])


@pytest.fixture(scope="module")
def sources(tmp_path_factory, pictures) -> dict[str, rb.Part]:
    made = {}
    for name, make in SOURCES.items():
        made[name] = rb.split(make(tmp_path_factory.mktemp(name))).train
    made["scaled"] = rb.split(made["files"].data).transform(rb.scale(0.5)).train
    made["function"] = rb.split(made["files"].data).transform(rb.cast("float32"), noise).train
    made["one by one"] = rb.split(made["memory"].data).transform(one_by_one).train
    folder = pictures.folder(tmp_path_factory.mktemp("pictures"), 20)
    decode = rb.decode_images((6, 5), crop="random", flip=True)
    made["images"] = rb.split(rb.open(folder)).transform(decode).train
    other = {name: values[:50] + 1 for name, values in arrays().items()}
    one, two = rb.split(made["memory"].data), rb.split(rb.open(other, target="y"))
    made["mixture"] = rb.mix({"one": (one, 0.7), "two": (two, 0.3)}).train
    return made


def joined(pieces: Any) -> Any:
    """A field, or whole batches, of the ranks one after another."""
    first = pieces[0]
    if isinstance(first, dict):
        return {name: joined([piece[name] for piece in pieces]) for name in first}
    if isinstance(first, tuple):
        return tuple(map(joined, zip(*pieces, strict=True)))
    if isinstance(first, rb.Ragged):
        return rb.Ragged.concatenate(pieces)
    assert len({(piece.dtype, piece.shape[1:]) for piece in pieces}) == 1
    return torch.cat(pieces) if isinstance(first, torch.Tensor) else np.concatenate(pieces)


def frozen(batch: Any) -> Any:
    """A batch that `==` compares byte for byte."""
    if isinstance(batch, dict):
        return {name: frozen(values) for name, values in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(frozen, batch))
    if isinstance(batch, rb.Ragged):
        return [batch[k].tobytes() if not batch.is_text else batch[k] for k in range(len(batch))]
    array = np.asarray(batch)
    return type(batch), array.dtype, array.shape, array.tobytes()


@st.composite
def options(draw: st.DrawFn, part: rb.Part) -> dict[str, Any]:
    length = len(part)
    orders = [o for o in ORDERS if len(part.data) == LENGTH or "weights" not in o]
    chosen = draw(st.sampled_from(ORDERS[:1] if part.mixture is not None else orders))
    remainder = draw(st.sampled_from(["keep", "drop"]))
    size = st.integers(1, 9) | st.integers(1, length + (5 if remainder == "keep" else 0))
    return {
        **chosen,
        "batch_size": draw(size),
        "remainder": remainder,
        "seed": draw(st.integers(0, 2**64)),
        "with_rows": True,
    }


def batches(part: Any, chosen: dict[str, Any], **more: Any) -> rb.Batches:
    chosen = {**chosen, **more}
    return rb.Batches(part, chosen.pop("batch_size"), **chosen)


NAMES = [*SOURCES, "scaled", "function", "one by one", "images", "mixture"]


@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_law_3_the_shares_of_the_ranks_are_the_global_batch(data, name, sources) -> None:
    part = sources[name]
    chosen = data.draw(options(part))
    if name != "texts":
        chosen["output"] = data.draw(st.sampled_from(["numpy", "torch"]))
    world_size = data.draw(st.integers(1, 6))
    epoch = data.draw(st.integers(0, 1000))
    whole = batches(part, chosen)
    first_batch = data.draw(st.integers(0, len(whole)))
    expected = list(whole.epoch(epoch, first_batch=first_batch))
    ranks = []
    for rank in range(world_size):
        own = batches(
            part,
            chosen,
            rank=rank,
            world_size=world_size,
            threads=data.draw(st.integers(0, 2)),
        )
        assert len(own) == len(whole)
        assert own.batch_size == whole.batch_size
        ranks.append(list(own.epoch(epoch, first_batch=first_batch)))
        assert len(ranks[-1]) == len(expected)
    for k, batch in enumerate(expected):
        assert frozen(joined([own[k] for own in ranks])) == frozen(batch)


@given(data=st.data())
@pytest.mark.parametrize("name", ["memory", "files", "mixture"])
def test_law_4_any_number_of_ranks_goes_on_where_another_stopped(data, name, sources) -> None:
    part = sources[name]
    chosen = data.draw(options(part))
    whole = batches(part, chosen)
    expected = [frozen(batch) for epoch in range(2) for batch in whole.epoch(epoch)]
    taken, state = [], None
    left = len(expected)
    for world_size in (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)), 1):
        count = left if world_size == 1 else data.draw(st.integers(0, left))
        found, states = [], []
        for rank in range(world_size):
            own = batches(part, chosen, rank=rank, world_size=world_size)
            if state is not None:
                own.load_state_dict(json.loads(state))
            given_out: list[Any] = []
            for _ in range(3):  # the rest of an epoch, and the next one
                given_out += islice(iter(own), count - len(given_out))
            found.append(given_out)
            states.append(json.dumps(own.state_dict()))
        assert len(set(states)) == 1
        taken += [frozen(joined(shares)) for shares in zip(*found, strict=True)]
        left -= count
        state = states[0]
    assert taken == expected
    one = batches(part, chosen)
    one.load_state_dict(json.loads(state))
    assert one.state_dict()["epoch"] == 2


@given(data=st.data())
def test_law_4_ranks_go_on_at_another_batch_size(data, sources) -> None:
    part = sources["files"]
    chosen = {**data.draw(options(part)), "remainder": "keep", "memory": None}
    stopped = batches(part, chosen, rank=1, world_size=3)
    count = data.draw(st.integers(1, len(stopped)))
    for _ in islice(iter(stopped), count):
        pass
    chosen["batch_size"] = data.draw(st.integers(1, LENGTH))
    ranks = [batches(part, chosen, rank=rank, world_size=2) for rank in range(2)]
    one = batches(part, chosen)
    for each in (*ranks, one):
        each.load_state_dict(stopped.state_dict(), allow_new_batch_size=True)
    assert {own.batches_left for own in ranks} == {one.batches_left}
    assert {own.at_epoch_start for own in ranks} == {one.at_epoch_start}
    expected = [frozen(batch) for batch in one]
    assert [frozen(joined(shares)) for shares in zip(*ranks, strict=True)] == expected
    assert {own.current_epoch for own in ranks} == {one.current_epoch}

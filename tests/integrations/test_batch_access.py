"""Batches by address and as a DataLoader: the same batches whoever asks in whatever order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.integrations.batch_access import BatchAccess
from rightbatch.integrations.transformers import data_loader

DATA = (np.arange(60.0).reshape(30, 2), np.arange(30))
BATCHES = rb.Batches(DATA, 4, seed=3)
EXPECTED = [[batch[1].tolist() for batch in BATCHES.epoch(epoch)] for epoch in range(3)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), max_size=20))
def test_any_batch_is_reached_in_any_order(addresses) -> None:
    access = BatchAccess(BATCHES)
    for epoch, number in addresses:
        assert access.get(epoch, number)[1].tolist() == EXPECTED[epoch][number]


def test_threads_may_ask_at_once() -> None:
    access = BatchAccess(BATCHES)
    start = threading.Barrier(4)

    def ask(_: int) -> list[list[int]]:
        start.wait()
        return [access.get(1, number)[1].tolist() for number in range(8)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [EXPECTED[1]] * 4


def test_the_cursor_stays_and_the_end_is_an_error() -> None:
    batches = rb.Batches(DATA, 4)
    access = BatchAccess(batches)
    access.get(2, 7)
    assert (batches.current_epoch, batches.batches_left) == (0, 8)
    with pytest.raises(IndexError, match="batch 8 of an epoch of 8"):
        access.get(0, 8)
    with pytest.raises(rb.OptionError, match=r"rb\.Batches is wanted, and tuple"):
        BatchAccess(DATA)


@pytest.mark.parametrize(("first_batch", "length"), [(0, 8), (3, 5), (7, 1), (8, 0), (9, 0)])
def test_an_epoch_begins_at_any_batch(first_batch, length) -> None:
    epoch = BATCHES.epoch(1, first_batch=first_batch)
    assert len(epoch) == length
    for _ in range(2):
        assert [batch[1].tolist() for batch in epoch] == EXPECTED[1][first_batch:]


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_a_data_loader_names_what_a_batch_holds(remainder, output) -> None:
    batches = rb.Batches(DATA, 4, remainder=remainder, output=output, with_rows=True)
    loader = data_loader(batches, inputs="pixels", target="classes")
    assert isinstance(loader, torch.utils.data.DataLoader)
    assert (len(loader), len(loader.dataset)) == (len(batches), 30)
    loader.set_epoch(2)
    for found, wanted in zip(loader, batches.epoch(2), strict=True):
        names = ["pixels", "classes", "rows", *(["weights"] if remainder == "pad" else [])]
        assert list(found) == names
        for name, values in zip(names, wanted, strict=True):
            assert torch.equal(found[name], torch.as_tensor(values))


def test_fields_keep_their_names_and_a_target_is_not_needed() -> None:
    data = rb.open({"a": np.zeros((6, 2)), "b": np.zeros((6, 3))})
    (batch,) = data_loader(rb.Batches(data, 6))
    assert {name: tuple(values.shape) for name, values in batch.items()} == {
        "a": (6, 2),
        "b": (6, 3),
    }
    texts = rb.Batches(rb.Ragged.from_list(["a", "bc"]), 2)
    with pytest.raises(rb.OptionError, match="'inputs' is Ragged"):
        list(data_loader(texts))

"""Laws 1 to 5 of windows of tokens: exactly once, resumable, in no other part of a split."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rightbatch as rb
from rightbatch.errors import OptionError
from rightbatch.testing import check_dataset, check_resume

TOKENS = 2500


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    generator = np.random.default_rng(0)
    np.save(folder / "ids.npy", generator.integers(0, 9000, TOKENS).astype(np.uint16))
    letters = np.array(list("abcdé\n "))
    (folder / "a.txt").write_text("".join(letters[generator.integers(0, 7, TOKENS)]))
    return folder


def opened(folder: Path, name: str, **options: Any) -> rb.Dataset:
    match name:
        case "codes":
            return rb.open(np.load(folder / "ids.npy"), **options)
        case "codes in a file":
            return rb.open(folder / "ids.npy", **options)
        case "bytes in a file":
            return rb.open(folder / "a.txt", tokenizer="bytes", **options)
        case "pack":
            place = folder / f"pack {options}"
            return rb.pack(folder / "a.txt", place, **options)
    return rb.open(folder / "a.txt", **options)


NAMES = ["codes", "codes in a file", "characters", "bytes in a file", "pack"]
CUTS = [{"sequence_length": 16}, {"sequence_length": 16, "stride": 5},
        {"sequence_length": 7, "stride": 20}, {"sequence_length": 1}]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_windows_keep_the_promises_of_a_dataset(folder, name, cut):
    data = opened(folder, name, **cut)
    check_dataset(data)
    length, stride = cut["sequence_length"], cut.get("stride", cut["sequence_length"])
    stream = opened(folder, name if name != "pack" else "characters", **cut).stream
    tokens, following = data.array("tokens"), data.array("next")
    for row in range(len(data)):
        start = row * stride
        np.testing.assert_array_equal(tokens[row], stream[start : start + length])
        np.testing.assert_array_equal(following[row], stream[start + 1 : start + length + 1])
    assert len(stream) - (len(data) * stride + length + 1) < 0


# The first is gathered from memory or maps, the second read from files window by window.
ORDERS = [{}, {"block": 8, "window": 40}]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", CUTS[:3], ids=str)
def test_resuming_is_exact_after_any_number_of_batches(folder, name, cut, order):
    part = rb.split(opened(folder, name, **cut), val=0.2, contiguous=True).train
    check_resume(lambda: rb.Batches(part, 7, seed=3, with_rows=True, **order))


@settings(max_examples=25)
@given(
    name=st.sampled_from(["codes in a file", "bytes in a file", "pack"]),
    cut=st.sampled_from(CUTS[:3]),
    batch_size=st.integers(1, 40),
    block=st.integers(1, 30),
    blocks=st.integers(1, 3),
    threads=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_an_epoch_read_from_files_visits_every_window_once(
    folder, name, cut, batch_size, block, blocks, threads, seed
):
    data = opened(folder, name, **cut)
    batches = rb.Batches(
        data, batch_size, seed=seed, block=block, window=block * blocks, threads=threads,
        with_rows=True,
    )  # fmt: skip
    visited = []
    for tokens, following, rows in batches:
        np.testing.assert_array_equal(tokens, data.array("tokens")[rows])
        np.testing.assert_array_equal(following, data.array("next")[rows])
        visited.extend(rows.tolist())
    assert sorted(visited) == list(range(len(data)))


@given(
    tokens=st.integers(60, 400),
    length=st.integers(1, 12),
    stride=st.integers(1, 15),
    val=st.integers(1, 3),
    test=st.integers(0, 3),
)
def test_no_part_of_a_split_in_order_has_a_token_of_another(tokens, length, stride, val, test):
    data = rb.open(np.arange(tokens), sequence_length=length, stride=stride)
    gap = (length - 1) // stride
    if len(data) <= val + test + 2 * gap:
        with pytest.raises(OptionError, match=r"leaves? none to train on"):
            rb.split(data, val=max(val, len(data) - gap), contiguous=True)
        return
    parts = rb.split(data, val=val, test=test, contiguous=True)
    assert (parts.sizes["val"], parts.sizes["test"]) == (val, test)
    # Every token is told apart by its number, so that content says what is shared.
    for column in ("tokens", "next"):
        seen = [
            set(data.array(column)[part.rows.take(np.arange(len(part)))].ravel().tolist())
            for part in parts.all.values()
        ]
        assert sum(map(len, seen)) == len(set().union(*seen))
        assert all(max(one) < min(other) for one, other in itertools.pairwise(seen))
    left_out = len(data) - sum(parts.sizes.values())
    assert left_out == gap * (1 + (test > 0))


def test_windows_that_overlap_are_split_in_order_alone(caplog):
    data = rb.open(np.arange(200), sequence_length=16, stride=4)
    with pytest.raises(OptionError, match=r"shares tokens with the 3 that follow.*contiguous=True"):
        rb.split(data, val=0.1)
    assert rb.split(data).sizes["train"] == len(data)
    with caplog.at_level(logging.WARNING, logger="rightbatch"):
        parts = rb.split(data, val=5, test=5, contiguous=True)
    assert "6 windows between the parts share tokens" in caplog.text
    assert parts.settings["contiguous"] is True
    for other in ({"group": "tokens"}, {"stratify": True}, {"on_duplicates": "together"}):
        with pytest.raises(OptionError, match="contiguous=True cuts them in their order"):
            rb.split(data, val=5, contiguous=True, **other)


def test_windows_side_by_side_are_split_at_random_too():
    data = rb.open(np.arange(201), sequence_length=10)
    parts = rb.split(data, val=5)
    # The last target of a window is the first input of the next, and both are one of a kind.
    for column in ("tokens", "next"):
        assert len(np.unique(data.array(column))) == data.array(column).size
    assert parts.sizes == {"train": 15, "val": 5, "test": 0}


class Bigram(nn.Module):
    """Scores of what follows each code, from that code alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scores = nn.Embedding(size, size)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.scores(codes)


def make_model() -> Bigram:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bigram(7)


@settings(max_examples=12)
@given(
    stride=st.sampled_from([16, 5]),
    batch_size=st.integers(1, 40),
    stop=st.integers(1, 40),
    order=st.sampled_from(ORDERS),
)
def test_a_run_stopped_at_any_step_resumes_exactly_from_text_or_pack(
    folder, tmp_path_factory, stride, batch_size, stop, order
):
    cut = {"sequence_length": 16, "stride": stride}
    run = tmp_path_factory.mktemp("run") / "run"
    options: dict[str, Any] = {
        "batch_size": batch_size, "threads": 1, "optimizer": "adam", **order,
    }  # fmt: skip
    text = split_of(opened(folder, "characters", **cut))
    whole = rb.fit(make_model(), text, epochs=2, **options)
    rb.fit(make_model(), text, steps=min(stop, whole.steps), out=run, **options)
    # The storage makes no difference, also in the middle of a run.
    parts = split_of(opened(folder, "pack", **cut))
    resumed = rb.fit(make_model(), parts, epochs=2, out=run, resume=True, **options)
    assert resumed.step_losses == whole.step_losses
    assert torch.equal(resumed.model.scores.weight, whole.model.scores.weight)
    assert json.loads((run / "config.json").read_text())["split"]["contiguous"] is True
    # A run's folder alone tells the same of the test part, as text or packed.
    wanted = rb.evaluate(whole, parts.test)
    told = rb.predict(run, parts.test, network=make_model())
    assert {"loss": told.loss, "accuracy": told.accuracy} == pytest.approx(wanted)
    assert told.tokens == len(parts.test) * 16
    assert told.classes == list(parts.data.column("next").categories)
    assert np.asarray(told).shape == (len(parts.test), 16, 7)
    assert set(told.predicted.ravel()) <= set(told.classes)


def split_of(data: rb.Dataset) -> Any:
    return rb.split(data, val=0.1, test=0.1, contiguous=True)


@pytest.mark.parametrize("stride", [256, 100])
def test_a_budget_of_memory_is_kept_for_codes_in_a_file(tmp_path, stride):
    stream = np.random.default_rng(0).integers(0, 50_000, 6_000_000).astype(np.uint16)
    np.save(tmp_path / "ids.npy", stream)
    data = rb.open(tmp_path / "ids.npy", sequence_length=256, stride=stride)
    batches = rb.Batches(data, 64, seed=1, memory="8MB", with_rows=True)
    assert batches.order.kind == "block-window"
    visited = []
    for tokens, following, rows in batches:
        places = rows[:, None] * stride + np.arange(256)
        np.testing.assert_array_equal(tokens, stream[places])
        np.testing.assert_array_equal(following, stream[places + 1])
        visited.append(rows)
    np.testing.assert_array_equal(np.sort(np.concatenate(visited)), np.arange(len(data)))

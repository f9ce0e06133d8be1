"""The laws of batches that are drawn: the stated proportion, one global batch, resume, no leak."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.loading.row_random import RowRandom
from rightbatch.testing import check_resume

LENGTH = 90
CLASSES = np.array([0] * 60 + [1] * 25 + [2] * 5)
WEIGHTS = np.arange(LENGTH) % 5 * 0.5
seeds = st.integers(-(2**63), 2**64)
remainders = st.sampled_from(["keep", "drop", "pad"])


def table(offset: float = 0.0) -> rb.Dataset:
    columns = {"x": np.arange(LENGTH) + offset, "w": WEIGHTS, "y": CLASSES}
    return rb.open(columns, target="y")


def jitter(inputs: Any, rng: RowRandom) -> Any:
    return inputs + rng.uniform(shape=(1,))


def weighted() -> tuple[rb.Part, dict[str, Any]]:
    return rb.split(table(), val=20, stratify=True, seed=3, weights="w").train, {"weights": "w"}


def balanced() -> tuple[rb.Part, dict[str, Any]]:
    return rb.split(table(), val=20, seed=3).train, {"weights": "balanced"}


def mixture() -> tuple[rb.Part, dict[str, Any]]:
    one, two = rb.split(table(), val=20, seed=3), rb.split(table(1000.0), val=0.5, seed=1)
    return rb.mix({"one": (one, 0.6), "two": (two, 0.4)}).train, {}


SAMPLERS: dict[str, Callable[[], tuple[rb.Part, dict[str, Any]]]] = {
    "weighted": weighted,
    "balanced": balanced,
    "mixture": mixture,
}


@pytest.fixture(scope="module", params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> tuple[rb.Part, dict[str, Any]]:
    return SAMPLERS[request.param]()


def rows_of(batches: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([batch[2] for batch in batches])


@given(st.integers(1, 300), st.integers(1, 80), seeds, st.integers(0, 5))
def test_law_1_by_weight_every_sample_comes_in_the_stated_proportion(
    epoch_samples, batch_size, seed, epoch
):
    part, options = weighted()
    batches = rb.Batches(
        part, batch_size, seed=seed, with_rows=True, epoch_samples=epoch_samples, **options
    )
    rows = rows_of(batches.epoch(epoch))
    own = part.rows.take(np.arange(len(part)))
    assert len(rows) == epoch_samples
    counts = np.bincount(rows, minlength=LENGTH)
    expected = epoch_samples * WEIGHTS / WEIGHTS[own].sum()
    for row in own:
        assert floor(expected[row] - 1e-9) <= counts[row] <= ceil(expected[row] + 1e-9)
    assert counts.sum() == counts[own].sum()  # nothing that was held out


@given(st.integers(1, 300), seeds)
def test_law_1_balanced_every_class_comes_as_often(epoch_samples, seed):
    part, options = balanced()
    batches = rb.Batches(
        part, 16, seed=seed, with_rows=True, epoch_samples=epoch_samples, **options
    )
    by_class = np.bincount(np.concatenate([y for _, y, _ in batches]), minlength=3)
    assert by_class.max() - by_class.min() <= 1
    assert by_class.sum() == epoch_samples


@given(st.integers(1, 300), st.integers(1, 80), seeds, st.integers(0, 5))
def test_law_1_every_batch_of_a_mixture_has_its_proportions(epoch_samples, batch_size, seed, epoch):
    part, _ = mixture()
    batches = rb.Batches(part, batch_size, seed=seed, with_rows=True, epoch_samples=epoch_samples)
    for _, _, rows in batches.epoch(epoch):
        assert abs(np.count_nonzero(rows < LENGTH) - 0.6 * len(rows)) <= 1
        assert part.rows.contains(rows).all()


@given(st.integers(1, 120), st.integers(1, 40), st.integers(0, 3), seeds, remainders)
def test_law_3_batch_k_is_the_same_whatever_the_threads_and_it_is_a_slice(
    sampler, epoch_samples, batch_size, threads, seed, remainder
):
    part, options = sampler
    options = {**options, "epoch_samples": epoch_samples, "seed": seed, "with_rows": True}
    batch_size = min(batch_size, epoch_samples)
    one = rb.Batches(part, "full", threads=0, **options)
    [(inputs, target, rows)] = list(one.epoch(2))
    found = rb.Batches(part, batch_size, threads=threads, remainder=remainder, **options)
    start = 0
    for x, y, some, *_ in found.epoch(2):
        kept = some >= 0
        stop = start + np.count_nonzero(kept)
        assert np.array_equal(some[kept], rows[start:stop])
        assert np.array_equal(x[kept], inputs[start:stop])
        assert np.array_equal(y[kept], target[start:stop])
        start = stop
    dropped = epoch_samples % batch_size if remainder == "drop" else 0
    assert start == epoch_samples - dropped
    assert found.dropped_samples == dropped


@given(st.integers(1, 120), st.integers(1, 60), seeds, remainders, st.integers(0, 2))
def test_law_4_resume_is_exact_anywhere(
    sampler, epoch_samples, batch_size, seed, remainder, threads
):
    part, options = sampler
    batch_size = min(batch_size, epoch_samples)

    def make() -> rb.Batches:
        return rb.Batches(
            part,
            batch_size,
            seed=seed,
            remainder=remainder,
            threads=threads,
            with_rows=True,
            epoch_samples=epoch_samples,
            **options,
        )

    check_resume(make)


@given(seeds, st.integers(0, 5))
def test_law_5_no_epoch_draws_a_sample_that_is_held_out(sampler, seed, epoch):
    part, options = sampler
    rows = rows_of(rb.Batches(part, 32, seed=seed, with_rows=True, **options).epoch(epoch))
    assert part.rows.contains(rows).all()


@given(seeds, st.integers(0, 3), st.integers(1, 50))
def test_law_7_a_sample_drawn_twice_meets_the_same_random_transform(seed, epoch, batch_size):
    data = rb.open(([[0.0]] * 12, [0, 1] * 6))
    part = rb.split(data).transform(jitter).train
    batches = rb.Batches(
        part, batch_size, seed=seed, weights="balanced", epoch_samples=40, with_rows=True
    )
    epochs = [list(batches.epoch(number)) for number in (epoch, epoch + 1)]
    seen = [
        {row: {float(v) for v in values[rows == row, 0]} for row in range(12)}
        for values, rows in (
            (np.concatenate([b[0] for b in e]), np.concatenate([b[2] for b in e])) for e in epochs
        )
    ]
    assert all(len(drawn) == 1 for one in seen for drawn in one.values())
    assert all(seen[0][row] != seen[1][row] for row in range(12))


def test_law_7_a_sample_of_a_mixture_meets_the_transform_of_its_row():
    part, _ = mixture()
    parts = rb.Parts(data=part.data, train=part).transform(jitter)
    drawn = rb.Batches(parts.train, 30, seed=5, with_rows=True, epoch_samples=300)
    plain = rb.Batches(parts.train, "full", seed=5, with_rows=True, shuffle=False)
    [(inputs, _, rows)] = plain.epoch(1)
    by_row = dict(zip(rows.tolist(), inputs.tolist(), strict=True))
    for x, _, some in drawn.epoch(1):
        assert [by_row[row] for row in some.tolist()] == x.tolist()

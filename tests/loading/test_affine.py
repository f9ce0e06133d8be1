"""Fused scalings equal the same scalings one after another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.loading.affine import AffineMap
from rightbatch.loading.transform import Transform

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint64", "float16", "float32"]
FACTORS = st.floats(0.001, 1000).map(float)


def first_batch(data: rb.Dataset, *transforms: Transform | rb.Dataset) -> np.ndarray:
    parts = rb.split(data).transform(*transforms)
    inputs: np.ndarray = next(iter(rb.Batches(parts.train, "full", shuffle=False, threads=0)))
    return inputs


@given(
    dtype=st.sampled_from([*DTYPES, "float64"]),
    steps=st.lists(
        st.one_of(
            FACTORS.map(rb.scale),
            st.just(rb.standardize()),
            st.just(rb.cast("float32")),
            st.just(rb.cast("int16")),
            st.just(rb.cast("float64")),
            st.just(rb.flatten()),
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_pipeline_equals_its_transforms_one_by_one(
    dtype: str, steps: list[Transform], seed: int
) -> None:
    highest = 2 if dtype == "bool" else 100
    values = np.random.default_rng(seed).integers(0, highest, size=(50, 3)).astype(dtype)
    expected = values
    applied = []
    for step in steps:
        fitted = step.fitted([expected]) if step.needs_fit else step
        # A cast to whole numbers turns the last bit of a float into a whole step.
        rounds = step == rb.cast("int16") and expected.dtype.kind == "f" and applied
        if rounds:
            continue
        applied.append(fitted)
        expected = fitted.apply(expected)
    if not applied:
        return
    found = first_batch(rb.open(values), *applied)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def test_a_cast_that_rounds_happens_before_what_follows() -> None:
    data = rb.open(np.full((4, 1), 3.7))
    assert first_batch(data, rb.cast("int32"), rb.cast("float32")).tolist() == [[3.0]] * 4
    assert first_batch(data, rb.cast("int32"), rb.scale(0.5)).tolist() == [[1.5]] * 4
    assert first_batch(data, rb.cast("uint8"), rb.scale(2), rb.cast("int64")).tolist() == [[6]] * 4


def test_scale_after_standardize_and_before_it() -> None:
    values = np.random.default_rng(0).normal(3, 7, (500, 4)).astype(np.float32)
    standard = (values - values.mean(0)) / values.std(0)
    data = rb.open(values)
    np.testing.assert_allclose(
        first_batch(data, rb.standardize(), rb.scale(10)), 10 * standard, atol=2e-5
    )
    np.testing.assert_allclose(
        first_batch(data, rb.scale(10), rb.standardize()), standard, atol=2e-6
    )


@pytest.mark.parametrize("center", [1_234_567.8, 1e7 + 0.3])
def test_a_center_that_float32_cannot_hold_is_still_subtracted_exactly(center: float) -> None:
    values = np.array([center - 1, center, center + 1], np.float32)
    found = AffineMap(center, 1.0)(values, out=np.empty(3, np.float32))
    np.testing.assert_array_equal(found, (values.astype(np.float64) - center).astype(np.float32))


@given(
    values=st.lists(st.floats(-100, 100), min_size=1, max_size=10),
    maps=st.lists(st.tuples(st.floats(-50, 50), FACTORS), min_size=1, max_size=3),
)
def test_then_is_composition(values: list[float], maps: list[tuple[float, float]]) -> None:
    one_by_one = np.asarray(values)
    together = AffineMap(0.0, 1.0)
    for center, factor in maps:
        one_by_one = (one_by_one - center) * factor
        together = together.then(center, factor)
    found = together(np.asarray(values), out=np.empty(len(values), np.float32))
    scale = np.prod([factor for _, factor in maps]) * 1000 + 1000 * 50 * 1000
    np.testing.assert_allclose(found, one_by_one, rtol=1e-6, atol=1e-9 * scale)


SHAPES = [(), (1,), (3,), (30,), (2, 5), (784,), (5000,), (0,), (3, 0)]


@given(
    dtype=st.sampled_from([*DTYPES, "float64"]),
    shape=st.sampled_from(SHAPES),
    has_centers=st.booleans(),
    has_factors=st.booleans(),
    offset=st.sampled_from([0.0, 0.1, 1_234_567.8]),
    samples=st.sampled_from([0, 1, 2, 5, 273, 274, 600, 9000]),
    overwrite=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_many_samples_at_once_have_the_bits_of_one_sample_at_a_time(
    dtype: str,
    shape: tuple[int, ...],
    has_centers: bool,
    has_factors: bool,
    offset: float,
    samples: int,
    overwrite: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    samples = min(samples, 500_000 // max(1, math.prod(shape)))
    values = random.integers(0, 100, (samples, *shape)).astype(dtype)
    affine = AffineMap(
        random.normal(offset, 1, shape) if has_centers else offset,
        random.uniform(0.01, 3, shape) if has_factors else 0.7,
    )
    expected = np.empty(values.shape, np.float32)
    for sample in range(samples):
        one = slice(sample, sample + 1)
        affine(values[one], out=expected[one])
    given_values = values.copy()
    found = affine(given_values, out=np.empty(values.shape, np.float32), overwrite=overwrite)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    if not overwrite:
        np.testing.assert_array_equal(given_values, values)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_samples_that_do_not_lie_one_after_the_other_are_mapped_alike(dtype: str) -> None:
    table = np.random.default_rng(0).integers(0, 100, (60, 600)).astype(dtype)
    affine = AffineMap(np.arange(30.0), np.arange(1.0, 31.0))
    for values in (table.T[:, :30], table.T[:, ::2], table[:, ::20], table[::-1, 30:60]):
        straight = affine(np.ascontiguousarray(values), out=np.empty(values.shape, np.float32))
        turned = affine(values, out=np.empty(values.shape, np.float32))
        gaps = affine(values, out=np.empty((len(values), 40), np.float32)[:, :30])
        np.testing.assert_array_equal(turned, straight)
        np.testing.assert_array_equal(gaps, straight)

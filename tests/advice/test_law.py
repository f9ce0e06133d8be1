"""The law of the step time: what it was made of is found again, and nonsense is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rightbatch.advice.law import StepTime, fit_step_time
from rightbatch.errors import OptionError

SIZES = [1, 2, 3, 5, 8, 16, 30, 64, 100, 256, 512, 1024, 4096]


def times(a: float, b: float, p: float, sizes: list[int] = SIZES) -> list[float]:
    """The law itself, in whole seconds a batch, as it is written in books."""
    return [(a**p + (b * size) ** p) ** (1 / p) for size in sizes]


@given(
    a=st.floats(1e-7, 10.0),
    half=st.floats(3.0, 1000.0),
    p=st.one_of(st.just(1.0), st.floats(1.0, 20.0)),
)
def test_parameters_are_found_again(a: float, half: float, p: float) -> None:
    law = fit_step_time(SIZES, times(a, a / half, p))
    assert law.latency_seconds == pytest.approx(a, rel=1e-4)
    assert law.seconds_per_sample == pytest.approx(a / half, rel=1e-4)
    assert law.half_batch_size == pytest.approx(half, rel=1e-4)
    assert law.p == pytest.approx(p, rel=1e-3)
    assert law.residual < 1e-6


@given(a=st.floats(1e-7, 10.0), half=st.floats(1e-4, 1e7), p=st.floats(1.0, 20.0))
def test_times_are_found_again_wherever_the_corner_lies(a: float, half: float, p: float) -> None:
    expected = times(a, a / half, p)
    law = fit_step_time(SIZES, expected)
    assert [law.seconds(size) for size in SIZES] == pytest.approx(expected, rel=1e-4)


@settings(max_examples=25)
@given(
    st.lists(st.floats(1e-7, 10.0), min_size=2, max_size=8),
    st.permutations(SIZES),
)
def test_any_times_give_a_law_of_the_right_form(readings: list[float], sizes: list[int]) -> None:
    law = fit_step_time(sizes[: len(readings)], readings)
    assert law.latency_seconds >= 0
    assert law.seconds_per_sample >= 0
    assert 1 <= law.p <= 40
    assert math.isfinite(law.residual)


@settings(max_examples=10)
@given(
    st.lists(st.floats(1e-6, 1e-3), min_size=5, max_size=8, unique=True),
    st.floats(1e-3, 1e3),
)
def test_no_nearby_law_is_nearer(readings: list[float], scale: float) -> None:
    sizes = np.array(SIZES[: len(readings)])

    def error(law: StepTime) -> float:
        fitted = np.log([law.seconds(size) for size in sizes])
        return float(np.square(fitted - np.log(readings)).sum())

    law = fit_step_time(sizes, readings)
    for factor in (0.99, 1.01):
        moved = StepTime(
            latency_seconds=law.latency_seconds * factor,
            seconds_per_sample=law.seconds_per_sample,
            p=law.p,
            residual=0,
        )
        assert error(law) <= error(moved) + 1e-9
        moved = StepTime(
            latency_seconds=law.latency_seconds,
            seconds_per_sample=law.seconds_per_sample * factor,
            p=law.p,
            residual=0,
        )
        assert error(law) <= error(moved) + 1e-9
    # The unit of time is nobody's business.
    scaled = fit_step_time(sizes, np.array(readings) * scale)
    assert scaled.residual == pytest.approx(law.residual, rel=1e-3, abs=1e-9)


def test_a_hard_floor_is_the_largest_p() -> None:
    law = fit_step_time(SIZES, [max(1e-4, 1e-6 * size) for size in SIZES])
    assert law.p == pytest.approx(40, rel=1e-3)
    assert law.half_batch_size == pytest.approx(100, rel=1e-3)


def test_times_that_do_not_grow_have_no_half() -> None:
    law = fit_step_time(SIZES, [1e-3] * len(SIZES))
    assert law.seconds_per_sample == 0
    assert law.latency_seconds == pytest.approx(1e-3)
    assert law.half_batch_size == math.inf
    assert law.seconds(10**6) == pytest.approx(1e-3)


def test_times_in_proportion_have_no_latency() -> None:
    law = fit_step_time(SIZES, [1e-6 * size for size in SIZES])
    assert law.latency_seconds == 0
    assert law.half_batch_size == 0
    assert law.seconds_per_sample == pytest.approx(1e-6)


def test_two_sizes_give_a_straight_line() -> None:
    law = fit_step_time([30, 1], [50e-6, 21e-6])
    assert law.p == 1
    assert law.latency_seconds == pytest.approx(20e-6)
    assert law.seconds_per_sample == pytest.approx(1e-6)


def test_repeated_sizes_and_any_order_are_fine() -> None:
    once = fit_step_time([1, 10, 100], [2e-5, 3e-5, 1.2e-4])
    often = fit_step_time([100, 1, 10, 10, 1, 100], [1.2e-4, 2e-5, 3e-5, 3e-5, 2e-5, 1.2e-4])
    assert often.half_batch_size == pytest.approx(once.half_batch_size, rel=1e-3)


def test_the_residual_is_the_relative_error() -> None:
    law = fit_step_time([1, 1, 100, 100], [0.9e-5, 1.1e-5, 0.9e-3, 1.1e-3])
    assert law.residual == pytest.approx(0.1, abs=0.002)


def test_noise_moves_the_answer_no_more_than_it_should() -> None:
    generator = np.random.default_rng(0)
    noisy = np.array(times(2e-5, 1e-6, 1.5)) * generator.normal(1, 0.02, len(SIZES))
    law = fit_step_time(SIZES, noisy)
    assert law.half_batch_size == pytest.approx(20, rel=0.1)
    assert 0.005 < law.residual < 0.04


def test_json_there_and_back() -> None:
    law = fit_step_time(SIZES, times(2e-5, 1e-6, 1.5))
    stored = json.loads(json.dumps(law.to_json()))
    assert set(stored) == {
        "latency_seconds",
        "seconds_per_sample",
        "p",
        "half_batch_size",
        "residual",
    }
    assert StepTime.from_json(stored) == law


@pytest.mark.parametrize(
    ("sizes", "seconds", "message"),
    [
        ([], [], "there are no batch sizes"),
        ([8, 8, 8], [1e-3, 1e-3, 1e-3], "there is one batch size"),
        ([1, 2], [1e-3], "2 entries and seconds 1"),
        ([0, 2], [1e-3, 1e-3], r"batch_sizes\[0\] is 0"),
        ([1, 2], [1e-3, -1.0], r"seconds\[1\] is -1"),
        ([1, 2], [1e-3, math.nan], r"seconds\[1\] is nan"),
        ([1, 2], [math.inf, 1e-3], r"seconds\[0\] is inf"),
        ([1, "full"], [1e-3, 1e-3], "no number"),
        ([[1, 2]], [[1e-3, 1e-3]], r"shape \(1, 2\)"),
    ],
)
def test_what_can_not_be_fitted_is_refused(sizes: list, seconds: list, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fit_step_time(sizes, seconds)

"""Step times from readings that stray: drawn to one another by chance alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rightbatch.advice.law import StepTime, fit_step_time
from rightbatch.advice.step_times import steady_step_seconds
from rightbatch.advice.timing import Speed, SpeedPoint
from rightbatch.training.provenance import Provenance

SIZES = [2**power for power in range(13)]
TIME = StepTime(latency_seconds=2e-4, seconds_per_sample=5e-7, p=1.0, residual=0.0)


def speed_of(seconds: list[float], interval: float) -> Speed:
    points = [
        SpeedPoint(
            batch_size=size,
            seconds_per_batch=each,
            seconds_per_sample=each / size,
            low=each / size * math.exp(-interval / 2),
            high=each / size * math.exp(interval / 2),
        )
        for size, each in zip(SIZES, seconds, strict=True)
    ]
    return Speed(
        model="mlp:8",
        mode="loop",
        threads=1,
        device="cpu",
        points=points,
        fit=fit_step_time(SIZES, seconds),
        loading_seconds_per_sample=None,
        rounds=3,
        notes=[],
        settings={},
        provenance=Provenance(data="digits", fingerprint="", sizes={}),
    )


@pytest.mark.parametrize("arch", [0.0, 0.1])
def test_neighbours_tell_of_a_reading_that_strays(arch: float) -> None:
    generator = np.random.default_rng(4)
    # A law that the fit does not know: a tenth above it in the middle, below it at the ends.
    shape = arch * np.cos(np.linspace(-math.pi, math.pi, len(SIZES)))
    truth = np.log([TIME.seconds(size) for size in SIZES]) + shape
    raw, steady = [], []
    for _ in range(15):
        read = np.exp(truth + 0.1 * generator.standard_normal(len(SIZES)))
        found = steady_step_seconds(speed_of(list(read), interval=0.3))
        # What a choice needs is how much longer one size takes than another.
        for place in range(4, 12):
            apart = truth[place + 1] - truth[place]
            raw.append(math.log(read[place + 1] / read[place]) - apart)
            steady.append(math.log(found[SIZES[place + 1]] / found[SIZES[place]]) - apart)
    assert np.std(raw) > 0.12
    assert np.sqrt(np.mean(np.square(steady))) < 0.4 * np.std(raw)


def test_quiet_readings_stay_as_they_are_steps_and_all() -> None:
    seconds = [TIME.seconds(size) for size in SIZES]
    # A size that suits the machine badly.
    seconds[7] *= 1.4
    found = steady_step_seconds(speed_of(seconds, interval=0.01))
    assert list(found) == SIZES
    for size, each in zip(SIZES, seconds, strict=True):
        assert found[size] == pytest.approx(each, rel=0.02)

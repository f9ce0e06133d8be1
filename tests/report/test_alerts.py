"""Each alert comes where it should, with its numbers, and stays away where it should."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rightbatch.advice.comparison import Curve
from rightbatch.report.alerts import (
    diverging,
    find_alerts,
    leaks,
    loader_bound,
    not_converged,
    overfitting,
    slow_loading,
    uncertain_timings,
    untuned_rates,
    validation_noise,
)
from rightbatch.report.findings import Origin, Study, of_comparison
from rightbatch.training.provenance import Provenance


def curve_of(
    train: list[float],
    val: list[float] | None = None,
    *,
    size: int = 8,
    loading: float = 0.0,
    **more,
) -> Curve:
    history = [
        {
            "epoch": k + 1,
            "steps": 4 * (k + 1),
            "samples": 32 * (k + 1),
            "seconds": 0.5 * (k + 1),
            "loading_seconds": loading * 0.5 * (k + 1),
            "train_loss": loss,
            **({} if val is None else {"val_loss": val[k]}),
        }
        for k, loss in enumerate(train)
    ]
    settings = {"is_full": False, "learning_rate": 0.3, "seed": 0, "step_losses": [], **more}
    return Curve(batch_size=size, history=history, **settings)


FALLING = [1 / k for k in range(1, 21)]


def test_a_diverged_run_is_serious_and_names_a_lower_rate() -> None:
    (alert,) = diverging([curve_of([1.0], diverged="the loss of step 3 is nan")])
    assert alert.severity == "serious"
    assert "learning rate of 0.3: the loss of step 3 is nan" in alert.text
    assert "try 0.1" in alert.advice
    assert diverging([curve_of([1.0, math.nan])])
    assert "above the 1 of its first epoch" in diverging([curve_of([1.0, 2.0])])[0].text
    assert diverging([curve_of(FALLING)]) == []


def test_overfitting_is_a_validation_loss_that_rises_while_training_falls() -> None:
    rising = [0.5, 0.3] + [0.3 + 0.02 * k for k in range(18)]
    (alert,) = overfitting([curve_of(FALLING, rising)])
    assert "lowest in epoch 2 (0.3)" in alert.text
    assert overfitting([curve_of(FALLING, FALLING)]) == []
    # Both rise: that is diverging, not overfitting.
    assert overfitting([curve_of(rising, rising)]) == []
    assert overfitting([curve_of(FALLING)]) == []


def test_noise_larger_than_the_difference_decides_nothing() -> None:
    noise = 0.05 * np.array([[1, -1] * 10, [-1, 1] * 10])
    close = [
        curve_of(FALLING, (0.5 + noise[0]).tolist(), size=8),
        curve_of(FALLING, (0.51 + noise[1]).tolist(), size=64),
    ]
    (alert,) = validation_noise(close)
    assert "which of them is better is not decided" in alert.text
    apart = [close[0], curve_of(FALLING, (3 + noise[1]).tolist(), size=64)]
    assert validation_noise(apart) == []
    assert validation_noise(close[:1]) == []


def test_a_loss_that_still_falls_is_named_with_its_fall() -> None:
    (alert,) = not_converged([curve_of([2.0**-k for k in range(40)])])
    assert "batch 8 by 94%" in alert.text
    assert not_converged([curve_of([1.0] * 40)]) == []


def test_waiting_for_batches_is_loader_bound() -> None:
    (alert,) = loader_bound([curve_of(FALLING, loading=0.8)])
    assert "batch 8 80%" in alert.text
    assert loader_bound([curve_of(FALLING, loading=0.2)]) == []


def test_one_rate_for_sizes_far_apart_is_said_so() -> None:
    curves = [curve_of(FALLING, size=1), curve_of(FALLING, size=364)]
    assert "from 1 to 364" in untuned_rates(curves, "same")[0].text
    assert untuned_rates(curves, "tuned") == []
    assert untuned_rates(curves[:1], "same") == []


def test_leaks_and_equal_samples_are_counted() -> None:
    provenance = Provenance(
        data="d", fingerprint="f", sizes={"train": 80, "val": 10, "test": 10}, duplicate_samples=3
    )
    leak, equal = leaks(Origin(name="a", provenance=provenance, result={"leaked_samples": 7}))
    assert (leak.severity, equal.severity) == ("serious", "warning")
    assert "3 held-out samples (15.0% of them)" in equal.text
    clean = replace(provenance, duplicate_samples=0)
    assert leaks(Origin(name="a", provenance=clean, result={"leaked_samples": 0})) == []


def test_a_loader_slower_than_the_model_is_the_limit(speed) -> None:
    (alert,) = slow_loading(replace(speed, loading_seconds_per_sample=1e-3))
    assert "1e+03 µs" in alert.text or "1000" in alert.text
    assert slow_loading(replace(speed, loading_seconds_per_sample=1e-9)) == []
    assert slow_loading(speed) == []


def test_wide_intervals_are_uncertain(speed) -> None:
    wide = [replace(point, high=2 * point.seconds_per_sample) for point in speed.points]
    assert "9 of 9 batch sizes" in uncertain_timings(replace(speed, points=wide))[0].text
    assert uncertain_timings(speed) == []


def test_the_serious_come_first_and_nothing_twice(comparison) -> None:
    study = of_comparison(comparison)
    broken = replace(study, curves=[*study.curves, curve_of([1.0], diverged="nan")])
    alerts = find_alerts([broken, broken], [])
    assert alerts[0].kind == "diverging"
    assert len({alert.text for alert in alerts}) == len(alerts)


@pytest.mark.parametrize("comparable", [True, False])
def test_timings_that_do_not_compare_are_said_so(comparison, comparable) -> None:
    study: Study = of_comparison(replace(comparison, timings_comparable=comparable))
    kinds = {alert.kind for alert in find_alerts([study], [])}
    assert ("timings" in kinds) is not comparable

"""Each alert comes where it should, with its numbers, and stays away where it should."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from rightbatch.advice.comparison import Curve
from rightbatch.report.alert import grouped
from rightbatch.report.alerts import (
    checks_without_finding,
    find_alerts,
    leaks,
    slow_loading,
    uncertain_timings,
)
from rightbatch.report.findings import Origin, Study, of_comparison
from rightbatch.report.reading import read_results
from rightbatch.report.run_alerts import (
    diverging,
    loader_bound,
    not_converged,
    overfitting,
    short_of_memory,
    untuned_rates,
    validation_noise,
)
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
    assert "above the 1 of the first epoch" in diverging([curve_of([1.0, 2.0])])[0].text
    assert diverging([curve_of(FALLING)]) == []


RISING = [0.5, 0.3] + [0.3 + 0.02 * k for k in range(18)]


def test_the_advice_of_a_diverged_run_is_given_once() -> None:
    why = "the loss of step 3 is nan. Lower the learning rate (now 0.3), scale the inputs"
    alerts = diverging([curve_of([1.0], diverged=why, seed=seed) for seed in (0, 1)])
    (alert,) = alerts
    assert alert.text == (
        "batch 8 (seeds 0 and 1) diverged at a learning rate of 0.3: the loss of step 3 is nan."
    )
    other = diverging([curve_of([1.0], diverged=why, size=64)])
    (group,) = grouped(alerts + other)
    assert (len(group.texts), len(group.advice)) == (2, 1)


def test_overfitting_is_a_validation_loss_that_rises_while_training_falls() -> None:
    (alert,) = overfitting([curve_of(FALLING, RISING)])
    assert "lowest around epoch" in alert.text
    assert overfitting([curve_of(FALLING, FALLING)]) == []
    # Both rise: that is diverging, not overfitting.
    assert overfitting([curve_of(RISING, RISING)]) == []
    assert overfitting([curve_of(FALLING)]) == []


def test_overfitting_takes_a_fall_of_the_training_loss_that_is_worth_a_word() -> None:
    flat = [1 - 0.001 * k for k in range(20)]
    assert overfitting([curve_of(flat, RISING)]) == []
    # The losses at the weights at the end of each epoch, where they are known, decide.
    checked = [(4 * k, 1.0) for k in range(21)]
    assert overfitting([curve_of(FALLING, RISING, checked_losses=checked)]) == []


def test_a_validation_loss_that_oscillates_does_not_overfit() -> None:
    waves = [1 + 0.3 * math.sin(2.4 * k) for k in range(20)]
    assert overfitting([curve_of(FALLING, waves)]) == []


def test_the_seeds_of_a_label_are_one_alert() -> None:
    curves = [curve_of(FALLING, RISING, seed=seed) for seed in (0, 1, 2)]
    curves.append(curve_of(FALLING, FALLING, seed=3))
    (alert,) = overfitting(curves)
    assert alert.text.startswith("batch 8 (seeds 0, 1 and 2): ")


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


def test_the_swing_of_other_runs_leaves_the_ranking_alone() -> None:
    wild = np.exp(np.arange(20) + 3 * (np.arange(20) % 2)).tolist()
    calm = [curve_of(FALLING, [1 / k for k in range(1, 21)], size=8)]
    calm.append(curve_of(FALLING, [2 / k for k in range(1, 21)], size=64))
    assert validation_noise(calm) == []
    assert validation_noise([*calm, curve_of(wild, wild, size=1)]) == []
    swinging = (5 + np.array([1, -1] * 10)).tolist()
    assert validation_noise([*calm, curve_of(FALLING, swinging, size=2)]) == []


def test_runs_on_other_data_are_not_ranked_against_each_other(run, tmp_path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (study,), *_ = read_results([run, other])
    assert len(study.comparable()) == 1
    assert "validation-noise" in {alert.kind for alert in find_alerts([study], [])}
    config = json.loads((other / "config.json").read_text())
    config["data"] = {"name": "elsewhere", "fingerprint": "f"}
    (other / "config.json").write_text(json.dumps(config))
    (study,), *_ = read_results([run, other])
    assert [len(curves) for curves, _ in study.comparable()] == [1, 1]
    assert "validation-noise" not in {alert.kind for alert in find_alerts([study], [])}


def test_only_what_was_looked_at_is_said_to_be_in_order(comparison, speed) -> None:
    assert checks_without_finding([], [speed], []) == [
        "Looked at, and in order: the intervals of the timings are narrow.",
        "Not looked at: the time of loading beside the timings.",
    ]
    study = of_comparison(comparison)
    fine, unseen = checks_without_finding([study], [], [])
    assert "no run diverged" in fine
    assert "leaks" in unseen
    blind = [
        replace(
            curve,
            history=[
                {name: value for name, value in row.items() if not name.startswith("val")}
                for row in curve.history
            ],
        )
        for curve in study.curves
    ]
    unseen = checks_without_finding([replace(study, curves=blind)], [], [])[1]
    assert "overfitting, which takes a validation part" in unseen
    alerts = diverging([curve_of([1.0, 2.0])])
    assert "diverged" not in checks_without_finding([study], [], alerts)[0]


def test_a_loss_that_still_falls_is_named_with_its_fall() -> None:
    (alert,) = not_converged([curve_of([2.0**-k for k in range(40)])])
    assert "batch 8 by 94%" in alert.text
    assert not_converged([curve_of([1.0] * 40)]) == []


def test_memory_that_ran_out_is_told_with_size_and_epoch(comparison) -> None:
    curve = curve_of(FALLING, size=64)
    for row in curve.history[4:]:
        row["micro_batch_size"] = 16
    (alert,) = short_of_memory([curve, curve_of(FALLING, size=128)])
    assert "so many samples: batch 64 in 16 from epoch 5." in alert.text
    assert alert.severity == "note"
    assert short_of_memory([curve_of(FALLING)]) == []
    study = replace(of_comparison(comparison), curves=[curve])
    assert "memory" in {alert.kind for alert in find_alerts([study], [])}


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
    tiny = replace(speed.provenance, sizes={"train": 0})
    repeated = replace(speed, loading_seconds_per_sample=1e-3, provenance=tiny)
    assert slow_loading(repeated) == [], "batches of repeated samples are nobody's limit"


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

"""Captions and facts say what the numbers show, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rightbatch.advice.comparison import Curve
from rightbatch.advice.target import TargetPoint, ToTarget
from rightbatch.report.captions import (
    landscape_caption,
    loss_caption,
    step_caption,
    target_caption,
    throughput_caption,
    time_caption,
)
from rightbatch.report.facts import lead, speed_facts, study_facts
from rightbatch.report.findings import of_comparison
from rightbatch.report.standing import standing


def curve_of(losses: list[float], *, size: int = 8, val: list[float] | None = None, **more):
    history = [
        {
            "epoch": k,
            "steps": 4 * k,
            "samples": 32 * k,
            "seconds": 0.5 * k,
            "train_loss": loss,
            **({} if val is None else {"val_loss": loss, "val_accuracy": val[k - 1]}),
        }
        for k, loss in enumerate(losses, start=1)
    ]
    settings = {"is_full": False, "learning_rate": 0.1, "seed": 0, "step_losses": [], **more}
    return Curve(batch_size=size, history=history, **settings)


def reached(steps: dict[int, float]) -> ToTarget:
    points = [
        TargetPoint(
            batch_size=size,
            label=f"batch {size}",
            seed=0,
            steps=count,
            samples=count * size,
            seconds=1.0,
        )
        for size, count in steps.items()
    ]
    return ToTarget(target=0.1, measure="train_loss", points=points)


def test_small_batches_fall_fastest_only_where_they_do() -> None:
    small, large = curve_of([1.0, 0.1], size=1), curve_of([1.0, 0.5], size=64)
    words = loss_caption([small, large], timings_comparable=True)
    assert "the smaller the batch, the lower" in words
    assert "0.1 with batch 1 and 0.5 with batch 64" in words
    other = loss_caption(
        [curve_of([1.0, 0.6], size=1), curve_of([1.0, 0.5], size=64)], timings_comparable=False
    )
    assert "the lower" not in other
    assert "seconds" not in other


def test_losses_that_leave_the_chart_are_named() -> None:
    wild = curve_of([10.0, 1e6, 1e9], size=1)
    words = loss_caption([wild, curve_of([2.0, 1.0, 0.5], size=64)], timings_comparable=True)
    assert "Losses above 20 are cut off: batch 1 leaves the chart." in words


def test_noise_is_said_of_steps_that_are_noisier() -> None:
    smooth = [(k, 1.0 - 0.01 * k) for k in range(1, 40)]
    rough = [(k, loss + 0.2 * (k % 2)) for k, loss in smooth]
    curves = [
        curve_of([1.0, 0.9], size=1, step_losses=rough),
        curve_of([1.0, 0.9], size=64, step_losses=smooth),
    ]
    assert "the smaller the batch, the noisier" in step_caption(curves)
    turned = [replace(curves[0], step_losses=smooth), replace(curves[1], step_losses=rough)]
    assert "noisier" not in step_caption(turned)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({1: 100, 8: 101, 64: 99}, "every batch size takes about as many steps"),
        ({1: 640, 8: 80, 64: 10}, "a doubled batch takes about half the steps"),
        ({1: 64, 4: 32, 16: 16}, "0.71 times the steps on average, and so 1.41 times the samples"),
        ({1: 10, 8: 80}, "a larger batch takes more steps"),
    ],
)
def test_the_slope_of_the_steps_is_computed(steps, words) -> None:
    assert words in target_caption(reached(steps), [curve_of([1.0])])


def test_paths_are_compared_by_their_lengths(bowl) -> None:
    bent = replace(bowl.paths[0], x=[0.0, 3.0, 3.0], y=[0.0, 0.0, 4.0])
    words = landscape_caption(replace(bowl, paths=[bent, bowl.paths[1]]))
    assert "the way of batch 16 is 1.40 times as long" in words
    wild = [replace(bowl.paths[0], losses=[3.35, 900.0, 1e9]), bowl.paths[1]]
    words = landscape_caption(replace(bowl, paths=wild))
    assert "batch 16 went up" in words
    assert "times as long" not in words


def test_n_half_beyond_what_was_measured_has_no_number(speed) -> None:
    few = replace(speed, points=speed.points[:4])
    told = [*speed_facts(few), time_caption(few, "predicting")]
    assert all("33.3" not in sentence for sentence in told)
    assert sum("beyond 8, the largest measured" in sentence for sentence in told) == 2
    assert "still rises at 8" in throughput_caption(few)
    assert "n½ = 33.3" in time_caption(speed, "predicting")
    assert speed_facts(speed)[1].startswith(
        "A step costs about 100 µs whatever its size, and about"
    )


def test_a_difference_of_one_sample_decides_nothing(comparison) -> None:
    base = of_comparison(comparison)
    one = curve_of([1.0] * 20, size=1, val=[0.90] * 20)
    two = curve_of([1.0] * 20, size=64, val=[0.911] * 20)
    assert not standing([one, two], 91).is_decided
    told = study_facts(replace(base, curves=[one, two]))[0]
    assert told.startswith("Which validates best is not decided: batch 1 and batch 64")
    far = curve_of([1.0] * 20, size=64, val=[0.99] * 20)
    assert standing([one, far], 91).is_decided
    told = study_facts(replace(base, curves=[one, far]))[0]
    assert "Best on the validation samples: batch 64, with an accuracy of 0.99" in told


def test_a_run_that_explodes_has_no_place(comparison) -> None:
    wild = curve_of([1.0, 50.0], size=1, val=[0.99, 0.99])
    calm = curve_of([1.0, 0.5], size=64, val=[0.5, 0.6])
    found = standing([wild, calm], 91)
    assert [place.label for place in found.places] == ["batch 64"]
    assert found.left_out == ["batch 1"]
    told = study_facts(replace(of_comparison(comparison), curves=[wild, calm]))[0]
    assert "accuracy of batch 64 is 0.6" in told
    assert "Without a place: batch 1" in told


def test_costs_within_three_percent_are_equal(comparison) -> None:
    def run(size: int, steps: int) -> Curve:
        return curve_of([1.0, 0.5], size=size, checked_losses=[(0, 1.0), (steps, 0.0)])

    base = of_comparison(comparison)
    (told,) = study_facts(replace(base, curves=[run(1, 100), run(64, 101)]))
    assert "all took about as many steps" in told
    (told,) = study_facts(replace(base, curves=[run(1, 4), run(64, 8)]))
    assert "batch 1 took the fewest steps" in told


def test_the_lead_counts_what_is_there(comparison, speed) -> None:
    study = of_comparison(comparison)
    provenance = replace(study.origins[0].provenance, sizes={"train": 50, "val": 5})
    other = replace(study, origins=[replace(study.origins[0], provenance=provenance)])
    told = lead([study, other], [speed], [])
    assert told == "12 runs on 50 and 364 training samples and timings at 9 batch sizes."
    assert lead([], [speed, speed], []) == "2 measurements of speed."


def test_a_gain_of_thousands_is_written_out(speed) -> None:
    first, *rest = speed.points
    slow = replace(first, seconds_per_sample=1552.4 * speed.fastest.seconds_per_sample)
    (fact, *_) = speed_facts(replace(speed, points=[slow, *rest]))
    assert ": 1,552 times less" in fact

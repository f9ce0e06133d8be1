"""What the charts of an advice draw, read from their specifications."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rightbatch.report.advice_axis import AdviceAxis
from rightbatch.report.advice_captions import (
    branches_caption,
    memory_caption,
    noise_caption,
    samples_caption,
    time_to_goal_caption,
)
from rightbatch.report.advice_memory_chart import memory_chart
from rightbatch.report.advice_samples_chart import samples_chart
from rightbatch.report.advice_speed_chart import advice_speed_chart
from rightbatch.report.advice_time_chart import costs_of, goal_time_chart
from rightbatch.report.axes import readable_ticks
from rightbatch.report.branches_chart import branch_curves
from rightbatch.report.noise_chart import noise_trajectory

STACK = (memory_chart, advice_speed_chart, samples_chart, goal_time_chart)


def rows_of(chart) -> list[dict]:
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows]


def texts(chart) -> list[str]:
    layers = chart.to_dict()["layer"]
    return [
        layer["mark"]["text"]
        for layer in layers
        if layer["mark"]["type"] == "text" and layer["mark"].get("style") != "text-halo"
    ]


@pytest.mark.parametrize("chart", STACK)
def test_all_stand_on_one_axis_with_the_interval_and_the_advised_size(advice, chart) -> None:
    spec = chart(advice).to_dict()
    channels = [layer["encoding"]["x"] for layer in spec["layer"] if "x" in layer["encoding"]]
    assert {tuple(channel["scale"]["domain"]) for channel in channels} == {(1 / 1.25, 1024 * 1.25)}
    assert {channel["scale"]["type"] for channel in channels} == {"log"}
    assert {tuple(channel["axis"]["values"]) for channel in channels} == {
        tuple(2.0**power for power in range(11))
    }
    shade = spec["layer"][0]
    assert shade["mark"] == {"type": "rect", "style": "within"}
    low, high = advice.interval
    assert {"batch_size": low, "end": high} in rows_of(chart(advice))
    assert f"advised: {advice.batch_size}" in texts(chart(advice))
    values = [layer["encoding"].get("y", {}) for layer in spec["layer"]]
    extents = [value["axis"] for value in values if "axis" in value]
    assert extents
    assert {axis["minExtent"] for axis in extents} == {axis["maxExtent"] for axis in extents}


def test_the_axis_holds_everything_that_was_measured(advice) -> None:
    axis = AdviceAxis(replace(advice, tested=[64], interval=(64, 64)))
    assert (axis.low, axis.high) == (1, 1024)
    assert axis.grid()[0] == pytest.approx(1)
    assert axis.grid()[-1] == pytest.approx(1024)


def test_a_single_size_is_an_axis_too(advice) -> None:
    point = advice.speed.points[6]
    one = replace(
        advice,
        interval=(64, 64),
        tested=[64],
        costs=[cost for cost in advice.costs if cost.batch_size == 64],
        memory=None,
        pilot=None,
        speed=replace(advice.speed, points=[point], fit=None),
    )
    assert advice_speed_chart(one).to_dict()["height"] == 190
    assert goal_time_chart(one).to_dict()["height"] == 190
    assert samples_chart(one).to_dict()["height"] == 190


def test_memory_has_the_law_its_bound_the_peaks_and_the_limit(advice) -> None:
    chart = memory_chart(advice)
    assert "left by the limit: 390 MB" in texts(chart)
    rows = rows_of(chart)
    measured = [row for row in rows if row.get("work") == "training"]
    assert [row["memory"] for row in measured] == ["20.4 MB", "23.9 MB", "35.0 MB", "82.1 MB"]
    law = [row for row in rows if "high" in row]
    assert all(row["high"] > row["value"] for row in law)
    caption = memory_caption(advice.memory)
    assert "The limit of 700 MB (given) leaves 390 MB" in caption
    assert "1,024 in training and 1,024 in evaluation" in caption


def test_a_limit_far_away_is_told_and_not_drawn(advice) -> None:
    far = replace(advice.memory, limit_bytes=500_000_000_000)
    assert not [text for text in texts(memory_chart(replace(advice, memory=far))) if "left" in text]
    assert "The limit of 500 GB" in memory_caption(far)
    without = replace(advice.memory, limit_bytes=None)
    assert "There is no limit." in memory_caption(without)


def test_no_bytes_above_the_loaded_process_have_a_place(advice) -> None:
    points = [replace(point, bytes=0) for point in advice.memory.measured]
    none = replace(advice.memory, measured=points, fit=None, predicted=[])
    rows = rows_of(memory_chart(replace(advice, memory=none)))
    assert {row["value"] for row in rows if row.get("work") == "training"} == {4096}


def test_memory_predicted_without_a_law_is_drawn_from_the_predictions(advice) -> None:
    memory = replace(advice.memory, fit=None)
    rows = [row for row in rows_of(memory_chart(replace(advice, memory=memory))) if "high" in row]
    assert [row["batch_size"] for row in rows] == [point.batch_size for point in memory.predicted]


def test_speed_has_its_law_and_n_half(advice) -> None:
    chart = advice_speed_chart(advice)
    assert "n½ = 50" in texts(chart)
    small = replace(advice, speed=replace(advice.speed, points=advice.speed.points[:4]))
    assert "n½ = 50" not in texts(advice_speed_chart(small))


def test_the_pilot_shows_sizes_runs_and_b_crit(advice) -> None:
    chart = samples_chart(advice)
    assert [text for text in texts(chart) if text.startswith("B_crit = ")]
    rows = rows_of(chart)
    assert len([row for row in rows if "from" in row]) == len(advice.pilot.sizes)
    reached = [run for run in advice.pilot.runs if run.samples is not None]
    assert len([row for row in rows if "seed" in row]) == len(reached)
    assert "until the validation loss was 0.2" in samples_caption(advice)


def test_a_pilot_that_ended_above_the_target_says_so(advice) -> None:
    short = replace(advice, pilot=replace(advice.pilot, loss=0.4))
    assert "ended at a validation loss of 0.4, above the target of 0.2" in samples_caption(short)


def test_the_quick_grade_shows_the_noise_scale_and_the_band_of_b_crit(quick_advice) -> None:
    chart = samples_chart(quick_advice)
    assert "noise scale = 210" in texts(chart)
    band = [row for row in rows_of(chart) if "high" in row]
    assert all(row["low"] <= row["value"] <= row["high"] for row in band)
    assert {"batch_size": 150, "end": 330} in rows_of(chart)
    caption = samples_caption(quick_advice)
    assert "about 210 samples (150 to 330)" in caption
    assert "biased predictor" in caption
    bare = replace(quick_advice, noise=replace(quick_advice.noise, scale=None, low=None, high=None))
    assert "The noise scale is not known." in samples_caption(bare)
    assert "noise scale = 210" not in texts(samples_chart(bare))
    assert samples_chart(replace(bare, law=None)) is None


def test_the_time_has_a_band_and_ten_percent(advice, quick_advice, epochs_advice) -> None:
    chart = goal_time_chart(advice)
    assert "10 % above the best" in texts(chart)
    best = min(cost.seconds for cost in advice.costs)
    assert [row for row in rows_of(chart) if row.get("value") == pytest.approx(1.1 * best, 1e-3)]
    assert all("high" in row for row in rows_of(chart) if "time" in row)
    assert min(cost.seconds for cost in costs_of(quick_advice)) == 1
    # With epochs to go, the fastest size of all may end with a higher loss.
    assert "10 % above the advised" in texts(goal_time_chart(epochs_advice))
    assert not [row for row in rows_of(goal_time_chart(epochs_advice)) if "high" in row]
    assert "the least" in time_to_goal_caption(advice)


def test_sizes_that_did_not_run_are_hollow(advice) -> None:
    costs = [replace(cost, has_run=cost.batch_size > 8) for cost in advice.costs]
    layers = goal_time_chart(replace(advice, costs=costs)).to_dict()["layer"]
    filled = [layer["mark"]["filled"] for layer in layers if layer["mark"]["type"] == "point"]
    assert filled == [False, True]


def test_the_noise_trajectory_keeps_looks_that_are_open_above(advice) -> None:
    chart = noise_trajectory(advice.noise)
    shapes = [
        layer["mark"].get("shape")
        for layer in chart.to_dict()["layer"]
        if layer["mark"]["type"] == "point"
    ]
    assert shapes == ["circle", "triangle"]
    rows = rows_of(chart)
    assert {row["scale"] for row in rows if "scale" in row} >= {"not resolved", "31"}
    assert "1 look did not tell the mean gradient from zero" in noise_caption(advice.noise)
    assert noise_trajectory(replace(advice.noise, trajectory=[])) is None


def test_branches_are_coloured_by_size_and_end_in_a_mark(advice) -> None:
    spec = branch_curves(advice.pilot).to_dict()
    lines = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    domain = lines[0]["encoding"]["color"]["scale"]["domain"]
    assert domain == ["batch 16", "batch 32", "batch 64", "batch 128", "batch 256", "batch 512"]
    assert [
        layer["mark"]["text"] for layer in spec["layer"] if layer["mark"]["type"] == "text"
    ] == [
        "target: 0.2",
        "✕",
    ]
    low, high = lines[0]["encoding"]["y"]["scale"]["domain"]
    # The run that diverged leaves the room to the others.
    assert low < 0.2 < 2.35 < high < 4
    assert "1 diverged (✕)" in branches_caption(advice.pilot)
    bare = replace(advice.pilot, runs=[replace(run, points=[]) for run in advice.pilot.runs])
    assert branch_curves(bare) is None


def test_a_single_look_at_the_start_has_no_other_tick(advice) -> None:
    chart = noise_trajectory(replace(advice.noise, trajectory=advice.noise.trajectory[:1]))
    axes = [
        layer["encoding"]["x"]["axis"]
        for layer in chart.to_dict()["layer"]
        if "x" in layer["encoding"]
    ]
    assert all(len(axis["values"]) == 1 for axis in axes)


def test_a_run_may_start_from_a_loss_of_nothing(advice) -> None:
    run = advice.pilot.runs[0]
    points = [replace(point, loss=0.0) for point in run.points]
    pilot = replace(advice.pilot, runs=[replace(run, points=points)], loss=0.0)
    assert branch_curves(pilot).to_dict()["height"] == 300


@pytest.mark.parametrize("ends", [(1, 1000), (190, 41e3), (53e3, 60e3), (0.99, 1.4), (2e-5, 3e-3)])
def test_an_axis_of_any_length_has_ticks(ends) -> None:
    ticks = readable_ticks(*ends)
    assert 2 < len(ticks) < 11
    assert all(ends[0] * 0.98 <= tick <= ends[1] * 1.02 for tick in ticks)
    assert not any(math.isnan(tick) for tick in ticks)

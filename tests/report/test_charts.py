"""What the charts draw, read from their specifications."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rightbatch.advice.comparison import Curve
from rightbatch.advice.target import TargetPoint, ToTarget
from rightbatch.advice.timing import Speed
from rightbatch.report.axes import SwitchedAxis, log_ticks
from rightbatch.report.curve_rows import epoch_rows, kept, labels_of, step_rows
from rightbatch.report.landscape_chart import landscape, shown_extent
from rightbatch.report.learning_chart import learning_curves
from rightbatch.report.packing import packed
from rightbatch.report.reading import read_results
from rightbatch.report.step_chart import step_losses
from rightbatch.report.target_chart import to_target
from rightbatch.report.throughput_chart import throughput
from rightbatch.report.time_chart import time_per_sample


def curve_of(losses: list[float], *, size: int = 8, seed: int = 0, **more) -> Curve:
    history = [
        {"epoch": k, "steps": 4 * k, "samples": 32 * k, "seconds": 0.5 * k, "train_loss": loss}
        for k, loss in enumerate(losses, start=1)
    ]
    settings = {"is_full": False, "learning_rate": 0.1, "step_losses": [], **more}
    return Curve(batch_size=size, seed=seed, history=history, **settings)


def rows_of(chart) -> list[dict]:
    spec = chart.to_dict()
    return [row for rows in spec["datasets"].values() for row in rows]


def test_seeds_become_their_mean_between_least_and_greatest() -> None:
    curves = [curve_of([1.0, 0.5], seed=0), curve_of([3.0, 0.7], seed=1)]
    first, last = epoch_rows(curves, {"training loss": "train_loss"})
    assert (first["training loss"], first["training loss_low"], first["training loss_high"]) == (
        2,
        1,
        3,
    )
    assert last["training loss"] == pytest.approx(0.6)
    assert (last["epochs"], last["steps"], last["samples"], last["seconds"]) == (2, 8, 64, 1)


def test_a_seed_that_ended_early_leaves_the_others() -> None:
    curves = [curve_of([1.0], seed=0), curve_of([3.0, 0.7], seed=1)]
    assert epoch_rows(curves, {"loss": "train_loss"})[1]["loss"] == 0.7


def test_losses_that_are_not_finite_are_left_out() -> None:
    rows = epoch_rows([curve_of([1.0, math.nan, math.inf])], {"loss": "train_loss"})
    assert ["loss" in row for row in rows] == [True, False, False]


@pytest.mark.parametrize(("count", "most"), [(5, 10), (401, 400), (10_000, 400)])
def test_thinning_keeps_both_ends_and_the_order(count, most) -> None:
    places = kept(count, most)
    assert len(places) <= most
    assert (places[0], places[-1]) == (0, count - 1)
    assert places == sorted(set(places))


def test_steps_are_thinned_to_an_envelope_with_every_peak() -> None:
    losses = np.random.default_rng(0).random(10_000) + 1
    losses[[777, 5000, 9876]] = 50.0, 0.01, 60.0
    curve = replace(
        curve_of([1.0] * 2500), step_losses=[(k + 1, float(loss)) for k, loss in enumerate(losses)]
    )
    rows = step_rows(curve)
    assert len(rows) <= 1500
    assert {50.0, 0.01, 60.0} <= {row["loss"] for row in rows}
    assert rows[-1]["steps"] == 10_000
    assert rows[-1]["epochs"] == pytest.approx(2500)
    assert [row["steps"] for row in rows] == sorted(row["steps"] for row in rows)


def test_runs_that_end_far_apart_get_an_axis_of_decades() -> None:
    rows = [
        {"label": label, "epochs": 10, "steps": steps, "samples": 80, "seconds": 1.0}
        for label, steps in (("batch 1", 4000), ("full", 10))
    ]
    axis = SwitchedAxis(rows)
    assert axis.in_decades == ["steps"]
    assert axis.positions == ["epochs", "steps", "samples", "seconds"]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.9, 11], [1, 2, 5, 10]),
        ([1e-3, 1e3], [1e-3, 1e-2, 0.1, 1, 10, 100, 1000]),
        ([1e-9, 1e9], [1e-9, 1e-6, 1e-3, 1, 1e3, 1e6, 1e9]),
    ],
)
def test_ticks_of_decades_are_round_and_few(values, ticks) -> None:
    assert log_ticks(values) == ticks


def test_labels_follow_the_batch_size() -> None:
    assert labels_of([curve_of([1], size=64), curve_of([1], size=8)]) == ["batch 8", "batch 64"]


def test_learning_curves_switch_isolate_and_band(curves) -> None:
    spec = learning_curves(curves).to_dict()
    parameters = {parameter["name"]: parameter for parameter in spec["params"]}
    assert parameters["axis"]["bind"]["options"] == ["epochs", "steps", "samples", "seconds"]
    assert parameters["part"]["bind"]["options"] == ["training loss", "validation loss"]
    assert parameters["isolated"]["bind"] == "legend"
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["area", "line", "point"]
    domain = spec["layer"][1]["encoding"]["color"]["scale"]["domain"]
    assert domain == ["batch 16", "batch 64", "full batch (364)"]


def test_a_single_seed_has_no_band_and_a_single_part_no_switch() -> None:
    spec = learning_curves([curve_of([2.0, 1.0])]).to_dict()
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["line", "point"]
    assert "bind" not in {p["name"]: p for p in spec["params"]}["part"]


def test_a_run_alone_shows_its_other_loss_dashed(run) -> None:
    (study,), *_ = read_results([run])
    spec = learning_curves(study.curves).to_dict()
    dashed = [layer for layer in spec["layer"] if "strokeDash" in layer["mark"]]
    assert len(dashed) == 1
    assert "'validation loss' : 'training loss'" in str(dashed[0]["transform"])


def test_a_loss_that_falls_far_is_drawn_in_decades() -> None:
    def scale(losses):
        spec = learning_curves([curve_of(losses)]).to_dict()
        return spec["layer"][0]["encoding"]["y"]["scale"].get("type")

    assert scale([1.0, 0.01]) == "log"
    assert scale([1.0, 0.9]) is None
    assert scale([0.0, 0.0]) is None


def test_a_run_that_diverged_ends_in_a_cross() -> None:
    curve = curve_of([1.0, 5.0], diverged="the loss of step 9 is nan")
    rows = rows_of(learning_curves([curve]))
    assert [row["epochs"] for row in rows if row.get("why") == "the loss of step 9 is nan"] == [2]


def test_without_measurements_there_is_no_chart() -> None:
    assert learning_curves([curve_of([1.0])], measure="metric") is None
    assert learning_curves([curve_of([math.nan])]) is None
    assert step_losses([curve_of([1.0])]) is None


def test_every_size_has_its_line_of_steps(curves) -> None:
    spec = step_losses(curves).to_dict()
    widths = [layer["mark"]["strokeWidth"] for layer in spec["layer"]]
    assert len(widths) == 3
    assert widths == sorted(widths)


def test_speed_has_intervals_points_the_law_and_its_n_half(speed: Speed) -> None:
    spec = time_per_sample(speed).to_dict()
    assert [layer["mark"]["type"] for layer in spec["layer"]] == [
        "rule",
        "text",
        "line",
        "rule",
        "point",
    ]
    assert spec["layer"][1]["mark"]["text"] == "n½ = 33.3"
    fitted = [
        row for row in rows_of(time_per_sample(speed)) if "from" not in row and "value" in row
    ]
    assert fitted[0]["value"] == pytest.approx(1.03e-4, rel=1e-3)
    fast = rows_of(throughput(speed))
    assert max(row["value"] for row in fast if "value" in row) == pytest.approx(
        256 / 8.68e-4, rel=1e-3
    )


def test_n_half_outside_the_sizes_and_a_missing_fit_are_not_drawn(speed: Speed) -> None:
    few = replace(speed, points=speed.points[:3])
    assert [layer["mark"]["type"] for layer in time_per_sample(few).to_dict()["layer"]] == [
        "line",
        "rule",
        "point",
    ]
    unfitted = replace(speed, fit=None)
    assert len(throughput(unfitted).to_dict()["layer"]) == 2


def test_perfect_scaling_halves_the_steps_and_keeps_the_samples() -> None:
    points = [
        TargetPoint(
            batch_size=size,
            label=f"batch {size}",
            seed=0,
            steps=steps,
            samples=steps * size,
            seconds=1,
        )
        for size, steps in ((2, 100.0), (8, 30.0))
    ]
    rows = rows_of(to_target(ToTarget(target=0.1, measure="train_loss", points=points)))
    perfect = [row for row in rows if "seconds" not in row]
    assert [(row["steps"], row["samples"]) for row in perfect] == [(100, 200), (25, 200)]


def test_the_landscape_has_bands_lines_and_both_paths(bowl) -> None:
    spec = landscape(bowl).to_dict()
    assert "first principal component (70% of the variance)" in str(spec)
    rows = rows_of(landscape(bowl))
    assert {row["level"] for row in rows if "level" in row} == set(range(16))
    assert {row["label"] for row in rows if "label" in row} == {"batch 16", "full batch (364)"}


def test_packing_is_reversible() -> None:
    rows = [{"run": "a", "x": 1.0}, {"run": "b", "x": None}, {"run": "a"}]
    assert packed(rows) == {"run": {"words": ["a", "b"], "at": [0, 1, 0]}, "x": [1, None, None]}
    assert packed([]) == {}


def test_an_explosion_does_not_take_the_room_of_the_others() -> None:
    curves = [curve_of([1.0, 1e3, 1e9], size=1), curve_of([2.0, 1.0, 0.5], size=8)]
    scale = learning_curves(curves).to_dict()["layer"][0]["encoding"]["y"]["scale"]
    assert scale["domain"][1] <= 20
    # Both explode: ten times the lower of them is what can be read.
    alone = learning_curves(curves[:1]).to_dict()["layer"][0]["encoding"]["y"]["scale"]
    assert alone["domain"][1] <= 10


def test_an_r2_far_below_zero_is_cut_off() -> None:
    curve = curve_of([1.0, 0.5, 0.4])
    rows = [{**row, "val_r2": r2} for row, r2 in zip(curve.history, (-1e9, 0.2, 0.6), strict=True)]
    spec = learning_curves([replace(curve, history=rows)], measure="metric").to_dict()
    low, high = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert -1 <= low < 0.2 < 0.6 <= high < 1


def test_perfect_scaling_ends_near_the_data() -> None:
    points = [
        TargetPoint(
            batch_size=size, label=f"batch {size}", seed=0, steps=100.0, samples=1.0, seconds=1.0
        )
        for size in (1, 64)
    ]
    rows = rows_of(to_target(ToTarget(target=0.1, measure="train_loss", points=points)))
    perfect = [row["steps"] for row in rows if "seconds" not in row]
    assert perfect == [100, pytest.approx(100 / 3, rel=1e-3), None]


def test_a_path_that_explodes_leaves_the_map_to_the_others(bowl) -> None:
    wild = replace(bowl.paths[0], x=[-1.5, 0.0, 2.0], losses=[3.0, 1e3, None])
    (left, right), _ = shown_extent(replace(bowl, paths=[wild, bowl.paths[1]]))
    assert (left, right) == pytest.approx((-1.725, 0.225))
    assert shown_extent(bowl) == ((bowl.x[0], bowl.x[-1]), (bowl.y[0], bowl.y[-1]))
    # Where the others are a point on the map, the whole map is shown.
    dot = replace(bowl.paths[1], x=[0.0, 0.01, 0.02])
    assert shown_extent(replace(bowl, paths=[wild, dot]))[0] == (bowl.x[0], bowl.x[-1])


def test_points_of_a_path_without_a_number_are_left_out(bowl) -> None:
    path = replace(bowl.paths[0], x=[-1.5, math.inf, 0.1], losses=[3.0, 2.0, None])
    rows = rows_of(landscape(replace(bowl, paths=[path])))
    assert {row["steps"]: row["loss"] for row in rows if "steps" in row} == {0: 3.0, 2: None}

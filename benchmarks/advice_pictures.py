"""The pictures of docs/choosing-a-batch-size.md, from what the benchmarks measured.

    python benchmarks/advice_pictures.py

`sweep`, `samples` and `rates` come from benchmarks/results/ (advice_sweep.py, advice_regret.py);
`memory` and `powers` are measured by this script, in about a minute.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import altair
import numpy as np
import torch
import vl_convert

import rightbatch as rb
from advice_regret import Truth, advices, step_seconds, truth_of
from advice_sweep import CACHE, read_runs
from advice_workloads import WORKLOADS, SmallConvolutions, Workload, fashion_mnist, mnist
from rightbatch.advice.law import fit_samples_to_target
from rightbatch.advice.memory_probe import measure_memory
from rightbatch.training.options import FitOptions

IMAGES = Path(__file__).parent.parent / "docs" / "images"
_BLUE, _PINK, _GREY = "#16255f", "#cf3476", "#8a93a3"


def batch_axis(title: str = "batch size") -> altair.X:
    """A logarithmic axis of batch sizes."""
    return altair.X(
        "batch_size:Q",
        scale=altair.Scale(type="log", base=2, nice=False),
        axis=altair.Axis(title=title, tickCount=6, grid=False, format=",d"),
    )


def rows_of(values: Iterable[dict[str, Any]]) -> altair.Data:
    """Inline data."""
    return altair.Data(values=list(values))


def sweep_chart(found: list[tuple[Workload, Truth, list[Any]]]) -> altair.TopLevelMixin:
    """Time to the target against batch size, with the pilots' intervals and choices."""
    panels = []
    for workload, truth, given in found:
        pilots = [one for one in given if one.grade == "pilot"]
        rows = [
            {
                "batch_size": size,
                "time": time,
                "low": time * math.exp(-truth.errors.get(size, 0.0)),
                "high": time * math.exp(truth.errors.get(size, 0.0)),
            }
            for size, time in truth.times.items()
            if time < 5.0
        ]
        base = altair.Chart(rows_of(rows)).encode(x=batch_axis())
        scale = altair.Scale(type="log", domain=[0.9, 5.2], nice=False)
        curve = base.mark_line(color=_BLUE, point=altair.OverlayMarkDef(color=_BLUE)).encode(
            y=altair.Y(
                "time:Q",
                scale=scale,
                axis=altair.Axis(
                    title="time to target, best = 1", values=[1, 1.1, 1.5, 2, 3, 5], grid=True
                ),
            )
        )
        errors = base.mark_rule(color=_BLUE, opacity=0.5).encode(y="low:Q", y2="high:Q")
        low, high = (
            float(np.exp(np.median([math.log(getattr(one, name)) for one in pilots])))
            for name in ("low", "high")
        )
        shade = (
            altair.Chart(rows_of([{"low": low, "high": max(high, low * 1.05)}]))
            .mark_rect(color=_PINK, opacity=0.12)
            .encode(x="low:Q", x2="high:Q")
        )
        ticks = (
            altair.Chart(
                rows_of(
                    {"batch_size": one.batch_size, "time": 0.94, "seed": one.seed} for one in pilots
                )
            )
            .mark_point(color=_PINK, shape="triangle-up", filled=True, size=60, opacity=0.7)
            .encode(x="batch_size:Q", y="time:Q")
        )
        panels.append(
            altair.layer(shade, errors, curve, ticks).properties(
                width=230, height=150, title=workload.name
            )
        )
    rows_of_panels = [altair.hconcat(*panels[k : k + 3]) for k in range(0, len(panels), 3)]
    return altair.vconcat(*rows_of_panels)


def samples_chart(best: dict[str, dict[int, tuple[float, float]]]) -> altair.TopLevelMixin:
    """Samples to the target, over those that ever smaller batches need, and the law."""
    points, curves = [], []
    for name, sizes in best.items():
        law = fit_samples_to_target(list(sizes), [samples for samples, _ in sizes.values()])
        for size, (samples, _) in sizes.items():
            points.append(
                {"batch_size": size, "share": samples / law.samples_min, "workload": name}
            )
        curves += [
            {
                "batch_size": float(size),
                "share": law.samples(size) / law.samples_min,
                "workload": f"{name}: B_crit {law.critical_batch_size:,.0f}",
            }
            for size in np.geomspace(min(sizes), max(sizes), 40)
        ]
        for point in points:
            if point["workload"] == name:
                point["workload"] = f"{name}: B_crit {law.critical_batch_size:,.0f}"
    y = altair.Y(
        "share:Q",
        scale=altair.Scale(type="log"),
        axis=altair.Axis(title="samples to the target, over E_min", grid=True),
    )
    colour = altair.Color("workload:N", legend=altair.Legend(title=None, labelLimit=320))
    line = (
        altair.Chart(rows_of(curves))
        .mark_line(strokeWidth=1.5)
        .encode(x=batch_axis(), y=y, color=colour)
    )
    dots = (
        altair.Chart(rows_of(points))
        .mark_point(filled=True, size=40)
        .encode(x=batch_axis(), y=y, color=colour)
    )
    return altair.layer(line, dots).properties(width=420, height=280)


def rates_chart(best: dict[str, dict[int, tuple[float, float]]]) -> altair.TopLevelMixin:
    """The best rate at each size, over that at 32, with the linear and square-root rules."""
    rows = []
    for name, sizes in best.items():
        reference = sizes.get(32) or next(iter(sizes.values()))
        rows += [
            {"batch_size": size, "ratio": rate / reference[1], "workload": name}
            for size, (_, rate) in sizes.items()
        ]
    rules = [
        {"batch_size": float(size), "ratio": (size / 32) ** power, "rule": rule}
        for rule, power in (("linear, ∝ B", 1.0), ("square root, ∝ √B", 0.5))
        for size in np.geomspace(4, 4096, 20)
    ]
    y = altair.Y(
        "ratio:Q",
        scale=altair.Scale(type="log", domain=[0.1, 32], clamp=True),
        axis=altair.Axis(title="best learning rate, over that at 32", grid=True),
    )
    dashed = (
        altair.Chart(rows_of(rules))
        .mark_line(color=_GREY, clip=True)
        .encode(
            x=batch_axis(),
            y=y,
            strokeDash=altair.StrokeDash("rule:N", legend=altair.Legend(title=None)),
        )
    )
    lines = (
        altair.Chart(rows_of(rows))
        .mark_line(point=True, strokeWidth=1.5, clip=True)
        .encode(
            x=batch_axis(),
            y=y,
            color=altair.Color("workload:N", legend=altair.Legend(title=None, labelLimit=320)),
        )
    )
    return altair.layer(dashed, lines).properties(width=420, height=280)


def steps_chart(seconds: dict[str, dict[int, float]]) -> altair.TopLevelMixin:
    """What a step takes, and what a sample takes, against batch size."""
    rows = [
        {
            "batch_size": size,
            "step": 1e3 * value,
            "sample": 1e6 * value / size,
            "workload": name,
        }
        for name, sizes in seconds.items()
        for size, value in sizes.items()
    ]
    colour = altair.Color("workload:N", legend=altair.Legend(title=None, labelLimit=320))
    panels = [
        altair.Chart(rows_of(rows))
        .mark_line(point=True, strokeWidth=1.5)
        .encode(
            x=batch_axis(),
            y=altair.Y(f"{name}:Q", scale=altair.Scale(type="log"), axis=altair.Axis(title=title)),
            color=colour,
        )
        .properties(width=270, height=220)
        for name, title in (
            ("step", "milliseconds a step"),
            ("sample", "microseconds a sample"),
        )
    ]
    return altair.hconcat(*panels)


def memory_chart() -> altair.TopLevelMixin:
    """Measured and predicted memory of two models, training and evaluation."""
    points, lines = [], []
    sizes = [64, 128, 256, 512, 1024, 2048, 4096]
    for name, model, parts in (
        ("784-100-10 network", "mlp:100", mnist()),
        ("small CNN", SmallConvolutions(), fashion_mnist()),
    ):
        memory = measure_memory(model, parts, options=FitOptions(threads=1), batch_sizes=sizes)
        for kind, measured, predicted in (
            ("training", memory.measured, memory.predicted),
            ("evaluation", memory.evaluation_measured, memory.evaluation_predicted),
        ):
            label = f"{name}, {kind}"
            points += [
                {"batch_size": point.batch_size, "MB": point.bytes / 1e6, "what": label}
                for point in measured
            ]
            lines += [
                {"batch_size": point.batch_size, "MB": point.bytes / 1e6, "what": label}
                for point in predicted
            ]
    y = altair.Y(
        "MB:Q",
        scale=altair.Scale(type="log"),
        axis=altair.Axis(title="megabytes above the loaded process"),
    )
    colour = altair.Color("what:N", legend=altair.Legend(title=None, labelLimit=320))
    line = (
        altair.Chart(rows_of(lines))
        .mark_line(strokeWidth=1.5)
        .encode(x=batch_axis(), y=y, color=colour)
    )
    dots = (
        altair.Chart(rows_of(points))
        .mark_point(filled=True, size=50)
        .encode(x=batch_axis(), y=y, color=colour)
    )
    return altair.layer(line, dots).properties(width=420, height=260)


def powers_chart() -> altair.TopLevelMixin:
    """What powers of two save against their neighbours, with 95 % intervals."""
    rows = []
    for name, model, parts in (
        ("784-100-10 network", "mlp:100", mnist()),
        ("small CNN", SmallConvolutions(), fashion_mnist()),
    ):
        timing = rb.speed(
            model, parts.train, batch_sizes=[2**k for k in range(2, 10)], mode="train", seconds=20
        )
        rows += [
            {
                "power": f"{trio.at.batch_size}",
                "saving": trio.saving,
                "low": trio.low,
                "high": trio.high,
                "model": name,
            }
            for trio in timing.neighbours
        ]
    base = altair.Chart(rows_of(rows)).encode(
        x=altair.X("power:N", sort=None, axis=altair.Axis(title="power of two", labelAngle=0)),
        xOffset="model:N",
        color=altair.Color("model:N", legend=altair.Legend(title=None)),
    )
    y = altair.Axis(title="time saved against its neighbours", format="%")
    zero = altair.Chart(rows_of([{"zero": 0}])).mark_rule(color=_GREY).encode(y="zero:Q")
    bars = base.mark_rule(strokeWidth=2).encode(y=altair.Y("low:Q", axis=y), y2="high:Q")
    dots = base.mark_point(filled=True, size=50).encode(y=altair.Y("saving:Q", axis=y))
    return altair.layer(zero, bars, dots).properties(width=460, height=220)


def save(name: str, chart: altair.TopLevelMixin) -> None:
    """Write one picture as SVG on white."""
    chart = chart.configure(background="white").configure_axis(
        labelFontSize=11, titleFontSize=11, titleFontWeight="normal", gridColor="#e9edf5"
    )
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.svg"
    path.write_text(vl_convert.vegalite_to_svg(chart.to_dict()) + "\n", encoding="utf-8")
    print(path.name, f"{path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="the pictures to make; all without it")
    arguments = parser.parse_args()
    wanted = set(arguments.only or ("sweep", "samples", "rates", "steps", "memory", "powers"))
    torch.set_num_threads(1)
    runs = read_runs(CACHE)
    own = {
        workload.name: [
            run
            for run in runs
            if run.workload == workload.name and run.target_loss == workload.target_loss
        ]
        for workload in WORKLOADS.values()
    }
    timed = {name: step_seconds(WORKLOADS[name], own[name], fresh=False) for name in own}
    seconds = {name: steps for name, (steps, _) in timed.items()}
    truths = {name: truth_of(WORKLOADS[name], own[name], *timed[name]) for name in own}
    best = {
        name: {size: (samples, truth.rates[size]) for size, samples in truth.samples.items()}
        for name, truth in truths.items()
    }
    if "sweep" in wanted:
        found = [
            (
                workload,
                truths[workload.name],
                advices(workload, fresh=False, tell=print),
            )
            for workload in WORKLOADS.values()
        ]
        save("sweep", sweep_chart(found))
    if "samples" in wanted:
        save("samples", samples_chart(best))
    if "rates" in wanted:
        save("rates", rates_chart(best))
    if "steps" in wanted:
        save("steps", steps_chart(seconds))
    if "memory" in wanted:
        save("memory", memory_chart())
    if "powers" in wanted:
        save("powers", powers_chart())


if __name__ == "__main__":
    main()

"""The charts that a set of results calls for, each with its title and what to look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import altair

from rightbatch.advice.target import to_target as find_target
from rightbatch.advice.timing import Speed, half_batch_text
from rightbatch.errors import OptionError
from rightbatch.report.curve_rows import by_label, metric_of
from rightbatch.report.findings import Study
from rightbatch.report.landscape_chart import landscape
from rightbatch.report.learning_chart import METRIC_NAMES, learning_curves
from rightbatch.report.step_chart import step_losses
from rightbatch.report.target_chart import to_target
from rightbatch.report.theme import save
from rightbatch.report.throughput_chart import throughput
from rightbatch.report.time_chart import time_per_sample

Section = Literal["learning", "speed", "landscape"]


class Drawing(Protocol):
    """Draws a chart in a theme and a width."""

    def __call__(self, *, theme: str, width: int | str) -> altair.LayerChart | None:
        """The chart, None where there is nothing to draw."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart of the report: `name` is its file, `group` the result it belongs to."""

    name: str
    section: Section
    group: str
    title: str
    caption: str
    draw: Drawing
    is_wide: bool = True


def figures_of(studies: Sequence[Study], speeds: Sequence[Speed]) -> list[Figure]:
    """Every chart that the results have the numbers for, in the order of the page."""
    found: list[Figure] = []
    for number, study in enumerate(studies, start=1):
        prefix = "" if len(studies) == 1 else f"{number}-"
        found += _of_study(study, prefix)
    for number, speed in enumerate(speeds, start=1):
        prefix = "" if len(speeds) == 1 else f"{number}-"
        found += _of_speed(speed, prefix)
    # What has nothing to draw says so when it is asked to.
    return [figure for figure in found if figure.draw(theme="light", width=400) is not None]


def save_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each chart as PNG and as SVG into `folder`, in the light theme.

    Raises OptionError where the folder can not be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"the folder {folder} can not be made: {error}") from error
    written = []
    for figure in figures:
        chart = figure.draw(theme="light", width=720)
        assert chart is not None  # figures_of keeps those that draw something
        written += [save(chart, folder / f"{figure.name}{end}") for end in (".png", ".svg")]
    return written


def _of_study(study: Study, prefix: str) -> Iterator[Figure]:
    curves = study.curves
    metric = METRIC_NAMES[metric_of(curves) or "accuracy"]
    groups = by_label(curves)
    seeds = max((len(group) for group in groups.values()), default=0)
    band = (
        f" Lines are means of {seeds} seeds, bands run from the least to the greatest."
        if (seeds > 1)
        else ""
    )
    isolate = " Click a name to isolate its curve." if len(groups) > 1 else ""

    def figure(
        name: str, section: Section, title: str, caption: str, draw: Drawing, *, wide: bool = True
    ) -> Figure:
        return Figure(
            name=f"{prefix}{name}",
            section=section,
            group=study.title,
            title=title,
            caption=caption,
            draw=draw,
            is_wide=wide,
        )

    yield figure(
        "loss",
        "learning",
        "How the loss falls",
        "Against epochs, small batches fall fastest, for they update most often; against seconds, "
        f"the order can turn round.{band}{isolate}"
        if len(groups) > 1
        else "The training loss is the mean over each epoch, before each update. Dashed is the "
        "other of the two: where the validation loss turns upwards while the training loss falls, "
        "the model begins to learn by heart.",
        lambda **how: learning_curves(curves, **how),
    )
    yield figure(
        "metric",
        "learning",
        f"Validation {metric}",
        "What the loss is worth on samples that training has not seen.",
        lambda **how: learning_curves(curves, measure="metric", **how),
    )
    yield figure(
        "steps",
        "learning",
        "The loss of every step",
        "Each point is one batch before its update. The full batch is smooth; the smaller the "
        "batch, the noisier its loss, around a mean that falls."
        if len(groups) > 1
        else "Each point is one batch before its update: the smaller the batch, the noisier.",
        lambda **how: step_losses(curves, **how),
    )
    reached = find_target(curves)
    if reached is not None:
        yield figure(
            "target",
            "learning",
            f"The way to a training loss of {reached.target:.3g}",
            "Along the dashed line a doubled batch halves the steps and costs nothing; where the "
            "curve leaves it, larger batches take more samples for the same result.",
            lambda **how: to_target(reached, **how),
        )
    for index, (name, mapped) in enumerate(study.landscapes, start=1):
        number = "" if len(study.landscapes) == 1 else f"-{index}"
        yield figure(
            f"landscape{number}",
            "landscape",
            f"The way downhill{': ' + name if name else ''}",
            "Height lines of the training loss on the plane that holds most of the movement. A "
            "ring is the start, a dot the end: the full batch walks straight across the lines, "
            f"smaller batches stray. Losses on {mapped.samples:,} training samples; away from the "
            "plane the loss is different.",
            _landscape_drawing(mapped),
        )


def _landscape_drawing(mapped: object) -> Drawing:
    return lambda **how: landscape(mapped, **how)  # type: ignore[arg-type]  # bound for the loop


def _of_speed(speed: Speed, prefix: str) -> Iterator[Figure]:
    what = {"predict": "predicting", "train": "training"}.get(speed.mode, speed.mode)
    half = ""
    if speed.fit is not None:
        half = (
            f" The curve is the fitted law, which bends at n½ = {half_batch_text(speed.fit)}: "
            "below it a step's fixed cost dominates, above it the samples' own."
        )
    draws: list[tuple[str, str, str, Callable[..., altair.LayerChart]]] = [
        (
            "time",
            "Time a sample",
            f"What a sample costs in {what}, against the batch size; bars are 95 % "
            f"intervals.{half}",
            time_per_sample,
        ),
        (
            "throughput",
            "Samples a second",
            "The same as throughput: where it levels off, a larger batch gains no more time.",
            throughput,
        ),
    ]
    for name, title, caption, chart in draws:
        yield Figure(
            name=f"{prefix}{name}",
            section="speed",
            group=f"Speed of {speed.model} on {speed.provenance.data}, {what}",
            title=title,
            caption=caption,
            draw=_speed_drawing(chart, speed),
            is_wide=False,
        )


def _speed_drawing(chart: Callable[..., altair.LayerChart], speed: Speed) -> Drawing:
    return lambda **how: chart(speed, **how)


def slug(text: str) -> str:
    """Letters and digits with hyphens between, for an id.

    >>> slug("Data and split")
    'data-and-split'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

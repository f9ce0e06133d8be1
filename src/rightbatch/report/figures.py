"""The charts that a set of results calls for, each with its title and what to look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import altair

from rightbatch.advice.advice import Advice
from rightbatch.advice.target import to_target as find_target
from rightbatch.advice.timing import Speed
from rightbatch.errors import OptionError
from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.report.advice_section import advice_blocks
from rightbatch.report.captions import (
    landscape_caption,
    loss_caption,
    metric_caption,
    step_caption,
    target_caption,
    throughput_caption,
    time_caption,
)
from rightbatch.report.curve_rows import explodes, metric_of
from rightbatch.report.figure import Drawing, Figure, Section
from rightbatch.report.findings import Study
from rightbatch.report.landscape_chart import landscape
from rightbatch.report.learning_chart import learning_curves
from rightbatch.report.shuffle_section import shuffle_figures
from rightbatch.report.step_chart import step_losses
from rightbatch.report.target_chart import to_target
from rightbatch.report.theme import save
from rightbatch.report.throughput_chart import throughput
from rightbatch.report.time_chart import time_per_sample
from rightbatch.report.wording import activity, measure_name


def figures_of(
    studies: Sequence[Study],
    speeds: Sequence[Speed],
    advices: Sequence[Advice] = (),
    shuffles: Sequence[ShuffleQuality] = (),
) -> list[Figure]:
    """Every chart that the results have the numbers for, in the order of the page."""
    found: list[Figure] = []
    for block in advice_blocks(advices):
        found += [item for item in (*block.stack, *block.more) if isinstance(item, Figure)]
    for number, study in enumerate(studies, start=1):
        prefix = "" if len(studies) == 1 else f"{number}-"
        found += _of_study(study, prefix)
    for number, speed in enumerate(speeds, start=1):
        prefix = "" if len(speeds) == 1 else f"{number}-"
        found += _of_speed(speed, prefix)
    for number, quality in enumerate(shuffles, start=1):
        found += shuffle_figures(quality, "" if len(shuffles) == 1 else f"{number}-")
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
    metric = metric_of(curves)

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
        loss_caption(curves, timings_comparable=study.timings_comparable),
        lambda **how: learning_curves(curves, with_seconds=study.has_seconds, **how),
    )
    yield figure(
        "metric",
        "learning",
        f"Validation {measure_name(metric or 'accuracy')}",
        metric_caption(curves, metric),
        lambda **how: learning_curves(
            curves, measure="metric", with_seconds=study.has_seconds, **how
        ),
    )
    yield figure(
        "steps",
        "learning",
        "The loss of every step",
        step_caption(curves),
        lambda **how: step_losses(curves, with_seconds=study.has_seconds, **how),
    )
    # One loss to reach means something on one data set alone.
    sane = [curve for curve in curves if not explodes(curve)]
    reached = find_target(sane) if len(study.comparable()) == 1 else None
    if reached is not None:
        yield figure(
            "target",
            "learning",
            f"The way to a training loss of {reached.target:.3g}",
            target_caption(reached, sane),
            lambda **how: to_target(reached, with_seconds=study.has_seconds, **how),
        )
    for index, (name, mapped) in enumerate(study.landscapes, start=1):
        number = "" if len(study.landscapes) == 1 else f"-{index}"
        yield figure(
            f"landscape{number}",
            "landscape",
            f"The way downhill{': ' + name if name else ''}",
            landscape_caption(mapped),
            _landscape_drawing(mapped),
        )


def _landscape_drawing(mapped: object) -> Drawing:
    return lambda **how: landscape(mapped, **how)  # type: ignore[arg-type]  # bound for the loop


def _of_speed(speed: Speed, prefix: str) -> Iterator[Figure]:
    what = activity(speed.mode)
    draws: list[tuple[str, str, str, Callable[..., altair.LayerChart]]] = [
        ("time", "Time a sample", time_caption(speed, what), time_per_sample),
        ("throughput", "Samples a second", throughput_caption(speed), throughput),
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

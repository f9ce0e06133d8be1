"""`rightbatch speed MODEL DATA`: what a sample costs at each batch size, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.cli.data_options import data_options
from rightbatch.cli.options import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    collect,
    given_on_command_line,
    output_options,
    report_options,
)
from rightbatch.cli.output import Output, command_line, refuse_unwritable, table
from rightbatch.cli.parameters import Choice, ThemedCommand, batch_sizes, stacked, themed
from rightbatch.cli.progress import rounds_display
from rightbatch.options import DataOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.advice.law import StepTime
    from rightbatch.advice.timing import Speed

MODES = ("predict", "train")
PARTS = ("train", "val", "test", "all")

_measuring = themed("Measurement")
_model = themed("Model")

measurement_options = stacked(
    _measuring(
        "--batch-sizes",
        type=batch_sizes,
        metavar="SIZES",
        help="Sizes and ranges with commas between them, such as 1-30,64,full.  "
        "[default: 1,2,4,… up to 1024 or the samples there are]",
    ),
    _measuring(
        "--mode",
        type=Choice(MODES),
        default="predict",
        show_default=True,
        help="Time the forward pass, or a whole training step with gradient and update.",
    ),
    _measuring(
        "--threads",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Threads of the arithmetic, the same for every size.",
    ),
    _measuring(
        "--seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=5.0,
        show_default=True,
        help="Time to spend on rounds over all sizes; there are five rounds at least.",
    ),
    _measuring(
        "--part",
        type=Choice(PARTS),
        default="train",
        show_default=True,
        help="The samples to measure on.",
    ),
    _measuring(
        "--neighbours/--no-neighbours",
        default=True,
        show_default=True,
        help="Measure the sizes beside each power of two as well.",
    ),
    _model(
        "--activation",
        type=Choice(ACTIVATIONS),
        help="Of the hidden layers of weights and mlp models.  [default: relu for mlp models]",
    ),
    _model(
        "--loss",
        type=Choice(LOSSES),
        help="Of a training step.  [default: what target and model call for]",
    ),
    _model(
        "--optimizer",
        type=Choice(OPTIMIZERS),
        default="sgd",
        show_default=True,
        help="Of a training step.",
    ),
    _model(
        "--lr",
        "learning_rate",
        type=click.FloatRange(min=0, min_open=True),
        default=0.01,
        show_default=True,
        help="Of a training step; the time does not depend on it.",
    ),
)


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch speed mlp:100 digits
  rightbatch speed weights.npz $RIGHTBATCH_DATA/mnist --part test --activation sigmoid \\
    --batch-sizes 1-30,64,128,256 --report speed.html
  rightbatch speed runs/mnist $RIGHTBATCH_DATA/mnist --mode train --threads 2 --json

JSON keys: points [{batch_size, seconds_per_batch, seconds_per_sample, low, high}] (low and
high: 95 % interval of seconds_per_sample), fit {latency_seconds, seconds_per_sample, p,
half_batch_size, residual}, threads, and model, mode, device, rounds, neighbours,
loading_seconds_per_sample, notes, settings, provenance. `rightbatch report` reads it again.
""",
)
@click.argument("model")
@click.argument("data")
@measurement_options
@data_options
@report_options
@output_options
def speed(
    model: str,
    data: str,
    batch_sizes: tuple[int | str, ...] | None,
    mode: str,
    threads: int,
    seconds: float,
    part: str,
    neighbours: bool,
    activation: str | None,
    loss: str | None,
    optimizer: str,
    learning_rate: float,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure the time that a sample costs MODEL at each batch size.

    MODEL is the name of a model (linear, softmax, logistic, mlp:100, mlp:50,50), the folder of a
    run, a file of weights W1, b1, … (.npz, .safetensors, .pkl), or a function of a Python file
    that returns a torch module, FILE.py:FACTORY. The data options of a run hold unless
    others are given. The samples are loaded beforehand: the times are those of the computation.
    """
    output = Output(as_json=as_json, quiet=quiet)
    refuse_unwritable(report)
    from rightbatch.studies import measure_speed, with_options_of_run

    given = given_on_command_line(click.get_current_context())
    chosen = collect(DataOptions, {"data": data, **options})
    with rounds_display(quiet=quiet) as progress:
        measured = measure_speed(
            model,
            with_options_of_run(model, chosen, given.keys() & options.keys()),
            part=part,
            batch_sizes=batch_sizes,
            mode=mode,
            threads=threads,
            seconds=seconds,
            neighbours=neighbours,
            activation=activation,
            loss=loss,
            learning_rate=learning_rate,
            optimizer=optimizer,
            command=command_line(),
            progress=progress,
        )
    output.result(_tables(measured), measured.to_json())
    if report is not None:
        from rightbatch.report.page import write_report

        output.note(f"Report: {write_report(report, measured)}")


def _tables(measured: Speed) -> Iterator[RenderableType]:
    from rightbatch.advice.timing import row_texts

    what = {
        "predict": "the forward pass",
        "train": "a training step",
        "loop": "a step of the training loop",
    }[measured.mode]
    threads = f"{measured.threads:,} thread{'' if measured.threads == 1 else 's'}"
    yield (
        f"{measured.model} on {measured.provenance.data}: {what}, {threads}, {measured.device}; "
        f"medians of {measured.rounds:,} rounds"
    )
    columns = ["batch size", "a batch", "a sample", "95 % interval", "samples/s"]
    points = table(*columns, right=columns)
    for point in measured.points:
        points.add_row(*row_texts(point))
    yield points
    if measured.fit is not None:
        yield _law_text(measured.fit, max(point.batch_size for point in measured.points))
    if measured.neighbours:
        yield _neighbours_table(measured)
    if measured.loading_seconds_per_sample is not None:
        from rightbatch.advice.timing import time_text

        yield f"Making the batches takes {time_text(measured.loading_seconds_per_sample)} a sample"
    for note in measured.notes:
        yield f"Note: {note}"


def _law_text(fit: StepTime, largest: int) -> str:
    from rightbatch.advice.timing import half_batch_text, time_text

    return (
        f"By the fitted law a batch takes about {time_text(fit.latency_seconds)} whatever its "
        f"size, and {time_text(fit.seconds_per_sample)} a sample; n½, where both are equal: "
        f"{half_batch_text(fit, largest)} (t(B) = (aᵖ + (bB)ᵖ)^(1/p) with p = {fit.p:.2g}, off by "
        f"{fit.residual:.1%})"
    )


def _neighbours_table(measured: Speed) -> RenderableType:
    from rightbatch.advice.timing import time_text

    columns = ["power of two", "a batch of one less", "of it", "of one more"]
    beside = table(*columns, right=columns)
    for trio in measured.neighbours:
        beside.add_row(
            f"{trio.at.batch_size:,}",
            *(time_text(point.seconds_per_batch) for point in (trio.below, trio.at, trio.above)),
        )
    return beside

"""`rightbatch compare DATA`: what the batch size does to learning, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.cli.data_options import data_options
from rightbatch.cli.options import (
    collect,
    length_options,
    micro_batch_options,
    model_options,
    network_options,
    order_options,
    output_options,
    report_options,
    sampling_options,
    thread_options,
    update_options,
)
from rightbatch.cli.output import Output, command_line, refuse_unwritable, table
from rightbatch.cli.parameters import Choice, ThemedCommand, batch_sizes, stacked, themed
from rightbatch.cli.progress import study_display
from rightbatch.options import DataOptions, TrainOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.advice.comparison import Comparison

LR_RULES = ("same", "linear", "sqrt", "tuned")

_comparing = themed("Comparison")

comparison_options = stacked(
    _comparing(
        "--batch-sizes",
        type=batch_sizes,
        metavar="SIZES",
        default="1,32,128,full",
        show_default=True,
        help="The batch sizes to compare; ranges such as 4-8 and full are valid.",
    ),
    _comparing(
        "--lr-rule",
        type=Choice(LR_RULES),
        default="same",
        show_default=True,
        help="The learning rate of each size: the same, --lr times B/B0 or its square root, or "
        "searched at each size.",
    ),
    _comparing(
        "--reference-batch-size",
        type=click.IntRange(min=1),
        metavar="B0",
        default=32,
        show_default=True,
        help="The batch size that --lr suits.",
    ),
    _comparing(
        "--seeds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Repetitions, each with its own initial weights and order.",
    ),
    _comparing(
        "--landscape/--no-landscape",
        default=True,
        show_default=True,
        help="Compute the loss around the paths of the runs.",
    ),
    _comparing(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Worker processes, for so many runs at the same time. With more than one their "
        "seconds can not be compared.",
    ),
)


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch compare breast_cancer --stratify --standardize --model mlp:10 --lr 0.1 \\
    --epochs 100 --report report.html
  rightbatch compare digits --model mlp:64 --batch-sizes 8,32,128 --lr-rule tuned --seeds 3
  rightbatch compare $RIGHTBATCH_DATA/mnist --model softmax --batch-sizes 64,256 --json

JSON keys: curves [{batch_size, learning_rate, seed, history [{epoch, steps, samples,
seconds, train_loss, val_loss, val_accuracy (val_r2)}], step_losses, checked_losses,
is_full, diverged, placement (with --processes)}], trials, landscape, notes,
timings_comparable, and model, metric, learning_rate_rule, learning_rate,
reference_batch_size, settings, provenance.
`rightbatch report` reads this JSON again.
""",
)
@click.argument("data")
@comparison_options
@data_options
@model_options
@network_options
@micro_batch_options
@order_options
@sampling_options
@update_options
@length_options
@thread_options
@report_options
@output_options
def compare(
    data: str,
    batch_sizes: tuple[int | str, ...],
    lr_rule: str,
    reference_batch_size: int,
    seeds: int,
    landscape: bool,
    processes: int,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on DATA at several batch sizes, from the same start, and compare."""
    output = Output(as_json=as_json, quiet=quiet)
    refuse_unwritable(report)
    from rightbatch.errors import WorkerError
    from rightbatch.studies import compare_batch_sizes

    lost: WorkerError | None = None
    with study_display(quiet=quiet) as progress:
        try:
            comparison = compare_batch_sizes(
                collect(DataOptions, {"data": data, **options}),
                collect(TrainOptions, options),
                batch_sizes=batch_sizes,
                lr_rule=lr_rule,
                reference_batch_size=reference_batch_size,
                seeds=seeds,
                landscape=landscape,
                processes=processes,
                command=command_line(),
                progress=progress,
            )
        except WorkerError as error:
            if error.comparison is None:
                raise
            # Hours of work may be in the runs that are whole.
            lost, comparison = error, error.comparison
    output.result(_tables(comparison), comparison.to_json())
    if report is not None:
        from rightbatch.report.page import write_report

        output.note(f"Report: {write_report(report, comparison)}")
    if lost is not None:
        raise lost


def _tables(comparison: Comparison) -> Iterator[RenderableType]:
    from rightbatch.advice.target import to_target

    samples = comparison.provenance.sizes["train"]
    seeds = len({curve.seed for curve in comparison.curves})
    yield (
        f"{comparison.model} on {comparison.provenance.data}: {samples:,} training samples, "
        f"{seeds:,} seed{'s' if seeds > 1 else ''}"
    )
    columns, rows = comparison.table()
    ends = table(*columns, right=columns[1:])
    for row in rows:
        ends.add_row(*row)
    yield ends
    reached = to_target(comparison.curves)
    if reached is not None and len(reached.points) > 1:
        those = "which every run came down to"
        if any(curve.diverged is not None for curve in comparison.curves):
            those = "which every run that did not diverge came down to"
        yield f"To the training loss {reached.target:.4g}, {those}:"
        columns = ["batch", "seed", "steps", "samples"]
        columns += ["seconds"] if comparison.timings_comparable else []
        target = table(*columns, right=columns[1:])
        for point in reached.points:
            texts = [
                point.label.removeprefix("batch "),
                str(point.seed),
                f"{point.steps:,.0f}",
                f"{point.samples:,.0f}",
                f"{point.seconds:.3g}",
            ]
            target.add_row(*texts[: len(columns)])
        yield target
    for note in comparison.notes:
        yield f"Note: {note}"
    if comparison.learning_rate_rule == "same" and len(rows) > 1:
        yield (
            f"Note: every batch size has the learning rate {comparison.learning_rate:g}, and what "
            "suits one does not suit all; --lr-rule tuned searches at each size."
        )

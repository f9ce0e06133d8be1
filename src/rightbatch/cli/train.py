"""`rightbatch train DATA`: train a model by mini-batches, test it, keep the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.cli.failure import INTERRUPTED
from rightbatch.cli.options import (
    collect,
    data_options,
    given_on_command_line,
    output_options,
    report_options,
    training_options,
)
from rightbatch.cli.output import Output, command_line, refuse_unwritable, table
from rightbatch.cli.parameters import ThemedCommand
from rightbatch.cli.progress import progress_display
from rightbatch.options import DataOptions, TrainOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.workflow import TrainReport


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch train breast_cancer --stratify --standardize --model mlp:10 --lr 0.1
  rightbatch train $RIGHTBATCH_DATA/mnist --val 5000 --batch-size 128 --init zeros
  rightbatch train data.csv --target price --standardize --model nets.py:small
  rightbatch train --resume runs/mnist --epochs 20

JSON keys: run, epochs, batch_size, train_loss, val_loss, val_accuracy (val_r2 for
numbers), test_loss, test_accuracy (test_r2), seconds, samples_per_second,
leaked_samples, duplicate_samples, and data, model, metric, steps, best_epoch.
The run folder holds the configuration, the transforms, the environment, the
history (a row an epoch, the loss of every step), the checkpoint and the weights.
""",
)
@click.argument("data", required=False)
@data_options
@training_options
@report_options
@output_options
def train(
    data: str | None,
    out: str | None,
    resume: str | None,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on DATA by mini-batch gradient descent, and test it.

    DATA is a file or folder (.npy, .npz, IDX, .csv, .parquet), a glob in quotes, or the name of
    a built-in set: breast_cancer, digits, wine, iris, diabetes. With --resume it may be left out.
    """
    if data is None and resume is None:
        raise click.UsageError("Name the DATA to train on, or a run to go on with: --resume RUN.")
    if resume is not None and out is not None and Path(out).resolve() != Path(resume).resolve():
        raise click.UsageError(
            f"--out {out} and --resume {resume} contradict each other: a resumed run stays in its "
            "folder. Leave --out out."
        )
    refuse_unwritable(report)
    from rightbatch import workflow

    context = click.get_current_context()
    output = Output(as_json=as_json, quiet=quiet)
    runs: list[Path] = []

    def started(run: Path) -> None:
        runs.append(run)
        output.note(f"{'Going on with' if resume else 'Run folder:'} {run}")

    try:
        with progress_display(quiet=quiet) as progress:
            if resume is not None:
                trained = workflow.resume(
                    resume, _given(context), started=started, progress=progress
                )
            else:
                trained = workflow.train(
                    collect(DataOptions, {"data": data, **options}),
                    collect(TrainOptions, options),
                    out=out,
                    command=command_line(),
                    maps_landscape=report is not None,
                    started=started,
                    progress=progress,
                )
    except KeyboardInterrupt:
        _tell_how_to_go_on(runs)
        context.exit(INTERRUPTED)
    output.result(_tables(trained), trained.to_json())
    if report is not None:
        from rightbatch.report.page import write_report

        output.note(f"Report: {write_report(report, trained.run)}")


def _given(context: click.Context) -> dict[str, Any]:
    not_of_the_run = ("out", "resume", "report", "as_json", "quiet")
    given = given_on_command_line(context)
    return {name: value for name, value in given.items() if name not in not_of_the_run}


def _tell_how_to_go_on(runs: list[Path]) -> None:
    kept = runs and (runs[0] / "checkpoint.safetensors").exists()
    hint = (
        f" The checkpoint is kept; go on with: rightbatch train --resume {runs[0]}" if kept else ""
    )
    click.echo(f"Interrupted.{hint}", err=True)


def _tables(report: TrainReport) -> Iterator[RenderableType]:
    epochs = f"{report.epochs:,} epoch{'' if report.epochs == 1 else 's'}"
    steps = f"{report.steps:,} batch{'' if report.steps == 1 else 'es'} of {report.batch_size:,}"
    yield f"{report.model} on {report.data}: {epochs}, {steps}"
    if report.samples_per_second:
        yield f"{report.seconds:.1f} s, {report.samples_per_second:,.0f} samples/s"
    else:
        yield "The run was at its end; give --epochs or --steps to go further."
    if report.best_epoch != report.epochs:
        yield f"The weights and losses are those of epoch {report.best_epoch:,}, the best one."
    name = {"accuracy": "accuracy", "r2": "R²"}[report.metric]
    scores = table("part", "loss", name, right=["loss", name])
    scores.add_row("train", f"{report.train_loss:.4f}", "")
    for part, measured in (("val", report.val), ("test", report.test)):
        if measured is not None:
            scores.add_row(part, f"{measured['loss']:.4f}", f"{measured[report.metric]:.4f}")
    yield scores
    yield f"Held-out samples that training read: {report.leaked_samples:,}"
    if report.duplicate_samples:
        yield (
            "Held-out samples equal to one on the other side of the split: "
            f"{report.duplicate_samples:,}"
        )
    yield f"Run: {report.run}"

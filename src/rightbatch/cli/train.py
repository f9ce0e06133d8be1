"""`rightbatch train DATA`: train a model by mini-batches, test it, keep the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.cli.data_options import data_options
from rightbatch.cli.failure import INTERRUPTED
from rightbatch.cli.options import (
    collect,
    given_on_command_line,
    output_options,
    report_options,
    training_options,
)
from rightbatch.cli.output import Output, command_line, refuse_unwritable
from rightbatch.cli.parameters import ThemedCommand
from rightbatch.cli.progress import run_display
from rightbatch.cli.results import training_texts
from rightbatch.launch import launched_rank
from rightbatch.options import AdviceOptions, DataOptions, TrainOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rightbatch.advice.advice import Advice
    from rightbatch.training.progress import Progress, Watcher


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch train breast_cancer --stratify --standardize --model mlp:10 --lr 0.1
  rightbatch train $RIGHTBATCH_DATA/mnist --val 5000 --batch-size 128 --init zeros
  rightbatch train data.csv --target price --standardize --model nets.py:small
  rightbatch train digits --model mlp:64 --lr 0.1 --batch-size auto --budget 30
  rightbatch train --resume runs/mnist --epochs 20

JSON keys: run, epochs, batch_size, learning_rate, micro_batch_size, target_loss,
train_loss, val_loss, val_accuracy (val_r2 for numbers), test_loss, test_accuracy (test_r2),
seconds, samples_per_second, leaked_samples, duplicate_samples, and data, model, metric,
steps, best_epoch, report, advice (of --batch-size auto: what `rightbatch advise` prints).
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

    With --resume DATA may be left out.
    """
    if data is None and resume is None:
        raise click.UsageError("Name the DATA to train on, or a run to go on with: --resume RUN.")
    if resume is not None and out is not None and Path(out).resolve() != Path(resume).resolve():
        raise click.UsageError(
            f"--out {out} and --resume {resume} contradict each other: a resumed run stays in its "
            "folder. Leave --out out."
        )
    refuse_unwritable(report)
    train_and_print(
        {"data": data, **options},
        out=out,
        report=report,
        output=Output(as_json=as_json, quiet=quiet),
        resumed=resume,
    )


def train_and_print(
    options: Mapping[str, Any],
    *,
    out: str | None,
    report: Path | None,
    output: Output,
    resumed: str | None = None,
) -> None:
    """Train as `options` say, or go on with the run `resumed`, and print how it went."""
    from rightbatch import resumption, workflow

    context = click.get_current_context()
    runs: list[Path] = []

    def started(run: Path) -> None:
        runs.append(run)
        if resumed is not None:
            output.note(f"Going on with {run}")

    try:
        with run_display(quiet=output.quiet) as display:
            progress = _telling_of_the_folder(runs, output, display.training, resumed)
            if resumed is not None:
                trained = resumption.resume(
                    resumed,
                    _given(context),
                    report=report,
                    started=started,
                    progress=progress,
                )
            else:
                trained = workflow.train(
                    collect(DataOptions, options),
                    collect(TrainOptions, options),
                    search=collect(AdviceOptions, options),
                    out=out,
                    report=report,
                    command=command_line(),
                    watchers=workflow.RunWatchers(
                        advice=display.advice,
                        advised=lambda advice: output.note(_advised_text(advice)),
                        started=started,
                        training=progress,
                    ),
                )
    except KeyboardInterrupt:
        if launched_rank() == 0:
            _tell_how_to_go_on(runs)
        context.exit(INTERRUPTED)
    output.result(training_texts(trained), trained.to_json())
    if trained.report is not None:
        output.note(f"Report: {trained.report}")


def _telling_of_the_folder(
    runs: list[Path], output: Output, display: Watcher | None, resumed: str | None
) -> Watcher | None:
    """The display, before which a new run's folder is named: what is refused leaves none."""
    if display is None or resumed is not None:
        return display
    told: list[Path] = []

    def progress(where: Progress) -> None:
        if not told:
            told.extend(runs)
            output.note(f"Run folder: {runs[0]}")
        display(where)

    return progress


def _advised_text(advice: Advice) -> str:
    pieces = "" if advice.micro_batch_size is None else f" in pieces of {advice.micro_batch_size:,}"
    if advice.ranks is not None:
        pieces = advice.shares_text
    return (
        f"Advised: batch size {advice.batch_size:,}{pieces}, learning rate "
        f"{advice.learning_rate:.3g}. Training begins."
    )


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

"""`rightbatch run DATA`: the main job end to end, at the batch size that measuring finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rightbatch.cli.data_options import data_options
from rightbatch.cli.options import (
    output_options,
    report_options,
    run_options,
)
from rightbatch.cli.output import Output, refuse_unwritable
from rightbatch.cli.parameters import ThemedCommand
from rightbatch.cli.train import train_and_print


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch run breast_cancer --stratify --standardize --model mlp:10 --lr 0.1 --report page.html
  rightbatch run $RIGHTBATCH_DATA/mnist --model mlp:100 --lr 0.1 --target-loss 0.15
  rightbatch run data.csv --target price --standardize --model nets.py:small --budget 30 --json
  rightbatch run digits --model mlp:64 --batch-size 32 --report page.html

JSON keys: those of `rightbatch train`: run, epochs, batch_size, learning_rate,
micro_batch_size, target_loss, train_loss, val_loss, val_accuracy (val_r2 for numbers),
test_loss, test_accuracy (test_r2), seconds, samples_per_second, leaked_samples,
duplicate_samples, data, model, metric, steps, best_epoch, report (the page that was
written), and advice (what `rightbatch advise` prints; null for a batch size that was given).
Continue a run that was interrupted with: rightbatch train --resume RUN
""",
)
@click.argument("data")
@data_options
@run_options
@report_options
@output_options
def run(
    data: str, out: str | None, report: Path | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Find the batch size for DATA, train a model at it, test it, and report.

    With --batch-size auto the learning rate is the advised one, and --lr is where the search for it
    starts.
    """
    refuse_unwritable(report)
    train_and_print(
        {"data": data, **options},
        out=out,
        report=report,
        output=Output(as_json=as_json, quiet=quiet),
    )

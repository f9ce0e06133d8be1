"""`rightbatch advise DATA`: which batch size, measured, with the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rightbatch.cli.data_options import data_options
from rightbatch.cli.options import (
    advice_options,
    collect,
    device_options,
    model_options,
    network_options,
    order_options,
    output_options,
    rank_options,
    report_options,
    thread_options,
    update_options,
)
from rightbatch.cli.output import Output, command_line, refuse_unwritable
from rightbatch.cli.parameters import ThemedCommand, batch_sizes, stacked, themed
from rightbatch.cli.progress import advice_display
from rightbatch.cli.results import advice_texts
from rightbatch.launch import launched_rank
from rightbatch.options import AdviceOptions, DataOptions, TrainOptions

_goal = themed("Goal")
_trying = themed("Choosing the batch size")

goal_options = stacked(
    _goal(
        "--epochs",
        type=click.IntRange(min=1),
        help="The least time for so many epochs that still end as low as smaller batches would.  "
        "[default: 10, unless --target-loss is given]",
    ),
    _goal(
        "--target-loss",
        type=float,
        metavar="LOSS",
        help="The least time to this validation loss.",
    ),
)

size_options = stacked(
    _trying(
        "--batch-sizes",
        type=batch_sizes,
        metavar="SIZES",
        help="The sizes to choose from; ranges such as 4-8 and full are valid.  [default: powers "
        "of two up to 8192, and full where that is small]",
    ),
)


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch advise breast_cancer --stratify --standardize --model mlp:10 --lr 0.1 --epochs 20
  rightbatch advise digits --model mlp:64 --lr 0.1 --target-loss 0.15 --report report.html
  rightbatch advise $RIGHTBATCH_DATA/mnist --model mlp:100 --grade quick --memory-limit 2GB
  rightbatch advise data.csv --target price --standardize --model nets.py:small --json

JSON keys: batch_size, interval [low, high], grade, goal, learning_rate, micro_batch_size,
evaluation_batch_size, memory {cap, predicted [{batch_size, bytes, high}], measured
[{batch_size, bytes, held_bytes}]}, speed {points, fit}, noise {scale, low, high, trajectory},
law {critical_batch_size, low, high, samples_min}, reasons, alerts, tested, seconds_spent, and
accumulation_steps, companions, pilot, costs, model, training_samples, settings, provenance, ranks.
memory, pilot and law are null where they could not be had; alerts say why. `rightbatch report`
reads this JSON again. torchrun --nproc-per-node=4 -m rightbatch advise DATA measures what several
ranks take together: sizes are of the global batch, ranks {world_size, largest_share, …}.
""",
)
@click.argument("data")
@goal_options
@advice_options
@size_options
@data_options
@model_options
@network_options
@update_options
@order_options
@rank_options
@thread_options
@device_options
@report_options
@output_options
def advise(
    data: str,
    batch_sizes: tuple[int | str, ...] | None,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Find the batch size at which a model is trained on DATA in the least time.

    Nothing is trained to the end: memory, speed and gradient noise are measured, short branches
    are trained at a few sizes, and a size that ran is advised, with the interval of those that
    are as good. Exit code 4 means that not even one sample fits into memory.
    """
    output = Output(as_json=as_json, quiet=quiet)
    refuse_unwritable(report)
    from rightbatch.studies import advise_batch_size

    with advice_display(quiet=quiet) as progress:
        advice = advise_batch_size(
            collect(DataOptions, {"data": data, **options}),
            collect(TrainOptions, options),
            collect(AdviceOptions, options),
            batch_sizes=batch_sizes,
            command=command_line(),
            progress=progress,
        )
    output.result(advice_texts(advice), advice.to_json())
    if report is not None and launched_rank() == 0:
        from rightbatch.report.page import write_report

        output.note(f"Report: {write_report(report, advice)}")

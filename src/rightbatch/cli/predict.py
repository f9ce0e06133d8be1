"""`rightbatch predict MODEL DATA`: what a trained model says of data, in batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.cli.data_options import data_options
from rightbatch.cli.options import (
    ACTIVATIONS,
    LOSSES,
    given_on_command_line,
    output_options,
)
from rightbatch.cli.output import Output, table
from rightbatch.cli.parameters import Choice, ThemedCommand, batch_size, memory_size, themed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.prediction import PredictReport

# What the library calls valid, repeated so that the help need not import it; a test compares.
PARTS = ("train", "val", "test", "all")
DEFAULT_BATCH_SIZE = 1024

_predicting = themed("Predicting")


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch predict runs/mnist $RIGHTBATCH_DATA/mnist --out predictions.csv
  rightbatch predict runs/shop new.csv --out new-predictions.parquet
  rightbatch predict weights.npz $RIGHTBATCH_DATA/mnist --activation sigmoid
  rightbatch predict runs/own --model nets.py:small --json

JSON keys: samples, correct, accuracy (r2 for numbers), loss, seconds, output,
batch_size, part, data, model. Scores are null where the data have no target.
A run applies its own transforms and finds its own test part again.
""",
)
@click.argument("model")
@click.argument("data", required=False)
@_predicting(
    "--part",
    type=Choice(PARTS),
    help="Which samples.  [default: test where the run held it out of these data or the data "
    "bring it, else all]",
)
@_predicting(
    "--batch-size",
    type=batch_size,
    metavar="SAMPLES|full",
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="Samples at once; halved where memory runs out. The result is the same.",
)
@_predicting(
    "--memory",
    type=memory_size,
    metavar="SIZE",
    help="For data in files that are larger than memory: what reading may take, such as 512MB.",
)
@_predicting(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the predictions: .csv or .parquet (a row a sample) or .npy (probabilities or "
    "values). A file of that name is replaced, unless it is read from.  [default: scores only]",
)
@_predicting(
    "--activation",
    type=Choice(ACTIVATIONS),
    help="Between the layers of a weights file.",
)
@_predicting(
    "--loss",
    type=Choice(LOSSES),
    help="What the outputs of a weights file mean.  [default: what outputs and target call for]",
)
@_predicting(
    "--model",
    "network",
    metavar="FILE.py:FACTORY",
    help="The module of a run whose model is code: code is not run because a folder names it.",
)
@data_options
@output_options
def predict(
    model: str,
    data: str | None,
    part: str | None,
    batch_size: int | str,
    memory: str | None,
    out: Path | None,
    activation: str | None,
    loss: str | None,
    network: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Predict DATA by MODEL, and say how well where DATA have a target.

    MODEL is the folder of a run, or a file of weights named W1, b1, W2, b2, … (inputs x outputs):
    .npz, .safetensors, .pkl. For a run DATA may be left out, and the data options are those of the
    run where they are not given.
    """
    from rightbatch.prediction import predict_data

    output = Output(as_json=as_json, quiet=quiet)
    given = given_on_command_line(click.get_current_context())
    report = predict_data(
        model,
        data,
        given={name: value for name, value in options.items() if name in given},
        part=part,
        batch_size=batch_size,
        memory=memory,
        activation=activation,
        loss=loss,
        out=out,
        network=network,
    )
    output.result(_tables(report), report.to_json())


def _tables(report: PredictReport) -> Iterator[RenderableType]:
    found = report.prediction
    what = "all samples" if report.part == "all" else f"the {report.part} part"
    yield f"{report.model} on {report.data}: {found.samples:,} samples, {what}"
    yield (
        f"{found.seconds:.2f} s in batches of {found.batch_size:,}, "
        f"{found.samples / max(found.seconds, 1e-9):,.0f} samples/s"
    )
    scores = table("measure", "value", right=["value"])
    for name, value in (("loss", found.loss), ("accuracy", found.accuracy), ("R²", found.r2)):
        if value is not None:
            scores.add_row(name, f"{value:.4f}")
    if found.correct is not None:
        of = f"{found.samples:,}" if found.tokens is None else f"{found.tokens:,} tokens"
        scores.add_row("correct", f"{found.correct:,} of {of}")
    if scores.row_count:
        yield scores
    elif found.loss is None:
        yield "No scores: the data have no target (--target COLUMN names it)."
    if found.out is not None:
        yield f"Predictions: {found.out}"
    else:
        yield "Predictions were not kept; --out FILE writes them."

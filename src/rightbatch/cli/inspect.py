"""`rightbatch inspect DATA`: what the data are, and what training on them would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rightbatch.byte_sizes import bytes_text
from rightbatch.cli.data_options import data_options
from rightbatch.cli.options import (
    batch_options,
    collect,
    model_options,
    order_options,
    output_options,
)
from rightbatch.cli.output import Output, table
from rightbatch.cli.parameters import ThemedCommand, themed
from rightbatch.options import DataOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.inspection import InspectReport
    from rightbatch.loading.shuffle_result import ShuffleQuality

_batching = themed("Batches")

_SHOWN_COLUMNS = 40
_SHOWN_CLASSES = 12


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch inspect breast_cancer
  rightbatch inspect $RIGHTBATCH_DATA/mnist --val 5000 --model softmax --batch-size 128
  rightbatch inspect "trips/*.csv" --target fare_amount --missing drop --json
  rightbatch inspect digits --batch-size 64 --shuffle-quality --window 512

JSON keys: samples, columns [{name, dtype, shape}], splits {train, val, test},
duplicate_samples, batches {count, last}, bytes {full_batch, one_batch, parameters}, and
data, target, classes, notes, shuffle_quality (null unless asked for).
""",
)
@click.argument("data")
@data_options
@model_options
@batch_options
@order_options
@_batching(
    "--shuffle-quality",
    "with_shuffle_quality",
    is_flag=True,
    help="Measure how well the order mixes the training part, beside a uniform shuffle.",
)
@output_options
def inspect(
    data: str,
    model: str | None,
    batch_size: int | str,
    shuffle: bool,
    window: int | None,
    block: int | None,
    memory: str | None,
    with_shuffle_quality: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Show what DATA are: columns, splits, batches and bytes."""
    from rightbatch.inspection import inspect_data

    output = Output(as_json=as_json, quiet=quiet)
    report = inspect_data(
        collect(DataOptions, {"data": data, **options}),
        model=model,
        batch_size=batch_size,
        with_shuffle_quality=with_shuffle_quality,
        shuffle=shuffle,
        window=window,
        block=block,
        memory=memory,
    )
    output.result(_tables(report), report.to_json())


def _tables(report: InspectReport) -> Iterator[RenderableType]:
    classes = f" of {report.classes} classes" if report.classes else ""
    target = f"the target is {report.target!r}{classes}" if report.target else "no target"
    yield f"{report.data}: {report.samples:,} samples, {target}"

    columns = table("column", "dtype", "shape")
    for column in report.columns[:_SHOWN_COLUMNS]:
        columns.add_row(column["name"], column["dtype"], _shape_text(column["shape"]))
    if len(report.columns) > _SHOWN_COLUMNS:
        columns.add_row(f"… {len(report.columns) - _SHOWN_COLUMNS} more", "", "")
    yield columns

    splits = table("split", "samples", "classes", right=["samples"])
    for name, size in report.splits.items():
        splits.add_row(name, f"{size:,}", _balance_text(report.class_counts.get(name, {})))
    yield splits

    count, last = report.batches["count"], report.batches["last"]
    yield f"Batches: {count:,} of {report.batch_size:,} samples an epoch, the last of {last:,}"
    sizes = {name: bytes_text(size) for name, size in report.bytes.items()}
    yield (
        f"Memory: {sizes['full_batch']} for the whole training part as one batch, "
        f"{sizes['one_batch']} for one batch, {sizes['parameters']} of it parameters"
        + (f" ({report.model})" if report.model else "")
    )
    if report.duplicate_samples is None:
        yield "Duplicates: not looked for, the data are large"
    else:
        yield (
            f"Duplicates: {report.duplicate_samples:,} held-out samples have inputs equal to "
            "those of a sample on the other side of the split"
        )
    if report.shuffle_quality is not None:
        yield from _shuffle_texts(report.shuffle_quality)
    for note in report.notes:
        yield f"Note: {note}"


def _shuffle_texts(quality: ShuffleQuality) -> Iterator[RenderableType]:
    yield f"Shuffle: order {quality.order}, batches of {quality.batch_size:,}, epoch 0"
    measures = table(
        "measure",
        "here",
        "uniform shuffle",
        "times",
        right=["here", "uniform shuffle", "times"],
    )
    for row in quality.rows():
        measures.add_row(*row)
    yield measures
    for note in quality.notes:
        yield f"Note: {note}"


def _shape_text(shape: list[int | None]) -> str:
    """The sizes of a sample; one that varies is None."""
    sizes = ("…" if length is None else str(length) for length in shape)
    return " × ".join(sizes) or "one value"


def _balance_text(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    shares = [f"{name}: {count / total:.1%}" for name, count in counts.items()]
    more = f"  … {len(shares) - _SHOWN_CLASSES} more" if len(shares) > _SHOWN_CLASSES else ""
    return "  ".join(shares[:_SHOWN_CLASSES]) + more

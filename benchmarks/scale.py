"""The plan from a thousand to a million million samples: time and memory of a batch of rows.

For each order: seconds to make a plan and the rows of its first batch, seconds to seek to the
middle of an epoch (a new epoch each time, so nothing is left from before), and the largest amount
of memory that Python had allocated meanwhile. "split" is the same with the rows of a training part
out of a split, which is made anew. Nothing here reads data: rows are numbers.

"rb.Batches" is the time to the first batch of a shuffled epoch over the training part of a split,
of samples that are made on request.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

import rightbatch as rb
from report import describe_machine, show_machine, write_json
from rightbatch.data.column import Column
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import split_rows

_LENGTHS = tuple(10**power for power in range(3, 13))
_BATCH_SIZE = 256
_WINDOW = 65_536
_ORDERS: dict[str, Callable[[], Order]] = {
    "uniform": lambda: Order(kind="uniform"),
    f"window of {_WINDOW:,}": lambda: Order(kind="window", window=_WINDOW),
    "sequential": lambda: Order(kind="sequential"),
    "blocks of 512, windows of 262,144": lambda: Order(
        kind="block-window", block=512, window=262_144
    ),
}
_MOST_SECONDS = 0.010
_MOST_LOADER_SECONDS = 1.0
_MOST_BYTES = 10_000_000


class Numbers(rb.Dataset):
    """Samples that are their own number, of which no two are equal."""

    known_duplicates = (np.empty(0, np.int64), np.empty(0, np.int64))

    def __init__(self, length: int) -> None:
        super().__init__(name="numbers", columns=[Column(name="number", dtype=np.dtype(np.int64))])
        self._length = length

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: ArrayLike) -> dict[str, Any]:
        """The numbers `indices` themselves."""
        return {"number": np.array(indices, np.int64)}

    def span(self, start: int, stop: int) -> dict[str, Any]:
        """The numbers from `start` up to `stop`."""
        return {"number": np.arange(start, stop)}

    @property
    def fingerprint(self) -> str:
        """Follows from the length."""
        return f"numbers:{self._length}"


def first_of_loader(length: int, seed: int) -> None:
    """Split, and take the first batch of a shuffled epoch of the training part."""
    parts = rb.split(Numbers(length), val=0.1, test=0.1, seed=seed)
    next(iter(rb.Batches(parts.train, _BATCH_SIZE, seed=seed)))


def rows_of_all(length: int) -> RowSet:
    """All samples."""
    return RowSet.from_range(length, 0, length)


def rows_of_train(length: int) -> RowSet:
    """The samples of the training part of a split."""
    return split_rows(rows_of_all(length), val=0.1, test=0.1, seed=1)["train"]


def first_batch(order: Order, rows: Callable[[int], RowSet], length: int, seed: int) -> None:
    """Everything from nothing to the rows of the first batch."""
    chosen = rows(length)
    plan = Plan(length=len(chosen), batch_size=_BATCH_SIZE, order=order, seed=seed)
    chosen.take(plan.positions(0, *plan.span(0)))


def seek_to_middle(plan: Plan, chosen: RowSet, epoch: int) -> None:
    """The rows of the batch in the middle of an epoch that has not been entered."""
    chosen.take(plan.positions(epoch, *plan.span(plan.batch_count() // 2)))


def measure_one(
    order: Order, rows: Callable[[int], RowSet], length: int, repeats: int
) -> dict[str, float]:
    """Median seconds of both, and the peak of allocated bytes."""
    # A seed of its own each time: a permutation that is kept for the next call is of no help.
    seeds = range(repeats)
    first = [_seconds(partial(first_batch, order, rows, length, seed)) for seed in seeds]
    chosen = rows(length)
    plan = Plan(length=len(chosen), batch_size=_BATCH_SIZE, order=order, seed=repeats)
    seek = [
        _seconds(partial(seek_to_middle, plan, chosen, epoch)) for epoch in range(1, repeats + 1)
    ]
    # Separately: tracing allocations takes time.
    tracemalloc.start()
    first_batch(order, rows, length, repeats + 1)
    seek_to_middle(plan, chosen, repeats + 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "first_batch_seconds": statistics.median(first),
        "seek_seconds": statistics.median(seek),
        "peak_bytes": float(peak + chosen.nbytes),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@click.command(help=__doc__)
@click.option("--repeats", default=9, show_default=True, type=click.IntRange(1))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all to FILE.")
def main(repeats: int, json_file: Path | None) -> None:
    """Measure every order at every length, and print the table."""
    machine = describe_machine()
    measured: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    loader: dict[int, float] = {}
    # One length after the other, each with all orders: a disturbance falls on every order.
    for length in _LENGTHS:
        for order_name, make in _ORDERS.items():
            for kind, rows in (("all", rows_of_all), ("split", rows_of_train)):
                one = measure_one(make(), rows, length, repeats)
                measured.setdefault((order_name, kind), {})[length] = one
        loader[length] = statistics.median(
            _seconds(partial(first_of_loader, length, seed)) for seed in range(repeats)
        )
    _show(measured, loader, machine, repeats)
    if json_file is not None:
        rows_of_json = [
            {"order": order, "rows": kind, "samples": length, **one}
            for (order, kind), by_length in measured.items()
            for length, one in by_length.items()
        ]
        found = {"rows": rows_of_json, "loader_seconds": loader}
        write_json(json_file, {"machine": machine, "repeats": repeats, **found})


def _show(
    measured: dict[tuple[str, str], dict[int, dict[str, float]]],
    loader: dict[int, float],
    machine: dict[str, object],
    repeats: int,
) -> None:
    console = show_machine(machine)
    table = Table(
        title=f"A plan of N samples, batches of {_BATCH_SIZE}: ms to the first batch / ms to the "
        "middle / MB",
        caption=f"Medians of {repeats}",
    )
    table.add_column("samples", justify="right")
    for order, kind in measured:
        table.add_column(order if kind == "all" else f"{order}, split", justify="right")
    table.add_column("rb.Batches, ms", justify="right")
    for length in _LENGTHS:
        cells = [by_length.get(length) for by_length in measured.values()]
        by_loader = f"{loader[length] * 1e3:.0f}"
        table.add_row(f"10^{len(str(length)) - 1}", *map(_cell, cells), by_loader)
    console.print(table)
    for says, keys, goal, unit in (
        ("slowest", ("first_batch_seconds", "seek_seconds"), _MOST_SECONDS, "s"),
        ("largest", ("peak_bytes",), float(_MOST_BYTES), "bytes"),
    ):
        worst, where = max(
            (one[key], f"{order}, {kind}, {length:,} samples")
            for (order, kind), by_length in measured.items()
            for length, one in by_length.items()
            for key in keys
        )
        _print_verdict(console, says, worst, goal, unit, where)
    slowest = max(loader, key=loader.__getitem__)
    where = f"rb.Batches, {slowest:,} samples"
    _print_verdict(console, "slowest", loader[slowest], _MOST_LOADER_SECONDS, "s", where)


def _print_verdict(
    console: Console, says: str, worst: float, goal: float, unit: str, where: str
) -> None:
    verdict = "[green]reached[/]" if worst < goal else "[red]not reached[/]"
    console.print(f"{says}: {worst:,.4g} {unit} ({where}); goal < {goal:,.4g} {unit}: {verdict}")


def _cell(one: dict[str, float] | None) -> str:
    if one is None:
        return "–"
    first, seek = one["first_batch_seconds"] * 1e3, one["seek_seconds"] * 1e3
    return f"{first:.2f} / {seek:.2f} / {one['peak_bytes'] / 1e6:.2f}"


if __name__ == "__main__":
    main()

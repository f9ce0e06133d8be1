"""How cost grows with the data: samples a second and peak memory at 0.5 to 8 GiB."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import large_data
from cold import ColdWork
from large_data import FEATURES
from large_loaders import Job
from measure import Contender, Result, measure
from report import describe_machine, show_machine, write_json

SIZES_GIB = (0.5, 1.0, 2.0, 4.0, 8.0)
_LOADER = "rightbatch, memory="
_LIMIT = "sequential read"
# "Flat": the worst size is within this of the best.
_FLAT = 1.25


def run(
    job: Job, folder: Path, repeats: int, within_bytes: int | None, json_file: Path | None
) -> None:
    """Measure every size, interleaved, and print the table. `job` gives batch size and budget."""
    contenders = []
    for gib in SIZES_GIB:
        # One file a size, not one cut shorter: what is read is the whole of it.
        own = replace(job, folder=str(folder / f"{gib:g}-gib"), rows=large_data.rows_of(gib))
        contenders += [
            Contender(
                name=f"{loader}, {gib:g} GiB",
                work=partial(ColdWork, loader, own, within_bytes=within_bytes, checks=False),
                repeats_short_runs=False,
            )
            for loader in (_LOADER, _LIMIT)
        ]
    machine = describe_machine()
    with Console(stderr=True).status("") as status:
        results = measure(contenders, repeats=repeats, tell=status.update)
    rows = [
        _row(gib, ours, limit)
        for gib, ours, limit in zip(SIZES_GIB, results[::2], results[1::2], strict=True)
    ]
    _show(job, rows, machine, repeats)
    if json_file is not None:
        write_json(json_file, {"machine": machine, "repeats": repeats, "rows": rows})


def _row(gib: float, ours: Result, limit: Result) -> dict[str, Any]:
    samples = large_data.rows_of(gib)
    runs: Any = ours.details.get("runs", [])
    peaks = [run["peak"] for run in runs]
    return {
        "gib": gib,
        "samples": samples,
        "skipped": ours.skipped or limit.skipped or None,
        "seconds": ours.seconds,
        "samples_per_second": samples / ours.median_seconds,
        "of_the_limit": ours.speed_against(limit),
        "peak_bytes": statistics.median(peak["total"] for peak in peaks) if peaks else None,
        "peak_anonymous_bytes": statistics.median(peak["anonymous"] for peak in peaks)
        if peaks
        else None,
    }


def _show(job: Job, rows: list[dict[str, Any]], machine: dict[str, object], repeats: int) -> None:
    console = show_machine(machine)
    table = Table(
        title=f"How cost grows: {FEATURES}-byte rows, cold, batches of {job.batch_size}, "
        f"budget {job.budget_bytes / 1e6:,.0f} MB",
        caption=f"Medians of {repeats} interleaved rounds; peaks above the process after its "
        "imports, in brackets what belongs to no file",
    )
    for heading in ("GiB", "samples", "seconds", "samples/s", "GB/s", "of the limit", "peak MB"):
        table.add_column(heading, justify="right")
    measured = [row for row in rows if row["skipped"] is None]
    for row in rows:
        if row["skipped"] is not None:
            table.add_row(f"{row['gib']:g}", "skipped", row["skipped"], style="dim")
            continue
        rate = row["samples_per_second"]
        table.add_row(
            f"{row['gib']:g}",
            f"{row['samples']:,}",
            f"{statistics.median(row['seconds']):.2f}",
            f"{rate:,.0f}",
            f"{rate * FEATURES / 1e9:.3f}",
            f"{row['of_the_limit']:.3g}",
            f"{row['peak_bytes'] / 1e6:,.0f} ({row['peak_anonymous_bytes'] / 1e6:,.0f})",
        )
    console.print(table)
    for says, key in (("samples a second", "samples_per_second"), ("peak memory", "peak_bytes")):
        values = [row[key] for row in measured]
        if values:
            ratio = max(values) / max(1, min(values))
            verdict = "[green]flat[/]" if ratio <= _FLAT else "[red]not flat[/]"
            console.print(f"{says}: largest {ratio:.2f} × the smallest (≤ {_FLAT}): {verdict}")

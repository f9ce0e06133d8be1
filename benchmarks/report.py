"""The face of a benchmark: its options, the machine, the table, the goals, the JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from math import isnan
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from measure import Contender, Result, measure

# A table in a file or a log is not folded to the 80 columns that a missing terminal is taken for.
_LEAST_WIDTH = 150

_PACKAGES = (
    "rightbatch",
    "numpy",
    "torch",
    "tensorflow-cpu",
    "grain",
    "datasets",
    "jax",
    "keras",
    "lightning",
    "scikit-learn",
    "pyarrow",
    "array-record",
    "pillow",
    "simplejpeg",
)

_ONLY_HELP = "Only contenders whose name contains TEXT, reference and limit. Repeatable."
_JSON_HELP = "Write all to FILE."


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What `ours` is to reach: at least `factor` times the speed of the best of `theirs`."""

    says: str
    ours: str
    theirs: tuple[str, ...]
    factor: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A table: contenders, of which one is the reference, and one a limit to compare with."""

    title: str
    samples: int
    contenders: tuple[Contender, ...]
    reference: str
    limit: str
    goals: tuple[Goal, ...]
    notes: tuple[str, ...] = ()
    sample_bytes: int | None = None


def command(benchmark: Benchmark, *, repeats: int) -> click.Command:
    """The command line of a benchmark; `repeats` is the default number of rounds."""

    @click.command(help=f"Measure: {benchmark.title}.")
    @options(repeats=repeats)
    def run(repeats: int, only: tuple[str, ...], json_file: Path | None) -> None:
        run_benchmark(benchmark, repeats, only, json_file)

    return run


def options(*, repeats: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that all benchmarks have: `repeats`, `only` and `json_file`."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--json", "json_file", type=click.Path(path_type=Path), help=_JSON_HELP),
            click.option("--only", multiple=True, metavar="TEXT", help=_ONLY_HELP),
            click.option("--repeats", default=repeats, show_default=True, type=click.IntRange(1)),
        ):
            function = option(function)
        return function

    return add


def run_benchmark(
    benchmark: Benchmark, repeats: int, only: Sequence[str], json_file: Path | None
) -> None:
    """Measure the contenders asked for, and show and write what came out."""
    chosen = [
        contender
        for contender in benchmark.contenders
        if not only
        or contender.name in (benchmark.reference, benchmark.limit)
        or any(text.lower() in contender.name.lower() for text in only)
    ]
    machine = describe_machine()
    with Console(stderr=True).status("") as status:
        results = measure(chosen, repeats=repeats, tell=status.update)
    show(benchmark, results, machine, repeats)
    if json_file is not None:
        write_json(json_file, as_json(benchmark, results, machine, repeats))


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write what was measured."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def describe_machine() -> dict[str, object]:
    """Date, processor, cores, load and the versions of everything installed that takes part."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "rightbatch" not in versions:
        import rightbatch

        versions["rightbatch"] = rightbatch.__version__
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def show_machine(machine: dict[str, object]) -> Console:
    """Print the header; gives the console that tables go to."""
    console = Console()
    if console.width < _LEAST_WIDTH and not console.is_terminal:
        console = Console(width=_LEAST_WIDTH)
    versions = machine["versions"]
    assert isinstance(versions, dict)
    console.print(
        f"{machine['date']} · {machine['processor']}, {machine['cores']} cores · "
        f"{machine['system']} · Python {machine['python']}\n"
        + " · ".join(f"{name} {version}" for name, version in versions.items()),
        style="dim",
    )
    load = machine["load_before"]
    if isinstance(load, float) and load > 0.5:
        console.print(
            f"Others were using this machine (load {load}): trust the ratios at most, and "
            "measure again when it is idle.",
            style="yellow",
        )
    return console


def show(
    benchmark: Benchmark, results: Sequence[Result], machine: dict[str, object], repeats: int
) -> None:
    """Print header, table and goals."""
    console = show_machine(machine)
    by_name = {result.contender.name: result for result in results}
    has_outcome = any(result.outcome for result in results)
    table = Table(title=benchmark.title, caption=f"Medians of {repeats} interleaved rounds")
    table.add_column("contender", overflow="fold")
    rate_heading = () if benchmark.sample_bytes is None else ("GB/s",)
    for heading in ("seconds", "samples/s", *rate_heading, "× reference", "of the limit"):
        table.add_column(heading, justify="right")
    if has_outcome:
        table.add_column("outcome")
    for result in sorted(results, key=_order):
        contender = result.contender
        name = f"[dim]limit:[/] {contender.name}" if contender.is_limit else contender.name
        if contender.name == benchmark.reference:
            name = f"{name} [dim](the reference)[/]"
        if result.skipped or not result.seconds:
            # Under the outcomes where there are any: the other columns are narrow.
            empty = [""] * (len(table.columns) - 3) if has_outcome else []
            table.add_row(name, "skipped", *empty, result.skipped, style="dim")
            continue
        rate = benchmark.samples / result.median_seconds
        row = [
            name,
            f"{result.median_seconds:.4f}",
            f"{rate:,.0f}",
            *(f"{rate * benchmark.sample_bytes / 1e9:.3f}" for _ in rate_heading),
            _ratio(_speed(by_name, contender.name, benchmark.reference)),
            _ratio(_speed(by_name, contender.name, benchmark.limit)),
        ]
        table.add_row(*row, *([result.outcome] if has_outcome else []))
    console.print(table)
    for note in benchmark.notes:
        console.print(note, style="dim", soft_wrap=True)
    for goal in benchmark.goals:
        reached = _reached(goal, by_name)
        if not isnan(reached):
            verdict = "[green]reached[/]" if reached >= goal.factor else "[red]not reached[/]"
            console.print(
                f"{goal.says} (≥ {goal.factor:.2f} × the speed): {reached:.2f} ×, {verdict}",
                soft_wrap=True,
            )


def as_json(
    benchmark: Benchmark, results: Sequence[Result], machine: dict[str, object], repeats: int
) -> dict[str, object]:
    """Everything that was measured."""
    by_name = {result.contender.name: result for result in results}
    return {
        "title": benchmark.title,
        "machine": machine,
        "repeats": repeats,
        "reference": benchmark.reference,
        "limit": benchmark.limit,
        "rows": [
            {
                "name": result.contender.name,
                "is_limit": result.contender.is_limit,
                "skipped": result.skipped or None,
                "outcome": result.outcome or None,
                "details": result.details,
                "seconds": result.seconds,
                "median_seconds": _number(result.median_seconds),
                "samples_per_second": _number(benchmark.samples / result.median_seconds),
                "speed_against_reference": _number(
                    _speed(by_name, result.contender.name, benchmark.reference)
                ),
                "speed_against_limit": _number(
                    _speed(by_name, result.contender.name, benchmark.limit)
                ),
            }
            for result in results
        ],
        "goals": [
            {
                "says": goal.says,
                "factor": goal.factor,
                "measured": _number(_reached(goal, by_name)),
                "is_reached": _reached(goal, by_name) >= goal.factor,
            }
            for goal in benchmark.goals
        ],
    }


def _order(result: Result) -> tuple[bool, float]:
    return (not result.seconds, result.median_seconds if result.seconds else 0.0)


def _speed(by_name: dict[str, Result], ours: str, theirs: str) -> float:
    if ours not in by_name or theirs not in by_name:
        return float("nan")
    return by_name[ours].speed_against(by_name[theirs])


def _reached(goal: Goal, by_name: dict[str, Result]) -> float:
    if not by_name.keys() >= set(goal.theirs):
        return float("nan")  # --only left some out, so the best of them is not known
    speeds = [_speed(by_name, goal.ours, name) for name in goal.theirs]
    return min((speed for speed in speeds if not isnan(speed)), default=float("nan"))


def _ratio(value: float) -> str:
    return "" if isnan(value) else f"{value:.3g}"


def _number(value: float) -> float | None:
    return None if isnan(value) else value

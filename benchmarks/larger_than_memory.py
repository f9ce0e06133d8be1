"""Data larger than memory: shuffled batches out of a file that is read cold, within a budget."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

import large_data
import large_growth
from cold import ColdWork
from large_data import FEATURES
from large_loaders import LOADERS, Job
from measure import Contender
from report import Benchmark, Goal, options, run_benchmark
from rightbatch.byte_sizes import parse_bytes

_LIMIT = "sequential read"
_OURS = "rightbatch, memory="
_REFERENCE = "torch DataLoader over a memory map"
_MODULES = {
    "torch DataLoader over a memory map, BatchSampler as sampler": ("torch",),
    _REFERENCE: ("torch",),
    "tf.data over TFRecord": ("tensorflow",),
    "HF datasets, iterable with a shuffle buffer": ("datasets",),
    "HF datasets, shuffled by index": ("datasets",),
    "MosaicML Streaming": ("streaming",),
    "grain over a memory map": ("grain",),
    "grain over ArrayRecord": ("grain", "array_record"),
}
_PEERS = tuple(name for name in _MODULES if "torch" not in name)
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}
_STREAMING = "MosaicML Streaming"


def benchmark_of(
    job: Job,
    *,
    stop_seconds: float,
    within_bytes: int | None,
    streaming_python: str | None,
) -> Benchmark:
    """The table: all loaders over the same rows."""
    # What is judged runs to its end. Where little can be cached, the reference would take hours.
    whole = (_OURS, _LIMIT) if within_bytes is not None else (_OURS, _LIMIT, _REFERENCE)

    def contender(name: str) -> Contender:
        elsewhere = name == _STREAMING and streaming_python is not None
        return Contender(
            name=name,
            work=partial(
                ColdWork,
                name,
                job,
                python=streaming_python if elsewhere else sys.executable,
                stop_seconds=float("inf") if name in whole else stop_seconds,
                within_bytes=within_bytes,
                checks=name != _LIMIT,
            ),
            modules=() if elsewhere else _MODULES.get(name, ()),
            environment=_QUIET,
            is_limit=name == _LIMIT,
            repeats_short_runs=False,
        )

    gibibytes = job.rows * FEATURES / 2**30
    return Benchmark(
        title=f"{gibibytes:.3g} GiB of {FEATURES}-byte rows, cold → shuffled batches of "
        f"{job.batch_size}, one epoch, budget {job.budget_bytes / 1e6:,.0f} MB",
        samples=job.rows,
        sample_bytes=FEATURES,
        reference=_REFERENCE,
        limit=_LIMIT,
        contenders=tuple(contender(name) for name in LOADERS),
        goals=(
            Goal(
                says="rightbatch against the sequential read",
                ours=_OURS,
                theirs=(_LIMIT,),
                factor=0.85,
            ),
            Goal(
                says="rightbatch against torch's DataLoader over a memory map",
                ours=_OURS,
                theirs=(_REFERENCE,),
                factor=8.0,
            ),
            Goal(
                says="rightbatch against the best peer loader",
                ours=_OURS,
                theirs=_PEERS,
                factor=1.0,
            ),
        ),
        notes=(
            "peak: resident bytes above the process after its imports, workers included, mapped "
            "file pages counted; in brackets those that belong to no file. read: bytes from "
            "storage against the size of the files. spread: how far apart the rows of a batch lie "
            "in the file, 1 for a uniform shuffle.",
            f"A slow run was stopped after {stop_seconds:g} s: the rest at its last half's rate."
            if stop_seconds < float("inf")
            else "",
            "The page cache was free to keep what was read."
            if within_bytes is None
            else f"Each process and the pages it read had {within_bytes / 1e6:,.0f} MB.",
        ),
    )


@contextlib.contextmanager
def data_folder(folder: Path | None, *, keep: bool) -> Iterator[Path]:
    """The folder asked for, kept or not, or a temporary one."""
    if folder is not None and keep:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="rightbatch-large-") as temporary:
        yield Path(temporary)


@click.command(help=__doc__)
@click.option("--gib", default=4.0, show_default=True, help="Size of the data, in GiB.")
@click.option("--budget", default="512MB", show_default=True, help="Memory that loaders may use.")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1))
@click.option(
    "--stop-seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Stop a slow loader after so long, and take its rate for the rest.",
)
@click.option(
    "--within",
    metavar="SIZE",
    help="Let each process, and the pages that it reads, have no more than SIZE (as root).",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write the data (5 times the size); by default the temporary folder.",
)
@click.option("--keep", is_flag=True, help="Keep the data in --folder, and use what is there.")
@click.option("--growth", is_flag=True, help="Measure rightbatch at 0.5, 1, 2, 4 and 8 GiB.")
@click.option(
    "--streaming-python",
    metavar="PYTHON",
    help="The Python of the environment that MosaicML Streaming is installed in.",
)
@options(repeats=3)
def main(
    gib: float,
    budget: str,
    batch_size: int,
    stop_seconds: float,
    within: str | None,
    folder: Path | None,
    keep: bool,
    growth: bool,
    streaming_python: str | None,
    repeats: int,
    only: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Write the data, measure, and print the table."""
    if keep and folder is None:
        raise click.UsageError("--keep needs --folder, where the data are to stay")
    within_bytes = None if within is None else parse_bytes(within, name="within")
    # Ended from outside, as at the keyboard: gigabytes would stay in the temporary folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with data_folder(folder, keep=keep) as root:
        job = Job(
            folder=str(root / f"{gib:g}-gib"),
            rows=large_data.rows_of(gib),
            batch_size=batch_size,
            budget_bytes=parse_bytes(budget, name="budget"),
        )
        if growth:
            large_growth.run(job, root, repeats, within_bytes, json_file)
            return
        benchmark = benchmark_of(
            job,
            stop_seconds=stop_seconds,
            within_bytes=within_bytes,
            streaming_python=streaming_python,
        )
        run_benchmark(benchmark, repeats, only, json_file)


if __name__ == "__main__":
    main()

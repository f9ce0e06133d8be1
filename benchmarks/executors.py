"""`--workers` and `--dask`: who carries out those runs of a benchmark that are not timed."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the two options."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--workers", type=int, default=0, help="worker processes on this machine")
    group.add_argument("--dask", metavar="ADDRESS", help="the scheduler of a Dask cluster")


@contextmanager
def open_executor(arguments: argparse.Namespace) -> Iterator[Executor | None]:
    """The executor that the options name; None where they name none."""
    if arguments.dask:
        from distributed import Client

        with Client(arguments.dask) as client:
            yield client.get_executor()
    elif arguments.workers:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
            yield pool
    else:
        yield None

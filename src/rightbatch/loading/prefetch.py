"""Tasks run ahead of their consumer by a bounded number of threads, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Result = TypeVar("Result")


def in_order(
    tasks: Iterable[Callable[[], Result]], *, threads: int
) -> Generator[Result, None, None]:
    """Yield the result of every task, in the order of the tasks.

    `threads` work ahead, with at most `threads + 1` results finished or under way; with 0 the
    caller's own thread does the work. What a task raises is raised here, at its place in the
    order. Closing the generator (a `break`, an exception, Ctrl-C) drops what was not begun and
    waits for what was: no thread is left behind.

    >>> list(in_order([lambda: 1, lambda: 2], threads=1))
    [1, 2]
    """
    remaining = iter(tasks)
    if threads == 0:
        for task in remaining:
            yield task()
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="rightbatch-loader")
    pending: deque[Future[Result]] = deque()
    try:
        pending.extend(pool.submit(task) for task in islice(remaining, threads + 1))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(task) for task in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

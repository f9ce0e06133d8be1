"""Tasks run ahead of their consumer by a bounded number of threads, results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from queue import SimpleQueue
from typing import Generic, TypeVar

Result = TypeVar("Result")


def in_order(
    tasks: Iterable[Callable[[], Result]], *, threads: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield the result of every task, in the order of the tasks.

    `threads` work ahead, with at most `ahead` results (by default `threads + 2`) finished or under
    way; a consumer that comes too early does tasks itself instead of waiting. With 0 threads it
    does them all.
    What a task raises is raised here, at its place in the order. Closing the generator (a `break`,
    an exception, Ctrl-C) drops what was not begun and waits for what was: no thread is left.

    >>> list(in_order([lambda: 1, lambda: 2], threads=1))
    [1, 2]
    """
    remaining = iter(tasks)
    if threads == 0:
        for task in remaining:
            yield task()
        return
    # Not a ThreadPoolExecutor: its futures and queues cost as much as gathering a small slab.
    handed_out: SimpleQueue[_Ahead[Result] | None] = SimpleQueue()
    workers = [
        # A daemon, because an iterator that is never closed must not keep the program alive.
        threading.Thread(
            target=_work, args=(handed_out,), name=f"rightbatch-loader-{number}", daemon=True
        )
        for number in range(threads)
    ]
    waiting: deque[_Ahead[Result]] = deque()

    def hand_out(count: int) -> None:
        for task in islice(remaining, count):
            pending = _Ahead(task)
            waiting.append(pending)
            handed_out.put(pending)

    try:
        for worker in workers:
            worker.start()
        hand_out(threads + 2 if ahead is None else ahead)
        while waiting:
            first = waiting.popleft()
            # Sleeping and being woken costs about as much as a small slab, so help as long as
            # there is something left to do.
            while not first.is_done and any(pending.run() for pending in (first, *waiting)):
                pass
            result = first.wait()
            hand_out(1)
            yield result
    finally:
        for pending in waiting:
            pending.claim()
        for _ in workers:
            handed_out.put(None)
        # The garbage collector may close a forgotten iterator from a loader's own thread, which
        # cannot wait for itself, nor for another one that waits for a lock it holds.
        if not threading.current_thread().name.startswith("rightbatch-loader"):
            for worker in workers:
                if worker.ident is not None:
                    worker.join()


class _Ahead(Generic[Result]):
    """A task that any one thread may run, and its outcome."""

    __slots__ = ("_claimed", "_error", "_finished", "_result", "_task", "is_done")

    def __init__(self, task: Callable[[], Result]) -> None:
        self._task = task
        self._claimed = threading.Lock()
        self._finished = threading.Lock()
        self._finished.acquire()
        self._result: Result | None = None
        self._error: BaseException | None = None
        self.is_done = False

    def claim(self) -> bool:
        """Whether nobody had this task before the caller."""
        return self._claimed.acquire(blocking=False)

    def run(self) -> bool:
        """Run the task unless another thread has it; gives whether it was run here."""
        if not self.claim():
            return False
        try:
            self._result = self._task()
        except BaseException as error:  # it is raised again where the consumer meets it
            self._error = error
            # Ctrl-C in a consumer that helps is not the fault of a task, and can not wait for it.
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            self.is_done = True
            self._finished.release()
        return True

    def wait(self) -> Result:
        """The task's result, or what it raised, once it has been run."""
        if not self.is_done:
            self._finished.acquire()
        if self._error is not None:
            raise self._error
        result, self._result = self._result, None
        return result  # type: ignore[return-value]  # a task that raised nothing has a result


def _work(handed_out: SimpleQueue[_Ahead[Result] | None]) -> None:
    while (pending := handed_out.get()) is not None:
        pending.run()

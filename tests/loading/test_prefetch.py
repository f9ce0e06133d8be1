"""Work ahead of the consumer: in order, bounded, and no thread left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.loading.prefetch import in_order


def loader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("rightbatch-loader")]


def batches(threads: int = 2, **options) -> rb.Batches:
    return rb.Batches(np.arange(5000).reshape(5000, 1), 1, threads=threads, **options)


class BadSampleError(Exception):
    pass


def fail_at_row_3000(inputs):
    if (inputs == 3000).any():
        raise BadSampleError("row 3000")
    return inputs


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(threads: int) -> None:
    def task(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    tasks = (partial(task, number) for number in range(30))
    assert list(in_order(tasks, threads=threads)) == list(range(30))
    assert loader_threads() == []


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_work_ahead_is_bounded(threads: int) -> None:
    begun: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(100):
            begun.append(number)
            yield partial(int, number)

    results = in_order(tasks(), threads=threads)
    for number in range(20):
        assert next(results) == number
        # The one that is given out, and at most threads + 2 more.
        assert len(begun) <= number + 1 + (threads + 2 if threads else 0)
    results.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_failure_is_raised_at_its_place_in_the_order(threads: int) -> None:
    def fail() -> int:
        raise BadSampleError

    results = in_order([lambda: 1, lambda: 2, fail, lambda: 4], threads=threads)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(BadSampleError):
        next(results)
    assert loader_threads() == []


def test_a_consumer_helps_until_what_it_waits_for_is_there() -> None:
    helped = threading.Semaphore(0)
    begun = threading.Event()

    def slow() -> str:
        begun.set()
        return "slow" if all(helped.acquire(timeout=20) for _ in range(3)) else "nobody helped"

    def quick() -> str:
        helped.release()
        return threading.current_thread().name

    results = in_order([str, slow, quick, quick, quick], threads=1, ahead=5)
    next(results)
    assert begun.wait(20)
    assert list(results) == ["slow", *[threading.current_thread().name] * 3]


def test_ctrl_c_while_the_consumer_helps_does_not_wait_for_a_batch() -> None:
    begun, interrupted = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        return interrupted.wait(20)

    def interrupt() -> bool:
        interrupted.set()
        raise KeyboardInterrupt

    results = in_order([bool, slow, interrupt, bool], threads=1, ahead=4)
    next(results)
    assert begun.wait(20)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert loader_threads() == []


def test_an_epoch_gone_through_leaves_no_thread() -> None:
    for _ in batches():
        pass
    assert loader_threads() == []


def test_an_iterator_that_was_not_begun_has_no_thread() -> None:
    iterator = iter(batches())
    assert loader_threads() == []
    del iterator


def test_a_break_leaves_no_thread() -> None:
    for _ in batches():
        assert loader_threads() != []
        break
    assert loader_threads() == []
    for _ in batches().epoch(3):
        break
    assert loader_threads() == []


def test_dropping_or_closing_the_iterator_leaves_no_thread() -> None:
    iterator = iter(batches())
    next(iterator)
    assert loader_threads() != []
    del iterator
    assert loader_threads() == []


def test_an_exception_in_the_consumer_leaves_no_thread() -> None:
    def consume() -> None:
        for _ in batches():
            raise BadSampleError

    with pytest.raises(BadSampleError) as caught:
        consume()
    # The traceback still holds the frames of the loop.
    assert caught.value.__traceback__ is not None
    assert loader_threads() == []


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_exception_in_a_transform_reaches_the_consumer_and_leaves_no_thread(
    threads: int,
) -> None:
    parts = rb.split(np.arange(5000).reshape(5000, 1)).transform(fail_at_row_3000)
    loaded = rb.Batches(parts.train, 100, shuffle=False, threads=threads)
    taken = []
    with pytest.raises(BadSampleError, match="row 3000"):
        taken.extend(x for x in loaded)
    # Batches are made some at a time: what was ready came through, the bad one did not.
    assert 0 < len(taken) <= 30
    assert not (np.concatenate(taken) == 3000).any()
    assert loader_threads() == []


@pytest.mark.parametrize("threads", [0, 1])
def test_the_first_batch_does_not_wait_for_hundreds_of_calls(threads: int) -> None:
    calls = []

    def note(inputs):
        calls.append(len(inputs))
        return inputs

    parts = rb.split(np.arange(5000).reshape(5000, 1)).transform(note)
    for _ in rb.Batches(parts.train, 1, threads=threads):
        break
    assert len(calls) <= 16 * (threads + 2)


def test_the_garbage_collector_may_close_a_forgotten_iterator_in_a_loader_s_thread() -> None:
    closed_by = []

    def collect() -> int:
        gc.collect()
        return 0

    class Forgotten:
        def __init__(self) -> None:
            self.results = in_order(
                [lambda: 0, go_on.wait, collect, lambda: 0],
                threads=1,  # type: ignore[list-item]
            )
            self.itself = self

        def __del__(self) -> None:
            closed_by.append(threading.current_thread().name)

    gc.disable()
    try:
        go_on = threading.Event()
        forgotten = Forgotten()
        next(forgotten.results)
        del forgotten
        go_on.set()
        deadline = time.monotonic() + 20
        while loader_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        gc.enable()
    assert loader_threads() == []
    assert closed_by
    assert closed_by[0].startswith("rightbatch-loader")


INTERRUPTED = """
import signal, sys, threading
import numpy as np
import rightbatch as rb

signal.signal(signal.SIGINT, signal.default_int_handler)

def slow(inputs):
    threading.Event().wait(0.02)
    return inputs

part = rb.split(np.arange(100_000).reshape(100_000, 1)).transform(slow).train
try:
    for position, _ in enumerate(rb.Batches(part, 1, threads=2)):
        if position == 0:
            sys.stdout.write("ready\\n")
            sys.stdout.flush()
except KeyboardInterrupt:
    left = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    sys.stdout.write(f"interrupted, threads left: {left}\\n")
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is POSIX")
def test_ctrl_c_ends_the_program_and_leaves_no_thread() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "interrupted, threads left: []\n"), err

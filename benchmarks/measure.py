"""Measure contenders side by side: each in a process of its own, repeats interleaved.

A contender prepares and warms up once, outside the measured time. Then the rounds begin: in each
one every contender runs once while all the others wait, so that a disturbance of the machine
falls on all of them. Ratios are taken inside a round, and the median over the rounds is reported.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

# Short runs are repeated until one measurement lasts this long.
_LEAST_SECONDS = 0.2

# Seconds, a text (why it failed, or the outcome), and the details.
_Answer = tuple[float, str, dict[str, object]]


class Work(ABC):
    """What a contender does, made in its own process."""

    @abstractmethod
    def warm_up(self) -> None:
        """Run once unmeasured; AssertionError where the result is not what was asked for."""

    @abstractmethod
    def run(self) -> float | None:
        """Run once; gives its seconds where it measures itself, None to be measured."""

    def outcome(self) -> str:
        """What came out in the end, for the table."""
        return ""

    def details(self) -> dict[str, object]:
        """What else was measured, for the JSON file."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to do the job. `work` is called in the contender's process; `modules` must be there.

    `environment` is set before the process starts; `is_limit` marks what does only a part of the
    job, which no contender can beat.
    """

    name: str
    work: Callable[[], Work]
    modules: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    is_limit: bool = False
    repeats_short_runs: bool = True


@dataclass(kw_only=True)
class Result:
    """What was measured of one contender: seconds of a run by round, or why it has none."""

    contender: Contender
    seconds: list[float] = field(default_factory=list)
    outcome: str = ""
    details: dict[str, object] = field(default_factory=dict)
    skipped: str = ""

    @property
    def median_seconds(self) -> float:
        """The median over the rounds; NaN where there is none."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    def speed_against(self, other: Result) -> float:
        """How many times as fast as `other`: the median over the rounds of the ratio in each."""
        if not (self.seconds and other.seconds):
            return float("nan")
        pairs = zip(self.seconds, other.seconds, strict=False)
        return statistics.median(theirs / ours for ours, theirs in pairs)


def measure(
    contenders: Sequence[Contender],
    *,
    repeats: int,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Run every contender `repeats` times, interleaved; `tell` hears what is under way."""
    results = [Result(contender=contender) for contender in contenders]
    running: list[tuple[Result, _Worker]] = []
    try:
        for result in results:
            name = result.contender.name
            missing = [m for m in result.contender.modules if importlib.util.find_spec(m) is None]
            if missing:
                result.skipped = f"{', '.join(missing)} not installed"
                continue
            tell(f"preparing {name}")
            worker = _Worker(result.contender)
            running.append((result, worker))
            result.skipped = worker.start()
        for turn in range(repeats):
            # Another one begins each round: nobody always follows the same neighbour.
            first = turn % max(1, len(running))
            for result, worker in running[first:] + running[:first]:
                if not result.skipped:
                    tell(f"round {turn + 1} of {repeats}: {result.contender.name}")
                    worker.run(result)
        for result, worker in running:
            if not result.skipped:
                worker.finish(result)
    finally:
        for _, worker in running:
            worker.stop()
    return results


class _Worker:
    """A contender's process, and the pipe to it."""

    def __init__(self, contender: Contender) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # Not a daemon: a contender may have worker processes of its own.
        self._process = context.Process(target=_serve, args=(contender, theirs))
        with _environment(contender.environment):
            self._process.start()
        theirs.close()

    def start(self) -> str:
        """Wait until the contender has warmed up; gives why it could not."""
        return self._ask("start")[1]

    def run(self, result: Result) -> None:
        """Run once and note the seconds."""
        seconds, result.skipped, _ = self._ask("run")
        if not result.skipped:
            result.seconds.append(seconds)

    def finish(self, result: Result) -> None:
        """Note what came out."""
        _, result.outcome, result.details = self._ask("finish")

    def stop(self) -> None:
        """End the process, by force where it does not go."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _ask(self, request: str) -> _Answer:
        try:
            self._pipe.send(request)
            answer: _Answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            return 0.0, f"its process ended with exit code {self._process.exitcode}", {}
        return answer


def _serve(contender: Contender, pipe: Connection) -> None:
    """The contender's process: answer requests with an `_Answer` until the pipe closes."""
    # Libraries chatter; standard output belongs to the table.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    work, runs = None, 1
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            if request == "start":
                work = contender.work()
                work.warm_up()
                if contender.repeats_short_runs:
                    runs = max(1, round(_LEAST_SECONDS / max(_timed(work, 1), 1e-4)))
                pipe.send((0.0, "", {}))
            elif request == "run":
                assert work is not None  # the first request is always "start"
                pipe.send((_timed(work, runs), "", {}))
            else:
                assert work is not None  # the first request is always "start"
                pipe.send((0.0, work.outcome(), work.details()))
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            pipe.send((0.0, f"{type(error).__name__}: {first_line}", {}))


def _timed(work: Work, runs: int) -> float:
    """The mean seconds of `runs` runs."""
    total = 0.0
    for _ in range(runs):
        began = time.perf_counter()
        own = work.run()
        total += time.perf_counter() - began if own is None else own
    return total / runs


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

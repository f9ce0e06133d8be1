"""A cold run: a fresh process whose files have left the page cache, and what it takes meanwhile.

    python cold.py '{"loader": ..., "job": {...}, ...}'

is the fresh process: it imports what its loader needs, forgets its peak memory, says what it has,
waits for a line, loads, and prints what it found. `ColdWork` is the other side: it empties the
cache, starts the process, and watches the memory of it and of the workers that it starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import large_data
from control_group import control_group, join
from large_data import FEATURES
from large_loaders import LOADERS, Job
from measure import Work

_CHECKED_ROWS = 60_000
_WATCH_SECONDS = 0.02
_MOST_STAYED = 0.01
# Every so many batches the row numbers are kept, to see how far apart the rows of a batch lie.
_SPREAD_EVERY = 64
_PAGE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident bytes: all, and those that belong to no file."""

    total: int = 0
    anonymous: int = 0

    def above(self, base: Memory) -> Memory:
        """What is left above `base`, not below zero."""
        return Memory(
            total=max(0, self.total - base.total),
            anonymous=max(0, self.anonymous - base.anonymous),
        )

    def most(self, other: Memory) -> Memory:
        """The larger of each."""
        return Memory(
            total=max(self.total, other.total), anonymous=max(self.anonymous, other.anonymous)
        )


@dataclass(frozen=True, kw_only=True)
class ColdRun:
    """One measurement: `seconds` for all rows, of which `rows_taken` were loaded."""

    seconds: float
    rows_taken: int
    peak: Memory
    read_bytes: int
    stayed_share: float
    spread: float


class ColdWork(Work):
    """A loader, run cold each time. `stop_seconds` ends a slow run, and its rate is scaled."""

    def __init__(
        self,
        loader: str,
        job: Job,
        *,
        python: str = sys.executable,
        stop_seconds: float = float("inf"),
        within_bytes: int | None = None,
        checks: bool = True,
    ) -> None:
        self._loader, self._python = loader, python
        self._root, self._reads = Path(job.folder), LOADERS[loader].reads
        self._job = replace(job, folder=str(self._root / self._reads))
        self._stop_seconds, self._within_bytes = stop_seconds, within_bytes
        self._checks = checks
        self._runs: list[ColdRun] = []
        # When this process is told to end, its control group and its child end with it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def warm_up(self) -> None:
        """Write the data, and check the content of an epoch of fewer rows."""
        if self._checks:
            small = self._root / "checked"
            self._write(small, _CHECKED_ROWS)
            share = _CHECKED_ROWS / self._job.rows
            self._start(
                replace(
                    self._job,
                    folder=str(small / self._reads),
                    rows=_CHECKED_ROWS,
                    # As much smaller as the data, so that the same way is taken.
                    budget_bytes=max(2**23, int(self._job.budget_bytes * share)),
                ),
                checks=True,
            )
        self._write(self._root, self._job.rows)

    def run(self) -> float:
        """One cold run; gives the seconds that all rows take."""
        run = self._start(self._job)
        self._runs.append(run)
        return run.seconds

    def outcome(self) -> str:
        """Peak memory, how much was read, how well it was shuffled."""
        expected = large_data.bytes_of(Path(self._job.folder))
        taken = statistics.median(run.rows_taken for run in self._runs) / self._job.rows
        read = statistics.median(
            run.read_bytes / expected * self._job.rows / run.rows_taken for run in self._runs
        )
        peak = statistics.median(run.peak.total for run in self._runs)
        anonymous = statistics.median(run.peak.anonymous for run in self._runs)
        parts = [
            f"peak {peak / 1e6:,.0f} MB ({anonymous / 1e6:,.0f})",
            f"read {read:.2f} ×",
            f"spread {statistics.median(run.spread for run in self._runs):.2f}",
        ]
        if taken < 1 - 1e-6:
            parts.append(f"first {taken:.0%} timed")
        return ", ".join(parts)

    def details(self) -> dict[str, object]:
        """Every run."""
        return {"runs": [asdict(run) for run in self._runs]}

    def _write(self, folder: Path, rows: int) -> None:
        # In a process of its own, so that what the writer imports and allocates is gone.
        script = str(Path(large_data.__file__))
        done = subprocess.run(  # noqa: S603 - our own script
            [self._python, script, self._reads, str(folder), str(rows)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"writing {self._reads} failed: {_last_line(done.stderr)}")

    def _start(self, job: Job, *, checks: bool = False) -> ColdRun:
        asked = {
            "loader": self._loader,
            "job": asdict(job),
            "stop_seconds": min(self._stop_seconds, 1e9),
            "checks": checks,
            "within_bytes": self._within_bytes,
        }
        limited = self._within_bytes is not None and not checks
        grouped = control_group() if limited else contextlib.nullcontext()
        with grouped as asked["group"], tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(  # noqa: S603 - this file
                [self._python, __file__, json.dumps(asked)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # so that workers can be ended with it
            )
            try:
                return self._watch(process, Path(job.folder), errors)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if limited:
                    time.sleep(0.2)  # workers leave the group a moment after they end

    def _watch(self, process: subprocess.Popen[str], folder: Path, errors: Any) -> ColdRun:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        peak, read, began_read, stayed = Memory(), 0, 0, 0.0
        if process.stdout.readline().strip() == "ready":
            base = memory_of(process.pid)
            began_read = read_bytes_of(process.pid)
            stayed = large_data.drop_from_cache(folder)
            process.stdin.write("go\n")
            process.stdin.flush()
            while process.poll() is None:
                seen, read_now = Memory(), 0
                for pid in family_of(process.pid):
                    above = memory_of(pid).above(base)
                    seen = Memory(
                        total=seen.total + above.total, anonymous=seen.anonymous + above.anonymous
                    )
                    read_now += read_bytes_of(pid)
                peak, read = peak.most(seen), max(read, read_now)
                time.sleep(_WATCH_SECONDS)
        answer = process.stdout.read().strip()
        if not answer:
            errors.seek(0)
            raise RuntimeError(_last_line(errors.read()) or f"exit code {process.wait()}")
        told = json.loads(answer.splitlines()[-1])
        if stayed > _MOST_STAYED:
            raise RuntimeError(f"{stayed:.0%} of the files stayed in the page cache")
        return ColdRun(
            seconds=told["seconds"],
            rows_taken=told["rows_taken"],
            # The kernel's own peak misses nothing, but knows of one process.
            peak=peak.most(Memory(total=told["peak_bytes"] - base.total)),
            read_bytes=max(read, told["read_bytes"]) - began_read,
            stayed_share=stayed,
            spread=told["spread"],
        )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def family_of(pid: int) -> list[int]:
    """A process and all that it has started."""
    pids = [pid]
    for known in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{known}/task").iterdir():
                pids += map(int, (task / "children").read_text(encoding="ascii").split())
    return pids


def memory_of(pid: int) -> Memory:
    """What a process has in memory now; nothing where it has ended."""
    fields = _fields(f"/proc/{pid}/status", "kB")
    anonymous = (fields.get("RssAnon", 0) + fields.get("RssShmem", 0)) * 1024
    return Memory(total=fields.get("VmRSS", 0) * 1024, anonymous=anonymous)


def read_bytes_of(pid: int) -> int:
    """What a process has had read from storage."""
    return _fields(f"/proc/{pid}/io", "").get("read_bytes", 0)


def _fields(path: str, unit: str) -> dict[str, int]:
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.removesuffix(unit).partition(":") for line in lines)
    return {name: int(value) for name, _, value in pairs if value.strip().isdigit()}


def _load(asked: dict[str, Any]) -> dict[str, Any]:
    """The fresh process: gives what it found."""
    job = Job(**asked["job"])
    batches = LOADERS[asked["loader"]].load(job)
    if asked["group"] is not None:
        join(asked["group"], asked["within_bytes"])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    os.write(_ANSWERS, b"ready\n")
    sys.stdin.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if asked["checks"]:
        _check(job, batches())
        return {"seconds": 0.0, "rows_taken": job.rows, "spread": 0.0, **_used()}
    began = time.perf_counter()
    taken_bytes, kept = 0, []
    marks: list[tuple[float, int]] = []
    for number, batch in enumerate(batches()):
        values = np.asarray(batch).reshape(-1)
        # What comes out as a view of a file has been read only when it is touched.
        values[::_PAGE_BYTES].sum()
        taken_bytes += values.size
        if number % _SPREAD_EVERY == 0 and batch.ndim == 2:
            kept.append(large_data.numbers_of(np.asarray(batch)))
        marks.append((time.perf_counter() - began, taken_bytes))
        if marks[-1][0] > asked["stop_seconds"]:
            break
    seconds = time.perf_counter() - began
    rows_taken = min(job.rows, taken_bytes // FEATURES)
    assert rows_taken == job.rows or seconds > asked["stop_seconds"], f"{rows_taken:,} rows came"
    if rows_taken < job.rows:
        seconds += (job.rows * FEATURES - taken_bytes) / _last_rate(marks)
    uniform = job.rows / np.sqrt(12)
    spread = float(np.mean([numbers.std() for numbers in kept]) / uniform) if kept else 0.0
    return {"seconds": seconds, "rows_taken": rows_taken, "spread": spread, **_used()}


def _last_rate(marks: list[tuple[float, int]]) -> float:
    """Bytes a second in the second half of the time: without the start, and the cache warmer."""
    middle = next(mark for mark in marks if mark[0] >= marks[-1][0] / 2)
    if middle == marks[-1]:
        middle = (0.0, 0)
    return (marks[-1][1] - middle[1]) / (marks[-1][0] - middle[0])


def _end_with_parent() -> None:
    """End this process and its workers when the one that measures is gone."""
    # Not sys.stdin.read(): workers forked meanwhile would wait for ever for its lock.
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def _used() -> dict[str, int]:
    """The kernel's own counts of this process: its peak, and what was read for it."""
    peak = _fields("/proc/self/status", "kB")["VmHWM"] * 1024
    return {"peak_bytes": peak, "read_bytes": read_bytes_of(os.getpid())}


def _check(job: Job, batches: Any) -> None:
    """Every row once, with its content, uint8, in full batches but the last, shuffled."""
    content = np.concatenate(list(large_data.blocks(0, job.rows)))
    seen = np.zeros(job.rows, np.int64)
    sizes: list[int] = []
    for batch in batches:
        array = np.asarray(batch)
        if array.ndim == 1:
            return  # the sequential read is no loader
        assert array.dtype == np.uint8, f"batches are {array.dtype}"
        assert array.shape[1:] == (FEATURES,), f"batches have shape {array.shape}"
        numbers = large_data.numbers_of(array)
        assert np.array_equal(array, content[numbers]), "the bytes are not those that went in"
        assert sizes or (np.diff(numbers) != 1).mean() > 0.5, "not shuffled"
        seen += np.bincount(numbers, minlength=job.rows)
        sizes.append(len(array))
    assert (seen == 1).all(), f"{(seen == 0).sum():,} rows missing, {(seen > 1).sum():,} repeated"
    partial = sum(size != job.batch_size for size in sizes)
    assert partial <= 1, f"{partial} of {len(sizes)} batches are not of {job.batch_size}"


def main() -> None:
    # The answer alone goes to standard output: libraries chatter.
    answer = _load(json.loads(sys.argv[1]))
    os.write(_ANSWERS, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    _ANSWERS = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    main()
    sys.stderr.flush()
    os._exit(0)  # loaders stopped half-way may wait for their workers; the parent ends these

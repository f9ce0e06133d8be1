"""The process that probes come from: it loads model and data once and forks a child a probe.

A process that imports torch takes two to three seconds to start, and a measurement takes about ten
probes: started one by one they would spend most of their time on that. So one process is started
afresh, with one thread and nothing run, loads everything, and every probe is a child forked from
it, which begins with exactly the memory that is loaded and takes milliseconds to start. Measured
with networks and a CNN at three batch sizes: forked children need within 2 % of what newly started
processes need, once they hold the same pages of files (`probe_pages.hold`).

It speaks with its client over two pipes: "load" says that the job lies in its file, pickled (the
caller's own object, not data that somebody opens), then comes a request a line as JSON, and a line
of JSON goes back for each.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_TOLD_BYTES = 4000
_LOOK_SECONDS = 0.2
# What libraries say where memory is refused to them: oneDNN, C++, threads, the system.
_LACKING = (
    "could not create a primitive",
    "could not create a memory",
    "bad allocation",
    "bad_alloc",
    "can't start new thread",
    "Cannot allocate memory",
)


def serve(requests_from: int, answers_to: int, job_in: int, client: int) -> None:
    """Load the job, and probe as the lines of requests ask, until their pipe is closed.

    The first three are file descriptors, the last is the process that asks.
    """
    _die_with(client)
    requests, answers = os.fdopen(requests_from, "rb"), os.fdopen(answers_to, "wb", buffering=0)
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
    # What models print belongs to no one here; what a crash says is read when it happened.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(complaints.fileno(), 2)
    try:
        loaded = _load(requests, job_in)
    except BaseException as error:
        _answer(answers, _told(error))
        return
    from rightbatch.advice.probe_pages import file_pages, give_back_free_memory, memory_bytes

    # What imports and opening data have left free in the C library differs by how they were done,
    # and would hide as much of the first batches: up to 16 MB.
    gc.collect()
    give_back_free_memory()
    gc.freeze()
    pages = file_pages()
    _answer(answers, {"loaded_bytes": memory_bytes("VmRSS")})
    for line in requests:
        _answer(answers, _run(loaded, json.loads(line), pages, complaints))


def _load(requests: IO[bytes], job_in: int) -> Any:
    import torch

    from rightbatch.advice.probe_work import load

    # A pool of threads would not live on in forked children.
    torch.set_num_threads(1)
    if requests.readline() != b"load\n":
        raise EOFError("the job was not written")
    # The object comes from the process that started this one, in a file that no other can open:
    # law 10 speaks of what users open.
    with os.fdopen(job_in, "rb") as file:
        job = pickle.load(file)  # noqa: S301
    return load(job)


def _run(
    loaded: Any, request: dict[str, Any], pages: list[tuple[int, int]], complaints: IO[bytes]
) -> dict[str, Any]:
    """Fork, wait, and tell how it ended."""
    said_before = complaints.seek(0, os.SEEK_END)
    result, result_end = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(result)
            _die_with(parent)
            _probe(loaded, request, pages, result_end)
            code = 0
        finally:
            # Nothing of what the parent has registered for its own end is to run here.
            os._exit(code)
    os.close(result_end)
    text, is_in_time = _read_while(child, result, request["timeout_seconds"])
    os.close(result)
    if not is_in_time:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not is_in_time:
        return {"ended": "timeout"}
    if text:
        told: dict[str, Any] = json.loads(text)
        return told
    complaints.seek(max(said_before, complaints.seek(0, os.SEEK_END) - _TOLD_BYTES))
    said = complaints.read().decode(errors="replace")
    if os.WIFSIGNALED(status):
        return {"ended": "signal", "signal": os.WTERMSIG(status), "said": said}
    return {"ended": "exit", "code": os.WEXITSTATUS(status), "said": said}


def _read_while(child: int, file: int, patience_seconds: float) -> tuple[bytes, bool]:
    """Everything that comes until the other end is closed, and whether that was in time.

    On a busy machine a child waits for its turn, which is no sign that it hangs: that time is not
    counted, unless it is ten times as long as the patience.
    """
    began = time.monotonic()
    text = b""
    while True:
        spent = time.monotonic() - began
        if min(spent, spent - _waited_seconds(child) + 0.1 * spent) > patience_seconds:
            return text, False
        if not select.select([file], [], [], _LOOK_SECONDS)[0]:
            continue
        piece = os.read(file, 1 << 16)
        if not piece:
            return text, True
        text += piece


def _waited_seconds(process: int) -> float:
    """How long a process has been ready to run while others did; 0 where nobody tells."""
    try:
        words = Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()
        return int(words[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def _probe(loaded: Any, request: dict[str, Any], pages: list[tuple[int, int]], to: int) -> None:
    """In the child: set the limit, do the work, write the outcome."""
    import resource

    from rightbatch.advice.probe_pages import hold
    from rightbatch.advice.probe_work import ProbeRequest, probe

    with contextlib.suppress(OSError):
        # If the machine runs out after all, this is the process to end, not the caller's.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    asked = ProbeRequest(**request)
    if asked.limit_bytes is not None and loaded.job.device in (None, "cpu"):
        # The data segment, not the address space: torch reserves much that it never uses.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = asked.limit_bytes if hard < 0 else min(hard, asked.limit_bytes)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    hold(pages)
    try:
        told = probe(loaded, asked)
    except BaseException as error:
        # With the memory freed that the failed step held.
        error.__traceback__, told = None, _told(error)
    os.write(to, json.dumps(told).encode())


def _told(error: BaseException) -> dict[str, Any]:
    from rightbatch.errors import is_out_of_memory

    if is_out_of_memory(error) or any(text in str(error) for text in _LACKING):
        return {"ended": "memory", "said": str(error)}
    return {
        "ended": "error",
        "kind": type(error).__name__,
        "said": str(error),
        "trace": traceback.format_exception(error)[-1],
    }


def _answer(answers: IO[bytes], told: dict[str, Any]) -> None:
    answers.write(json.dumps(told).encode() + b"\n")


def _die_with(parent: int) -> None:
    """End when `parent` does, however that happens: nobody would wait for the answer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

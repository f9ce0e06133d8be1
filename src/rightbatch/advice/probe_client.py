"""The caller's side of probes: start their process, send it the job, ask, and stop it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import cloudpickle

from rightbatch.advice.probe_work import ProbeJob, ProbeRequest
from rightbatch.advice.sending import by_value, code_of
from rightbatch.errors import DataError, NonFiniteLossError, OptionError, RightbatchError

# Importing torch from a cold disk, and sending gigabytes of data.
_LOADING_SECONDS = 180.0
# By how much a busy machine may stretch a probe before it is stopped.
_BUSY = 10.0
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from rightbatch.advice.probe_server import serve; serve(*map(int, sys.argv[2:]))"
)


class ProbeFailure(Exception):  # noqa: N818 - it is a reason, and never reaches a user as an error
    """Why nothing can be probed, in words for people."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a probe ended.

    `told` is what it measured, None where it did not fit in memory; `reason` then says how that
    was seen.
    """

    batch_size: int
    told: dict[str, Any] | None
    reason: str | None = None


class Prober:
    """A process that probes one job: `with Prober(job) as prober: prober.ask(request)`.

    Nothing of the model is run in the caller's process, and the caller's main module is not
    imported again: what is defined there travels by value.

    Raises ProbeFailure where the job can not be sent, hangs or crashes, and what the model itself
    raised as an OptionError.
    """

    def __init__(self, job: ProbeJob, *, loading_seconds: float = _LOADING_SECONDS) -> None:
        self._job = job
        self._loading_seconds = loading_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: IO[bytes] | None = None
        self._answers = -1
        self._rest = b""
        self.loaded_bytes = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def device(self) -> str:
        """Where the model is, by name."""
        return self._job.device or "cpu"

    @property
    def on_gpu(self) -> bool:
        """Whether the memory in question is that of a GPU."""
        return self._job.on_gpu

    def ask(self, request: ProbeRequest) -> Outcome:
        """Run one probe and wait for its end."""
        assert self._requests is not None  # inside `with`
        try:
            self._requests.write(json.dumps(asdict(request)).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._gone() from error
        # The server watches the time that the probe itself had; beyond that the server hangs.
        told = self._read(_BUSY * request.timeout_seconds + 60.0)
        return _outcome(told, request)

    def _start(self) -> None:
        there, requests = os.pipe()
        answers, back = os.pipe()
        self._answers = answers
        self._requests = os.fdopen(requests, "wb")
        # One thread: a pool of them would not live on in the forked children. The probes
        # themselves set the number that training has.
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            # Whoever asks there whether there is a GPU must not start its driver: the forked
            # children could not use it then.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        }
        # It is none of the ranks that torchrun has begun.
        environment.pop("TORCHELASTIC_RUN_ID", None)
        # The job in a file, not in the pipe: a process that hangs while it loads would leave this
        # one hanging while it writes.
        with tempfile.TemporaryFile() as file:
            kept = (there, back, file.fileno())
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                    [
                        sys.executable,
                        "-c",
                        _START,
                        json.dumps(_search_path()),
                        *map(str, (*kept, os.getpid())),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=kept,
                    env=environment,
                    # Ctrl-C in a terminal goes to all of its group; this one is stopped by us.
                    start_new_session=True,
                )
            finally:
                os.close(there)
                os.close(back)
            # Meanwhile it imports torch.
            self._write_job(file)
        told = self._read(self._loading_seconds)
        if "ended" in told:
            _raise_loading(told)
        self.loaded_bytes = told["loaded_bytes"]

    def _write_job(self, file: IO[bytes]) -> None:
        assert self._requests is not None  # opened by the caller
        job = self._job
        try:
            with by_value(list(code_of(job.model, job.options.loss, job.parts).values())):
                cloudpickle.dump(job, file)
            # Both processes share one position in the file.
            file.flush()
            file.seek(0)
        except OSError as error:
            raise ProbeFailure(
                f"model and data can not be sent to a process of their own: {error}"
            ) from error
        except Exception as error:  # pickling calls code of the objects, which raises anything
            name = getattr(self._job.model, "__qualname__", type(self._job.model).__name__)
            raise ProbeFailure(
                f"the model {name} (or its loss or transforms) can not be sent to a process of "
                f"its own: {error}. Give a function of the seed that builds it: "
                "rb.advise(lambda seed: MyModel(), …)"
            ) from error
        try:
            self._requests.write(b"load\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._gone() from error

    def _read(self, seconds: float) -> dict[str, Any]:
        """The next line of the answers; ProbeFailure where the process has gone or hangs."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise ProbeFailure(
                    f"the process that loads the model and the data did not answer in "
                    f"{seconds:,.0f} seconds"
                )
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise self._gone()
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def _gone(self) -> ProbeFailure:
        code = None if self._process is None else self._process.wait()
        how = "ended"
        if code is not None:
            how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with code {code}"
        return ProbeFailure(f"the process that loads the model and the data {how}")

    def _stop(self) -> None:
        if self._process is not None:
            # Its children end with it.
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._requests is not None:
            with suppress(BrokenPipeError):
                self._requests.close()
            self._requests = None
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1


def signal_name(number: int) -> str:
    """The name of a signal.

    >>> signal_name(9)
    'SIGKILL'
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _outcome(told: dict[str, Any], request: ProbeRequest) -> Outcome:
    size, what = request.batch_size, f"the probe of batch size {request.batch_size:,}"
    ended = told.get("ended")
    said = str(told.get("said", "")).strip()
    if ended is None:
        return Outcome(batch_size=size, told=told)
    if ended == "memory":
        return Outcome(batch_size=size, told=None, reason="it ran out of memory")
    if ended == "timeout":
        raise ProbeFailure(
            f"{what} did not end in {request.timeout_seconds:,.0f} seconds and was stopped; "
            "does the model wait for something?"
        )
    if ended == "signal":
        name = signal_name(told["signal"])
        # The system's own way out of a lack of memory, and C++'s.
        if name == "SIGKILL" or "bad_alloc" in said or "out of memory" in said.lower():
            return Outcome(batch_size=size, told=None, reason=f"it was ended by {name}")
        raise ProbeFailure(f"{what} crashed with {name}{_last_line(said)}")
    if ended == "exit":
        if "MemoryError" in said or "bad_alloc" in said:
            return Outcome(batch_size=size, told=None, reason="it ran out of memory")
        raise ProbeFailure(f"{what} ended with code {told['code']}{_last_line(said)}")
    raise _error_of(told, f"the model can not take a batch of {size:,}")


def _raise_loading(told: dict[str, Any]) -> None:
    if told["ended"] == "memory":
        raise ProbeFailure(f"model and data do not fit in memory a second time ({told['said']})")
    if told["kind"] in ("ModuleNotFoundError", "AttributeError", "ImportError", "PicklingError"):
        raise ProbeFailure(
            f"the model can not be rebuilt in a process of its own: {told['kind']}: {told['said']}"
        )
    raise _error_of(told, "the model can not be built in a process of its own")


def _error_of(told: dict[str, Any], what: str) -> RightbatchError:
    """The user's error again: ours as they were, those of the model with its kind and text."""
    if told["kind"] == NonFiniteLossError.__name__:
        return OptionError(str(told["said"]))
    for known in (OptionError, DataError):
        if told["kind"] == known.__name__:
            return known(str(told["said"]))
    return OptionError(f"{what}: {told['kind']}: {told['said']}")


def _last_line(said: str) -> str:
    lines = said.splitlines()
    return f": {lines[-1]}" if lines else ""


def _search_path() -> list[str]:
    # The empty entry is the folder that the caller is in.
    return [entry or str(Path.cwd()) for entry in sys.path]

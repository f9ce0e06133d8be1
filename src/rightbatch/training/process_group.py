"""The ranks of a process group of torch: their exchanges, and what is said where one is gone."""

from __future__ import annotations

import atexit
import errno
import gc
import json
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rightbatch import errors
from rightbatch.errors import RankError, RightbatchError, of_all_ranks
from rightbatch.training.ranks import Ranks

# The system takes a moment to reap a process that was killed.
_REAP_SECONDS = 0.5

_RESUME = (
    "The last checkpoint is kept: go on with resume, or let torchrun start the ranks anew "
    "(--max-restarts)."
)
_AGAIN = "Start all ranks again."


class ProcessGroup(Ranks):
    """The ranks of torch's default process group.

    What is told goes through a group of gloo's, which takes CPU memory whatever the default one
    takes. Where a rank is gone the others raise RankError.
    """

    was_abandoned = False
    """Whether this process has left a group after an error, and is in none since."""

    _made: ProcessGroup | None = None
    _next_step: str | None = None
    # What the others know of, or can not be told any more.
    _settled: BaseException | None = None

    def __init__(self) -> None:
        from torch import distributed

        self._distributed: Any = distributed
        # The name before torch 2.13, where the older one warns.
        self._all_gather: Any = getattr(
            distributed, "all_gather_single", distributed.all_gather_into_tensor
        )
        self._default = weakref.ref(distributed.group.WORLD)
        self.rank = distributed.get_rank()
        self.world_size = distributed.get_world_size()
        is_gloo = distributed.get_backend() == "gloo"
        self._group = None if is_gloo else distributed.new_group(backend="gloo")
        self._processes: list[dict[str, Any]] = []
        self._processes = self.gather_json({"host": socket.gethostname(), "process": os.getpid()})

    @classmethod
    def default(cls) -> ProcessGroup:
        """The ranks of the default group, made once for each."""
        from torch import distributed

        cls.was_abandoned = False
        if cls._made is None or cls._made._default() is not distributed.group.WORLD:
            if cls._made is None:
                # Where a program forgets to, torch 2.13 ends every third one with SIGABRT.
                atexit.register(leave)
            cls._made = cls()
        return cls._made

    @override
    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        own = torch.tensor(numbers, dtype=torch.float64)
        found = torch.empty(self.world_size * len(own), dtype=torch.float64)
        with self._telling():
            self._all_gather(found, own, group=self._group)
        return found.numpy().reshape(self.world_size, len(own))

    @override
    def gather_json(self, value: Any) -> list[Any]:
        told = self._gather_told({"value": value})
        for rank, of_rank in enumerate(told):
            if "error" in of_rank:
                self._settled = _error(of_rank, rank)
                raise self._settled
        return [of_rank["value"] for of_rank in told]

    @override
    @contextmanager
    def together(self, next_step: str) -> Iterator[None]:
        self._next_step = next_step
        try:
            yield
        except Exception as error:
            if error is not self._settled and not isinstance(error, RankError):
                # Where the others are gone as well, this is the error to show.
                with suppress(RankError):
                    self._gather_told(_described(error))
            raise
        finally:
            self._settled, self._next_step = None, None

    @override
    def exchange(self, own: Sequence[Tensor], *, to_all: bool) -> list[list[Tensor]]:
        kinds = self.gather_json(
            [[str(tensor.dtype).removeprefix("torch."), tensor.shape] for tensor in own]
        )
        found = []
        try:
            for rank, of_rank in enumerate(kinds):
                if rank == self.rank:
                    tensors = list(own)
                elif to_all or self.is_first:
                    tensors = [
                        torch.empty(shape, dtype=getattr(torch, kind)) for kind, shape in of_rank
                    ]
                else:
                    continue
                for tensor in tensors:
                    if tensor.numel():
                        self._pass_on(tensor, source=rank, to_all=to_all)
                found.append(tensors)
        except Exception as error:
            # The others wait for tensors, and would take a word for one.
            self._settled = error
            raise
        return found if to_all or self.is_first else []

    def _pass_on(self, tensor: Tensor, *, source: int, to_all: bool) -> None:
        """Fill a tensor by that of the rank `source`, or, as that rank, let the others have it."""
        # As bytes: gloo does not know every dtype.
        content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        with self._telling():
            if to_all:
                self._distributed.broadcast(content, src=source, group=self._group)
            elif source == self.rank and not self.is_first:
                self._distributed.send(content, dst=0, group=self._group)
            elif source != self.rank:
                self._distributed.recv(content, src=source, group=self._group)

    def _gather_told(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        own = json.dumps(told).encode()
        lengths = self.gather([len(own)])[:, 0].astype(np.int64).tolist()
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8)
        found = torch.empty(self.world_size * max(lengths), dtype=torch.uint8)
        with self._telling():
            self._all_gather(found, padded, group=self._group)
        rows = found.numpy().reshape(self.world_size, max(lengths))
        return [
            json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)
        ]

    @override
    def broadcast(self, content: bytes | None) -> bytes:
        length = int(self.gather([len(content or b"")])[0, 0])
        shared = torch.empty(length, dtype=torch.uint8)
        if self.is_first and content:
            shared = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if length:
            with self._telling():
                self._distributed.broadcast(shared, src=0, group=self._group)
        return shared.numpy().tobytes()

    @override
    def on_first(self, function: Callable[[], Any]) -> Any:
        told: dict[str, Any] = {}
        if self.is_first:
            try:
                told = {"value": function()}
            except BaseException as error:
                self.broadcast(json.dumps(_described(error)).encode())
                if isinstance(error, RightbatchError):
                    of_all_ranks(error)
                raise
        told = json.loads(self.broadcast(json.dumps(told).encode()))
        while "goes_on" in told:
            told = json.loads(self.broadcast(None))
        if "error" in told:
            raise _error(told, rank=0)
        return told["value"]

    @override
    def keep_waiting(self) -> None:
        self.broadcast(json.dumps({"goes_on": True}).encode())

    @override
    def agree(self, aim: str = "train one model", /, **described: Any) -> None:
        # As JSON has them, so that a tuple equals the list that another rank's has become.
        all_ranks = self.gather_json(json.loads(json.dumps(described)))
        # A rank with another version of the code may describe more than others do.
        names = {name: None for of_rank in all_ranks for name in of_rank}
        differing = [
            f"{name} is {_told(other, name)} on rank {rank} and {_told(all_ranks[0], name)} on "
            "rank 0"
            for rank, other in enumerate(all_ranks)
            for name in names
            if _as_text(other, name) != _as_text(all_ranks[0], name)
        ]
        if differing:
            raise of_all_ranks(
                RankError(
                    f"the {self.world_size} ranks can not {aim}: {'; '.join(differing)}. "
                    "Start all of them with the same program, options and data"
                )
            )

    @override
    def abandon(self) -> None:
        ProcessGroup.was_abandoned = True
        leave()

    @override
    def union(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        joined = torch.from_numpy(bits.copy())
        with self._telling():
            operation = self._distributed.ReduceOp.BOR
            self._distributed.all_reduce(joined, op=operation, group=self._group)
        return joined.numpy()

    def add_up(self, values: Tensor) -> None:
        """Make a tensor its sum over all ranks, in place, through the default group."""
        with self._telling():
            self._distributed.all_reduce(values)

    def take_over(self, tensors: Sequence[Tensor]) -> None:
        """Make tensors those of rank 0, in place, through the default group."""
        with self._telling():
            for tensor in tensors:
                self._distributed.broadcast(tensor.detach(), src=0)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self.lost(error) from error

    def lost(self, error: Exception) -> RankError:
        """What to raise where the ranks can not reach one another."""
        gone = self._gone()
        named = ", ".join(
            f"rank {rank} (process {self._processes[rank]['process']} on "
            f"{self._processes[rank]['host']})"
            for rank in gone
        )
        what = f"{named} has ended" if gone else "another rank has ended, or can not be reached"
        next_step = self._next_step or (_RESUME if self.has_checkpoint else _AGAIN)
        return RankError(
            f"{what}, so that rank {self.rank} of {self.world_size} can not go on. Look at its own "
            f"output for the reason. {next_step} ({str(error).splitlines()[0]})"
        )

    def _gone(self) -> list[int]:
        """The ranks on this machine whose processes have ended."""
        host = socket.gethostname()
        here = [
            (rank, process["process"])
            for rank, process in enumerate(self._processes)
            if process["host"] == host and rank != self.rank
        ]
        end = time.monotonic() + _REAP_SECONDS
        while time.monotonic() < end:
            gone = [rank for rank, process in here if _has_ended(process)]
            if gone:
                return gone
            time.sleep(0.02)
        return []


def leave() -> None:
    """Destroy the group that is still there when the program ends."""
    from torch import distributed

    if distributed.is_initialized():
        # What an error's frames hold of DistributedDataParallel aborts the process when it ends
        # without its group: one job of four.
        gc.collect()
        distributed.destroy_process_group()


def _has_ended(process: int) -> bool:
    """Whether a process of this machine is there no more, or has not been reaped yet."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return False  # a system without /proc, where a process counts until it is reaped
    return state.split()[:1] in (["Z"], ["X"])


def _as_text(described: dict[str, Any], name: str) -> str | None:
    """A value as JSON, in which NaN equals NaN; None where there is none."""
    return json.dumps(described[name], sort_keys=True) if name in described else None


def _told(described: dict[str, Any], name: str) -> str:
    if name not in described:
        return "not given"
    text = repr(described[name])
    return text if len(text) <= 80 else f"{text[:77]}…"


def _described(error: BaseException) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _error(told: dict[str, str], rank: int) -> Exception:
    """The error that a rank has raised."""
    kind = getattr(errors, told["error"], None)
    if isinstance(kind, type) and issubclass(kind, RightbatchError):
        try:
            return of_all_ranks(kind(told["message"]))
        except TypeError:
            pass  # one that is made of more than its message
    return of_all_ranks(RankError(f"rank {rank} has failed: {told['error']}: {told['message']}"))

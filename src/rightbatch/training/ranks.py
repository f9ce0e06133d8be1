"""The processes that train one model together: what they tell one another, and who writes."""

from __future__ import annotations

import atexit
import errno
import json
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rightbatch import errors
from rightbatch.errors import OptionError, RankError, RightbatchError
from rightbatch.launch import (
    has_agent_store,
    launched_rank,
    launched_world_size,
    local_rank,
    restart_count,
)

# The system takes a moment to reap a process that was killed.
_REAP_SECONDS = 0.5


class Ranks:
    """One process alone; `ProcessGroup` is several.

    What is exchanged is small: numbers, JSON, and checkpoints as bytes. Every method but the
    properties is called by all ranks, in the same order.
    """

    rank = 0
    world_size = 1

    @staticmethod
    def here() -> Ranks:
        """The ranks that this process is one of: torch's default process group, or itself alone.

        Raises OptionError where torchrun began several processes and none of them has made a group:
        each would train a model of its own, into the same folder.

        >>> Ranks.here().world_size
        1
        """
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return ProcessGroup.default() if distributed.get_world_size() > 1 else Ranks()
        if launched_world_size() > 1:
            raise OptionError(
                f"this is one of {launched_world_size()} processes that torchrun began, and they "
                "have made no process group: put `with rb.process_group():` around the program"
            )
        return Ranks()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other rank."""
        return self.world_size == 1

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """The numbers of all ranks, float64 (world size, N), on every rank."""
        return np.array([numbers], np.float64)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all ranks, added in the order of the ranks: the same bits on each.

        >>> Ranks().sum([1.0, 2.0])
        [1.0, 2.0]
        """
        # NumPy adds the rows of a small array one by one, in float64.
        sums: list[float] = self.gather(numbers).sum(axis=0).tolist()
        return sums

    def gather_json(self, value: Any) -> list[Any]:
        """What each rank has to say, as JSON, in the order of the ranks."""
        return [value]

    def broadcast(self, content: bytes | None) -> bytes:
        """The bytes that rank 0 gives, on every rank."""
        assert content is not None  # rank 0 has some
        return content

    def on_first(self, function: Callable[[], Any]) -> Any:
        """What `function` gives on rank 0, as JSON, on every rank; so is what it raises.

        An error that a user can meet is raised on every rank; of another one the others learn that
        rank 0 has failed.
        """
        return function()

    def agree(self, **described: Any) -> None:
        """Raise RankError, naming what differs, unless all ranks describe themselves alike."""

    def union(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The bits that any rank has set, on every rank."""
        return bits


class ProcessGroup(Ranks):
    """The ranks of torch's default process group.

    What is told goes through a group of gloo's, which takes CPU memory whatever the default one
    takes. Where a rank is gone the others raise RankError.
    """

    _made: ProcessGroup | None = None

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

        if cls._made is None or cls._made._default() is not distributed.group.WORLD:
            if cls._made is None:
                # Where a program forgets to, torch 2.13 ends every third one with SIGABRT.
                atexit.register(_leave)
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
        own = json.dumps(value).encode()
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
                raise
        told = json.loads(self.broadcast(json.dumps(told).encode()))
        if "error" in told:
            raise _error(told)
        return told["value"]

    @override
    def agree(self, **described: Any) -> None:
        # As JSON has them, so that a tuple equals the list that another rank's has become.
        all_ranks = self.gather_json(json.loads(json.dumps(described)))
        differing = [
            f"{name} is {_short(other[name])} on rank {rank} and {_short(value)} on rank 0"
            for rank, other in enumerate(all_ranks)
            for name, value in all_ranks[0].items()
            if other.get(name) != value
        ]
        if differing:
            raise RankError(
                f"the {self.world_size} ranks can not train one model: {'; '.join(differing)}. "
                "Start all of them with the same program, options and data"
            )

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
        return RankError(
            f"{what}, so that rank {self.rank} of {self.world_size} can not go on. Look at its own "
            "output for the reason. The last checkpoint is kept: go on with resume, or let "
            f"torchrun start the ranks anew (--max-restarts). ({str(error).splitlines()[0]})"
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


@contextmanager
def process_group() -> Iterator[Ranks]:
    """The group of the processes that torchrun began, for the time of the context.

    Gives an object with `rank` and `world_size`. The backend is nccl where each process has a GPU,
    else gloo. Without torchrun, or where there is a group already, none is made.

    >>> with process_group() as ranks:
    ...     ranks.rank, ranks.world_size
    (0, 1)
    """
    from torch import distributed

    if launched_world_size() == 1 or distributed.is_initialized():
        yield Ranks.here()
        return
    local = local_rank()
    has_gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    if has_gpu:
        torch.cuda.set_device(local)
    distributed.init_process_group(backend="nccl" if has_gpu else "gloo", **_meeting_place())
    try:
        yield Ranks.here()
    finally:
        _leave()


def _meeting_place() -> dict[str, Any]:
    """Where the processes of this start meet, as options of init_process_group.

    torchrun keeps one store for all starts. torch 2.13 looks up the addresses of others there as it
    is, and finds those of processes that have ended: of ten restarts most fail.
    """
    if not has_agent_store():
        return {}
    distributed: Any = torch.distributed  # which exports its stores to programs, not to checkers
    rank, world_size = launched_rank(), launched_world_size()
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = distributed.TCPStore(host, port, world_size, is_master=False)
    prefix = f"rightbatch-{restart_count()}"
    return {
        "store": distributed.PrefixStore(prefix, store),
        "rank": rank,
        "world_size": world_size,
    }


def _leave() -> None:
    """Destroy the group that is still there when the program ends."""
    from torch import distributed

    if distributed.is_initialized():
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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _described(error: BaseException) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _error(told: dict[str, str]) -> Exception:
    """The error that rank 0 has raised."""
    kind = getattr(errors, told["error"], None)
    if isinstance(kind, type) and issubclass(kind, RightbatchError):
        try:
            return kind(told["message"])
        except TypeError:
            pass  # one that is made of more than its message
    return RankError(f"rank 0 has failed: {told['error']}: {told['message']}")

"""The process group of a job of torchrun."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rightbatch.launch import (
    has_agent_store,
    launched_rank,
    launched_world_size,
    local_rank,
    restart_count,
)
from rightbatch.training.process_group import leave
from rightbatch.training.ranks import Ranks


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
        leave()


def job_mark() -> str | None:
    """A text that all starts of this job of torchrun have in common, and no other job has.

    None where torchrun has begun nothing. A run's folder keeps it, so that ranks which are started
    anew go on with a run of their own alone: others may be called the same (`--rdzv-id`).
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None or not has_agent_store():
        return run
    # The first to ask settles it, in the store that torchrun keeps for all starts.
    settled: bytes = _agent_store().compare_set("rightbatch-job", "", secrets.token_hex(8))
    return f"{run}-{settled.decode()}"


def _agent_store() -> Any:
    distributed: Any = torch.distributed  # which exports its stores to programs, not to checkers
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return distributed.TCPStore(host, port, launched_world_size(), is_master=False)


def _meeting_place() -> dict[str, Any]:
    """Where the processes of this start meet, as options of init_process_group.

    torchrun keeps one store for all starts. torch 2.13 looks up the addresses of others there as it
    is, and finds those of processes that have ended.
    """
    if not has_agent_store():
        return {}
    distributed: Any = torch.distributed  # see above
    return {
        "store": distributed.PrefixStore(f"rightbatch-{restart_count()}", _agent_store()),
        "rank": launched_rank(),
        "world_size": launched_world_size(),
    }

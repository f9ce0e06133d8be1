"""The process group of a job of torchrun."""

from __future__ import annotations

import os
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


def _meeting_place() -> dict[str, Any]:
    """Where the processes of this start meet, as options of init_process_group.

    torchrun keeps one store for all starts. torch 2.13 looks up the addresses of others there as it
    is, and finds those of processes that have ended.
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

"""The memory of several ranks: where there is least room, and the law as one of global batches."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rightbatch.advice.memory import Memory, MemoryPrediction
from rightbatch.advice.memory_limit import Room
from rightbatch.advice.rank_shares import largest_share
from rightbatch.free_memory import Limit, free_memory
from rightbatch.training.ranks import Ranks


def least_room(ranks: Ranks) -> Room:
    """What is free where a rank has least, with the ranks that share it; the same on every rank."""
    free = free_memory()
    told = None if free is None else {"bytes": free.bytes, "source": free.source}
    return room_of(ranks.gather_json({"host": socket.gethostname(), "free": told}))


def room_of(places: Sequence[dict[str, Any]]) -> Room:
    """The room of the rank with least, from the `host` of each and what it finds `free` there.

    >>> free = {"bytes": 8000, "source": "free on this machine"}
    >>> room = room_of([{"host": host, "free": free} for host in ("one", "two", "two")])
    >>> room.free.bytes, room.processes
    (8000, 2)
    """
    hosts = [place["host"] for place in places]
    rooms = [
        Room(free=Limit(**place["free"]), processes=hosts.count(place["host"]))
        for place in places
        if place["free"] is not None
    ]
    none_tells = Room(free=None, processes=max(map(hosts.count, hosts)))
    return min(rooms, key=_each, default=none_tells)


def _each(room: Room) -> float:
    assert room.free is not None  # others are left out
    return room.free.bytes / room.processes


def of_global_batches(
    memory: Memory, world_size: int, *, batch_sizes: Sequence[int], samples: int
) -> Memory:
    """The memory of a rank, measured at sizes of its share, by sizes of the global batch.

    The bytes stay those of one rank, and evaluation that of batches of its own. The cap is as many
    shares as fit on the rank with least room, up to the `samples` there are.
    """
    fit = None if memory.fit is None else memory.fit.of_ranks(world_size)
    predicted = (
        []
        if fit is None
        else [
            MemoryPrediction(batch_size=size, bytes=fit.bytes(size), high=fit.high(size))
            for size in batch_sizes
        ]
    )
    return replace(
        memory,
        cap=None if memory.cap is None else min(memory.cap * world_size, samples),
        measured=[
            replace(point, batch_size=min(point.batch_size * world_size, samples))
            for point in memory.measured
        ],
        predicted=predicted,
        fit=fit,
    )


def shares_of(batch_sizes: Sequence[int], world_size: int) -> list[int]:
    """The shares that ranks hold of these batches, each once, in rising order.

    >>> shares_of([1, 2, 4, 8, 9], 2)
    [1, 2, 4, 5]
    """
    return sorted({largest_share(size, world_size) for size in batch_sizes})

"""How much memory a training process may take: what was given, or what is free here."""

from __future__ import annotations

from dataclasses import dataclass

from rightbatch.byte_sizes import parse_bytes
from rightbatch.free_memory import Limit, free_memory

# Other programs live on the machine as well, and a process is never measured to the last byte.
MARGIN = 0.1
GIVEN = "given"


def given_limit(memory_limit: str | int | float | None) -> Limit | None:
    """The limit that was given, whatever is free; None where none was.

    For a GPU, of which the memory that this machine has free says nothing.
    """
    if memory_limit is None:
        return None
    return Limit(bytes=parse_bytes(memory_limit), source=GIVEN)


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is free on a machine beside the processes there, `processes` of which are to train."""

    free: Limit | None
    processes: int = 1

    @classmethod
    def here(cls) -> Room:
        """That of this process alone."""
        return cls(free=free_memory())


def find_limit(
    memory_limit: str | int | float | None, room: Room | None = None, *, loaded_bytes: int = 0
) -> Limit | None:
    """The limit for the training process as a whole; None where nobody can tell.

    Without a given one it is what the machine, or the control group that this process is in, has
    free, less 10 %. A given one that is larger than that is cut down to it: a probe must not drive
    the machine out of memory. Of several processes in the `room`, each may take its part of what is
    free for its batches, beside the `loaded_bytes` that it holds by then.

    >>> find_limit("1MB")
    Limit(bytes=1000000, source='given')
    >>> room = Room(free=Limit(bytes=10_000, source="free on this machine"), processes=4)
    >>> find_limit(None, room, loaded_bytes=300)  # 300 + 9,000 / 4
    Limit(bytes=2550, source='free on this machine, less 10%, shared by 4 processes')
    """
    given = given_limit(memory_limit)
    room = Room.here() if room is None else room
    if room.free is None:
        return given
    spare_bytes = int(room.free.bytes * (1 - MARGIN))
    source = f"{room.free.source}, less {MARGIN:.0%}"
    if room.processes > 1:
        spare_bytes = min(spare_bytes, loaded_bytes + spare_bytes // room.processes)
        source += f", shared by {room.processes:,} processes"
    spare = Limit(bytes=spare_bytes, source=source)
    return spare if given is None or spare.bytes < given.bytes else given

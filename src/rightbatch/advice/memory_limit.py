"""How much memory a training process may take: what was given, or what is free here."""

from __future__ import annotations

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


def find_limit(memory_limit: str | int | float | None) -> Limit | None:
    """The limit for the training process as a whole; None where nobody can tell.

    Without a given one it is what the machine, or the control group that this process is in, has
    free, less 10 %. A given one that is larger than that is cut down to it: a probe must not drive
    the machine out of memory.

    >>> find_limit("1MB")
    Limit(bytes=1000000, source='given')
    """
    given = given_limit(memory_limit)
    free = free_memory()
    if free is None:
        return given
    spare = Limit(bytes=int(free.bytes * (1 - MARGIN)), source=f"{free.source}, less {MARGIN:.0%}")
    return spare if given is None or spare.bytes < given.bytes else given

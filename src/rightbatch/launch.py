"""What torchrun has told this process of itself, read from its environment."""

from __future__ import annotations

import os


def launched_world_size() -> int:
    """How many processes torchrun has begun, of which this is one; 1 where it has not.

    >>> launched_world_size()
    1
    """
    return _number("WORLD_SIZE", 1)


def launched_rank() -> int:
    """Which of the processes that torchrun has begun this is; 0 where it has begun none.

    >>> launched_rank()
    0
    """
    return _number("RANK", 0)


def local_rank() -> int:
    """Which of the processes on this machine this is: the number of the GPU that it takes."""
    return _number("LOCAL_RANK", 0)


def restart_count() -> int:
    """How often torchrun has started the processes anew after one of them had ended."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def most_restarts() -> int:
    """How often torchrun may start the processes anew."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0)


def has_agent_store() -> bool:
    """Whether torchrun itself keeps the store in which the processes find one another."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _number(name: str, otherwise: int) -> int:
    # Other launchers set WORLD_SIZE and RANK too, and whoever uses one makes the group himself.
    value = os.environ.get(name, "") if "TORCHELASTIC_RUN_ID" in os.environ else ""
    return int(value) if value.isdigit() else otherwise

"""How a failure is told: one line on stderr, and the exit code that scripts can rely on."""

from __future__ import annotations

import os
import sys
import time

import click

from rightbatch.errors import RankError, RightbatchError, is_out_of_memory
from rightbatch.launch import launched_rank, launched_world_size

FAILED = 1
OUT_OF_MEMORY = 4
INTERRUPTED = 130

_TURN_SECONDS = 1.5


def report_failure(error: Exception) -> int | None:
    """Tell `error` on stderr and return the exit code; None where it is a bug and should show.

    What all ranks of a job meet alike, rank 0 alone tells. As soon as one has ended, torchrun ends
    the others, so that they wait for the one that has more to tell.
    """
    rank = launched_rank()
    is_of_all = isinstance(error, RightbatchError) and error.is_of_all_ranks
    if rank > 0 and is_of_all:
        # Rank 0 is about to tell it.
        time.sleep(_TURN_SECONDS)
        assert isinstance(error, RightbatchError)  # others are not marked
        return error.exit_code
    if launched_world_size() > 1 and not is_of_all:
        # First rank 0, which may meet the same alone; last those that have only lost another rank.
        turn = 2 if isinstance(error, RankError) else min(rank, 1)
        time.sleep(turn * _TURN_SECONDS)
    said = f"Error (rank {rank})" if launched_world_size() > 1 else "Error"
    if isinstance(error, click.ClickException):
        if rank > 0:
            click.echo(f"{said}:", err=True)
        error.show()
        return error.exit_code
    if isinstance(error, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    if isinstance(error, RightbatchError):
        click.echo(f"{said}: {error}", err=True)
        return error.exit_code
    if is_out_of_memory(error):
        click.echo(
            f"{said}: out of memory: {str(error) or type(error).__name__}\n"
            "Take a smaller --batch-size, or keep it and split it with --micro-batch-size.",
            err=True,
        )
        return OUT_OF_MEMORY
    if isinstance(error, BrokenPipeError):
        # The reader (head, less) has gone. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if isinstance(error, OSError):
        click.echo(f"{said}: {error}", err=True)
        return FAILED
    return None

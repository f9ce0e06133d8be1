"""How a failure is told: one line on stderr, and the exit code that scripts can rely on."""

from __future__ import annotations

import os
import sys
import time

import click

from rightbatch.errors import RightbatchError, is_out_of_memory
from rightbatch.launch import launched_rank, launched_world_size

FAILED = 1
OUT_OF_MEMORY = 4
INTERRUPTED = 130

_RANK_0_FIRST_SECONDS = 2.0


def report_failure(error: Exception) -> int | None:
    """Tell `error` on stderr and return the exit code; None where it is a bug and should show.

    What all ranks of a job meet alike, rank 0 alone tells.
    """
    rank = launched_rank()
    if rank > 0:
        if isinstance(error, RightbatchError) and error.is_of_all_ranks:
            return error.exit_code
        # Where rank 0 meets the same, torchrun ends this rank meanwhile: it is told once.
        time.sleep(_RANK_0_FIRST_SECONDS)
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

"""What a verb says: tables for people, one JSON object for programs, notes on stderr.

Without `--json` the tables are the result and go to stdout; with it, stdout holds one JSON
object and nothing else, and the tables go to stderr. `--quiet` keeps stderr for errors.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.launch import launched_rank

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

# Off a terminal there is no width to keep to; a file takes the whole line.
_WIDTH_OFF_TERMINAL = 160


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the results, the tables and the notes of one command go."""

    as_json: bool
    quiet: bool

    def __post_init__(self) -> None:
        handler = _WarningHandler()
        is_first = launched_rank() == 0
        handler.setLevel(logging.WARNING if is_first and not self.quiet else logging.ERROR)
        logger = logging.getLogger("rightbatch")
        logger.handlers = [handler]
        logger.propagate = False

    def result(self, tables: Iterable[RenderableType], report: Mapping[str, Any]) -> None:
        """Print the result: as tables, and as JSON where that is asked for; of ranks, the first."""
        if launched_rank() > 0:
            return
        if self.as_json:
            from rightbatch.training.history import finite_json

            if not self.quiet:
                self._print(tables, to_stderr=True)
            click.echo(json.dumps(finite_json(report), allow_nan=False))
        else:
            self._print(tables, to_stderr=False)

    def note(self, text: str) -> None:
        """Say a sentence on stderr, unless quiet; of ranks, the first one says it."""
        if not self.quiet and launched_rank() == 0:
            click.echo(text, err=True)

    @staticmethod
    def _print(renderables: Iterable[RenderableType], *, to_stderr: bool) -> None:
        terminal = console(to_stderr=to_stderr)
        for renderable in renderables:
            terminal.print(renderable)


def command_line() -> str:
    """The command as it was typed, quoted so that a shell takes it again.

    What is secret in a URL is left out, since runs and reports keep the command.
    """
    from rightbatch.data.remote_url import shown_url

    typed = click.get_current_context().find_root().obj or ()
    return shlex.join(["rightbatch", *map(shown_url, typed)])


def refuse_unwritable(path: Path | None) -> None:
    """Raise UsageError where a result could not be written to `path`: said before the work."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise click.UsageError(
            f"{path} can not be written: there is no folder {folder}. Make it first, or name "
            "another place."
        )
    try:
        # Rights say little, file systems may refuse: only trying tells.
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.UsageError(
            f"{path} can not be written: {error.strerror}. Name another place."
        ) from error


def console(*, to_stderr: bool) -> Console:
    """A rich console on the stream as it is now; NO_COLOR is honoured by rich itself."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH_OFF_TERMINAL
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table with a plain look; the columns named in `right` are set flush right."""
    from rich.box import SIMPLE
    from rich.table import Table

    made = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    aligned_right = set(right)
    for column in columns:
        made.add_column(
            column, justify="right" if column in aligned_right else "left", overflow="fold"
        )
    return made


class _WarningHandler(logging.Handler):
    """Warnings of the library as lines on stderr, wherever stderr points when they come."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.capitalize()}: {record.getMessage()}", err=True)

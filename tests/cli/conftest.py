"""The command line run in this process: as fast as a function call, with its output apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rightbatch.cli.main import run


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def rightbatch(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `rightbatch ARGUMENTS…`; the numbers and paths among them become text."""

    def command(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return command

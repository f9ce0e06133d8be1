"""The group: its verbs, its speed, and how failures are told."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rightbatch import __version__
from rightbatch.cli import failure
from rightbatch.cli.main import VERBS, run

HEAVY = {"torch", "numpy", "pyarrow", "sklearn", "scipy", "rich", "safetensors"}


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rightbatch", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from rightbatch.cli.main import run; code = run(sys.argv[1:]);"
        "print(code, *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    code, *loaded = done.stderr.split()
    assert code == "0"
    assert "click" in loaded
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_take_less_than_0_3_seconds_of_a_core(option: str) -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert start(option).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(4)) < 0.3


def test_python_dash_m_is_the_command_line() -> None:
    done = start("--version")
    assert (done.returncode, done.stdout) == (0, f"rightbatch {__version__}\n")


def test_help_lists_every_verb(rightbatch) -> None:
    done = rightbatch("--help")
    assert done.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.out


def test_every_verb_is_a_file_of_its_own() -> None:
    folder = Path(failure.__file__).parent
    for verb in VERBS:
        assert (folder / f"{verb}.py").is_file()


def test_an_unknown_verb_is_refused_with_the_nearest_one(rightbatch) -> None:
    done = rightbatch("tran", "digits")
    assert done.code == 2
    assert "There is no verb 'tran'. Did you mean 'train'? Valid are: run, inspect, " in done.err


def test_an_unknown_option_is_refused_with_the_nearest_one(rightbatch) -> None:
    done = rightbatch("train", "digits", "--epoch", 3)
    assert done.code == 2
    assert "No such option" in done.err
    assert "--epochs" in done.err


def test_an_option_before_the_verb_is_a_usage_error(rightbatch) -> None:
    done = rightbatch("--jsn", "inspect", "digits")
    assert done.code == 2
    assert "No such option" in done.err


def test_no_verb_shows_the_help_as_a_usage_error(rightbatch) -> None:
    done = rightbatch()
    assert done.code == 2
    assert "Usage: rightbatch" in done.err


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "rightbatch", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_ctrl_c_before_anything_began_exits_130(monkeypatch, capsys) -> None:
    from rightbatch.cli import main

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.cli, "invoke", interrupted)
    assert run(["inspect", "digits"]) == 130
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 4),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"), 4),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), 4),
        (PermissionError(13, "Permission denied", "runs/a"), 1),
        (ZeroDivisionError("a bug"), None),
    ],
)
def test_failures_have_exit_codes_and_bugs_keep_their_traceback(
    error: Exception, code: int | None, capsys
) -> None:
    assert failure.report_failure(error) == code
    told = capsys.readouterr().err
    assert told.startswith("Error:") if code else told == ""
    if code == 4:
        assert "--micro-batch-size" in told

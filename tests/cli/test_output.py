"""What goes where, and what JSON can not say."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click
import pytest

from rightbatch.cli.output import Output, refuse_unwritable, table


def test_nan_and_infinity_become_null(capsys) -> None:
    report = {"loss": float("nan"), "inner": {"rows": [1.5, float("inf")]}, "run": "a"}
    Output(as_json=True, quiet=True).result([], report)
    assert json.loads(capsys.readouterr().out) == {
        "loss": None,
        "inner": {"rows": [1.5, None]},
        "run": "a",
    }


@pytest.mark.parametrize(("quiet", "told"), [(False, "Warning: look here\n"), (True, "")])
def test_warnings_of_the_library_are_lines_on_stderr(capsys, quiet: bool, told: str) -> None:
    Output(as_json=False, quiet=quiet)
    logging.getLogger("rightbatch.loading.parts").warning("look %s", "here")
    assert capsys.readouterr().err == told


def test_a_wide_table_is_not_cut_off_a_terminal(capsys) -> None:
    wide = table("column", "classes")
    wide.add_row("a", "x" * 100)
    Output(as_json=False, quiet=False).result([wide, "a [bold]sentence[/bold]"], {})
    out = capsys.readouterr().out
    assert "x" * 100 in out
    assert "a [bold]sentence[/bold]" in out


def test_a_place_that_takes_no_file_is_refused_before_the_work(tmp_path) -> None:
    refuse_unwritable(None)
    refuse_unwritable(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(click.UsageError, match="there is no folder"):
        refuse_unwritable(tmp_path / "no" / "report.html")
    if Path("/proc").is_dir():
        with pytest.raises(click.UsageError, match=r"can not be written"):
            refuse_unwritable(Path("/proc/report.html"))

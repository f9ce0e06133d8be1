"""What goes where, and what JSON can not say."""

from __future__ import annotations

import json
import logging

import pytest

from rightbatch.cli.output import Output, bytes_text, table


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


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (31_400, "31.4 kB"), (2e15, "2000.0 TB")],
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert bytes_text(size) == text

"""Progress: a bar on a terminal, a line at intervals elsewhere, and no colours unless wanted."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from rightbatch.advice.runner import CompareProgress
from rightbatch.advice.stopwatch import SpeedProgress
from rightbatch.cli import progress as module
from rightbatch.cli.main import run
from rightbatch.cli.progress import (
    NoProgress,
    ProgressLines,
    progress_display,
    rounds_display,
    study_display,
)
from rightbatch.training.progress import Progress

# Colours of the foreground: 30 to 37, 38 (of a palette) and 90 to 97, bold or not.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|9\d)[;m]")


def news(epoch: int, *, ended: bool = True) -> Progress:
    return Progress(
        epoch=epoch,
        steps=10 * epoch,
        total_steps=1000,
        train_loss=1 / epoch,
        samples_per_second=1000.0,
        row={"val_loss": 0.5} if ended else None,
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_the_first_and_the_last_epoch_are_told_and_a_flood_is_not(clock, capsys) -> None:
    with ProgressLines() as lines:
        for epoch in range(1, 100):
            lines(news(epoch))
    told = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in told] == ["epoch 1", "epoch 99"]


def test_intervals_grow_to_a_minute(clock, capsys) -> None:
    with ProgressLines() as lines:
        for second in range(3600):
            clock.now = 100.0 + second
            lines(news(second + 1))
    told = capsys.readouterr().err.splitlines()
    assert 60 <= len(told) <= 70


def test_long_epochs_are_told_of_before_they_end(clock, capsys) -> None:
    with ProgressLines() as lines:
        for second in range(60):
            clock.now = 100.0 + second
            lines(news(1, ended=False))
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 6


def test_quiet_shows_nothing() -> None:
    with progress_display(quiet=True) as progress:
        assert progress is None
    assert isinstance(progress_display(quiet=True), NoProgress)


@pytest.fixture
def shown_on_terminal(monkeypatch, tmp_path: Path):
    """Train with a terminal in the place of stderr, and give what the terminal was sent."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        # Linux says EIO once the other end is closed.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                shown.extend(piece)

    # A terminal's buffer is small: who writes to it waits until somebody reads.
    reader = threading.Thread(target=read)
    reader.start()
    stream = os.fdopen(theirs, "w")

    def train() -> str:
        arguments = ["train", "iris", "--epochs", "3", "--out", str(tmp_path / "run"), "--json"]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            patch.setenv("TERM", "xterm-256color")
            assert run(arguments) == 0
        stream.close()
        reader.join(timeout=10)
        return shown.decode()

    yield train
    stream.close()
    reader.join(timeout=10)
    os.close(ours)


def test_on_a_terminal_a_bar_moves_in_colour(shown_on_terminal, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = shown_on_terminal()
    assert "train loss" in shown
    assert "\x1b[2K" in shown  # the line is drawn again in its place
    assert COLOUR.search(shown)


def test_no_color_is_honoured(shown_on_terminal, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = shown_on_terminal()
    assert "train loss" in shown
    assert not COLOUR.search(shown)


def test_of_a_measurement_a_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    news = SpeedProgress(rounds=12, seconds=20.0, total_seconds=60.0)
    with rounds_display(quiet=False) as display:
        display(news)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("rightbatch.cli.progress._ROUNDS_INTERVAL_SECONDS", 0.0)
        display(news)
    assert capsys.readouterr().err == "12 rounds in 20 of 60 s\n"
    with rounds_display(quiet=True) as display:
        assert display is None


@pytest.mark.parametrize("display", [study_display, rounds_display])
def test_on_a_terminal_there_is_a_bar(display, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    training = Progress(
        epoch=1, steps=3, total_steps=6, train_loss=0.5, samples_per_second=1.0, row=None
    )
    compared = CompareProgress(
        run=1, runs=2, batch_size=32, learning_rate=0.1, seed=0, training=training
    )
    measured = SpeedProgress(rounds=2, seconds=1.0, total_seconds=2.0)
    with display(quiet=False) as show:
        show(compared if display is study_display else measured)
    told = capsys.readouterr().err
    assert "50%" in told
    assert ("run 1 of 2 begins" in told) == (display is study_display)

"""`rightbatch advise`: what it prints, what it refuses, and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rightbatch.advice.advice import Advice
from rightbatch.advice.progress import AdviceProgress
from rightbatch.cli import progress as progress_module
from rightbatch.cli.progress import advice_display, run_display
from rightbatch.options import GRADES
from rightbatch.training.progress import Progress

KEYS = {
    *("batch_size", "interval", "grade", "goal", "learning_rate", "micro_batch_size"),
    *("evaluation_batch_size", "memory", "speed", "noise", "law", "reasons", "alerts", "tested"),
    "seconds_spent",
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One advice by a process of its own, with a report."""
    page = tmp_path_factory.mktemp("advise") / "report.html"
    command = (
        *("advise", "breast_cancer", "--standardize", "--model", "mlp:4", "--lr", "0.1"),
        *("--epochs", "5", "--budget", "4", "--json", "--report", str(page)),
    )
    done = subprocess.run(
        [sys.executable, "-m", "rightbatch", *command],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done, page


def test_json_is_one_object_with_the_promised_keys(asked) -> None:
    done, _ = asked
    assert done.stdout.count("\n") == 1
    stored = json.loads(done.stdout)
    assert set(stored) >= KEYS
    low, high = stored["interval"]
    assert low <= stored["batch_size"] <= high
    assert stored["batch_size"] in stored["tested"]
    assert stored["grade"] in GRADES
    assert (stored["goal"]["kind"], stored["goal"]["epochs"]) == ("epochs", 5)
    assert set(stored["speed"]) >= {"points", "fit"}
    assert set(stored["noise"]) >= {"scale", "low", "high", "trajectory"}
    assert set(stored["memory"]) >= {"cap", "predicted", "measured"}
    assert {"batch_size", "bytes"} <= set(stored["memory"]["measured"][0])
    if stored["law"] is not None:
        assert set(stored["law"]) >= {"critical_batch_size", "low", "high", "samples_min"}
    assert stored["provenance"]["command"].startswith("rightbatch advise breast_cancer")
    assert stored["provenance"]["sizes"]["train"] == 455
    assert Advice.from_json(stored).batch_size == stored["batch_size"]


def test_people_read_the_reasons_on_stderr_and_see_how_far_it_is(asked) -> None:
    done, _ = asked
    stored = json.loads(done.stdout)
    assert f"Batch size {stored['batch_size']:,}" in done.stderr
    assert stored["goal"]["text"] in done.stderr
    assert "advised" in done.stderr
    assert "speed: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_shows_the_advice(asked) -> None:
    done, page = asked
    assert f"Report: {page}" in done.stderr
    text = page.read_text()
    assert "Batch size for mlp:4 on breast_cancer" in text
    assert "<script src" not in text


def test_text_goes_to_stdout_and_a_target_is_echoed(rightbatch) -> None:
    done = rightbatch(
        *("advise", "iris", "--standardize", "--target-loss", 0.5, "--lr", 0.1),
        *("--grade", "quick", "--budget", 2, "--batch-sizes", "4,16,full"),
    )
    assert done.code == 0, done.err
    assert "softmax on iris: 120 training samples" in done.out
    assert "Goal: the least time to a validation loss of 0.5" in done.out
    assert "quick grade" in done.out
    assert "batch size" in done.out


def test_a_model_file_is_advised_about(rightbatch, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef small():\n    return nn.Linear(4, 3)\n"
    )
    done = rightbatch(
        *("advise", "iris", "--model", f"{tmp_path}/nets.py:small", "--grade", "quick"),
        *("--budget", 2, "--batch-sizes", "8,32", "--json", "--quiet"),
    )
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["model"].endswith("nets.py:small")


def test_memory_that_holds_not_one_sample_exits_4(rightbatch) -> None:
    done = rightbatch("advise", "iris", "--memory-limit", "1MB", "--grade", "quick", "--json")
    assert (done.code, done.out) == (4, ""), done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument 'DATA'"),
        (("nope.csv",), 3, "nope.csv"),
        (("iris", "--epochs", 3, "--target-loss", 0.1), 2, "two goals"),
        (("iris", "--epochs", 0), 2, "--epochs"),
        (("iris", "--target-loss", "low"), 2, "--target-loss"),
        (("iris", "--target-loss", "nan"), 2, "target_loss=nan"),
        (("iris", "--target-loss", "-1"), 2, "validation loss above 0"),
        (("iris", "--grade", "pilots"), 2, "Did you mean 'pilot'?"),
        (("iris", "--budget", 0), 2, "--budget"),
        (("iris", "--budget", "inf"), 2, "budget_seconds=inf"),
        (("iris", "--memory-limit", "8 apples"), 2, "'8 apples' is not a size of memory"),
        (("iris", "--memory-limit", 0), 2, "give such as '8GB'"),
        (("iris", "--batch-sizes", "9-1"), 2, "'9-1' is no range"),
        (("iris", "--batch-sizes", "auto"), 2, "not a whole number from 1, nor full"),
        (("iris", "--batch-size", 3), 2, "--batch-sizes"),
        (("iris", "--steps", 3), 2, "No such option"),
        (("iris", "--model", "mpl:3"), 2, "Did you mean 'mlp'?"),
        (("iris", "--model", "logistic"), 2, "logistic tells two classes apart"),
        (("iris", "--momentum", 0.9, "--optimizer", "adam"), 2, "momentum=0.9 goes with"),
        (("iris", "--report", "nowhere/r.html"), 2, "there is no folder"),
    ],
)
def test_refusals(rightbatch, arguments: tuple, code: int, message: str) -> None:
    done = rightbatch("advise", "--json", *arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert message in done.err
    assert "Traceback" not in done.err


def news(stage: str, seconds: float) -> AdviceProgress:
    return AdviceProgress(stage=stage, text="batch size 32", seconds=seconds, total_seconds=60.0)


def test_off_a_terminal_each_stage_gets_a_line_and_then_one_now_and_then(
    capsys, monkeypatch
) -> None:
    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    with advice_display(quiet=False) as display:
        for second in range(60):
            clock.now = 100.0 + second
            display(news("speed" if second < 5 else "pilot", float(second)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "speed: batch size 32  (0 of 60 s)"
    assert lines[1] == "pilot: batch size 32  (5 of 60 s)"
    assert 5 <= len(lines) <= 8
    with advice_display(quiet=True) as display:
        assert display is None


def test_on_a_terminal_advice_and_training_share_a_bar(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with run_display(quiet=False) as display:
        display.advice(news("pilot", 30.0))
    assert "50%" in capsys.readouterr().err
    with run_display(quiet=False) as display:
        display.advice(news("pilot", 45.0))
        display.training(
            Progress(epoch=1, steps=1, total_steps=4, train_loss=1.0, samples_per_second=1.0)
        )
    assert "25%" in capsys.readouterr().err
    with run_display(quiet=True) as display:
        assert display.advice is display.training is None

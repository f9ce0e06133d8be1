"""`rightbatch train --resume`: going on, what may change, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def run(rightbatch, tmp_path: Path) -> Path:
    """A run of two epochs."""
    folder = tmp_path / "run"
    done = rightbatch(
        *("train", "breast_cancer", "--standardize", "--model", "mlp:4", "--lr", 0.1),
        *("--epochs", 2, "--out", folder, "--quiet", "--json"),
    )
    assert done.code == 0, done.err
    return folder


def rows_of(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def test_a_resumed_run_equals_one_that_never_stopped(rightbatch, run: Path, tmp_path) -> None:
    resumed = rightbatch("train", "--resume", run, "--epochs", 5, "--json")
    assert resumed.code == 0, resumed.err
    straight = rightbatch(
        *("train", "breast_cancer", "--standardize", "--model", "mlp:4", "--lr", 0.1),
        *("--epochs", 5, "--out", tmp_path / "straight", "--json"),
    )
    timings = {"run", "seconds", "loading_seconds", "samples_per_second"}
    first, second = (
        {name: value for name, value in json.loads(done.out).items() if name not in timings}
        for done in (resumed, straight)
    )
    assert first == second
    assert rows_of(run) == rows_of(tmp_path / "straight")
    weights = [folder / "model.safetensors" for folder in (run, tmp_path / "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_what_changed_is_kept_for_the_next_time(rightbatch, run: Path) -> None:
    rightbatch("train", "--resume", run, "--epochs", 4)
    again = rightbatch("train", "--resume", run)
    assert again.code == 0
    assert "The run was at its end" in again.out
    assert len(rows_of(run)) == 4


def test_the_same_options_may_be_given_again(rightbatch, run: Path) -> None:
    done = rightbatch(
        *("train", "breast_cancer", "--resume", run, "--model", "mlp:4", "--standardize"),
        *("--epochs", 3, "--out", run, "--json"),
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["epochs"] == 3


def test_another_batch_size_is_taken_at_the_users_word(rightbatch, run: Path) -> None:
    done = rightbatch("train", "--resume", run, "--batch-size", 91, "--epochs", 3, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["batch_size"], report["steps"]) == (91, 2 * 15 + 5)
    further = rightbatch("train", "--resume", run, "--epochs", 4, "--json")
    assert json.loads(further.out)["steps"] == 2 * 15 + 5 + 5


def test_other_options_are_refused_by_name(rightbatch, run: Path) -> None:
    before = (run / "config.json").read_bytes()
    done = rightbatch("train", "--resume", run, "--lr", 0.5, "--val", 0.3, "--seed", 0)
    assert done.code == 2
    assert "learning_rate was 0.1 and is 0.5; val was 0.1 and is 0.3." in done.err
    assert "seed" not in done.err
    assert (run / "config.json").read_bytes() == before


def test_other_data_are_refused_and_leave_the_run_as_it_was(rightbatch, run: Path) -> None:
    before = (run / "config.json").read_bytes()
    done = rightbatch("train", "wine", "--resume", run)
    assert done.code == 2
    assert "can not be resumed" in done.err
    assert (run / "config.json").read_bytes() == before


def test_out_and_resume_contradict_each_other(rightbatch, run: Path, tmp_path: Path) -> None:
    done = rightbatch("train", "--resume", run, "--out", tmp_path / "other")
    assert done.code == 2
    assert "contradict each other" in done.err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"options": {}}', '{"command": {}}'])
def test_a_folder_that_is_no_run_is_refused(rightbatch, tmp_path: Path, content) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    done = rightbatch("train", "--resume", tmp_path)
    assert done.code == 2
    assert str(tmp_path) in done.err


def test_a_folder_that_is_not_there_is_refused(rightbatch, tmp_path: Path) -> None:
    done = rightbatch("train", "--resume", tmp_path / "none")
    assert done.code == 2
    assert "does not exist" in done.err


def test_code_is_not_run_because_a_folder_names_it(rightbatch, tmp_path: Path) -> None:
    nets, touched = tmp_path / "nets.py", tmp_path / "touched"
    nets.write_text("import torch\ndef net():\n    return torch.nn.Linear(4, 3)\n")
    model = f"{nets}:net"
    first = rightbatch("train", "iris", "--model", model, "--epochs", 1, "--out", tmp_path / "run")
    assert first.code == 0, first.err
    nets.write_text(f"from pathlib import Path\nPath({str(touched)!r}).touch()\n{nets.read_text()}")
    refused = rightbatch("train", "--resume", tmp_path / "run", "--epochs", 2)
    assert refused.code == 2
    assert f"--model {model}" in refused.err
    assert not touched.exists()
    given = rightbatch("train", "--resume", tmp_path / "run", "--epochs", 2, "--model", model)
    assert given.code == 0, given.err
    assert touched.exists()


def test_ctrl_c_exits_130_keeps_the_checkpoint_and_says_how_to_go_on(
    rightbatch, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rightbatch", "train", "breast_cancer", "--standardize"),
            *("--epochs", "100000", "--out", str(run), "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 120
        history = run / "history.jsonl"
        while not (history.exists() and history.stat().st_size) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert f"rightbatch train --resume {run}" in err
    epochs = len(rows_of(run))
    done = rightbatch("train", "--resume", run, "--epochs", epochs + 1, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["epochs"] == epochs + 1
    assert len(rows_of(run)) == epochs + 1


def test_data_that_were_moved_are_found_where_they_are_named(rightbatch, tmp_path) -> None:
    rows = "\n".join(f"{value / 7:.3f},{value % 2}" for value in range(60))
    (tmp_path / "table.csv").write_text(f"x,y\n{rows}")
    options = ["--target", "y", "--epochs", 1, "--out", tmp_path / "run"]
    assert rightbatch("train", tmp_path / "table.csv", *options).code == 0
    (tmp_path / "table.csv").rename(tmp_path / "moved.csv")
    gone = rightbatch("train", "--resume", tmp_path / "run", "--epochs", 2)
    assert gone.code == 3
    assert "table.csv, which is not there any more" in gone.err
    assert "name them: rightbatch train DATA --resume" in gone.err
    found = rightbatch("train", tmp_path / "moved.csv", "--resume", tmp_path / "run", "--epochs", 2)
    assert found.code == 0, found.err

"""`rightbatch run` and `train --batch-size auto`: the main job at the size that measuring finds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def config_of(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """One job end to end by a process of its own; the tests below look at what it left."""
    command = (
        *("run", "breast_cancer", "--standardize", "--stratify", "--model", "mlp:4", "--lr", "0.1"),
        *("--epochs", "6", "--budget", "4", "--json", "--out", str(folder / "run")),
        *("--report", str(folder / "report.html")),
    )
    finished = subprocess.run(
        [sys.executable, "-m", "rightbatch", *command],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished


def test_json_is_one_object_with_the_training_and_the_advice(done, folder: Path) -> None:
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    advice = report["advice"]
    assert report["batch_size"] == advice["batch_size"]
    assert report["learning_rate"] == advice["learning_rate"]
    assert report["micro_batch_size"] == advice["micro_batch_size"]
    assert (advice["goal"]["kind"], advice["goal"]["epochs"]) == ("epochs", 6)
    assert report["epochs"] == 6
    assert report["test_accuracy"] > 0.8
    assert report["leaked_samples"] == 0
    assert report["report"] == str(folder / "report.html")


def test_the_run_keeps_the_advice_and_what_it_was_resolved_to(done, folder: Path) -> None:
    report, config = json.loads(done.stdout), config_of(folder / "run")
    assert json.loads((folder / "run" / "advice.json").read_text()) == report["advice"]
    training = config["command"]["training"]
    for name in ("batch_size", "learning_rate", "micro_batch_size"):
        assert training[name] == config["options"][name] == report[name]
    assert config["asked"] == {"batch_size": "auto", "learning_rate": 0.1}
    assert config["command_line"].startswith("rightbatch run breast_cancer")
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result == {k: v for k, v in report.items() if k not in ("advice", "report")}


def test_people_are_told_what_was_advised_before_training_begins(done) -> None:
    report = json.loads(done.stdout)
    told = f"Advised: batch size {report['batch_size']:,}, learning rate "
    assert done.stderr.index(told) < done.stderr.index("Run folder:")
    assert done.stderr.index("Run folder:") < done.stderr.index("epoch 1  train loss")
    assert "(advised)" in done.stderr


def test_the_page_has_the_advice_and_the_curves(done, folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "Batch size for mlp:4 on breast_cancer" in text
    assert "mlp:4 on breast_cancer" in text
    assert "landscape" in text


def test_a_resumed_run_stays_at_the_size_it_was_resolved_to(
    done, folder: Path, rightbatch, tmp_path: Path
) -> None:
    report = json.loads(done.stdout)
    page, run = tmp_path / "again.html", tmp_path / "run"
    # Other tests look at the run as it ended first.
    shutil.copytree(folder / "run", run)
    resumed = rightbatch(*("train", "--resume", run, "--epochs", 8, "--json", "--report", page))
    assert resumed.code == 0, resumed.err
    after = json.loads(resumed.out)
    assert (after["epochs"], after["batch_size"]) == (8, report["batch_size"])
    assert after["learning_rate"] == report["learning_rate"]
    assert after["advice"] is None
    assert "Batch size for mlp:4 on breast_cancer" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", "auto"), "batch_size='auto' would look for a batch size"),
        (("--grade", "quick"), "grade would look for a batch size"),
        (("--budget", 5, "--memory-limit", "1GB"), "budget_seconds and memory_limit would look"),
        (("--lr", 0.3), "learning_rate was"),
    ],
)
def test_a_resumed_run_measures_nothing(
    done, folder: Path, rightbatch, arguments: tuple, message: str
) -> None:
    before = (folder / "run" / "config.json").read_bytes()
    refused = rightbatch("train", "--resume", folder / "run", *arguments)
    assert refused.code == 2
    assert message in refused.err
    assert (folder / "run" / "config.json").read_bytes() == before


def test_train_takes_auto_and_a_target_loss(rightbatch, tmp_path: Path) -> None:
    done = rightbatch(
        *("train", "iris", "--standardize", "--batch-size", "auto", "--grade", "quick"),
        *("--budget", 2, "--lr", 0.1, "--target-loss", 0.6, "--out", tmp_path / "run"),
    )
    assert done.code == 0, done.err
    assert "Goal: the least time to a validation loss of 0.6" in done.out
    assert "the target was 0.6" in done.out
    config = config_of(tmp_path / "run")
    assert isinstance(config["options"]["batch_size"], int)
    assert config["options"]["target_loss"] == 0.6
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [row["val_loss"] <= 0.6 for row in rows] == [False] * (len(rows) - 1) + [True]
    assert (tmp_path / "run" / "advice.json").exists()


def test_a_number_as_batch_size_asks_for_no_advice(rightbatch, tmp_path: Path) -> None:
    done = rightbatch(
        *("run", "iris", "--batch-size", 16, "--epochs", 2, "--out", tmp_path / "run", "--json")
    )
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["batch_size"], report["learning_rate"]) == (16, 0.01)
    assert report["advice"] is report["report"] is None
    assert not (tmp_path / "run" / "advice.json").exists()
    assert "asked" not in config_of(tmp_path / "run")


@pytest.mark.parametrize("verb", ["run", "train"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", "aut"), "nor full, nor auto. Did you mean 'auto'?"),
        (("--batch-size", 0), "nor full, nor auto"),
        (("--batch-size", "auto", "--steps", 5), "steps=5 and batch_size='auto' contradict"),
        (("--batch-size", "auto", "--micro-batch-size", 5), "micro_batch_size=5 and batch_size="),
        (("--batch-size", "auto", "--grade", "best"), "Valid: quick, pilot"),
        (("--batch-size", "auto", "--budget", 0), "--budget"),
        (("--batch-size", "auto", "--memory-limit", "-8GB"), "is not a size of memory"),
        (("--batch-size", "auto", "--momentum", 0.9, "--optimizer", "adam"), "momentum=0.9 goes"),
        (("--batch-size", "auto", "--target-loss", 0.1, "--val", 0), "no validation part"),
        (("--batch-size", 8, "--grade", "quick"), "grade='quick' is for batch_size='auto'"),
        (
            ("--batch-size", "full", "--budget", 5, "--memory-limit", "1GB"),
            "budget_seconds=5.0, memory_limit='1GB' are for batch_size='auto', and batch_size is",
        ),
        (("--batch-size", 8, "--target-loss", "nan"), "target_loss=nan"),
    ],
)
def test_refusals(rightbatch, tmp_path: Path, verb: str, arguments: tuple, message: str) -> None:
    run = tmp_path / "run"
    done = rightbatch(verb, "iris", "--out", run, "--json", *arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert message in done.err
    assert not run.exists()


def test_run_needs_data_and_resumes_nothing(rightbatch) -> None:
    assert rightbatch("run").code == 2
    done = rightbatch("run", "iris", "--resume", "somewhere")
    assert done.code == 2
    assert "No such option" in done.err

"""`rightbatch train`: what it prints, what it keeps, each option, each refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

KEYS = {
    *("run", "epochs", "batch_size", "train_loss", "val_loss", "val_accuracy", "test_loss"),
    *("test_accuracy", "seconds", "samples_per_second", "leaked_samples", "duplicate_samples"),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def train(rightbatch, run: Path):
    """Train for two epochs into `run` and give the JSON report."""

    def command(data: object, *arguments: object) -> dict:
        stop = [] if {"--epochs", "--steps"} & set(map(str, arguments)) else ["--epochs", 2]
        done = rightbatch("train", data, "--out", run, "--json", *stop, *arguments)
        assert done.code == 0, done.err
        assert done.out.count("\n") == 1
        return json.loads(done.out)

    return command


def config_of(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


def kept_of(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def test_json_is_one_object_with_the_promised_keys(train, run: Path) -> None:
    report = train("breast_cancer", "--standardize", "--epochs", 3)
    assert set(report) >= KEYS
    assert report["run"] == str(run)
    assert (report["epochs"], report["steps"], report["batch_size"]) == (3, 45, 32)
    assert report["leaked_samples"] == report["duplicate_samples"] == 0
    assert report["val_accuracy"] > 0.8
    assert report["samples_per_second"] > 0


def test_regression_reports_r2(train) -> None:
    report = train("diabetes", "--standardize", "--epochs", 20)
    assert set(report) >= (KEYS - {"val_accuracy", "test_accuracy"}) | {"val_r2", "test_r2"}
    assert not {"val_accuracy", "test_accuracy"} & set(report)
    assert 0 < report["test_r2"] < 1


def test_the_figures_are_those_of_the_history(train, run: Path) -> None:
    report = train("breast_cancer", "--standardize", "--epochs", 4)
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert report[name] == rows[-1][name]


def test_a_run_folder_holds_all_that_it_takes_to_go_on(train, run: Path) -> None:
    train("breast_cancer", "--standardize", "--stratify", "--model", "mlp:4", "--lr", 0.2)
    command = config_of(run)["command"]
    assert command["data"]["standardize"] is command["data"]["stratify"] is True
    assert command["data"]["data"] == "breast_cancer"
    assert command["training"]["learning_rate"] == 0.2
    assert command["training"]["model"] == "mlp:4"
    transforms = json.loads((run / "transforms.json").read_text())
    assert [transform["kind"] for transform in transforms] == ["standardize"]
    environment = json.loads((run / "environment.json").read_text())
    assert {"python", "platform", "versions"} <= set(environment)
    assert (run / "checkpoint.safetensors").stat().st_size > 0


def test_paths_are_kept_so_that_they_are_found_from_anywhere(
    train, run: Path, tmp_path: Path, monkeypatch
) -> None:
    np.savez(tmp_path / "small.npz", x=np.eye(60), y=np.arange(60) % 2)
    monkeypatch.chdir(tmp_path)
    train("small.npz", "--target", "y")
    assert config_of(run)["command"]["data"]["data"] == str(tmp_path / "small.npz")


def test_tables_go_to_stdout_and_progress_to_stderr(rightbatch, run: Path) -> None:
    done = rightbatch("train", "iris", "--epochs", 2, "--out", run)
    assert done.code == 0
    assert "accuracy" in done.out
    assert f"Run: {run}" in done.out
    assert f"Run folder: {run}" in done.err
    assert re.search(r"^step 4 of 8  epoch 1  train loss", done.err, re.MULTILINE)
    assert re.search(r"^step 8 of 8  epoch 2  train loss", done.err, re.MULTILINE)


def test_with_json_the_tables_go_to_stderr(rightbatch, run: Path) -> None:
    done = rightbatch("train", "iris", "--epochs", 1, "--out", run, "--json")
    json.loads(done.out)
    assert "accuracy" in done.err


def test_quiet_is_silent_on_stderr(rightbatch, run: Path) -> None:
    done = rightbatch("train", "iris", "--epochs", 1, "--out", run, "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["run"] == str(run)


def test_without_out_the_run_gets_a_folder_of_its_own(rightbatch, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(2):
        done = rightbatch("train", "iris", "--epochs", 1, "--model", "mlp:5,5", "--json")
        folders.append(json.loads(done.out)["run"])
    assert all(re.match(r"runs/iris-mlp-5-5-\d{8}-\d{6}", folder) for folder in folders)
    assert len(set(folders)) == 2
    assert all((tmp_path / folder / "config.json").exists() for folder in folders)


def test_nothing_held_out_gives_null(train) -> None:
    report = train("iris", "--val", 0, "--test", 0)
    assert {report[key] for key in ("val_loss", "val_accuracy", "test_loss", "test_accuracy")} == {
        None
    }


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--activation", "tanh", "--model", "mlp:4"], "activation", "tanh"),
        (["--init", "normal:0.5"], "init", "normal:0.5"),
        (["--loss", "cross_entropy", "--model", "softmax"], "loss", "cross_entropy"),
        (["--optimizer", "adamw"], "optimizer", "adamw"),
        (["--lr", "0.5"], "learning_rate", 0.5),
        (["--momentum", "0.9"], "momentum", 0.9),
        (["--l1", "0.1"], "l1", 0.1),
        (["--l2", "0.1"], "l2", 0.1),
        (["--batch-size", "full"], "batch_size", "full"),
        (["--batch-size", "7"], "batch_size", 7),
        (["--micro-batch-size", "5"], "micro_batch_size", 5),
        (["--epochs", "1"], "epochs", 1),
        (["--steps", "3"], "steps", 3),
        (["--no-shuffle"], "shuffle", False),
        (["--shuffle"], "shuffle", True),
        (["--window", "20"], "window", 20),
        (["--early-stopping", "2"], "early_stopping", 2),
        (["--target-loss", "0.2"], "target_loss", 0.2),
        (["--threads", "1"], "threads", 1),
        (["--precision", "bfloat16"], "precision", "bfloat16"),
        (["--seed", "5"], "seed", 5),
    ],
)
def test_each_training_option_reaches_fit(
    train, run: Path, arguments: list[str], name: str, value: object
) -> None:
    train("breast_cancer", "--standardize", *arguments)
    assert config_of(run)["options"][name] == value


def test_full_batch_is_one_step_an_epoch(train) -> None:
    report = train("iris", "--batch-size", "full", "--epochs", 3)
    assert (report["steps"], report["batch_size"]) == (3, 120)


def test_steps_stop_within_an_epoch(train) -> None:
    assert train("iris", "--steps", 3)["steps"] == 3


def test_early_stopping_reports_the_best_epoch(train, run: Path) -> None:
    arguments = ["--lr", 2, "--model", "mlp:50", "--early-stopping", 1, "--epochs", 200]
    report = train("breast_cancer", "--standardize", *arguments)
    assert report["best_epoch"] < report["epochs"] < 200
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert report["val_loss"] == min(row["val_loss"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "factors"),
    [([], [1 / 255]), (["--scale"], [1 / 255]), (["--no-scale"], [])],
)
def test_images_of_bytes_are_divided_by_255_unless_told_otherwise(
    train, run: Path, tmp_path: Path, arguments: list[str], factors: list[float]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 3)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(60) % 3)
    train(tmp_path / "images.npz", "--target", "y", *arguments)
    transforms = json.loads((run / "transforms.json").read_text())
    assert [transform["factor"] for transform in transforms] == factors


def test_a_table_of_small_numbers_is_not_scaled(train, run: Path, tmp_path: Path) -> None:
    columns = {name: np.arange(60, dtype=np.uint8) for name in ("a", "b")}
    np.savez(tmp_path / "table.npz", **columns, y=np.arange(60) % 3)
    train(tmp_path / "table.npz", "--target", "y")
    assert json.loads((run / "transforms.json").read_text()) == []


def test_a_glob_of_tables(train, tmp_path: Path) -> None:
    for month in (1, 2):
        rows = "".join(f"{k},{month},{2 * k + month / 2}\n" for k in range(40))
        (tmp_path / f"trips-{month}.csv").write_text("distance,month,fare\n" + rows)
    report = train(f"{tmp_path}/trips-*.csv", "--target", "fare", "--standardize")
    assert report["model"] == "linear"


MODEL_FILE = """
import torch

def small():
    return torch.nn.Linear(4, 3)

def wide():
    return torch.nn.Linear(9, 3)

def nothing():
    return 3
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(MODEL_FILE)
    return path


def test_a_model_from_a_file(train, nets: Path) -> None:
    report = train("iris", "--model", f"{nets}:small", "--epochs", 20, "--lr", 0.1)
    assert report["model"] == f"{nets}:small"
    assert report["test_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("smal", "Did you mean 'small'?"),
        ("nothing", "returned int; it must return a torch.nn.Module"),
        ("wide", "can not take the inputs of iris"),
    ],
)
def test_wrong_models_from_a_file(rightbatch, nets: Path, function: str, message: str) -> None:
    done = rightbatch("train", "iris", "--model", f"{nets}:{function}")
    assert done.code == 2
    assert message in done.err


def test_a_model_file_that_is_not_there(rightbatch, tmp_path: Path) -> None:
    done = rightbatch("train", "iris", "--model", f"{tmp_path}/none.py:net")
    assert done.code == 2
    assert "there is no file" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", 3, "--steps", 4], "epochs=3 and steps=4 contradict each other"),
        (["--no-shuffle", "--window", 5], "shuffling is switched off"),
        (["--momentum", 0.9, "--optimizer", "adam"], "momentum=0.9 goes with optimizer='sgd'"),
        (["--micro-batch-size", 64, "--batch-size", 32], "is larger than batch_size=32"),
        (["--activation", "tanh", "--model", "softmax"], "the model is softmax"),
        (["--activation", "tanh"], "mlp:100"),
        (["--early-stopping", 2, "--val", 0], "no validation part"),
        (["--init", "zeros", "--model", "nets.py:small"], "init=zeros is for the built-in models"),
        (["--optimizer", "sgdd"], "Did you mean 'sgd'?"),
        (["--activation", "rellu", "--model", "mlp:3"], "Did you mean 'relu'?"),
        (["--loss", "cross-entropy"], "Did you mean 'cross_entropy'?"),
        (["--init", "zero"], "Did you mean 'zeros'?"),
        (["--init", "normal"], "normal:1"),
        (["--model", "mpl:100"], "Did you mean 'mlp'?"),
        (["--model", "logistic"], "logistic tells two classes apart"),
        (["--lr", 0], "--lr"),
        (["--lr", "fast"], "--lr"),
        (["--momentum", 1], "--momentum"),
        (["--l2", -1], "--l2"),
        (["--epochs", 0], "--epochs"),
        (["--threads", 0], "--threads"),
        (["--precision", "float16"], "--precision"),
        (["--device", "tpu9"], "device='tpu9' is not to be had here"),
        (["--precision", "bfloat16", "--batch-size", "auto"], "steps in float32"),
        (["--window", 0], "--window"),
        (["--batchsize", 3], "--batch-size"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_valid(
    rightbatch, run: Path, arguments: list[object], message: str
) -> None:
    done = rightbatch("train", "iris", "--out", run, "--json", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not run.exists()


def test_data_must_be_named(rightbatch) -> None:
    done = rightbatch("train")
    assert done.code == 2
    assert "Name the DATA to train on" in done.err


def test_data_without_a_target_are_refused(rightbatch, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 20)
    done = rightbatch("train", tmp_path / "a.csv")
    assert done.code == 3
    assert "--target" in done.err


def test_a_folder_that_holds_a_run_is_not_written_over(rightbatch, train, run: Path) -> None:
    train("iris")
    before = (run / "config.json").read_bytes()
    done = rightbatch("train", "iris", "--out", run)
    assert done.code == 2
    assert f"--resume {run}" in done.err
    assert (run / "config.json").read_bytes() == before


def test_a_loss_that_is_not_finite_exits_1_and_keeps_the_run(rightbatch, run: Path) -> None:
    done = rightbatch("train", "diabetes", "--lr", 1e6, "--epochs", 50, "--out", run)
    assert done.code == 1
    assert "Lower the learning rate" in done.err
    assert (run / "checkpoint.safetensors").exists()


def test_the_report_of_a_run_is_kept_in_its_folder(train, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report = train("breast_cancer", "--standardize", "--model", "mlp:4", "--report", page)
    assert {**kept_of(run), "advice": None, "report": report["report"]} == report
    landscape = json.loads((run / "landscape.json").read_text())
    assert landscape["paths"][0]["steps"][-1] == report["steps"]
    config = config_of(run)
    assert config["command_line"].startswith("rightbatch train breast_cancer")
    text = page.read_text()
    assert "<script src" not in text
    assert "breast_cancer" in text
    assert page.stat().st_size < 2_000_000


def test_without_a_report_no_landscape_is_computed(train, run: Path) -> None:
    report = train("breast_cancer", "--standardize")
    assert not (run / "landscape.json").exists()
    assert {**kept_of(run), "advice": None, "report": report["report"]} == report


def test_a_report_that_can_not_be_written_is_refused_before_training(rightbatch, run: Path) -> None:
    done = rightbatch("train", "iris", "--out", run, "--report", run / "no" / "report.html")
    assert done.code == 2
    assert "there is no folder" in done.err
    assert not run.exists()


def test_no_folder_is_named_of_a_run_that_is_refused(rightbatch, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = rightbatch("train", "breast_cancer", "--epoch-samples", 50)
    assert done.code == 2
    assert "give weights as well" in done.err
    assert "Run folder" not in done.err
    assert list(tmp_path.iterdir()) == []

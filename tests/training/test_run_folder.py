"""The run's folder: what lies in it, while the run goes on and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import rightbatch as rb
from rightbatch.errors import OptionError, ResumeError
from rightbatch.training.run_folder import RunFolder


def refuse_constant(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def read_lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse_constant) for line in text.splitlines()]


def test_a_run_folder_is_whole(cancer, tmp_path):
    run = tmp_path / "deep" / "run"
    result = rb.fit("mlp:4", cancer, epochs=3, out=run, seed=2, l2=0.1)
    assert result.run == run
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "environment.json",
        "history.jsonl",
        "model.safetensors",
        "steps.jsonl",
        "transforms.json",
    ]
    assert read_lines(run / "history.jsonl") == result.history
    assert [(row["step"], row["loss"]) for row in read_lines(run / "steps.jsonl")] == (
        result.step_losses
    )
    weights = load_file(run / "model.safetensors")
    for name, value in result.model.state_dict().items():
        assert torch.equal(weights[f"model.{name}"], value)


def test_rows_of_the_history_count_from_the_start_of_the_run(cancer):
    result = rb.fit("mlp:4", cancer, epochs=3, batch_size=100)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert [row["steps"] for row in result.history] == [5, 10, 15]
    assert [row["samples"] for row in result.history] == [455, 910, 1365]
    seconds = [row["seconds"] for row in result.history]
    assert 0 < seconds[0] < seconds[1] < seconds[2] <= result.seconds
    assert set(result.history[0]) == {
        "epoch", "steps", "samples", "seconds", "loading_seconds", "train_loss", "val_loss",
        "val_accuracy",
    }  # fmt: skip


def test_the_configuration_says_what_was_asked_of_which_data(cancer, tmp_path):
    rb.fit("mlp:4", cancer, epochs=1, out=tmp_path / "run", config={"note": "first try"})
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == "mlp:4"
    assert config["options"]["batch_size"] == 32
    assert config["options"]["epochs"] == 1
    assert config["sizes"] == {"train": 455, "val": 114, "test": 0}
    assert config["split"]["seed"] == 7
    assert config["data"] == {"name": "breast_cancer", "fingerprint": cancer.fingerprint}
    assert config["classes"] == [0, 1]
    assert config["note"] == "first try"
    (transform,) = json.loads((tmp_path / "run" / "transforms.json").read_text())
    assert transform["kind"] == "standardize"
    assert len(transform["mean"]) == 30
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0] or (
        environment["versions"]["torch"] == torch.__version__
    )
    assert environment["torch_threads"] >= 1


def test_lines_are_strict_json_while_the_run_goes_on(cancer, tmp_path):
    run = tmp_path / "run"
    seen: list[tuple[int, int]] = []

    def look(progress: rb.training.progress.Progress) -> None:  # type: ignore[name-defined]  # a watcher's argument
        if progress.row is not None:
            history = read_lines(run / "history.jsonl")
            assert history[-1] == progress.row
            seen.append((len(history), len(read_lines(run / "steps.jsonl"))))

    rb.fit("logistic", cancer, epochs=3, batch_size=100, out=run, progress=look)
    assert seen == [(1, 5), (2, 10), (3, 15)]


def test_a_measure_that_is_not_a_number_is_null(tmp_path):
    # The one target value of the validation part leaves R² undefined.
    target = np.r_[np.linspace(0, 1, 20), np.full(2, 0.5)].astype(np.float32)
    inputs = np.linspace(0, 1, 22, dtype=np.float32)[:, None]
    for seed in range(500):
        parts = rb.split(rb.open((inputs, target)), val=2, seed=seed)
        if len({float(target[row]) for row in parts.val.rows.take(np.arange(2))}) == 1:
            break
    result = rb.fit("linear", parts, epochs=1, out=tmp_path / "run")
    assert np.isnan(result.history[0]["val_r2"])
    assert read_lines(tmp_path / "run" / "history.jsonl")[0]["val_r2"] is None


def test_the_file_of_steps_is_thinned_as_the_history_is(tmp_path):
    inputs = np.ones((10_050, 1), np.float32)
    parts = rb.split(rb.open((inputs, np.arange(10_050) % 2)))
    result = rb.fit("logistic", parts, batch_size=1, epochs=1, out=tmp_path / "run")
    steps = [row["step"] for row in read_lines(tmp_path / "run" / "steps.jsonl")]
    assert steps == [step for step, _ in result.step_losses] == list(range(1, 10_051, 2))


def test_a_second_run_in_the_same_folder_is_refused_and_leaves_the_first(cancer, tmp_path):
    rb.fit("logistic", cancer, epochs=1, out=tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(OptionError, match=r"holds a run already.*resume=True.*another folder"):
        rb.fit("logistic", cancer, epochs=1, out=tmp_path / "run")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}


def test_a_folder_that_can_not_be_made_is_refused(cancer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="can not be made"):
        rb.fit("logistic", cancer, epochs=1, out=tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("content", "telling"),
    [(None, "is no run folder"), ("{", "can not be read"), ("[]", "holds list")],
)
def test_a_folder_without_a_readable_configuration_is_refused(content, telling, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ResumeError, match=telling):
        RunFolder(tmp_path).read_config()


def test_resuming_without_a_folder_is_refused(cancer):
    with pytest.raises(OptionError, match=r"resume=True needs the run's folder: out="):
        rb.fit("logistic", cancer, resume=True)

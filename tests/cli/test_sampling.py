"""`--weights` and `--epoch-samples` on the command line: trained, resumed, predicted, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    y = (generator.random(300) < 0.2).astype(np.int64)
    columns = {"a": generator.normal(size=300) + y, "b": generator.normal(size=300)}
    path = tmp_path / "table.csv"
    pa.csv.write_csv(pa.table({**columns, "w": 1 + 4 * y, "y": y}), path)
    return path


def options(table: Path) -> tuple[str, ...]:
    return (str(table), "--target", "y", "--standardize", "--lr", "0.1")


def test_a_run_by_weight_is_resumed_and_predicts(rightbatch, table: Path, tmp_path: Path) -> None:
    weighted = ("--weights", "w", "--epoch-samples", 50, "--json")
    whole = rightbatch("train", *options(table), *weighted, "--steps", 9, "--out", tmp_path / "a")
    assert whole.code == 0, whole.err
    cut = rightbatch("train", *options(table), *weighted, "--steps", 3, "--out", tmp_path / "b")
    assert cut.code == 0, cut.err
    resumed = rightbatch("train", "--resume", tmp_path / "b", "--steps", 9, "--json")
    assert resumed.code == 0, resumed.err
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    stored = json.loads((tmp_path / "a" / "config.json").read_text())
    assert stored["command"]["data"]["weights"] == "w"
    assert stored["command"]["training"]["epoch_samples"] == 50
    said = rightbatch("predict", tmp_path / "a", "--part", "test", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["samples"] == 30
    changed = rightbatch("train", "--resume", tmp_path / "b", "--epoch-samples", 60)
    assert changed.code == 2
    assert "epoch_samples was 50 and is 60" in changed.err


def test_other_data_without_the_weights_can_be_predicted(
    rightbatch, table: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = rightbatch("train", *options(table), "--weights", "w", "--steps", 3, "--out", run)
    assert done.code == 0, done.err
    plain = tmp_path / "plain.csv"
    columns = pa.csv.read_csv(table).drop_columns(["w", "y"])
    pa.csv.write_csv(columns, plain)
    said = rightbatch("predict", run, plain, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["samples"] == 300


def test_chosen_columns_need_not_name_the_weights(rightbatch, table: Path, tmp_path: Path) -> None:
    done = rightbatch(
        *("train", *options(table), "--columns", "a", "--weights", "w", "--steps", 3),
        *("--out", tmp_path / "run"),
    )
    assert done.code == 0, done.err
    said = rightbatch("predict", tmp_path / "run", table, "--json")
    assert said.code == 0, said.err


def test_balanced_classes_are_compared(rightbatch, table: Path) -> None:
    done = rightbatch(
        *("compare", *options(table), "--weights", "balanced", "--epoch-samples", 100),
        *("--batch-sizes", "10,50", "--epochs", 1, "--no-landscape", "--json"),
    )
    assert done.code == 0, done.err
    curves = json.loads(done.out)["curves"]
    assert [curve["history"][-1]["steps"] for curve in curves] == [10, 2]


def test_inspect_counts_the_inputs_without_the_weights(rightbatch, table: Path) -> None:
    done = rightbatch("inspect", str(table), "--target", "y", "--weights", "w", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["bytes"]["parameters"] == 4 * 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--weights", "v"), "has no column 'v'"),
        (("--weights", "balancd"), "Did you mean 'balanced'?"),
        (("--weights", "y"), "weights and target are both 'y'"),
        (("--weights", "w", "--no-shuffle"), "leave shuffle=False out"),
        (("--weights", "w", "--window", "5"), "leave window=5 out"),
        (("--epoch-samples", "5"), "give weights as well"),
        (("--weights", "balanced", "--batch-size", "auto"), "(--batch-size 32)"),
    ],
)
def test_what_can_not_be_is_refused(rightbatch, table: Path, tmp_path: Path, more, message) -> None:
    done = rightbatch("train", *options(table), *more, "--out", tmp_path / "run")
    assert done.code in (2, 3)
    assert message in done.err

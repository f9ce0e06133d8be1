"""`rightbatch predict`: runs and weights over data, parts, files and refusals."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest

import rightbatch as rb
from rightbatch.cli import predict as verb
from rightbatch.prediction import PARTS
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE

TOY = {
    "W1": [[0, 0, 0, 0, 1], [-1, 0, 0, 0, 0], [0, -1, 0, 0, 0], [0, 0, -1, 0, 0], [0, 0, 0, -1, 0]],
    "b1": [5, 4, 3, 2, 1],
    "W2": [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]],
    "b2": [-1, -2, 0, 0, 0],
}
TOY_X = np.array([[1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 4, 5, 6, 7]])


def report_of(done) -> dict[str, Any]:
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    report: dict[str, Any] = json.loads(done.out)
    return report


@pytest.fixture
def toy(tmp_path: Path) -> tuple[Path, Path]:
    np.savez(tmp_path / "toy.npz", **{name: np.array(rows) for name, rows in TOY.items()})
    np.save(tmp_path / "x.npy", TOY_X)
    return tmp_path / "toy.npz", tmp_path / "x.npy"


@pytest.fixture
def run(rightbatch, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run on breast_cancer with a test part, and what training said of it."""
    done = rightbatch(
        *("train", "breast_cancer", "--stratify", "--standardize", "--test", 0.2, "--seed", 3),
        *("--model", "mlp:5", "--epochs", 2, "--out", tmp_path / "run", "--json", "--quiet"),
    )
    return tmp_path / "run", report_of(done)


def test_the_help_repeats_what_the_library_calls_valid() -> None:
    assert verb.PARTS == PARTS
    assert verb.DEFAULT_BATCH_SIZE == EVALUATION_BATCH_SIZE


def test_json_is_one_object_with_the_promised_keys(rightbatch, run) -> None:
    folder, trained = run
    report = report_of(rightbatch("predict", folder, "breast_cancer", "--json"))
    assert {"samples", "correct", "accuracy", "loss", "seconds", "output"} <= set(report)
    assert report["samples"] == 114
    assert report["part"] == "test"
    assert report["accuracy"] == trained["test_accuracy"] == report["correct"] / 114
    assert report["loss"] == pytest.approx(trained["test_loss"], rel=1e-6)
    assert report["output"] is None
    assert report["r2"] is None


@pytest.mark.parametrize("part", ["train", "val", "test", "all"])
def test_the_parts_of_a_run_are_found_again(part: str, rightbatch, run) -> None:
    folder, trained = run
    report = report_of(rightbatch("predict", folder, "--part", part, "--json", "--quiet"))
    parts = rb.split(rb.open("breast_cancer"), val=0.1, test=0.2, stratify=True, seed=3)
    assert report["samples"] == {**parts.sizes, "all": 569}[part]
    if part in ("val", "test"):
        assert report["accuracy"] == trained[f"{part}_accuracy"]


def test_tables_are_the_result_where_no_json_is_asked_for(rightbatch, run) -> None:
    done = rightbatch("predict", run[0])
    assert done.code == 0
    assert "breast_cancer: 114 samples, the test part" in done.out
    assert "of 114" in done.out
    assert "--out FILE writes them" in done.out
    assert done.err == ""


@pytest.mark.parametrize("batch_size", [1, 2, "full"])
def test_weights_are_a_network(batch_size, toy, rightbatch, tmp_path: Path) -> None:
    model, data = toy
    out = tmp_path / "out.npy"
    options = ["--activation", "relu", "--batch-size", batch_size, "--out", out]
    report = report_of(rightbatch("predict", model, data, *options, "--json", "--quiet"))
    assert (report["samples"], report["accuracy"], report["loss"]) == (3, None, None)
    assert report["part"] == "all"
    assert report["output"] == str(out)
    assert np.load(out)[0] == pytest.approx([0.26768323] * 3 + [0.09847516] * 2, abs=1e-6)


def test_mnist_by_weights_is_scaled_and_its_own_test_part(
    rightbatch, real_data: Path, tmp_path: Path
) -> None:
    parts = rb.split(rb.open(real_data / "mnist"), val=5000).transform(rb.scale(1 / 255))
    result = rb.fit("softmax", parts, steps=60, batch_size=100, learning_rate=0.5)
    layer = result.model.layers[0]
    np.savez(
        tmp_path / "softmax.npz",
        W1=layer.weight.detach().numpy().T,
        b1=layer.bias.detach().numpy(),
    )
    done = rightbatch("predict", tmp_path / "softmax.npz", real_data / "mnist", "--json", "--quiet")
    report = report_of(done)
    assert (report["part"], report["samples"]) == ("test", 10_000)
    assert report["accuracy"] == rb.evaluate(result, parts.test)["accuracy"] > 0.7


def test_new_data_are_read_as_the_runs_own_were(rightbatch, tmp_path: Path) -> None:
    shop = tmp_path / "shop.csv"
    rows = [f"{k / 7},{['red', 'green', 'blue'][k % 3]},{k * 0.5},{k % 2}" for k in range(90)]
    shop.write_text("size,colour,price,id\n" + "\n".join(rows) + "\n")
    arguments = ["--target", "price", "--columns", "size,colour", "--standardize", "--quiet"]
    trained = rightbatch("train", shop, *arguments, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    new = tmp_path / "new.csv"
    new.write_text("colour,size,price\ngreen,3.5,12.25\n")
    out = tmp_path / "out.csv"
    done = rightbatch("predict", tmp_path / "run", new, "--out", out, "--json", "--quiet")
    report = report_of(done)
    assert (report["samples"], report["part"]) == (1, "all")
    assert report["accuracy"] is None
    table = pyarrow.csv.read_csv(out).to_pydict()
    assert list(table) == ["row", "target", "predicted"]
    assert table["target"] == [12.25]
    whole = rb.predict(tmp_path / "run", rb.open(shop, target="price"))
    assert min(whole.values) - 20 < table["predicted"][0] < max(whole.values) + 20

    new.write_text("colour,size,price\npink,3.5,12.25\n")
    refused = rightbatch("predict", tmp_path / "run", new)
    assert refused.code == 3
    assert "'colour' holds 'pink'" in refused.err


def test_a_run_of_code_is_given_its_code(rightbatch, tmp_path: Path) -> None:
    code = tmp_path / "nets.py"
    code.write_text(
        "from torch import nn\ndef small():\n    return nn.Sequential(nn.Linear(30, 1))\n"
    )
    run = tmp_path / "run"
    trained = rightbatch(
        *("train", "breast_cancer", "--standardize", "--model", f"{code}:small", "--epochs", 1),
        *("--out", run, "--json", "--quiet"),
    )
    refused = rightbatch("predict", run)
    assert refused.code == 2
    assert f"--model {code}:small" in refused.err
    report = report_of(rightbatch("predict", run, "--model", f"{code}:small", "--json", "--quiet"))
    assert report["accuracy"] == report_of(trained)["test_accuracy"]


def test_a_run_from_python_is_told_where_its_data_lie(rightbatch, tmp_path: Path) -> None:
    parts = rb.split(rb.open("iris"), test=0.2, seed=5).transform(rb.standardize())
    result = rb.fit("softmax", parts, epochs=2, out=tmp_path / "run")
    assert "name the DATA" in rightbatch("predict", tmp_path / "run").err
    report = report_of(rightbatch("predict", tmp_path / "run", "iris", "--json", "--quiet"))
    assert (report["part"], report["samples"]) == ("test", 30)
    assert report["accuracy"] == rb.evaluate(result, parts.test)["accuracy"]


def test_an_attack_is_refused_and_does_not_run(rightbatch, toy, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'trace'}",)

    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"W1": Attack()}))
    done = rightbatch("predict", path, toy[1], "--activation", "relu")
    assert done.code == 3
    assert "system'" in done.err
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["{run}", "--val", 0.3], 2, "val=0.3: the split and the transforms"),
        (["{run}", "--no-scale"], 2, "were settled when it was trained"),
        (["{run}", "iris"], 3, "has no column 'mean radius'"),
        (["{run}", "{x}"], 3, "has no column 'mean radius'"),
        (["{run}", "--part", "tets"], 2, "Did you mean 'test'"),
        (["{run}", "--out", "{run}"], 2, "would replace"),
        (["{toy}"], 2, "name the DATA"),
        (["{toy}", "{x}"], 2, "give the activation"),
        (["{toy}", "{x}", "--activation", "relu", "--out", "{x}"], 2, "would replace"),
        (["{toy}", "{x}", "--activation", "relu", "--standardize"], 2, "standardize learns"),
        (["{toy}", "iris", "--activation", "relu"], 3, "takes 5 inputs"),
        (["{x}", "{x}"], 2, "of no kind that holds weights"),
        (["nothing", "{x}"], 2, "there is no such file or folder"),
    ],
)
def test_wrong_arguments_are_told(arguments, code, told, rightbatch, run, toy) -> None:
    named = {"run": run[0], "toy": toy[0], "x": toy[1]}
    done = rightbatch("predict", *(str(word).format(**named) for word in arguments))
    assert done.code == code, done.err
    assert told in done.err
    assert done.out == ""

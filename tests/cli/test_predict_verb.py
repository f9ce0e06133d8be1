"""`rightbatch predict`: runs and weights over data, parts, files and refusals."""

from __future__ import annotations

import json
import os
import pickle
import re
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


def shop_rows(*, has_target: bool = True, has_group: bool = True) -> str:
    kept = [True, True, has_group, has_target]
    rows = [["size", "colour", "owner", "price"]] + [
        [f"{k / 7}", ["red", "green", "blue"][k % 3], f"{k // 4}", f"{k * 0.5}"] for k in range(90)
    ]
    lines = (",".join(field for field, keep in zip(row, kept, strict=True) if keep) for row in rows)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("target", "columns"),
    [("price", None), ("-1", None), ("3", "0,1"), ("-1", "size,colour"), ("price", "1,0")],
)
@pytest.mark.parametrize("categories", ["codes", "one-hot"])
def test_data_without_target_and_group_are_predicted_without_scores(
    target, columns, categories, rightbatch, tmp_path: Path
) -> None:
    shop, new = tmp_path / "shop.csv", tmp_path / "new.csv"
    shop.write_text(shop_rows())
    arguments = ["--target", target, "--group", "owner", "--standardize", "--quiet"]
    arguments += ["--categories", categories, *(["--columns", columns] if columns else [])]
    trained = rightbatch("train", shop, *arguments, "--out", tmp_path / "run", "--json")
    own = report_of(rightbatch("predict", tmp_path / "run", "--json", "--quiet"))
    assert own["part"] == "test"
    assert own["r2"] == pytest.approx(report_of(trained)["test_r2"])
    out = tmp_path / "out.csv"
    whole = rightbatch("predict", tmp_path / "run", "--part", "all", "--out", out)
    assert whole.code == 0, whole.err
    expected = pyarrow.csv.read_csv(out).to_pydict()
    for has_target, has_group in ((False, True), (True, False), (False, False)):
        new.write_text(shop_rows(has_target=has_target, has_group=has_group))
        done = rightbatch("predict", tmp_path / "run", new, "--out", out, "--json")
        report = report_of(done)
        assert (report["samples"], report["part"]) == (90, "all")
        assert ("has no column 'price'" in done.err) is not has_target
        assert ("predictions without scores" in done.err) is not has_target
        assert (report["r2"] is None) is not has_target
        found = pyarrow.csv.read_csv(out).to_pydict()
        assert found["predicted"] == pytest.approx(expected["predicted"], rel=1e-6)
    refused = rightbatch("predict", tmp_path / "run", new, "--target", "prize")
    assert refused.code == 3
    assert "no target 'prize'" in refused.err


def test_a_run_from_python_finds_its_own_target_and_test_part(rightbatch, tmp_path: Path) -> None:
    shop = tmp_path / "shop.csv"
    shop.write_text(shop_rows())
    parts = rb.split(rb.open(shop, target="price"), test=0.2, seed=5, group="owner")
    result = rb.fit("linear", parts.transform(rb.standardize()), epochs=2, out=tmp_path / "run")
    report = report_of(rightbatch("predict", tmp_path / "run", shop, "--json", "--quiet"))
    assert (report["part"], report["samples"]) == ("test", len(parts.test))
    assert report["r2"] == rb.predict(result, parts.test).r2
    shop.write_text(shop_rows(has_target=False, has_group=False))
    report = report_of(rightbatch("predict", tmp_path / "run", shop, "--json", "--quiet"))
    assert (report["part"], report["r2"]) == ("all", None)


def test_data_are_never_replaced_by_what_is_said_of_them(rightbatch, tmp_path: Path, toy) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("x\n1\n2\n")
    np.savez(tmp_path / "line.npz", W1=np.ones((1, 1)), b1=np.zeros(1))
    for data in (folder, folder / "*.csv"):
        done = rightbatch("predict", tmp_path / "line.npz", data, "--out", folder / "b.csv")
        assert done.code == 2
        assert "would replace" in done.err
        assert (folder / "b.csv").read_text() == "x\n1\n2\n"


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("config.json", {"split": None}, "can not be read|is not what"),
        ("config.json", {"split": {"bogus": 1}}, "bogus"),
        ("config.json", {"sizes": 3}, "is not what"),
        ("config.json", {"columns": [{"name": "x"}]}, "it lacks 'categories'"),
        ("config.json", {"columns": 5}, "is not what"),
        ("config.json", {"target": "nothing"}, "it lacks 'nothing'"),
        ("config.json", {"classes": [[1, 2], [3]]}, "is not what"),
        ("config.json", {"classes": [0, 1, 2]}, "names 3 classes"),
        ("config.json", {"loss": "bogus"}, "bogus"),
        ("config.json", {"model": "mlp:5,5"}, "are not those of mlp:5,5"),
        ("config.json", {"model": "softmax"}, "is another model"),
        ("config.json", {"options": {"activation": "bogus"}}, "activation 'bogus'"),
        ("config.json", {"command": {"data": {"data": "breast_cancer", "bogus": 1}}}, "bogus"),
        ("config.json", {"command": {"data": "breast_cancer"}}, "can not be read|is not what"),
        ("config.json", {"command": 3}, "is not what"),
        ("transforms.json", [3], "can not be read"),
        ("transforms.json", [{"kind": "scale"}], "can not be read"),
        ("transforms.json", [{"kind": "bogus"}], "bogus"),
    ],
)
def test_damaged_runs_are_told(name, damage, told, rightbatch, run) -> None:
    path = run[0] / name
    content = json.loads(path.read_text())
    path.write_text(json.dumps(damage if isinstance(damage, list) else {**content, **damage}))
    done = rightbatch("predict", run[0], "breast_cancer")
    assert done.code == 2, done.err
    assert re.search(told, done.err), done.err
    assert done.err.count("\n") < 6

"""`rightbatch speed`: sizes as a user writes them, tables, JSON, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from rightbatch.advice.speed import MODES as LIBRARY_MODES
from rightbatch.advice.timing import Speed
from rightbatch.cli.parameters import batch_sizes
from rightbatch.cli.speed import MODES, speed

QUICK = ("--seconds", "0.02")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A 64-8-10 network without training, for digits."""
    generator = np.random.default_rng(0)
    path = tmp_path / "weights.npz"
    np.savez(
        path,
        W1=generator.normal(size=(64, 8)),
        b1=np.zeros(8),
        W2=generator.normal(size=(8, 10)),
        b2=np.zeros(10),
    )
    return path


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("32", (32,)),
        ("1,32,full", (1, 32, "full")),
        ("1-4,64", (1, 2, 3, 4, 64)),
        ("4, 2, 1-3", (4, 2, 1, 3)),
        ("5-5", (5,)),
        ("full,full", ("full",)),
        (" 1 - 3 ", (1, 2, 3)),
        ("1-1000", tuple(range(1, 1001))),
    ],
)
def test_sizes_ranges_and_full(text: str, sizes: tuple) -> None:
    assert batch_sizes(text) == sizes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' holds an empty batch size"),
        ("1,,2", "holds an empty batch size"),
        ("0", "'0' is not a whole number from 1, nor full"),
        ("-3", "'-3' is not a whole number from 1"),
        ("1-", "'1-' is not a whole number from 1"),
        ("ful", "Did you mean 'full'"),
        ("1.5", "'1.5' is not a whole number"),
        ("0-4", "'0-4' is no range of batch sizes: write the smaller one first, from 1"),
        ("30-1", "'30-1' is no range"),
        ("1-1001", "'1-1001' holds 1,001 batch sizes, and 1,000 are the most"),
        ("1-9999999999999", "1,000 are the most"),
        ("1-1000,2000", "these are 1,001 batch sizes"),
    ],
)
def test_sizes_that_are_none(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        batch_sizes(text)


def test_json_is_the_result_and_nothing_else(rightbatch, weights: Path) -> None:
    done = rightbatch(
        *("speed", weights, "digits", "--activation", "sigmoid", "--batch-sizes", "1-3,8,full"),
        *("--mode", "predict", "--json", *QUICK),
    )
    assert done.code == 0, done.err
    stored = json.loads(done.out)
    points = stored["points"]
    assert [point["batch_size"] for point in points] == [1, 2, 3, 8, 1437]
    for point in points:
        assert set(point) == {
            "batch_size",
            "seconds_per_batch",
            "seconds_per_sample",
            "low",
            "high",
        }
        assert point["low"] <= point["seconds_per_sample"] <= point["high"]
    assert set(stored["fit"]) == {
        "latency_seconds",
        "seconds_per_sample",
        "p",
        "half_batch_size",
        "residual",
    }
    assert stored["threads"] == 1
    assert stored["model"] == str(weights)
    assert stored["provenance"]["command"].startswith("rightbatch speed")
    assert stored["provenance"]["sizes"] == {"train": 1437, "val": 180, "test": 180}
    assert Speed.from_json(stored).to_json() == stored
    assert "samples/s" in done.err


def test_people_get_a_table_a_law_and_the_neighbours(rightbatch) -> None:
    done = rightbatch("speed", "mlp:8", "digits", "--batch-sizes", "1,64", *QUICK)
    assert done.code == 0, done.err
    assert "mlp:8 on digits: the forward pass, 1 thread, cpu" in done.out
    assert "samples/s" in done.out
    assert "n½, where both are equal" in done.out
    assert "power of two" in done.out
    assert done.err == ""


def test_quiet_json_says_nothing_on_stderr(rightbatch) -> None:
    done = rightbatch(
        *("speed", "softmax", "digits", "--batch-sizes", "8", "--json", "--quiet", *QUICK)
    )
    assert done.code == 0
    assert done.err == ""
    assert json.loads(done.out)["fit"] is None


def test_training_mode_and_its_options(rightbatch) -> None:
    done = rightbatch(
        *("speed", "mlp:8", "digits", "--mode", "train", "--optimizer", "adam", "--lr", "0.1"),
        *("--threads", "2", "--batch-sizes", "8", "--no-neighbours", "--json", *QUICK),
    )
    assert done.code == 0, done.err
    stored = json.loads(done.out)
    assert (stored["mode"], stored["threads"], stored["neighbours"]) == ("train", 2, [])
    assert stored["settings"]["optimizer"] == "adam"
    assert stored["settings"]["learning_rate"] == 0.1
    assert "a training step, 2 threads" in done.err


def test_a_run_of_the_command_line_can_be_timed(rightbatch, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--standardize", "--val", "20")
    trained = rightbatch(
        *("train", "iris", "--model", "mlp:5", "--epochs", "1", "--out", run, *options)
    )
    assert trained.code == 0, trained.err
    for mode in MODES:
        done = rightbatch(
            *("speed", run, "iris", *options, "--mode", mode, "--part", "val"),
            *("--batch-sizes", "1,16", "--json", *QUICK),
        )
        assert done.code == 0, done.err
        assert json.loads(done.out)["settings"]["part"] == "val"


def test_the_data_options_of_a_run_need_not_be_given_again(rightbatch, tmp_path: Path) -> None:
    rows = [f"{k % 7},{k % 2},{k % 5}" for k in range(60)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["a,kind,b", *rows]) + "\n")
    run = tmp_path / "run"
    options = ("--target", "kind", "--val", "10", "--test", "10", "--seed", "3")
    trained = rightbatch("train", table, *options, "--epochs", "1", "--out", run)
    assert trained.code == 0, trained.err
    done = rightbatch("speed", run, table, "--val", "20", "--mode", "train", "--json", *QUICK)
    assert done.code == 0, done.err
    stored = json.loads(done.out)
    assert stored["provenance"]["sizes"] == {"train": 30, "val": 20, "test": 10}
    assert stored["settings"]["seed"] == 3


def test_a_model_of_a_python_file(rightbatch, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef small():\n    return nn.Linear(30, 1)\n"
    )
    done = rightbatch(
        *("speed", f"{tmp_path}/nets.py:small", "breast_cancer", "--part", "all"),
        *("--batch-sizes", "full", "--json", *QUICK),
    )
    assert done.code == 0, done.err
    stored = json.loads(done.out)
    assert stored["model"].endswith("nets.py:small")
    assert stored["points"][0]["batch_size"] == 569


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("mpl:8", "digits"), 2, "no model, file or folder is called 'mpl:8'. Did you mean 'mlp'"),
        (("mlp:8",), 2, "Missing argument 'DATA'"),
        (("mlp:8", "nope.csv"), 3, "nope.csv"),
        (("mlp:8", "digits", "--mode", "pred"), 2, "Did you mean 'predict'"),
        (("mlp:8", "digits", "--batch-sizes", "9-1"), 2, "'9-1' is no range"),
        (("mlp:8", "digits", "--threads", "0"), 2, "--threads"),
        (("mlp:8", "digits", "--seconds", "0"), 2, "--seconds"),
        (("mlp:8", "digits", "--part", "test", "--test", "0"), 2, "has no test part"),
        (("mlp:8", "digits", "--report", "nowhere/r.html"), 2, "there is no folder"),
        (("softmax", "diabetes"), 2, "softmax learns classes"),
        (
            ("linear", "diabetes", "--mode", "train", "--lr", "1e30", "--batch-sizes", "8"),
            1,
            "lower the learning rate",
        ),
    ],
)
def test_refusals(rightbatch, arguments: tuple, code: int, message: str) -> None:
    done = rightbatch("speed", *QUICK, *arguments)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err


def test_weights_ask_for_their_activation(rightbatch, weights: Path) -> None:
    done = rightbatch("speed", weights, "digits", *QUICK)
    assert done.code == 2
    assert "--activation" in done.err


def test_every_option_has_a_theme_and_a_help_text() -> None:
    for parameter in speed.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert getattr(parameter, "theme", None), parameter.name
    assert MODES == LIBRARY_MODES

"""Text on the command line: inspected, learned from, resumed, packed and predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

MODEL = """
from torch import nn

def bigram():
    return nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
"""
WORDS = "abba cab deed fade bad egg "
CUT = ("--sequence-length", 12, "--stride", 5)


@pytest.fixture
def text(tmp_path: Path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    words = generator.choice(WORDS.split(), 400)
    Path("a.txt").write_text(" ".join(words) + "\n")
    Path("model.py").write_text(MODEL)
    return "a.txt"


@pytest.fixture
def trained(rightbatch, text) -> str:
    done = rightbatch(
        "train", text, *CUT, "--contiguous", "--model", "model.py:bigram", "--lr", 0.5,
        "--epochs", 2, "--out", "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "share tokens with the part that follows them" in done.err
    return done.out


def test_inspect_tells_the_vocabulary_and_the_parts(rightbatch, text):
    done = rightbatch("inspect", text, *CUT, "--contiguous", "--model", "model.py:bigram", "--json")
    told = json.loads(done.out)
    assert told["columns"] == [
        {"name": name, "dtype": "uint8", "shape": [12]} for name in ("tokens", "next")
    ]
    assert told["splits"]["test"] == round(told["samples"] * 0.1)
    assert sum(told["splits"].values()) == told["samples"] - 4
    assert "of which 9 differ" in told["notes"][0]


def test_a_run_is_resumed_and_predicted_with_its_own_split(rightbatch, text, trained):
    loss = json.loads(trained)["test_loss"]
    told = json.loads(
        rightbatch("predict", "run", "--model", "model.py:bigram", "--json", "--out", "p.npy").out
    )
    assert told["loss"] == pytest.approx(loss, rel=1e-6)
    assert told["part"] == "test"
    assert told["tokens"] == told["samples"] * 12
    assert told["accuracy"] == told["correct"] / told["tokens"]
    assert np.load("p.npy").shape == (told["samples"], 12, 9)
    done = rightbatch("pack", text, "pack", *CUT)
    assert done.code == 0, done.err
    again = rightbatch("predict", "run", "pack", "--model", "model.py:bigram", "--json")
    assert json.loads(again.out)["loss"] == told["loss"]
    # The rest of the run takes the pack, and so would have the whole of it.
    resumed = rightbatch(
        "train", "pack", "--resume", "run", "--epochs", 4, "--model", "model.py:bigram", "--json"
    )
    whole = rightbatch(
        "train", text, *CUT, "--contiguous", "--model", "model.py:bigram", "--lr", 0.5,
        "--epochs", 4, "--out", "whole", "--json",
    )  # fmt: skip
    for key in ("train_loss", "val_loss", "test_loss"):
        assert json.loads(resumed.out)[key] == json.loads(whole.out)[key]


def test_new_text_is_coded_by_the_vocabulary_of_the_run(rightbatch, text, trained):
    Path("new.txt").write_text("bad cab " * 20)
    told = rightbatch("predict", "run", "new.txt", "--model", "model.py:bigram", "--json")
    assert json.loads(told.out)["part"] == "all"
    Path("other.txt").write_text("bad zoo " * 20)
    refused = rightbatch("predict", "run", "other.txt", "--model", "model.py:bigram")
    assert refused.code == 3
    assert "holds 'o', 'z', which the model has not met" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["inspect", "a.txt", *CUT], 2, "Split with contiguous=True (--contiguous)"),
        (["inspect", "a.txt", "--stride", 5], 2, "say how long they are"),
        (["inspect", "a.txt", *CUT, "--tokenizer", "byte"], 2, "bytes"),
        (["inspect", "bad.txt", *CUT], 3, "bad.txt is not UTF-8: byte 4"),
        (["train", "a.txt", *CUT, "--contiguous"], 2, "a code for each of 12 tokens"),
        (
            ["train", "a.txt", *CUT, "--contiguous", "--model", "small.py:bigram"],
            2,
            "the model has 5 outputs a token, and the vocabulary of the target 'next' of a.txt has",
        ),
        (
            ["train", "a.txt", *CUT, "--contiguous", "--model", "turned.py:bigram"],
            2,
            "return outputs.movedim(1, -1)",
        ),
    ],
)
def test_what_is_refused(rightbatch, text, arguments, code, told):
    Path("bad.txt").write_bytes(b"abba\xff cab" * 9)
    Path("small.py").write_text(MODEL.replace("nn.Linear(8, 9)", "nn.Linear(8, 5)"))
    Path("turned.py").write_text(
        MODEL.replace("nn.Linear(8, 9)", "nn.Linear(8, 9), nn.Flatten(), nn.Unflatten(1, (9, 12))")
    )
    done = rightbatch(*arguments)
    assert (done.code, told in " ".join(done.err.split())) == (code, True), done.err


def test_predictions_a_token_are_no_table(rightbatch, trained):
    done = rightbatch("predict", "run", "--model", "model.py:bigram", "--out", "p.csv")
    assert done.code == 2
    assert "a table has one row a sample: write .npy" in " ".join(done.err.split())
    assert not Path("p.csv").exists()

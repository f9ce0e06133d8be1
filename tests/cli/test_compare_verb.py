"""`rightbatch compare`, as a user or a script runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

CURVE_KEYS = {"batch_size", "learning_rate", "seed", "history", "step_losses"}
ROW_KEYS = {"epoch", "steps", "samples", "seconds", "train_loss", "val_loss", "val_accuracy"}
QUICK = ("--batch-sizes", "32,full", "--epochs", 2, "--standardize", "--no-landscape")


def test_the_json_holds_a_curve_for_every_batch_size_and_seed(rightbatch):
    done = rightbatch("compare", "breast_cancer", *QUICK, "--seeds", 2, "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    study = json.loads(done.out)
    assert [(curve["batch_size"], curve["seed"]) for curve in study["curves"]] == [
        (32, 0), (32, 1), (455, 0), (455, 1),
    ]  # fmt: skip
    for curve in study["curves"]:
        assert set(curve) >= CURVE_KEYS
        assert all(set(row) >= ROW_KEYS for row in curve["history"])
        assert len(curve["step_losses"]) == curve["history"][-1]["steps"]
    assert study["provenance"]["command"].startswith("rightbatch compare breast_cancer")
    assert study["landscape"] is None


def test_people_get_tables_and_a_line_for_every_run(rightbatch):
    done = rightbatch("compare", "digits", "--model", "mlp:8", *QUICK)
    assert done.code == 0
    assert "run 1 of 2 begins: batch 32" in done.err
    assert "full batch (1,437)" in done.out
    assert "To the training loss" in done.out
    assert "every batch size has the learning rate 0.01" in done.out


def test_the_rule_and_the_reference_reach_the_runs(rightbatch):
    done = rightbatch(
        "compare", "iris", *QUICK, "--lr", 0.1, "--lr-rule", "linear",
        "--reference-batch-size", 16, "--json", "--quiet",
    )  # fmt: skip
    rates = [curve["learning_rate"] for curve in json.loads(done.out)["curves"]]
    assert rates == pytest.approx([0.2, 0.75])


def test_a_model_of_a_file_runs_in_processes_of_its_own(rightbatch, tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef small():\n    return nn.Sequential(nn.Linear(4, 3))\n"
    )
    options = ("compare", "iris", "--model", f"{tmp_path}/nets.py:small", *QUICK, "--json", "-h")
    assert rightbatch(*options).code == 0
    alone, together = (
        json.loads(rightbatch(*options[:-1], "--quiet", "--processes", count).out)
        for count in (1, 2)
    )
    assert [curve["step_losses"] for curve in alone["curves"]] == [
        curve["step_losses"] for curve in together["curves"]
    ]
    assert alone["timings_comparable"]
    # Whether the second process was up in time to run beside the first, its curves tell.
    overlapping = [curve["placement"]["overlapping_runs"] for curve in together["curves"]]
    assert together["timings_comparable"] == (not any(overlapping))
    assert "placement" not in alone["curves"][0]
    assert alone["model"] == f"{tmp_path}/nets.py:small"


DYING = """
import os, pathlib, signal

import torch

from rightbatch.plan.hashing import derive_key

flag = pathlib.Path(__file__).with_name("killed")


def small():
    is_second_seed = torch.initial_seed() == derive_key("model file", 1) >> 1
    if is_second_seed and (ALWAYS or not flag.exists()):
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.nn.Sequential(torch.nn.Linear(4, 3))
"""


def test_a_process_that_dies_is_followed_by_fewer_which_run_the_rest(rightbatch, tmp_path):
    (tmp_path / "nets.py").write_text(DYING.replace("ALWAYS", "False"))
    model = f"{tmp_path}/nets.py:small"
    options = ("compare", "iris", "--model", model, *QUICK, "--seeds", 2, "--json")
    done = rightbatch(*options, "--processes", 2)
    assert done.code == 0
    assert "A worker process ended before its run did" in done.err
    # As many as the other process had ended until then.
    assert re.search(r"whole is kept \(runs: [123]\), and the others begin again in one", done.err)
    alone = rightbatch(*options, "--quiet")
    assert [curve["step_losses"] for curve in json.loads(done.out)["curves"]] == [
        curve["step_losses"] for curve in json.loads(alone.out)["curves"]
    ]


def test_what_is_whole_is_printed_where_the_rest_is_lost_for_good(rightbatch, tmp_path):
    (tmp_path / "nets.py").write_text(DYING.replace("ALWAYS", "True"))
    model = f"{tmp_path}/nets.py:small"
    done = rightbatch(
        "compare", "iris", "--model", model, *QUICK, "--seeds", 2, "--json", "--processes", 2
    )
    assert done.code == 1
    assert [curve["batch_size"] for curve in json.loads(done.out)["curves"]] == [32, 120]
    assert "2 of 4 runs came to no end" in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--batch-sizes", "0"], "not a whole number from 1, nor full"),
        (["digits", "--batch-sizes", "9-3"], "is no range of batch sizes"),
        (["digits", "--lr-rule", "tune"], "Did you mean 'tuned'?"),
        (["digits", "--report", "nowhere/report.html"], "there is no folder"),
        (["digits", "--early-stopping", "3"], "No such option"),
        ([], "Missing argument 'DATA'"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_valid(
    rightbatch, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    done = rightbatch("compare", *arguments)
    assert done.code == 2
    assert message in done.err


def test_data_that_are_refused_exit_with_3(rightbatch, tmp_path):
    (tmp_path / "empty.csv").write_text("a,b\n")
    done = rightbatch("compare", tmp_path / "empty.csv", "--target", "b")
    assert done.code == 3
    assert "empty.csv" in done.err


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_all_runs_without_a_traceback(processes):
    command = [
        sys.executable, "-m", "rightbatch", "compare", "breast_cancer", "--batch-sizes", "full,1,2",
        "--epochs", "1000", "--no-landscape", "--processes", str(processes), "--json",
    ]  # fmt: skip
    # The first run is short for its size; the others would take hours.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    assert "run 1 of 3" in told
    # As a terminal does it: to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in told + err
    assert "Interrupted." in err

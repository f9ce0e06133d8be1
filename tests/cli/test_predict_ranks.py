"""`torchrun -m rightbatch predict`: the file and the words of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import rightbatch as rb


def predict_over_ranks(world: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    launcher = ("-m", "torch.distributed.run", f"--nproc-per-node={world}")
    return subprocess.run(
        [sys.executable, *launcher, "-m", "rightbatch", "predict", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The threads that each process has under torchrun: their number may change the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_ranks_write_one_file_and_say_one_thing(rightbatch, one_thread, tmp_path: Path) -> None:
    parts = rb.split(rb.open("iris"), test=0.5, seed=1).transform(rb.standardize())
    rb.fit("mlp:7", parts, epochs=1, out=tmp_path / "run")
    given = (tmp_path / "run", "iris", "--part", "all", "--batch-size", 8, "--json", "--quiet")
    alone = rightbatch("predict", *given, "--out", tmp_path / "1.csv")
    done = predict_over_ranks(2, *given, "--out", tmp_path / "2.csv")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "2.csv").read_bytes()
    assert written == (tmp_path / "1.csv").read_bytes()
    assert written.count(b"\n") == 151
    reports = [json.loads(text) for text in (alone.out, done.stdout)]
    for report in reports:
        del report["seconds"], report["output"]
    assert reports[0] == reports[1]


@pytest.mark.slow
def test_what_is_refused_is_said_once(tmp_path: Path) -> None:
    parts = rb.split(rb.open("iris"), test=0.5, seed=1)
    rb.fit("softmax", parts, epochs=1, out=tmp_path / "run")
    done = predict_over_ranks(
        2, tmp_path / "run", "iris", "--part", "all", "--out", tmp_path / "out.xlsx"
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("Valid are .npy, .csv, .parquet") == 1
    assert not list(tmp_path.glob(".*"))

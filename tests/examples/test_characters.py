"""The character model of examples/: better than counting, and resumed through its own options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "characters.py"


def run(*arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_says_more_than_counting_and_goes_on_where_it_stopped(real_data, tmp_path):
    text = tmp_path / "part.txt"
    text.write_bytes((real_data / "tinyshakespeare" / "input.txt").read_bytes()[:120_000])
    first = run(text, "--epochs", 1, "--out", tmp_path / "run")
    told = run(text, "--epochs", 3, "--out", tmp_path / "run", "--resume")
    assert "120,000 tokens" in told
    # The first epoch is not trained again: its row is the one of the first run.
    (row,) = re.findall(r"epoch 1: .*", first)
    assert row in told
    losses = dict(re.findall(r"test loss of (.*): ([0-9.]+) nats", told))
    single, pairs, model = (
        float(losses[name]) for name in ("single characters", "pairs", "the model")
    )
    assert 3.0 < single < 3.6
    assert 2.2 < pairs < single
    assert model < pairs - 0.1

"""Killed at random moments, over arrays and packs: no sample is lost, none comes twice.

The suite takes two kills each; `make proof` 25, over arrays and over packs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.loading.parts import Parts
from rightbatch.training.checkpoint import load_checkpoint

LENGTH, WIDTH, BATCH_SIZE = 6_000, 64, 25
PATIENCE_SECONDS = 120.0
STREAM = """
import sys
sys.path.insert(0, sys.argv[1])
import test_kill_anywhere
test_kill_anywhere.consume(*sys.argv[2:])
"""
TRAINING = """
import sys
sys.path.insert(0, sys.argv[1])
import test_kill_anywhere
test_kill_anywhere.train(*sys.argv[2:], steps=10**6)
"""


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.normal(size=(LENGTH, WIDTH)).astype(np.float32),
        "y": generator.integers(0, 3, LENGTH),
    }


def make_parts(kind: str, folder: str) -> Parts:
    """The same samples in memory or in a pack."""
    pack = Path(folder) / "pack"
    if kind == "pack" and not pack.exists():
        rb.pack(rb.open(arrays(), target="y"), pack)
    data = rb.open(pack) if kind == "pack" else rb.open(arrays(), target="y")
    return rb.split(data, val=0.1, seed=7)


def order(kind: str) -> dict[str, Any]:
    # Blocks of 20 and windows of 400: a pack is read in fifteen windows an epoch.
    return {"block": 20, "window": 400} if kind == "pack" else {}


def consume(kind: str, folder: str) -> None:
    """Take batches without end, each with a line in the log and the state after it."""
    batches = rb.Batches(
        make_parts(kind, folder).train, BATCH_SIZE, seed=3, with_rows=True, **order(kind)
    )
    log, state = Path(folder) / "rows.jsonl", Path(folder) / "state.json"
    taken = log.read_text().splitlines() if log.exists() else []
    # The line is written before the state: where the state lacks it, the batch comes again.
    if state.exists():
        saved = json.loads(state.read_text())
        batches.load_state_dict(saved["state"])
        taken = taken[: saved["lines"]]
    log.write_text("".join(line + "\n" for line in taken))
    count = len(taken)
    with log.open("a") as lines:
        while True:
            for _, _, rows in batches:
                lines.write(json.dumps(rows.tolist()) + "\n")
                lines.flush()
                count += 1
                partial = state.with_suffix(".partial")
                partial.write_text(json.dumps({"lines": count, "state": batches.state_dict()}))
                partial.replace(state)


def train(kind: str, folder: str, run: str = "run", *, steps: int) -> rb.FitResult:
    """Train to so many steps, from the run's checkpoint where there is one."""
    out = Path(folder) / run
    return rb.fit(
        "mlp:8",
        make_parts(kind, folder),
        batch_size=BATCH_SIZE,
        steps=steps,
        optimizer="adam",
        learning_rate=0.001,
        threads=1,
        out=out,
        resume=(out / "checkpoint.safetensors").exists(),
        checkpoint_seconds=0.02,
        **order(kind),
    )


def kill_at_random(
    script: str, kind: str, folder: Path, grows: Path, randomly: np.random.Generator
) -> None:
    """Start a process, let it work for a random time once it has begun, and kill it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    before = grows.stat().st_mtime_ns if grows.exists() else 0
    command = [sys.executable, "-c", script, str(Path(__file__).parent), kind, str(folder)]
    with subprocess.Popen(command, env=environment) as child:
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while not grows.exists() or grows.stat().st_mtime_ns == before:
                assert child.poll() is None, "the process ended before it could be killed"
                assert time.monotonic() < deadline, "the process did not begin"
                time.sleep(0.002)
            time.sleep(randomly.uniform(0, 0.3))
        finally:
            child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


MANY = 25 if os.environ.get("HYPOTHESIS_PROFILE") == "proof" else 4
KILLS = [2, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("kind", ["arrays", "pack"])
def test_the_stream_of_rows_equals_the_uninterrupted_one(kind, kills, tmp_path) -> None:
    randomly = np.random.default_rng(kills)
    make_parts(kind, str(tmp_path))
    log, state = tmp_path / "rows.jsonl", tmp_path / "state.json"
    for _ in range(kills):
        kill_at_random(STREAM, kind, tmp_path, state, randomly)
    count = json.loads(state.read_text())["lines"]
    found = [json.loads(line) for line in log.read_text().splitlines()[:count]]
    assert count > kills
    whole = rb.Batches(
        make_parts(kind, str(tmp_path)).train, BATCH_SIZE, seed=3, with_rows=True, **order(kind)
    )
    expected: list[list[int]] = []
    while len(expected) < count:
        expected += [rows.tolist() for _, _, rows in whole]
    assert found == expected[:count]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("kind", ["arrays", "pack"])
def test_the_final_weights_equal_the_uninterrupted_ones(kind, kills, tmp_path) -> None:
    randomly = np.random.default_rng(kills)
    make_parts(kind, str(tmp_path))
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    for _ in range(kills):
        kill_at_random(TRAINING, kind, tmp_path, checkpoint, randomly)
    reached = load_checkpoint(checkpoint)[1]["standing"]["steps"]
    assert reached > 0
    resumed = train(kind, str(tmp_path), steps=reached + 50)
    whole = train(kind, str(tmp_path), "whole", steps=reached + 50)
    assert resumed.step_losses == whole.step_losses
    assert resumed.leaked_samples == whole.leaked_samples == 0
    assert whole.steps == resumed.steps == reached + 50
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name

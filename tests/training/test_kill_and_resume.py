"""The real thing: a training process is killed inside an epoch, and resumed in another process."""

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
from safetensors.torch import load_file

import rightbatch as rb
from rightbatch.errors import ResumeError
from rightbatch.loading.parts import Parts
from rightbatch.training.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
MNIST = Path(os.environ.get("RIGHTBATCH_DATA", REPOSITORY / ".." / "shared" / "data")) / "mnist"
EPOCHS, BATCH_SIZE = 5, 25
PATIENCE_SECONDS = 240.0
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_kill_and_resume
test_kill_and_resume.train(
    test_kill_and_resume.make_parts(), Path(sys.argv[2]), checkpoint_seconds=0.02
)
"""


def make_parts() -> Parts:
    if MNIST.is_dir():
        data = rb.open(str(MNIST))
        return rb.split(data, val=45_000, seed=7).transform(rb.scale(1 / 255))
    digits = rb.open("digits")
    arrays = digits.span(0, len(digits))
    repeated = {name: np.concatenate([values] * 9) for name, values in arrays.items()}
    return rb.split(rb.open(repeated, target="target"), val=1000).transform(rb.scale(1 / 16))


def train(
    parts: Parts, run: Path, *, resume: bool = False, checkpoint_seconds: float = 30.0
) -> rb.FitResult:
    # One thread: sums over several of them may be taken in another order.
    return rb.fit(
        "mlp:32",
        parts,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        optimizer="adam",
        learning_rate=0.001,
        window=5000,
        threads=1,
        out=run,
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
    )


def standing(run: Path) -> tuple[int, int]:
    """Epoch and samples of the last complete checkpoint; it can be read at any time."""
    try:
        _, state = load_checkpoint(run / "checkpoint.safetensors")
    except ResumeError:
        if (run / "checkpoint.safetensors").exists():
            raise
        return 0, 0
    return state["cursor"]["epoch"], state["cursor"]["samples"]


def kill_inside_an_epoch(run: Path) -> tuple[int, int]:
    """Kill a training in its second epoch or later; gives where its checkpoint stands."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(run)], env=environment
    ) as child:
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while True:
                assert child.poll() is None, "the training ended before it could be killed"
                assert time.monotonic() < deadline, f"training only came to {standing(run)}"
                time.sleep(0.005)
                if standing(run) < (1, 0):
                    continue
                # Held still, so that the place that is looked at is the one where it is killed.
                child.send_signal(signal.SIGSTOP)
                if standing(run)[1] > 0:
                    break
                child.send_signal(signal.SIGCONT)
        finally:
            child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    return standing(run)


def lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: row[name] for name in row if "seconds" not in name} for row in rows]


@pytest.mark.timeout(600)
def test_a_killed_run_resumed_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    epoch, samples = kill_inside_an_epoch(killed)
    assert 1 <= epoch < EPOCHS
    assert samples % BATCH_SIZE == 0 < samples, "killed inside an epoch"
    assert not (killed / "model.safetensors").exists(), "the run had not ended"

    parts = make_parts()
    resumed, wanted = train(parts, killed, resume=True), train(parts, whole)
    assert resumed.step_losses == wanted.step_losses
    assert (resumed.steps, resumed.leaked_samples) == (wanted.steps, 0)
    for name, value in wanted.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    for file in ("history.jsonl", "steps.jsonl"):
        assert lines(killed / file) == lines(whole / file)
    found, expected = (load_file(run / "model.safetensors") for run in (killed, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    seconds = [row["seconds"] for row in resumed.history]
    assert seconds == sorted(seconds), "the time before the kill counts"

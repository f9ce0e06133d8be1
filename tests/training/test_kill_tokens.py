"""A training on text that is killed inside an epoch goes on to where it would have come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import rightbatch as rb
from rightbatch.errors import ResumeError
from rightbatch.training.checkpoint import load_checkpoint

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_kill_tokens
test_kill_tokens.train(Path(sys.argv[2]), Path(sys.argv[3]), checkpoint_seconds=0.02)
"""
EPOCHS = 3
PATIENCE_SECONDS = 240.0


def train(text: Path, run: Path | None, **options) -> rb.FitResult:
    data = rb.open(text, sequence_length=32, stride=8)
    parts = rb.split(data, val=0.1, contiguous=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(8, 16), nn.Dropout(0.1), nn.Linear(16, 8))
    return rb.fit(
        model, parts, epochs=EPOCHS, batch_size=8, optimizer="adam", threads=1, out=run, **options
    )


def steps_done(run: Path) -> int:
    try:
        return load_checkpoint(run / "checkpoint.safetensors")[1]["standing"]["steps"]
    except ResumeError:
        return 0


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    letters = np.array(list("abcdefg "))
    text, run = tmp_path / "a.txt", tmp_path / "run"
    text.write_text("".join(letters[np.random.default_rng(0).integers(0, 8, 50_000)]))
    whole = train(text, None)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = [str(Path(__file__).parent), str(text), str(run)]
    with subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment) as child:
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while steps_done(run) < 100:
                assert child.poll() is None, "the training ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            child.send_signal(signal.SIGKILL)
    assert 100 <= steps_done(run) < whole.steps
    resumed = train(text, run, resume=True)
    assert resumed.step_losses == whole.step_losses
    assert [row["val_loss"] for row in resumed.history] == [
        row["val_loss"] for row in whole.history
    ]
    for one, two in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)

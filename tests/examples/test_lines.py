"""The model of lines in examples/: it learns, and goes on where it stopped."""

from __future__ import annotations

import re


def test_the_model_learns_and_goes_on_where_it_stopped(real_data, tmp_path, run_example):
    text = real_data / "tinyshakespeare" / "input.txt"
    first = run_example("lines.py", text, "--lines", 1000, "--epochs", 1, "--out", tmp_path / "run")
    told = run_example(
        "lines.py", text, "--lines", 1000, "--epochs", 2, "--out", tmp_path / "run", "--resume"
    )
    assert "800 samples" in told
    assert "batches of up to 2,048 tokens" in told
    # The first epoch is not trained again: its row is the one of the first run.
    (row,) = re.findall(r"epoch 1: .*", first)
    assert row in told
    (loss,) = re.findall(r"test loss: ([0-9.]+) nats", told)
    assert float(loss) < 2.8

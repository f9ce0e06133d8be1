"""The character model of examples/: better than counting, and resumed through its own options."""

from __future__ import annotations

import re


def test_the_model_says_more_than_counting_and_goes_on_where_it_stopped(
    real_data, tmp_path, run_example
):
    text = tmp_path / "part.txt"
    text.write_bytes((real_data / "tinyshakespeare" / "input.txt").read_bytes()[:120_000])
    first = run_example("characters.py", text, "--epochs", 1, "--out", tmp_path / "run")
    told = run_example("characters.py", text, "--epochs", 3, "--out", tmp_path / "run", "--resume")
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

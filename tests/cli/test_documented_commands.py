"""The commands of the pages on large data and on text, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


def commands(page: str) -> list[str]:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [
        line.removeprefix("$ ")
        for block in blocks
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


def outputs_of(page: str, real_data: Path, folder: Path) -> list[str]:
    """What the page's commands print, run one after the other in the folder."""
    environment = {
        **os.environ,
        "RIGHTBATCH_DATA": str(real_data),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    outputs = []
    for command in commands(page):
        program, _, arguments = command.partition(" ")
        # The interpreter that runs this test, rather than whatever program is installed.
        started = {"rightbatch": f'"{sys.executable}" -m rightbatch', "python": sys.executable}
        ours = f"{started[program]} {arguments}"
        done = subprocess.run(
            ["sh", "-c", ours],  # noqa: S607  # as a user types them
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    return outputs


def test_the_taxi_months_are_packed_verified_and_learned_from(real_data: Path, tmp_path) -> None:
    outputs = outputs_of("large-data.md", real_data, tmp_path)
    packed, verified, inspected, trained = outputs
    assert "119,628 samples, 5 columns" in packed
    assert "Dropped 372 of 120,000 rows" in packed
    assert "taxi is whole" in verified
    assert "Shuffle: order block-window" in inspected
    result = json.loads((tmp_path / "runs" / "taxi" / "result.json").read_text())
    assert result["epochs"] == 10
    assert result["val_r2"] > 0.6
    assert "Held-out samples that training read: 0" in trained
    config = json.loads((tmp_path / "runs" / "taxi" / "config.json").read_text())
    assert config["options"]["memory"] == "8MB"


def test_a_text_is_learned_from_resumed_and_predicted(real_data: Path, tmp_path) -> None:
    shutil.copy(REPOSITORY / "examples" / "character_model.py", tmp_path)
    outputs = outputs_of("text.md", real_data, tmp_path)
    inspected, _, resumed, packed, predicted = outputs
    assert "17,428 samples, the target is 'next'" in inspected
    assert "1,115,394 tokens, of which 65 differ" in inspected
    assert "Held-out samples that training read: 0" in resumed
    result = json.loads((tmp_path / "runs" / "characters" / "result.json").read_text())
    assert 2.0 < result["test_loss"] < 2.5
    assert f"{result['test_loss']:.4f}" in predicted
    assert "17,428 samples, 2 columns" in packed
    probabilities = np.load(tmp_path / "next.npy", mmap_mode="r")
    assert probabilities.shape == (1743, 64, 65)
    np.testing.assert_allclose(probabilities[::100].sum(-1), 1.0, rtol=1e-5)


def test_lines_are_packed_learned_from_in_batches_of_tokens_and_resumed(
    real_data: Path, tmp_path
) -> None:
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    _, trained, resumed = outputs_of("sequences.md", real_data, tmp_path)
    assert "20 batches of up to 2,048 tokens" in trained
    assert "40 batches of up to 2,048 tokens" in resumed
    assert "Held-out samples that training read: 0" in resumed
    result = json.loads((tmp_path / "runs" / "lines" / "result.json").read_text())
    assert result["batch_tokens"] == 2048
    assert 2.0 < result["test_loss"] < 2.8

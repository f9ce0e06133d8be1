"""The commands of the page on large data, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "large-data.md"


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [
        line.removeprefix("$ ")
        for block in blocks
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


def test_the_taxi_months_are_packed_verified_and_learned_from(real_data: Path, tmp_path) -> None:
    environment = {
        **os.environ,
        "RIGHTBATCH_DATA": str(real_data),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    outputs = []
    for command in commands():
        assert command.startswith("rightbatch ")
        # The interpreter that runs this test, rather than whatever program is installed.
        ours = command.replace("rightbatch ", f'"{sys.executable}" -m rightbatch ', 1)
        done = subprocess.run(
            ["sh", "-c", ours],  # noqa: S607  # as a user types them
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
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

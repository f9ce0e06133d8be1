"""The example on photographs, run as a user runs it, on a few of them and from other places."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def some_flowers(real_data, tmp_path_factory) -> Path:
    """200 photographs, 40 of each class."""
    folder = tmp_path_factory.mktemp("flowers")
    for home in sorted(path for path in (real_data / "flowers").iterdir() if path.is_dir()):
        (folder / home.name).mkdir()
        for path in sorted(home.glob("*.jpg"))[:40]:
            shutil.copy(path, folder / home.name)
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_script_learns_and_its_run_predicts(some_flowers, tmp_path) -> None:
    done = run(EXAMPLES / "flowers.py", some_flowers, "--epochs", 6, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = re.search(r"validation accuracy ([\d.]+)\ntest accuracy ([\d.]+)", done.stdout)
    assert found is not None
    # A fifth would be chance.
    assert min(map(float, found.groups())) >= 0.3
    # The run decodes by itself, also from a pack, and gives what the script said.
    packed = run("-m", "rightbatch", "pack", some_flowers, tmp_path / "pack")
    assert packed.returncode == 0, packed.stderr
    for data in (some_flowers, tmp_path / "pack"):
        network = f"{EXAMPLES / 'flower_net.py'}:small"
        predicted = run(
            *("-m", "rightbatch", "predict", tmp_path / "run", data),
            *("--model", network, "--json", "--quiet"),
        )
        assert predicted.returncode == 0, predicted.stderr
        report = json.loads(predicted.stdout)
        assert report["part"] == "test"
        assert abs(report["accuracy"] - float(found[2])) < 1e-3

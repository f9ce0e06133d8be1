"""The scripts of examples/ on data behind URLs print what they print of the same files here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def some_people(real_data: Path, folder: Path) -> Path:
    lines = (real_data / "adult" / "adult.data").read_text().splitlines(keepends=True)
    (folder / "adult.data").write_text("".join(lines[:1500]))
    return folder / "adult.data"


def some_text(real_data: Path, folder: Path) -> Path:
    text = (real_data / "tinyshakespeare" / "input.txt").read_bytes()
    (folder / "input.txt").write_bytes(text[:20_000])
    return folder / "input.txt"


def some_flowers(real_data: Path, folder: Path) -> Path:
    for home in sorted(path for path in (real_data / "flowers").iterdir() if path.is_dir()):
        (folder / "flowers" / home.name).mkdir(parents=True)
        for path in sorted(home.glob("*.jpg"))[:20]:
            shutil.copy(path, folder / "flowers" / home.name)
    return folder / "flowers"


def printed(script: str, data: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, str(data), "--epochs", "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What the data are called, and how fast it went, are another matter.
    return re.sub(r"[\d,.]+ (samples/s|seconds)", "", done.stdout).replace(str(data), "DATA")


@pytest.mark.parametrize(
    ("script", "some"),
    [("adult.py", some_people), ("characters.py", some_text), ("flowers.py", some_flowers)],
)
def test_an_example_learns_the_same_from_a_server_of_s3(
    script, some, real_data, bucket, tmp_path
) -> None:
    (tmp_path / "here").mkdir()
    here = some(real_data, tmp_path / "here")
    there = bucket.upload(here, here.name)
    shown = printed(script, here)
    assert re.search(r"\d\.\d", shown)
    assert printed(script, there) == shown

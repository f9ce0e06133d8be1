"""What the tests of packs share: all that a pack holds, and packing that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb

ContentOf = Callable[[Path], dict[str, bytes]]

_KILLS = 4


@pytest.fixture(scope="session")
def content_of() -> ContentOf:
    """Every file of a pack, the manifest without what tells of its time and sources."""

    def content_of(folder: Path) -> dict[str, bytes]:
        content = {path.name: path.read_bytes() for path in folder.iterdir()}
        described = json.loads(content.pop("manifest.json"))
        del described["created"], described["checksum"]
        return {**content, "manifest": json.dumps(described).encode()}

    return content_of


@pytest.fixture
def pack_with_kills(tmp_path: Path, content_of: ContentOf) -> Callable[[str], None]:
    """Runs a script that packs into the folder it is given: whole, and killed again and again.

    The script prints a line when it begins and "end" when it is done.
    """

    def run(script: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(script)]
        environment = {**os.environ, "PYTHONPATH": str(Path(rb.__file__).parent.parent)}
        began = time.monotonic()
        subprocess.run(
            [*command, str(tmp_path / "whole")],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - began
        generator = np.random.default_rng()
        for _ in range(_KILLS):
            process = subprocess.Popen(
                [*command, str(tmp_path / "killed")],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(generator.random()) * seconds / 5)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        done = subprocess.run(
            [*command, str(tmp_path / "killed")],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.endswith("end\n")
        assert content_of(tmp_path / "killed") == content_of(tmp_path / "whole")
        assert not (tmp_path / "killed.partial").exists()

    return run

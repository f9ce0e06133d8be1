"""Real processes that train together, started once for all that is asked of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROCESSES = 4
# The last one ends with groups that are left after errors.
SCENARIOS = ("curves", "elastic", "refusals", "sharded", "together")
_SECONDS = 240


@pytest.fixture(scope="session")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each process has found, by scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    program = Path(__file__).with_name("program.py")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(program.parents[2]), *sys.path]),
    }
    arguments = [sys.executable, "-W", "error::DeprecationWarning", str(program)]
    processes = []
    for rank in range(PROCESSES):
        with (folder / f"errors-{rank}").open("w") as errors:
            command = [*arguments, str(rank), str(folder), *SCENARIOS]
            processes.append(subprocess.Popen(command, env=environment, stderr=errors, cwd=folder))
    try:
        end = time.monotonic() + _SECONDS
        # Where one has failed, the others may wait for it.
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            if any(process.returncode for process in processes):
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = "\n".join((folder / f"errors-{rank}").read_text() for rank in range(PROCESSES))
    assert not any(process.returncode for process in processes), said
    return {
        name: [
            json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(PROCESSES)
        ]
        for name in SCENARIOS
    }

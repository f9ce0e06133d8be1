"""Real processes that train together, started once for all that is asked of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PROCESSES = 4
# The last one ends with groups that are left after errors.
SCENARIOS = ("curves", "elastic", "refusals", "sharded", "together")
_SECONDS = 240


@pytest.fixture(scope="session")
def scenarios(tmp_path_factory: pytest.TempPathFactory, run_ranks) -> dict[str, list[Any]]:
    """What each process has found, by scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    program = Path(__file__).with_name("program.py")
    run_ranks(program, folder, *SCENARIOS, processes=PROCESSES, seconds=_SECONDS)
    return {
        name: [
            json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(PROCESSES)
        ]
        for name in SCENARIOS
    }

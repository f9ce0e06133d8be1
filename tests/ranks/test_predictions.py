"""`predict` over ranks: the files, scores and arrays of one process, and what one rank's end is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rightbatch as rb

WORLDS = {1: [0], 2: [0, 1], 3: [0, 1]}  # the third of three is killed before it can tell
_SECONDS = 200
CASES = ["texts", "shapes", "quantities", "tokens", "functions", "few", "sharded"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three processes have left behind, alone, by two and by three."""
    made = tmp_path_factory.mktemp("predictions")
    parts = rb.split(rb.open("diabetes"), val=0.2, seed=7).transform(rb.standardize())
    rb.fit("linear", parts, epochs=2, out=made / "run")
    generator = np.random.default_rng(0)
    data = {"x": generator.normal(size=(20_000, 100)).astype(np.float32)}
    rb.pack(rb.open({**data, "y": generator.normal(size=20_000)}, target="y"), made / "pack")
    program = Path(__file__).with_name("predictions.py")
    with ExitStack() as stack:
        processes = [
            subprocess.Popen(
                [sys.executable, str(program), str(rank), str(made)],
                # The number of threads may change the last bit.
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stderr=stack.enter_context((made / f"errors-{rank}").open("w")),
            )
            for rank in range(3)
        ]
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        end = time.monotonic() + _SECONDS
        codes: list[int | None] = [None]
        while None in codes and time.monotonic() < end:
            codes = [process.poll() for process in processes]
            if any(code not in (None, 0, -signal.SIGKILL) for code in codes):
                break
            time.sleep(0.1)
    said = "\n".join((made / f"errors-{rank}").read_text() for rank in range(3))
    assert codes == [0, 0, -signal.SIGKILL], said
    return made


def found(folder: Path, world: int, rank: int) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / f"{world}-{rank}.json").read_text())
    return read


@pytest.mark.parametrize("case", CASES)
def test_every_rank_has_what_one_process_has_to_the_bit(case: str, folder: Path) -> None:
    alone = found(folder, 1, 0)[case]
    for world, ranks in WORLDS.items():
        for rank in ranks:
            assert found(folder, world, rank)[case] == alone


@pytest.mark.parametrize("world", [2, 3])
def test_files_are_those_of_one_process_byte_for_byte(world: int, folder: Path) -> None:
    names = sorted(path.name for path in (folder / "1").iterdir())
    assert {Path(name).suffix for name in names} == {".npy", ".csv", ".parquet"}
    assert sorted(path.name for path in (folder / str(world)).iterdir()) == names
    for name in names:
        assert (folder / str(world) / name).read_bytes() == (folder / "1" / name).read_bytes(), name


def test_an_error_of_one_rank_is_one_of_all(folder: Path) -> None:
    first, second = (found(folder, 3, rank)["failures"] for rank in (0, 1))
    for name in ("a rank", "kept"):
        assert first[name] == ["RankError", "rank 1 has failed: ZeroDivisionError: on purpose"]
        assert second[name] == ["ZeroDivisionError", "on purpose"]
    for name, told in {"shapes": "(2,) and (3,)", "folder": "there is no folder"}.items():
        assert first[name] == second[name]
        assert first[name][0] == "OptionError"
        assert told in first[name][1]
    assert first["model"][0] == second["model"][0] == "OptionError"
    assert first["file"] == ["of before"], "the file of before stays, and nothing beside it"


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("data", "data is "),
        ("option", "batch_size is 11 on rank 1 and 10 on rank 0"),
        ("weights", "the digest of the model's weights is "),
        ("place", "out is 'None' on rank 1 and '"),
    ],
)
def test_ranks_that_differ_are_refused(case: str, told: str, folder: Path) -> None:
    for rank in (0, 1):
        kind, message = found(folder, 3, rank)["failures"][case]
        assert kind == "RankError"
        assert "the 3 ranks can not predict together: " in message
        assert told in message


def test_a_rank_that_is_short_of_memory_halves_its_own_batches(folder: Path) -> None:
    for rank in (0, 1):
        report = found(folder, 3, rank)["short of memory"]
        assert report["kept"]
        assert report["written"]
        assert report["batch_size"] == [25, 25]
    assert found(folder, 3, 0)["short of memory"]["none"] == [
        "RankError",
        "rank 1 has failed: MemoryError: no room",
    ]
    assert "going on with 25" in (folder / "errors-1").read_text()


def test_a_rank_that_is_killed_ends_the_others(folder: Path) -> None:
    for rank in (0, 1):
        kind, message, seconds, left = found(folder, 3, rank)["killed"]
        assert kind == "RankError"
        assert message.startswith("rank 2 (process ")
        assert "Start all ranks again" in message
        assert seconds < 10
        assert rank > 0 or left == []

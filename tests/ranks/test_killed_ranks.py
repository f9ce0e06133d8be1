"""Real torchrun jobs: a rank is killed, the job ends or goes on; Ctrl-C keeps the checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

DATA = ("digits", "--standardize", "--val", "200", "--seed", "7")
TRAINING = ("--model", "mlp:16", "--lr", "0.1", "--batch-size", "50", "--epochs", "40")
PATIENCE_SECONDS = 120.0


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


@contextmanager
def job(folder: Path, *options: str, restarts: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A torchrun job of two ranks that trains into `folder`/run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", "--standalone", "-m", "rightbatch", "train"]
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def epochs_done(run: Path) -> int:
    try:
        return len((run / "history.jsonl").read_text().splitlines())
    except OSError:
        return 0


def wait_for(process: subprocess.Popen[bytes], run: Path, epochs: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while epochs_done(run) < epochs:
        said = (run.parent / "errors").read_text()
        assert process.poll() is None, f"the job ended before it could be stopped: {said}"
        assert time.monotonic() < end, f"the job does not get on: {said}"
        time.sleep(0.01)


def ranks_of(process: subprocess.Popen[bytes]) -> dict[int, int]:
    """The process of each rank of a job."""
    found = {}
    for each in Path("/proc").iterdir():
        if not each.name.isdigit():
            continue
        try:
            parent = (each / "stat").read_text().rpartition(")")[2].split()[1]
            known = dict(
                entry.split("=", 1)
                for entry in (each / "environ").read_bytes().decode(errors="replace").split("\0")
                if "=" in entry
            )
        except OSError:
            continue  # it has ended meanwhile
        if int(parent) == process.pid and "RANK" in known:
            found[int(known["RANK"])] = int(each.name)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    with job(folder, *DATA, *TRAINING, "--out", "run") as process:
        assert process.wait(PATIENCE_SECONDS) == 0, (folder / "errors").read_text()
    return load_file(folder / "run" / "model.safetensors")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for ranks in /proc")
def test_a_killed_rank_ends_the_job_within_seconds_and_is_named(tmp_path: Path) -> None:
    with job(tmp_path, *DATA, *TRAINING, "--out", "run") as process:
        wait_for(process, tmp_path / "run", 3)
        killed = ranks_of(process)[1]
        began = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) != 0
        assert time.monotonic() - began < 10
    said = (tmp_path / "errors").read_text()
    assert "rank      : 1" in said
    assert f"(pid: {killed})" in said
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for ranks in /proc")
def test_under_torchrun_a_killed_rank_costs_nothing_but_time(
    tmp_path: Path, uninterrupted: dict[str, torch.Tensor]
) -> None:
    with job(tmp_path, *DATA, *TRAINING, "--out", "run", restarts=2) as process:
        wait_for(process, tmp_path / "run", 3)
        os.kill(ranks_of(process)[1], signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) == 0, (tmp_path / "errors").read_text()
    found = load_file(tmp_path / "run" / "model.safetensors")
    assert found.keys() == uninterrupted.keys()
    for name, tensor in uninterrupted.items():
        assert torch.equal(found[name], tensor), name
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 41))


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_other_ranks_go_on_from_it(
    tmp_path: Path, uninterrupted: dict[str, torch.Tensor]
) -> None:
    with job(tmp_path, *DATA, *TRAINING, "--out", "run") as process:
        wait_for(process, tmp_path / "run", 3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) != 0
    before = epochs_done(tmp_path / "run")
    assert 3 <= before < 40
    command = [sys.executable, "-m", "rightbatch", "train", "--resume", "run", "--threads", "1"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    assert epochs_done(tmp_path / "run") == 40
    found = load_file(tmp_path / "run" / "model.safetensors")
    for name, tensor in uninterrupted.items():
        # The same mean gradients, added up in another order.
        assert torch.allclose(found[name], tensor, atol=1e-4), name


@pytest.mark.slow
def test_a_job_that_starts_anew_leaves_the_run_of_another_alone(tmp_path: Path) -> None:
    few = [*DATA, *TRAINING[:-1], "1"]
    with job(tmp_path, *few, "--out", "run") as process:
        assert process.wait(PATIENCE_SECONDS) == 0, (tmp_path / "errors").read_text()
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with job(tmp_path, *DATA, *TRAINING, "--out", "run", restarts=1) as process:
        assert process.wait(PATIENCE_SECONDS) != 0
    assert (tmp_path / "errors").read_text().count("holds a run already") == 2
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before

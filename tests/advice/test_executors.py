"""Runs on executors: the result of one process, whoever carries them out and whatever dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.comparison import Comparison
from rightbatch.advice.placement import Placement, why_not_comparable, with_overlaps
from rightbatch.advice.run import Job
from rightbatch.advice.sending import code_of, to_bytes
from rightbatch.advice.sent_task import SentTask
from rightbatch.training.options import FitOptions

SPAWN = multiprocessing.get_context("spawn")
OPTIONS = {"batch_sizes": [8, 64, "full"], "epochs": 3, "learning_rate": 0.1, "seeds": 2}


def untimed(study):
    """All of a study but its seconds and where it ran."""
    told = study.to_json()
    for curve in told["curves"]:
        curve.pop("placement", None)
        for row in curve["history"]:
            del row["seconds"], row["loading_seconds"]
    told["notes"] = [note for note in told["notes"] if "Timings" not in note]
    del told["timings_comparable"], told["provenance"]["environment"]
    return told


def dropping(seed):
    """A network that draws at random, as a function of the seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(30, 4), nn.Dropout(0.3), nn.Tanh(), nn.Linear(4, 1))


def state_of_torch():
    return torch.get_num_threads(), torch.get_rng_state().sum().item()


class Interrupting:
    """A transform: its call number `at` in a process writes the process down, and then waits.

    Where the file is there already, it is a transform that does nothing.
    """

    def __init__(self, file, at):
        self.file, self.at, self.calls = str(file), at, 0

    def __call__(self, inputs):
        self.calls += 1
        if self.calls == self.at:
            try:
                with open(self.file, "x") as file:  # noqa: PTH123  # a path is not sent
                    file.write(f"{os.getpid()}\n")
            except FileExistsError:
                return inputs
            time.sleep(120)
        return inputs


def kill_when_written(file):
    """Start a thread that kills the process that `file` names, as soon as there is one."""

    def kill():
        while not (file.exists() and file.read_text().endswith("\n")):
            time.sleep(0.01)
        os.kill(int(file.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("model", ["mlp:6", dropping], ids=["by name", "that draws at random"])
def test_a_cluster_gives_the_study_of_one_process_and_is_left_as_it_was(client, cancer, model):
    # Another test may have killed one, which its nanny starts again.
    client.wait_for_workers(2)
    before = client.run(state_of_torch)
    there = rb.compare(model, cancer, executor=client.get_executor(), **OPTIONS)
    here = rb.compare(model, cancer, **OPTIONS)
    assert untimed(there) == untimed(here)
    assert there.landscape == here.landscape is not None
    assert client.run(state_of_torch) == before
    assert all(curve.placement.host for curve in there.curves)
    assert all(curve.placement.began < curve.placement.ended for curve in there.curves)
    stored = json.loads(json.dumps(there.to_json()))
    back = Comparison.from_json(stored)
    assert back.curves[0].placement == there.curves[0].placement
    assert json.loads(json.dumps(back.to_json())) == stored


def test_a_search_of_rates_on_a_cluster_is_that_of_one_process(client, cancer):
    options = {**OPTIONS, "lr_rule": "tuned", "epochs": 2, "landscape": False}
    there = rb.compare("mlp:3", cancer, executor=client.get_executor(), **options)
    assert untimed(there) == untimed(rb.compare("mlp:3", cancer, **options))


def test_lambdas_and_what_they_hold_reach_the_workers(client, cancer):
    factor = 0.5
    shrunk = cancer.transform(lambda inputs: inputs * factor)
    options = {"batch_sizes": [64], "epochs": 1, "loss": lambda out, y: (out[:, 0] - y) ** 2}

    def model(seed):
        del seed
        return nn.Sequential(nn.Linear(30, 1))

    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        studies = [
            rb.compare(model, shrunk, executor=executor, **options)
            for executor in (client.get_executor(), pool, None)
        ]
    assert untimed(studies[0]) == untimed(studies[1]) == untimed(studies[2])


def test_a_worker_of_a_cluster_that_is_killed_mid_study_loses_nothing(client, cancer, tmp_path):
    parts = cancer.transform(Interrupting(tmp_path / "worker", at=70))
    thread = kill_when_written(tmp_path / "worker")
    there = rb.compare("mlp:6", parts, executor=client.get_executor(), **OPTIONS)
    thread.join(timeout=10)
    assert not thread.is_alive()
    here = rb.compare("mlp:6", parts, **OPTIONS)
    assert untimed(there) == untimed(here)


def test_a_process_that_is_killed_ends_a_pool_and_what_is_whole_is_kept(cancer, tmp_path):
    # The first run calls it less often than that; the second one is killed, the third never begins.
    parts = cancer.transform(Interrupting(tmp_path / "worker", at=60))
    options = {**OPTIONS, "batch_sizes": ["full", 8, 64], "seeds": 1}
    kill_when_written(tmp_path / "worker")
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        with pytest.raises(rb.WorkerError) as told:
            rb.compare("mlp:6", parts, executor=pool, **options)
        lost = told.value
        with pytest.raises(rb.WorkerError, match=r"^3 of 3 runs .* Whole: none\.$") as all_lost:
            rb.compare("mlp:6", parts, executor=pool, **options)
    assert all_lost.value.comparison is None
    assert "2 of 3 runs came to no end, since a worker process ended" in str(lost)
    assert "take fewer workers, or cut large batches (micro_batch_size)" in str(lost)
    assert "Lost: batch 8 at rate 0.1, seed 0; batch 64 at rate 0.1, seed 0." in str(lost)
    assert "Whole: batch 364 at rate 0.1, seed 0." in str(lost)
    (whole,) = lost.comparison.curves
    assert whole.is_full
    assert str(lost) in lost.comparison.notes
    lost = pickle.loads(pickle.dumps(lost))  # noqa: S301  # our own

    again = rb.compare("mlp:6", parts, finished=lost, **options)
    assert untimed(again) == untimed(rb.compare("mlp:6", parts, **options))
    # Taken over, not run again: its seconds are those of then.
    assert again.curves[0].history == whole.history
    assert "compare(…, finished=error)" in told.value.__notes__[0]
    with pytest.raises(rb.OptionError, match="finished=Comparison is not valid; it is the Worker"):
        rb.compare("mlp:6", parts, finished=again)
    # Other data, another run.
    other = rb.compare("mlp:6", cancer, finished=lost, **options)
    assert other.curves[0].history != whole.history


def test_what_can_not_be_sent_is_named_with_what_to_do(client, cancer):
    lock = threading.Lock()
    held = cancer.transform(lambda inputs: (lock, inputs)[1])
    with pytest.raises(rb.OptionError, match=r"the transform .*lambda.* can not be sent .*lock"):
        rb.compare("logistic", held, executor=client.get_executor())
    made = small_with(lock)
    with pytest.raises(rb.OptionError, match=r"the model can not be sent .* make it inside"):
        rb.compare(made, cancer, executor=client.get_executor())


def test_a_client_is_no_executor_and_is_told_where_it_has_one(client, cancer):
    with pytest.raises(
        rb.OptionError, match=r"executor is of type Client, .* client\.get_executor"
    ):
        rb.compare("logistic", cancer, executor=client)
    with pytest.raises(rb.OptionError, match="executor is of type int"):
        rb.advise("logistic", cancer, executor=3)


def small_with(held):
    network = nn.Sequential(nn.Linear(30, 1))
    network.held = held
    return network


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system can not fork"
)
def test_a_pool_that_forks_is_refused_where_torch_would_hang_in_it(cancer):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        with pytest.raises(rb.OptionError, match=r'torch hangs in them .*get_context\("spawn"\)'):
            rb.compare("mlp:3", cancer, executor=pool)
        with pytest.raises(rb.OptionError, match="torch hangs in them"):
            rb.advise("mlp:3", cancer, executor=pool)


@pytest.mark.slow
def test_the_script_of_the_page_on_clusters_runs(tmp_path):
    pytest.importorskip("distributed", reason="no Dask here: pip install distributed")
    page = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"
    scripts = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = [script for script in scripts if "LocalCluster(" in script]
    (tmp_path / "study.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "study.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [line.rpartition(" ")[0] for line in lines[:4]] == [
        "batch 8 0", "batch 8 1", "batch 64 0", "batch 64 1",
    ]  # fmt: skip


def test_code_that_a_worker_does_not_have_is_told(client, cancer, tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\n\n\ndef make(seed):\n    return nn.Sequential(nn.Linear(30, 1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import nets_of_mine

    with pytest.raises(rb.OptionError, match=r"can not be rebuilt in a worker on .*nets_of_mine"):
        rb.compare(nets_of_mine.make, cancer, executor=client.get_executor(), epochs=1)


def test_an_error_of_the_model_s_own_comes_back_with_its_place(client, cancer):
    def broken(seed):
        return [][seed]

    with pytest.raises(IndexError) as told:
        rb.compare(broken, cancer, executor=client.get_executor(), epochs=1)
    assert "in broken" in told.value.__notes__[0]


class Meeting:
    """A transform whose first call in a process waits until two processes have come to it."""

    def __init__(self, folder):
        self.folder, self.has_met = folder, False

    def __call__(self, inputs):
        if not self.has_met:
            (self.folder / str(os.getpid())).touch()
            while len(list(self.folder.iterdir())) < 2:
                time.sleep(0.01)
            self.has_met = True
        return inputs


def test_runs_that_share_a_machine_say_that_their_seconds_do_not_compare(client, cancer, tmp_path):
    client.wait_for_workers(2)
    parts = cancer.transform(Meeting(tmp_path), train_only=True)
    options = {"batch_sizes": [64, "full"], "epochs": 2, "landscape": False}
    study = rb.compare("mlp:3", parts, executor=client.get_executor(), **options)
    assert [curve.placement.overlapping_runs for curve in study.curves] == [1, 1]
    assert not study.timings_comparable
    (note,) = study.notes
    assert note.startswith("Timings are not comparable: runs shared a machine (")
    assert "timings are not comparable" in repr(study)
    assert "seconds (not comparable)" in study._repr_html_()
    # One after the other they do not share it, whoever carries them out.
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        alone = rb.compare("mlp:3", cancer, executor=pool, **options)
    assert alone.timings_comparable
    assert alone.notes == []
    assert "comparable" not in repr(alone) + alone._repr_html_()


def test_machines_of_different_kinds_and_containers_of_one_machine_do_not_compare():
    one = Placement(host="a", machine="1", processor="slow", began=0.0, ended=2.0)
    container = replace(one, host="b", began=1.0)
    elsewhere = replace(one, machine="2")
    assert [p.overlapping_runs for p in with_overlaps([one, container, elsewhere])] == [1, 1, 0]
    assert why_not_comparable([one, elsewhere]) is None
    assert "different kinds (a: slow; c: fast)" in why_not_comparable(
        [one, replace(elsewhere, host="c", processor="fast")]
    )


def test_data_in_a_file_are_sent_as_the_way_to_it(tmp_path):
    values = np.random.default_rng(0).normal(size=(20_000, 50))
    np.savez(tmp_path / "set.npz", x=values, y=(values[:, 0] > 0).astype(np.int64))
    parts = rb.split(rb.open(tmp_path / "set.npz", target="y"), val=0.1)
    job = Job(model="mlp:3", parts=parts, options=FitOptions(), keeps_trajectory=False)
    rows_bytes = 4 * len(values)
    assert len(to_bytes(job.run_with, code_of("mlp:3", None, parts))) < rows_bytes + 20_000
    assert values.nbytes == 8_000_000


def test_a_task_is_told_from_others_without_looking_at_megabytes_of_work():
    one, two = (SentTask(work=bytes(10_000), argument=0, torch_threads=1) for _ in "ab")
    assert len(repr(one)) < 100
    assert one.__dask_tokenize__() != two.__dask_tokenize__()
    assert one.__dask_tokenize__() == one.__dask_tokenize__()


def test_data_in_memory_that_are_large_are_told_of(caplog):
    values = np.zeros((9_000_000, 8), np.uint8)
    parts = rb.split(rb.open((values, values[:, 0])), val=0.1, contiguous=True)
    to_bytes(parts, code_of("mlp:3", None, parts))
    assert "which go to the workers with every run" in caplog.text
    assert "rb.pack" in caplog.text

"""Branches of a pilot on executors: the search of one process, run by others."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rightbatch as rb
from rightbatch.advice.branch import Branch
from rightbatch.advice.branch_work import BranchRequest, BranchWork, result_of
from rightbatch.advice.choice import EpochsGoal, TargetGoal
from rightbatch.advice.ground import Ground
from rightbatch.advice.pilot import PilotSearch
from rightbatch.advice.placement import Placement
from rightbatch.advice.sent_branches import SentBranches
from rightbatch.training.options import FitOptions

SPAWN = multiprocessing.get_context("spawn")
SIZES = [8, 32, 128]
HERE = Placement.until_now(0.0)


@pytest.fixture(scope="module")
def ground(cancer) -> Ground:
    return Ground("mlp:4", cancer, FitOptions(learning_rate=0.1))


def search(ground, goal, sent=None):
    """A search in which no time passes: what is left depends on samples alone."""

    def start(size, rate, seed):
        return Branch(ground, batch_size=size, learning_rate=rate, seed=seed)

    outcome = PilotSearch(
        start if sent is None else sent.start,
        sizes=SIZES,
        step_seconds={size: 1e-4 + 1e-6 * size for size in SIZES},
        goal=goal,
        prior_critical=100.0,
        prior_factor=8.0,
        first_size=32,
        first_rate=0.1,
        seconds=600.0,
        clock=lambda: 0.0,
        foresee=None if sent is None else sent.foresee,
    ).run()
    return outcome.loss, outcome.rates, [untimed(run) for run in outcome.runs]


def untimed(run):
    return replace(run, points=[replace(point, seconds=0.0) for point in run.points])


@pytest.mark.parametrize(
    "goal", [TargetGoal(loss=0.16), EpochsGoal(samples=1500.0)], ids=["target", "epochs"]
)
def test_a_pilot_on_a_cluster_is_that_of_one_process(client, ground, goal):
    sent = SentBranches(client.get_executor(), ground)
    there = search(ground, goal, sent)
    sent.close()
    assert there == search(ground, goal)
    assert sent.alerts(HERE) == []
    assert len(there[2]) > 10


def test_threads_run_branches_too(ground):
    with ThreadPoolExecutor(2) as executor:
        sent = SentBranches(executor, ground)
        assert search(ground, TargetGoal(loss=0.2), sent) == search(ground, TargetGoal(loss=0.2))
        sent.close()


def test_a_pilot_goes_on_here_where_its_pool_breaks_and_says_so(ground):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        sent = SentBranches(pool, ground)
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        goal = TargetGoal(loss=0.2)
        assert search(ground, goal, sent) == search(ground, goal)
    (alert,) = sent.alerts(HERE)
    assert "The executor failed (BrokenProcessPool: " in alert
    assert "ran in this process" in alert


def test_branches_on_machines_of_other_kinds_are_told(ground):
    sent = SentBranches(ThreadPoolExecutor(1), ground)
    sent._placements.append(replace(HERE, host="far", processor="a faster one, 64 cores"))
    (alert,) = sent.alerts(HERE)
    assert "other kinds (far: a faster one, 64 cores)" in alert
    assert "Ask for it where you train" in alert


@settings(max_examples=30)
@given(
    given_samples=st.integers(8, 1500),
    asked_samples=st.integers(8, 1500),
    rate=st.sampled_from([0.05, 0.4, 200.0]),
)
def test_a_branch_that_answers_another_request_is_the_one_it_would_be(
    ground, given_samples, asked_samples, rate
):
    def request(samples):
        return BranchRequest(
            batch_size=8, learning_rate=rate, seed=3, target=0.25, most_samples=samples,
            most_seconds=600.0,
        )  # fmt: skip

    def run(request):
        branch = Branch(ground, batch_size=8, learning_rate=rate, seed=3)
        result = result_of(branch, request)
        points = [replace(point, seconds=0.0) for point in result.points]
        return replace(result, points=points, seconds=0.0)

    was, would_be = run(request(given_samples)), run(request(asked_samples))
    if was.answers(request(asked_samples), request(given_samples)):
        assert was == would_be
    assert was.answers(request(given_samples), request(given_samples))


def test_what_a_worker_keeps_of_a_pilot_is_dropped(ground):
    from rightbatch.advice import branch_work

    work = BranchWork(
        model="mlp:4", parts=ground.parts, options=ground.options, device="cpu",
        most_together=None, pilot="one",
    )  # fmt: skip
    asked = BranchRequest(
        batch_size=8, learning_rate=0.1, seed=0, target=0.0, most_samples=64, most_seconds=9.0
    )
    assert work(asked).samples == 64
    kept = branch_work._KEPT._ground
    work(asked)
    assert branch_work._KEPT._ground is kept
    replace(work, pilot="two")(asked)
    assert branch_work._KEPT._ground is not kept
    branch_work._KEPT._timer.function()
    assert branch_work._KEPT._ground is None
    branch_work._KEPT._timer.cancel()


def test_advice_with_an_executor_is_advice_and_leaves_the_workers_as_they_were(client, cancer):
    def network(seed):
        del seed
        return nn.Sequential(nn.Linear(30, 4), nn.Tanh(), nn.Linear(4, 1))

    client.wait_for_workers(2)
    before = client.run(torch.get_num_threads)
    advice = rb.advise(
        network, cancer, learning_rate=0.1, target_loss=0.15, budget_seconds=20,
        probe_memory=False, executor=client.get_executor(), batch_sizes=[8, 32, 128],
    )  # fmt: skip
    assert advice.batch_size in advice.tested
    assert advice.pilot.runs
    assert client.run(torch.get_num_threads) == before
    with pytest.raises(rb.OptionError, match="grade='quick' trains none"):
        rb.advise("mlp:3", cancer, grade="quick", executor=client.get_executor())

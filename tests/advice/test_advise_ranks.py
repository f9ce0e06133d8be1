"""`advise` by two real processes over gloo: one advice for both, whose steps they took together."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rightbatch.advice.advice import Advice
from rightbatch.report.page import write_report

PROCESSES = 2
_SECONDS = 200

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, run_ranks) -> Found:
    """What each process has found, by scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    program = Path(__file__).with_name("rank_program.py")
    run_ranks(program, folder, processes=PROCESSES, seconds=_SECONDS)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("scenario", ["quick", "idle", "pilot", "coupled"])
def test_all_ranks_have_one_advice(found: Found, scenario: str) -> None:
    first, second = (each[scenario] for each in found)
    assert first == second
    advice = Advice.from_json(first)
    assert advice.batch_size in advice.tested
    low, high = advice.interval
    assert low <= advice.batch_size <= high
    assert json.loads(json.dumps(advice.to_json())) == first


def test_the_advice_names_batch_share_and_what_a_step_takes(found: Found) -> None:
    advice = Advice.from_json(found[0]["quick"])
    ranks = advice.ranks
    assert ranks is not None
    assert (ranks.world_size, ranks.batch_size) == (2, advice.batch_size)
    assert ranks.largest_share == -(-advice.batch_size // 2)
    assert ranks.smallest_share == advice.batch_size // 2
    assert ranks.share_seconds > 0
    assert ranks.single_seconds > 0
    assert 0 <= ranks.communication_share < 1
    assert ranks.shares_text in str(advice).splitlines()[0]
    assert any("communication and waiting for one another" in reason for reason in advice.reasons)
    assert [point.batch_size for point in advice.speed.points] == advice.tested
    # A tiny model over gloo: one process is faster, and that is said.
    assert ranks.speedup > 1 or any("do not pay" in alert for alert in advice.alerts)


def test_a_batch_below_the_number_of_ranks_is_said_to_leave_some_idle(found: Found) -> None:
    advice = Advice.from_json(found[0]["idle"])
    assert advice.ranks is not None
    assert advice.ranks.idle_ranks == 1
    assert any("leaves 1 of 2 ranks without a sample" in alert for alert in advice.alerts)


def test_the_noise_is_told_by_the_steps_of_the_ranks(found: Found) -> None:
    for scenario in ("quick", "pilot"):
        noise = Advice.from_json(found[0][scenario]).noise
        assert noise.method == "pairs of ranks"
        assert noise.trajectory
        # Every sample that was measured on is one that was trained on.
        measured = sum(point.measured_on for point in noise.trajectory)
        assert measured <= noise.trajectory[-1].samples


def test_a_pilot_of_ranks_has_branches_and_the_rate_of_all_ranks(found: Found) -> None:
    advice = Advice.from_json(found[0]["pilot"])
    assert advice.pilot is not None
    assert advice.grade == "pilot"
    steps = {point.batch_size: point.seconds_per_batch for point in advice.speed.points}
    for size in advice.pilot.sizes:
        seconds = size.samples / size.batch_size * steps[size.batch_size]
        # Readings that stray are drawn to those beside them, which gloo makes them do.
        assert 0.3 < size.seconds / seconds < 3


def test_a_model_that_couples_samples_is_chosen_by_speed_with_two_samples_a_rank(
    found: Found,
) -> None:
    advice = Advice.from_json(found[0]["coupled"])
    assert advice.law is None
    # 455 samples: of the last batch, too, each rank has to hold two.
    assert advice.tested == [30, 64]
    assert any("No critical batch size" in alert for alert in advice.alerts)


def test_nothing_of_the_caller_is_moved(found: Found) -> None:
    torch.manual_seed(11)
    generator = random.Random(11)  # noqa: S311  # what the program was seeded with
    expected = [
        torch.rand(1).item(),
        generator.random(),
        float(np.random.RandomState(11).rand()),  # the same
    ]
    for each in found:
        assert each["of_a_module"]["is same"]
        assert each["of_a_module"]["drawn"] == expected
    assert found[0]["of_a_module"]["advice"] == found[1]["of_a_module"]["advice"]


def test_the_pairs_are_the_squares_of_the_gradients_of_share_and_batch(found: Found) -> None:
    names = set(found[0]["pairs"])
    assert names == {
        f"{kind}, {size}"
        for kind in ("named", "module")
        for size in ("33, None", "33, 5", "1, None")
    }
    for each in found:
        for name, both in each["pairs"].items():
            told, expected = np.array(both["told"]), np.array(both["expected"])
            np.testing.assert_allclose(told, expected, rtol=2e-4, atol=1e-12, err_msg=name)
    # 33 samples: 17 and 16; one sample: 1 and 0; of 455, the last batch holds 26.
    shares = [np.array(each["pairs"]["module, 33, None"]["told"])[:, 1] for each in found]
    assert [share[0] for share in shares] == [17, 16]
    assert [share[13] for share in shares] == [13, 13]
    alone = [np.array(each["pairs"]["named, 1, None"]["told"])[:, 1] for each in found]
    assert [share[0] for share in alone] == [1, 0]


REFUSED = {
    "option": ("RankError", "learning_rate is 0.2 on rank 1 and 0.1 on rank 0"),
    "grade": ("RankError", "grade is 'quick' on rank 1 and 'pilot' on rank 0"),
    "goal": ("RankError", "goal is 'the least time for 4 epochs"),
    "model": ("RankError", "model is 'mlp:5' on rank 1 and 'mlp:4' on rank 0"),
    "sharded": ("OptionError", "divided among the ranks (fully_shard)"),
    "executor": ("OptionError", "leave executor out"),
    "synchronised": ("OptionError", "batch_statistics='rank'; fit takes both"),
    "reached": ("OptionError", "target_loss=9 is reached before the first step"),
    "normalised": ("OptionError", "batch_statistics='rank'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_rank_is_told_what_is_refused(found: Found, name: str) -> None:
    kind, words = REFUSED[name]
    for each in found:
        said = each["refusals"][name]
        assert said is not None
        assert said[0] == kind
        assert words in said[1]


def test_the_others_wait_for_as_long_as_rank_0_says_that_it_goes_on(found: Found) -> None:
    assert [each["waiting"]["value"] for each in found] == [[3, 7], [3, 7]]
    assert [each["waiting"]["told"] for each in found] == [3, 0]


def test_a_report_shows_the_shares(found: Found, tmp_path: Path) -> None:
    stored = tmp_path / "advice.json"
    stored.write_text(json.dumps(found[0]["quick"]))
    page = write_report(tmp_path / "page.html", stored).read_text(encoding="utf-8")
    ranks = Advice.from_json(found[0]["quick"]).ranks
    assert ranks is not None
    assert ranks.shares_text in page
    assert "on a rank" in page


def test_torchrun_measures_memory_too_and_prints_one_object(tmp_path: Path) -> None:
    """`torchrun … -m rightbatch run` asks for advice, trains by it, and prints both."""
    command = (
        *("run", "breast_cancer", "--standardize", "--model", "mlp:4", "--lr", "0.1"),
        *("--grade", "quick", "--budget", "4", "--epochs", "2", "--json", "--out", "run"),
        *("--report", "page.html"),
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "rightbatch", *command),
        ],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    told = json.loads(done.stdout)
    advice = Advice.from_json(told["advice"])
    assert advice.ranks is not None
    assert advice.ranks.world_size == 2
    assert told["batch_size"] == advice.batch_size
    memory = advice.memory
    assert memory is not None
    assert memory.declined is None
    assert memory.cap is not None
    assert memory.cap >= advice.batch_size
    assert memory.limit_source.endswith("shared by 2 processes")
    assert memory.measured[-1].batch_size == min(memory.cap, advice.training_samples)
    stored = json.loads((tmp_path / "run" / "advice.json").read_text())
    assert stored["ranks"] == told["advice"]["ranks"]
    assert advice.ranks.shares_text in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert done.stderr.count("Training begins.") == 1
    assert advice.shares_text in done.stderr

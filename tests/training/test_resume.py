"""Resuming from anywhere gives, bit for bit, the run that was never stopped (law 4)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import rightbatch as rb
from rightbatch.errors import ResumeError
from rightbatch.loading.parts import Parts


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if "seconds" not in name} for row in rows]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_run(found: rb.FitResult, wanted: rb.FitResult) -> None:
    assert without_seconds(found.history) == without_seconds(wanted.history)
    assert found.step_losses == wanted.step_losses
    assert (found.steps, found.best_epoch, found.stopped_early, found.leaked_samples) == (
        wanted.steps, wanted.best_epoch, wanted.stopped_early, wanted.leaked_samples,
    )  # fmt: skip
    for name, value in wanted.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value), name
    assert found.run is not None
    assert wanted.run is not None
    for file in ("history.jsonl", "steps.jsonl"):
        assert without_seconds(read_lines(found.run / file)) == without_seconds(
            read_lines(wanted.run / file)
        )
    one, two = (load_file(run / "model.safetensors") for run in (found.run, wanted.run))
    assert all(torch.equal(one[name], two[name]) for name in two)


def mlp() -> str:
    return "mlp:6"


def with_dropout() -> nn.Module:
    with torch.random.fork_rng(()):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1))


def with_statistics() -> nn.Module:
    with torch.random.fork_rng(()):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


RUNS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "sgd": (mlp, {}),
    "momentum": (mlp, {"momentum": 0.9}),
    "adam": (mlp, {"optimizer": "adam"}),
    "adamw": (mlp, {"optimizer": "adamw", "l1": 1e-3}),
    "dropout": (with_dropout, {"optimizer": "adam"}),
    "batch normalisation": (with_statistics, {"momentum": 0.5}),
    "window": (mlp, {"window": 50}),
    "in order": (mlp, {"shuffle": False}),
    "micro-batches": (mlp, {"micro_batch_size": 5, "l2": 1e-3}),
    "early stopping": (mlp, {"early_stopping": 2, "learning_rate": 2.0}),
}


@pytest.mark.parametrize("steps", [1, 15, 22, 44])
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_resumed_within_or_between_epochs_equals_an_uninterrupted_one(
    kind, steps, cancer, tmp_path
):
    make, options = RUNS[kind]
    options = {"seed": 5, "learning_rate": 0.05, **options}
    whole = rb.fit(make(), cancer, epochs=4, out=tmp_path / "whole", **options)
    rb.fit(make(), cancer, steps=steps, out=tmp_path / "run", **options)
    torch.manual_seed(steps)  # the state of the resuming process is another one
    resumed = rb.fit(make(), cancer, epochs=4, out=tmp_path / "run", resume=True, **options)
    assert_same_run(resumed, whole)


def test_a_random_transform_draws_the_same_after_resuming(cancer, tmp_path):
    def jitter(inputs: np.ndarray, rng: Any) -> np.ndarray:
        return inputs + rng.normal(std=0.1, shape=inputs.shape[1:]).astype(np.float32)

    noisy = cancer.transform(jitter)
    whole = rb.fit("logistic", noisy, epochs=2, out=tmp_path / "whole")
    rb.fit("logistic", noisy, steps=7, out=tmp_path / "run")
    resumed = rb.fit("logistic", noisy, epochs=2, out=tmp_path / "run", resume=True)
    assert_same_run(resumed, whole)


def test_resuming_many_times_changes_nothing(cancer, tmp_path):
    whole = rb.fit("mlp:6", cancer, steps=40, optimizer="adam", out=tmp_path / "whole")
    rb.fit("mlp:6", cancer, steps=3, optimizer="adam", out=tmp_path / "run")
    for steps in (4, 4, 15, 16, 29, 30, 40):
        resumed = rb.fit(
            "mlp:6", cancer, steps=steps, optimizer="adam", out=tmp_path / "run", resume=True
        )
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("end", [{"epochs": 3}, {"steps": 20}, {"epochs": 60}], ids=str)
def test_resuming_a_finished_run_gives_it_back(end, cancer, tmp_path):
    options = {"out": tmp_path / "run", "learning_rate": 1.0, "early_stopping": 2, **end}
    whole = rb.fit("mlp:20", cancer, **options)
    rows = read_lines(tmp_path / "run" / "history.jsonl")
    again = rb.fit("mlp:20", cancer, resume=True, **options)
    assert_same_run(again, whole)
    assert without_seconds(read_lines(tmp_path / "run" / "history.jsonl")) == without_seconds(rows)


def test_a_run_is_extended_by_more_epochs(cancer, tmp_path):
    whole = rb.fit("mlp:6", cancer, epochs=5, momentum=0.9, out=tmp_path / "whole")
    rb.fit("mlp:6", cancer, epochs=2, momentum=0.9, out=tmp_path / "run")
    longer = rb.fit("mlp:6", cancer, epochs=5, momentum=0.9, out=tmp_path / "run", resume=True)
    assert_same_run(longer, whole)


class CrashError(Exception):
    """What a test kills a run with."""


class CrashingLoss:
    """A loss that fails at its n-th call, as a machine might."""

    def __init__(self, call: int | None) -> None:
        self.left = call

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise CrashError
        return nn.functional.binary_cross_entropy_with_logits(
            outputs.squeeze(1), target.float(), reduction="none"
        )


@pytest.mark.parametrize("seconds", [0.0, 1e-3, 3600.0])
def test_a_run_that_crashed_goes_on_from_its_last_checkpoint(seconds, cancer, tmp_path):
    options = {"epochs": 3, "optimizer": "adam", "checkpoint_seconds": seconds}
    whole = rb.fit("mlp:6", cancer, loss=CrashingLoss(None), out=tmp_path / "whole", **options)
    with pytest.raises(CrashError):
        rb.fit("mlp:6", cancer, loss=CrashingLoss(26), out=tmp_path / "run", **options)
    resumed = rb.fit(
        "mlp:6", cancer, loss=CrashingLoss(None), out=tmp_path / "run", resume=True, **options
    )
    assert_same_run(resumed, whole)


def test_checkpoint_seconds_and_threads_may_change(cancer, tmp_path):
    rb.fit("logistic", cancer, steps=5, out=tmp_path / "run", checkpoint_seconds=0)
    options = {"threads": torch.get_num_threads(), "checkpoint_seconds": 9.0}
    resumed = rb.fit("logistic", cancer, epochs=1, out=tmp_path / "run", resume=True, **options)
    assert resumed.steps == 15


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": 0.5}, r"learning_rate was 0\.01 and is 0\.5"),
    ({"batch_size": 16}, r"batch_size was 32 and is 16"),
    ({"seed": 9}, r"seed was 0 and is 9"),
    ({"optimizer": "adam"}, r"optimizer was 'sgd' and is 'adam'"),
    ({"l2": 0.1, "momentum": 0.9}, r"momentum was 0\.0 and is 0\.9; l2 was 0\.0 and is 0\.1"),
    ({"shuffle": False}, r"shuffle was True and is False"),
    ({"window": 9}, r"window was None and is 9"),
    ({"model": "mlp:7"}, r"model was 'mlp:6' and is 'mlp:7'"),
    ({"init": "zeros"}, r"init was 'default' and is 'zeros'"),
]


@pytest.mark.parametrize(("changes", "telling"), REFUSED, ids=[str(c) for c, _ in REFUSED])
def test_other_options_are_refused_by_name_and_leave_the_run(changes, telling, cancer, tmp_path):
    run = tmp_path / "run"
    rb.fit("mlp:6", cancer, steps=20, out=run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    model = changes.pop("model", "mlp:6")
    with pytest.raises(ResumeError, match=telling):
        rb.fit(model, cancer, epochs=2, out=run, resume=True, **changes)
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def other_parts(kind: str) -> Parts:
    if kind == "seed of the split":
        return rb.split(rb.open("breast_cancer"), val=0.2, seed=8).transform(rb.standardize())
    data = rb.open("breast_cancer")
    arrays = data.span(0, len(data))
    arrays["mean radius"][3] += 1.0
    return rb.split(rb.open(arrays, target="target"), val=0.2, seed=7).transform(rb.standardize())


@pytest.mark.parametrize("kind", ["seed of the split", "one value"])
def test_other_data_are_refused(kind, cancer, tmp_path):
    rb.fit("logistic", cancer, steps=20, out=tmp_path / "run")
    with pytest.raises(ResumeError, match=r"other data or another split.*open and split the same"):
        rb.fit("logistic", other_parts(kind), epochs=2, out=tmp_path / "run", resume=True)


def test_another_module_of_the_same_name_is_refused(cancer, tmp_path):
    rb.fit(nn.Sequential(nn.Linear(30, 1)), cancer, steps=3, out=tmp_path / "run")
    other = nn.Sequential(nn.Linear(30, 4), nn.Linear(4, 1))
    with pytest.raises(ResumeError, match="another model"):
        rb.fit(other, cancer, epochs=1, out=tmp_path / "run", resume=True)


def test_a_damaged_checkpoint_is_refused(cancer, tmp_path):
    run = tmp_path / "run"
    rb.fit("logistic", cancer, steps=3, out=run)
    path = run / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ResumeError, match="is damaged"):
        rb.fit("logistic", cancer, epochs=1, out=run, resume=True)


def test_what_a_kill_left_of_a_line_is_cut_off(cancer, tmp_path):
    run = tmp_path / "run"
    whole = rb.fit("logistic", cancer, epochs=2, out=tmp_path / "whole")
    rb.fit("logistic", cancer, steps=20, out=run)
    with (run / "steps.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    with (run / "history.jsonl").open("a") as file:
        file.write('{"epoch": 2, "steps": 30}\n{"ep')
    assert_same_run(rb.fit("logistic", cancer, epochs=2, out=run, resume=True), whole)


def test_the_rest_of_an_epoch_may_be_cut_at_another_batch_size(cancer, tmp_path):
    run = tmp_path / "run"
    rb.fit("logistic", cancer, batch_size=32, steps=5, out=run)
    result = rb.fit(
        "logistic", cancer, batch_size=50, epochs=2, out=run, resume=True,
        allow_new_batch_size=True,
    )  # fmt: skip
    # 455 - 5 * 32 = 295 samples are left: 6 batches of 50.
    assert [(row["steps"], row["samples"]) for row in result.history] == [(11, 455), (21, 910)]
    assert result.leaked_samples == 0


@pytest.mark.parametrize("batch_size", [2, 3, 25])
def test_where_in_memory_a_batch_lies_changes_no_bit(tmp_path: Path, batch_size: int) -> None:
    # A row of 30 features is no multiple of 16 bytes, and matrix products of few rows or columns
    # round otherwise where their memory does not begin at one.
    parts = rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())
    options = {"batch_size": batch_size, "learning_rate": 0.1, "threads": 1}
    whole = rb.fit("logistic", parts, **options, epochs=2)
    rb.fit("logistic", parts, **options, steps=13, out=tmp_path / "run")
    resumed = rb.fit("logistic", parts, **options, epochs=2, out=tmp_path / "run", resume=True)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.step_losses == resumed.step_losses

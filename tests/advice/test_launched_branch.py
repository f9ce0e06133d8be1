"""Branches and loops whose losses stay on the device, forced onto the one that is here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rightbatch.advice.branch import Branch
from rightbatch.advice.ground import Ground
from rightbatch.advice.loop_speed import measure_loop
from rightbatch.loading.parts import Parts
from rightbatch.training import captured_step, step_choice
from rightbatch.training.captured_step import CapturedStep
from rightbatch.training.options import FitOptions


@pytest.fixture(autouse=True)
def launched(monkeypatch) -> None:
    monkeypatch.setattr(step_choice, "_DEVICES", ("cpu",))
    monkeypatch.setattr(captured_step, "record_graph", lambda step, stream: step)


def test_a_launched_branch_is_the_branch_that_is_waited_for(cancer: Parts, monkeypatch) -> None:
    ground = Ground("mlp:8", cancer, FitOptions(threads=1))
    curves = []
    for devices in (("cpu",), ()):
        monkeypatch.setattr(step_choice, "_DEVICES", devices)
        branch = Branch(ground, batch_size=32, learning_rate=0.2, seed=3)
        assert isinstance(branch._step, CapturedStep) == bool(devices)
        branch.advance(target=0.0, most_samples=6000)
        branch.close()
        curves.append(branch.points)
    one, two = curves
    assert [point.samples for point in one] == [point.samples for point in two]
    for a, b in zip(one, two, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)


def test_a_launched_branch_that_runs_away_is_seen_to(cancer: Parts) -> None:
    ground = Ground("mlp:8", cancer, FitOptions(threads=1, optimizer="sgd"))
    branch = Branch(ground, batch_size=4, learning_rate=1e6, seed=0)
    branch.advance(target=0.0, most_samples=40_000)
    branch.close()
    assert branch.has_diverged
    assert all(math.isfinite(point.loss) for point in branch.points)


def test_a_size_without_room_is_left_out_of_launched_loops_too(cancer: Parts) -> None:
    class Narrow(nn.Linear):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if self.training and len(values) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(values)

    ground = Ground(Narrow(30, 1), cancer, FitOptions(threads=1))
    speed = measure_loop(ground, [16, 64, 256], seconds=0.1, until_saturated=False)
    assert [point.batch_size for point in speed.points] == [16, 64]
    assert any("256 does not fit in memory" in note for note in speed.notes)

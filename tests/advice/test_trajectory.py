"""Snapshots along a run, and the weights they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rightbatch as rb
from rightbatch.advice.trajectory import Recorder, flat_weights, named_weights, snapshot_steps
from rightbatch.training.models import build_model


@given(st.integers(1, 10**7), st.integers(1, 10**5))
def test_the_chosen_steps_begin_at_0_end_at_the_last_and_fit_the_budget(total, parameters):
    steps = snapshot_steps(total, parameters=parameters)
    assert steps[0] == 0
    assert steps[-1] == total
    assert (np.diff(steps) > 0).all()
    assert len(steps) * parameters * 4 <= 64 << 20
    assert len(steps) <= 160


def test_of_a_large_model_nothing_is_kept():
    assert len(snapshot_steps(100, parameters=10**7)) == 0


def test_the_recorder_keeps_the_weights_as_they_were_at_each_step(cancer):
    network = build_model("mlp:3", inputs=30, outputs=1)
    recorder = Recorder(network, total_steps=4)
    seen = [flat_weights(network)]

    def note(step, loss, model):
        recorder(step, loss, model)
        seen.append(flat_weights(model))

    rb.fit(network, cancer, steps=4, learning_rate=0.1, on_step=note)
    assert recorder.trajectory.steps.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(recorder.trajectory.points, np.stack(seen))
    assert len({row.tobytes() for row in recorder.trajectory.points}) == 5


def test_named_weights_put_every_number_back_in_its_place():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    named = named_weights(model, torch.from_numpy(flat_weights(model)))
    assert list(named) == ["0.weight", "0.bias", "1.weight"]
    assert all(torch.equal(named[name], value) for name, value in model.named_parameters())
    with pytest.raises(rb.OptionError, match=r"a vector of 5 weights is none of a model of 24"):
        named_weights(model, torch.zeros(5))

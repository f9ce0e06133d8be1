"""Keras 3's own `fit` with each backend: the curve of `rb.fit`, and going on inside an epoch."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("keras_program.py")
STOPS = ("1", "7", "15", "18", "44")
# Float32 sums in another order, over 45 steps.
TOLERANCE = 1e-5


@pytest.fixture(params=["torch", "jax", "tensorflow"], scope="module")
def told(request, course, tmp_path_factory) -> dict[str, Any]:
    for library in ("keras", request.param):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: it is in the group `integrations`")
    folder = tmp_path_factory.mktemp(request.param)
    beginning = [
        values.detach().numpy()
        for layer in course.model().layers
        for values in (layer.weight.T, layer.bias)
    ]
    np.savez(folder / "weights.npz", *beginning)
    environment = {
        **os.environ,
        "KERAS_BACKEND": request.param,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, folder / "weights.npz", *STOPS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["backend"] == request.param
    return found


def assert_equal(found: list[Any], course: Any) -> None:
    """Weights of Keras, which has them transposed, are those of `rb.fit`."""
    for ours, theirs in zip(course.weights, found, strict=True):
        np.testing.assert_allclose(np.asarray(theirs).T, ours, atol=TOLERANCE)


def test_curve_and_weights_are_those_of_fit(course, told) -> None:
    assert told["history"]["loss"] == pytest.approx(course.epoch_losses, abs=TOLERANCE)
    assert_equal(told["weights"], course)


def test_keras_own_fit_takes_the_batches_as_well(course, told) -> None:
    assert told["own_history"]["loss"] == pytest.approx(course.epoch_losses, abs=TOLERANCE)
    assert len(told["own_history"]["val_loss"]) == 3
    assert_equal(told["own_weights"], course)


def test_padding_weighs_nothing(course, told) -> None:
    assert_equal(told["padded_weights"], course)


@pytest.mark.parametrize("stop", STOPS)
def test_its_checkpoint_goes_on_with_the_next_batch(told, stop) -> None:
    found = told["stopped"][stop]
    assert found["weights"] == told["weights"]
    assert found["epoch"] == 3
    assert found["files"] == ["3-0.weights.h5", "place.json"]
    # The epochs that came whole after the stop.
    begun = int(stop) // 15
    whole = 3 - begun - (1 if int(stop) % 15 else 0)
    assert len(found["history"]["loss"]) == 3 - begun
    if whole:
        assert found["history"]["loss"][-whole:] == told["history"]["loss"][-whole:]


def test_a_callback_may_end_training(told) -> None:
    assert told["ended"] == [2, 2]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("other batches", "ResumeError: .*batch size: 100 in the cursor, 50 now"),
        ("not built", "OptionError: .*need a model that is built"),
        ("rows", "OptionError: Keras has no place for row numbers"),
        ("shuffle", "OptionError: shuffle follows from the batches"),
        ("no folder", r"OptionError: save_every=3 needs a folder: checkpoint=…"),
    ],
)
def test_what_can_not_be_is_refused(told, what, message) -> None:
    assert re.search(message, told["refusals"][what])

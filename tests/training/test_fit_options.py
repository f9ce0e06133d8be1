"""The options of a training run: what is valid, and what is refused with which words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.training.options import FitOptions

WRONG = [
    ({"optimizer": "adan"}, r"optimizer='adan' is not valid. Did you mean 'adam'"),
    ({"activation": "gelu"}, r"Valid are: relu, sigmoid, tanh"),
    ({"init": "ones"}, r"Valid are: default, zeros, normal:1"),
    ({"epochs": 0}, r"epochs=0 is not valid"),
    ({"epochs": 1.5}, r"epochs=1.5 is not valid"),
    ({"epochs": True}, r"epochs=True is not valid"),
    ({"epochs": "ten"}, r"epochs='ten' is not valid"),
    ({"steps": -3}, r"steps=-3 is not valid"),
    ({"micro_batch_size": 0}, r"micro_batch_size=0 is not valid"),
    ({"target_loss": "low"}, r"target_loss='low' is not valid; it is a validation loss such as"),
    ({"target_loss": float("nan")}, r"target_loss=nan is not valid"),
    ({"target_loss": True}, r"target_loss=True is not valid"),
    ({"batch_size": "auto"}, r"fit measures nothing: take rb\.run"),
    ({"early_stopping": 0}, r"early_stopping=0 is not valid"),
    ({"threads": 0}, r"threads=0 is not valid"),
    ({"seed": "a"}, r"seed='a' is not valid"),
    ({"learning_rate": 0}, r"learning_rate=0 is not valid; it is a number above 0"),
    ({"learning_rate": float("nan")}, r"learning_rate=nan is not valid"),
    ({"learning_rate": "0.1"}, r"learning_rate='0.1' is not valid"),
    ({"l1": -0.1}, r"l1=-0.1 is not valid; it is a number from 0"),
    ({"l2": float("inf")}, r"l2=inf is not valid"),
    ({"checkpoint_seconds": -1}, r"checkpoint_seconds=-1 is not valid"),
    ({"momentum": 1.0}, r"momentum=1.0 is not valid; it is below 1"),
    ({"momentum": 0.9, "optimizer": "adam"}, r"momentum=0.9 goes with optimizer='sgd'"),
    ({"epochs": 3, "steps": 100}, r"epochs=3 and steps=100 contradict each other"),
]


@pytest.mark.parametrize(("options", "telling"), WRONG, ids=[str(o) for o, _ in WRONG])
def test_wrong_options_are_refused(options, telling):
    with pytest.raises(OptionError, match=telling):
        FitOptions(**options)


def test_ten_epochs_where_neither_epochs_nor_steps_were_given():
    assert FitOptions().epochs_wanted == 10
    assert FitOptions(epochs=3).epochs_wanted == 3
    assert FitOptions(steps=3).epochs_wanted is None


def test_numbers_of_numpy_become_json():
    options = FitOptions(
        batch_size=np.int64(16),  # type: ignore[arg-type]  # what a sweep over an array hands in
        epochs=np.int32(2),  # type: ignore[arg-type]  # the same
        seed=np.uint8(7),  # type: ignore[arg-type]  # the same
        learning_rate=np.float32(0.5),  # type: ignore[arg-type]  # the same
        l2=0,
    )
    stored = json.loads(json.dumps(options.to_json()))
    assert [stored[name] for name in ("batch_size", "epochs", "seed", "learning_rate", "l2")] == [
        16, 2, 7, 0.5, 0.0,
    ]  # fmt: skip


def test_a_loss_function_is_stored_by_name():
    def hinge(outputs: object, target: object) -> object:
        return outputs, target

    assert FitOptions(loss=hinge).to_json()["loss"].endswith("hinge")

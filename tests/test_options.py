"""The options of the command line as classes: refused at birth, stored and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rightbatch.errors import OptionError
from rightbatch.options import DataOptions, TrainOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "data is empty"),
        ({"missing": "dorp"}, "Did you mean 'drop'"),
        ({"missing": "drop:3"}, "fill:VALUE"),
        ({"categories": "one_hot"}, "one-hot"),
        ({"on_bad_sample": "quarantine"}, "--max-bad"),
        ({"max_bad": 3}, "quarantine"),
        ({"val": 1.0}, "a share lies between 0 and 1"),
        ({"val": -3}, "can not be negative"),
        ({"test": True}, "give a share"),
        ({"val": 0.5, "test": 0.5}, "hold out every sample"),
        ({"columns": ()}, "columns is empty"),
        ({"group": "a", "target": "a"}, "group and target are both 'a'"),
    ],
)
def test_data_options_are_refused_at_birth(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DataOptions(**{"data": "iris", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 2, "steps": 3}, "contradict each other"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"optimizer": "adagrad"}, "sgd, adam, adamw"),
        ({"shuffle": False, "window": 4}, "shuffling is switched off"),
        ({"block": 5}, "say how many samples a window has"),
        ({"block": 5, "window": 12}, "take window=10 or 15"),
        ({"memory": "1GB", "window": 12}, "leave out those two, or memory"),
        ({"memory": "much"}, "memory='much' is not a size"),
        ({"batch_size": 4, "micro_batch_size": 5}, "micro_batch_size=5 is larger"),
        ({"activation": "tanh"}, "mlp:100"),
        ({"model": "softmax", "activation": "tanh"}, "the model is softmax"),
        ({"model": "mlp:0"}, "sizes of its hidden layers"),
        ({"model": "a.py:net", "init": "zeros"}, "init=zeros"),
    ],
)
def test_train_options_are_refused_at_birth(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainOptions(**options)


def test_a_window_of_one_is_no_shuffling_and_contradicts_nothing() -> None:
    assert TrainOptions(shuffle=False, window=1).window == 1


@pytest.mark.parametrize(
    "options",
    [
        DataOptions(data="a.csv", target="y", columns=("a", "b"), val=0.2, test=30, scale=False),
        TrainOptions(model="mlp:3,4", activation="tanh", batch_size="full", steps=7, l2=0.5),
    ],
)
def test_options_survive_json(options: DataOptions | TrainOptions) -> None:
    stored = json.loads(json.dumps(options.to_json()))
    assert type(options).from_json(stored) == options


def test_options_stored_before_rows_could_be_left_out_are_read() -> None:
    stored = DataOptions(data="iris").to_json()
    del stored["on_bad_sample"], stored["max_bad"]
    assert DataOptions.from_json(stored) == DataOptions(data="iris")


def test_stored_options_of_a_later_version_are_refused_by_name() -> None:
    with pytest.raises(OptionError, match="hold colour, which this version does not know"):
        DataOptions.from_json({"data": "iris", "colour": "red"})

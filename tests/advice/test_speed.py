"""`speed`: real models on real data, measured, with everything put back afterwards."""

from __future__ import annotations

import copy
import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.speed import find_batch_sizes, speed
from rightbatch.advice.timing import Speed
from rightbatch.errors import DataError, OptionError, TrainingError
from rightbatch.loading.parts import Parts
from rightbatch.training.saved_model import load_saved

QUICK = {"seconds": 0.02}
POINT = {"batch_size", "seconds_per_batch", "seconds_per_sample", "low", "high"}


class Recorder(nn.Module):
    """A linear layer that writes down the batches it is given, its mode and torch's threads."""

    seen: list[tuple[int, bool, int]] = []  # noqa: RUF012 - copies of the module share it

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(30, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(inputs), self.training, torch.get_num_threads()))
        return self.layer(inputs)


@pytest.fixture
def recorder() -> Recorder:
    Recorder.seen.clear()
    return Recorder()


def test_points_say_what_their_names_say(cancer: Parts) -> None:
    timing = speed("mlp:10", cancer.train, batch_sizes=[1, 8, 32, "full"], **QUICK)
    assert [point.batch_size for point in timing.points] == [1, 8, 32, 364]
    for point in timing.points:
        assert point.seconds_per_batch == pytest.approx(point.seconds_per_sample * point.batch_size)
        assert 0 < point.low <= point.seconds_per_sample <= point.high
        assert point.samples_per_second == pytest.approx(1 / point.seconds_per_sample)
    assert (timing.model, timing.mode, timing.threads, timing.device) == (
        "mlp:10",
        "predict",
        1,
        "cpu",
    )
    assert timing.rounds >= 5
    assert timing.fit is not None
    assert timing.fastest.batch_size > 1
    assert timing.loading_seconds_per_sample is not None
    assert timing.loading_seconds_per_sample > 0
    assert timing.provenance.fingerprint == cancer.train.fingerprint
    assert timing.provenance.environment["torch_threads"] == 1


@pytest.mark.parametrize("mode", ["predict", "train"])
def test_what_runs_is_what_was_asked_for(recorder: Recorder, cancer: Parts, mode: str) -> None:
    sizes = [3, 16]
    speed(recorder, cancer.train, batch_sizes=sizes, mode=mode, threads=1, **QUICK)
    # A look at one sample tells how many outputs there are.
    ran = [entry for entry in recorder.seen if entry[0] != 1]
    assert {entry[0] for entry in ran} == {3, 15, 16, 17}
    assert {entry[1] for entry in ran} == {mode == "train"}
    assert {entry[2] for entry in ran} == {1}


def test_without_neighbours_only_the_sizes_run(recorder: Recorder, cancer: Parts) -> None:
    timing = speed(recorder, cancer.train, batch_sizes=[16, 64], neighbours=False, **QUICK)
    assert {entry[0] for entry in recorder.seen} - {1} == {16, 64}
    assert timing.neighbours == []


def test_neighbours_stand_beside_the_points(cancer: Parts) -> None:
    timing = speed("softmax", cancer.train, batch_sizes=[1, 2, 7, 8, 64, 100], **QUICK)
    assert [point.batch_size for point in timing.points] == [1, 2, 7, 8, 64, 100]
    trios = [
        (trio.below.batch_size, trio.at.batch_size, trio.above.batch_size)
        for trio in timing.neighbours
    ]
    assert trios == [(7, 8, 9), (63, 64, 65)]
    # Measured once, shown twice.
    assert timing.neighbours[0].below == timing.points[2]
    for trio in timing.neighbours:
        assert trio.low <= trio.saving <= trio.high
    assert any("Powers of two against the sizes beside them" in note for note in timing.notes)


@pytest.mark.parametrize("mode", ["predict", "train"])
def test_nothing_of_the_callers_is_touched(cancer: Parts, mode: str) -> None:
    model = nn.Sequential(
        nn.Linear(30, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)
    )
    # A frozen normalisation layer: training as a whole, and not in this one layer.
    model[1].eval()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 30)).sum().backward()
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    moments = copy.deepcopy(optimizer.state_dict())
    modes = [module.training for module in model.modules()]
    threads = torch.get_num_threads()
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - the state that users still have
    random.seed(11)
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002

    # Two samples at least: BatchNorm knows no spread of one.
    speed(model, cancer.train, batch_sizes=[2, 16], mode=mode, threads=threads + 1, **QUICK)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(
        torch.equal(parameter.grad, gradient)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True)
    )
    after = optimizer.state_dict()
    assert str(after) == str(moments)
    assert [module.training for module in model.modules()] == modes
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_threads_are_put_back_after_an_error(cancer: Parts) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(OptionError):
        speed(nn.Linear(7, 1), cancer.train, threads=threads + 1, **QUICK)
    assert torch.get_num_threads() == threads


def test_training_goes_on_from_the_same_weights_every_time(cancer: Parts) -> None:
    """At this rate the loss would run away within the steps that are timed."""
    timing = speed(
        "mlp:10", cancer.train, batch_sizes=[1, 8], mode="train", learning_rate=0.5, seconds=0.2
    )
    assert timing.settings["learning_rate"] == 0.5
    assert timing.settings["loss"] == "binary_cross_entropy"


def test_a_loss_that_is_not_finite_is_no_measurement(diabetes: Parts) -> None:
    with pytest.raises(TrainingError, match="lower the learning rate"):
        speed("mlp:10", diabetes.train, batch_sizes=[8], mode="train", learning_rate=1e30, **QUICK)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_network_and_the_same_layers_as_a_module_both_train(
    cancer: Parts, optimizer: str
) -> None:
    module = nn.Sequential(nn.Linear(30, 10), nn.ReLU(), nn.Linear(10, 1))
    for model in ("mlp:10", module):
        timing = speed(
            model, cancer.train, batch_sizes=[4], mode="train", optimizer=optimizer, **QUICK
        )
        assert timing.settings["optimizer"] == optimizer
        assert timing.points[0].seconds_per_batch > 0


def test_every_kind_of_model(cancer: Parts, tmp_path: Path) -> None:
    result = rb.fit("mlp:10", cancer, epochs=1, out=tmp_path / "run")
    weights = {"W1": np.ones((30, 5)), "b1": np.zeros(5), "W2": np.ones((5, 1)), "b2": [0.0]}
    np.savez(tmp_path / "weights.npz", **weights)
    named = {
        "result": (result, None, "dense network 30-10-1"),
        "module": (nn.Linear(30, 1), None, "Linear"),
        "run": (tmp_path / "run", None, str(tmp_path / "run")),
        "run as text": (str(tmp_path / "run"), None, str(tmp_path / "run")),
        "file": (tmp_path / "weights.npz", "tanh", str(tmp_path / "weights.npz")),
        "mapping": (weights, "sigmoid", load_saved(weights, activation="sigmoid").name),
    }
    for mode in ("predict", "train"):
        for model, activation, name in named.values():
            timing = speed(
                model,
                cancer.test,
                batch_sizes=[4],
                mode=mode,
                activation=activation,
                neighbours=False,
                **QUICK,
            )
            assert (timing.model, timing.mode) == (name, mode)


def test_data_without_a_target_can_be_predicted_and_not_learned() -> None:
    data = rb.open(np.random.default_rng(0).normal(size=(20, 3)).astype("float32"))
    weights = {"W1": np.eye(3), "b1": np.zeros(3)}
    assert len(speed(weights, data, batch_sizes=[1, 4], **QUICK).points) == 2
    for model in (weights, nn.Linear(3, 1), "softmax"):
        with pytest.raises((OptionError, DataError), match=r"has no target|has none"):
            speed(model, data, batch_sizes=[4], mode="train", **QUICK)


def test_columns_of_several_shapes_come_as_a_dict() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 1)

        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.layer(torch.cat([inputs["a"], inputs["b"].flatten(1)], 1))

    generator = np.random.default_rng(0)
    columns = {
        "a": generator.normal(size=(12, 1)).astype("float32"),
        "b": generator.normal(size=(12, 2, 2)).astype("float32"),
        "y": generator.normal(size=12).astype("float32"),
    }
    data = rb.open(columns, target="y")
    for mode in ("predict", "train"):
        # 16 and 17 are more than there are, so that they come again.
        timing = speed(Both(), data, batch_sizes=[2, 16], mode=mode, **QUICK)
        assert timing.points[1].batch_size == 16
        assert any("12 samples; batches of 16 repeat" in note for note in timing.notes)


def test_results_go_to_json_and_back(cancer: Parts) -> None:
    timing = speed("mlp:10", cancer.train, batch_sizes=[1, 8], **QUICK)
    stored = json.loads(json.dumps(timing.to_json()))
    assert {"points", "fit", "threads", "neighbours", "notes"} <= set(stored)
    assert all(set(point) == POINT for point in stored["points"])
    assert Speed.from_json(stored) == timing


def test_results_have_a_short_text_and_a_table(cancer: Parts) -> None:
    timing = speed("mlp:10", cancer.train, batch_sizes=[1, 64], **QUICK)
    text = repr(timing)
    assert text.startswith("<Speed of mlp:10 (predict, 1 thread, cpu): ")
    assert "n½ " in text
    assert len(text) < 160
    html = timing._repr_html_()
    assert html.count("<tr>") == 3
    assert "<td>64</td>" in html
    one = speed("mlp:10", cancer.train, batch_sizes=[1], **QUICK)
    assert one.fit is None
    assert "n½" not in repr(one)


def test_a_size_that_does_not_fit_is_left_out(
    cancer: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    class Hungry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(30, 1)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            # More than any machine has, once there are many samples.
            scratch = torch.empty(1 << 50 if len(inputs) > 100 else 1)
            return self.layer(inputs) + 0 * scratch[:1]

    with caplog.at_level(logging.WARNING):
        timing = speed(Hungry(), cancer.train, batch_sizes=[64, "full", 8], **QUICK)
    assert [point.batch_size for point in timing.points] == [64, 8]
    assert "batch size 364 does not fit in memory" in caplog.text
    assert timing.notes[0].endswith("were left out: 364.")


def test_progress_reaches_its_end(cancer: Parts) -> None:
    news = []
    timing = speed("softmax", cancer.train, batch_sizes=[8], progress=news.append, **QUICK)
    assert news[-1].rounds == timing.rounds
    assert news[-1].seconds == news[-1].total_seconds


def test_the_default_sizes_are_the_powers_of_two_that_there_are() -> None:
    assert find_batch_sizes(None, 100) == [1, 2, 4, 8, 16, 32, 64]
    assert find_batch_sizes(None, 10**6)[-1] == 1024
    assert find_batch_sizes(None, 1) == [1]
    assert find_batch_sizes(range(1, 4), 100) == [1, 2, 3]
    assert find_batch_sizes(np.array([4, 4, 2]), 100) == [4, 2]
    assert find_batch_sizes("full", 100) == [100]
    assert find_batch_sizes(7, 100) == [7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": []}, "batch_sizes is empty"),
        ({"batch_sizes": [0]}, "batch_size=0 is not valid"),
        ({"batch_sizes": ["ful"]}, "Did you mean 'full'"),
        ({"batch_sizes": 2.5}, "batch_sizes=2.5 is not valid"),
        ({"batch_sizes": "1-30"}, "batch_size='1-30' is not valid"),
        ({"mode": "pred"}, "Did you mean 'predict'"),
        ({"threads": 0}, "threads=0 is not valid"),
        ({"seconds": 0}, "seconds=0 is not valid"),
        ({"seconds": float("inf")}, "seconds=inf is not valid"),
        ({"seconds": "5"}, "seconds='5' is not valid"),
        ({"seed": 0.5}, "seed=0.5 is not valid"),
        ({"learning_rate": -1}, "learning_rate=-1 is not valid"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"device": "gpu7"}, "is not to be had here"),
    ],
)
def test_options_that_are_none(cancer: Parts, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        speed("mlp:10", cancer.train, **{**QUICK, **options})


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("mpl:10", {}, "no model, file or folder is called 'mpl:10'. Did you mean 'mlp'"),
        ("mlp", {}, "needs the sizes of its hidden layers"),
        (nn.Linear(30, 1), {"activation": "relu"}, "activation"),
        (nn.Linear(7, 1), {}, "can not take the inputs"),
        (
            nn.Sequential(nn.Linear(30, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
            {"mode": "train", "batch_sizes": [1]},
            "can not take a batch of 1 of breast_cancer",
        ),
        (3.5, {}, "float is no model"),
    ],
)
def test_models_that_do_not_fit(cancer: Parts, model: object, options: dict, message: str) -> None:
    with pytest.raises((OptionError, DataError), match=message):
        speed(model, cancer.train, **{**QUICK, **options})


def test_all_parts_at_once_are_refused(cancer: Parts) -> None:
    with pytest.raises(OptionError, match=r"parts\.train, parts\.val, parts\.test"):
        speed("mlp:10", cancer, **QUICK)

"""`advise` end to end: real models and data, everything measured, nothing of the caller's moved."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.advice import Advice
from rightbatch.advice.progress import AdviceProgress
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts

# Memory has tests of its own, and starts a process each time.
BRIEF: dict[str, Any] = {"probe_memory": False, "budget_seconds": 4.0, "threads": 1}


@pytest.fixture(scope="module")
def piloted(cancer: Parts) -> tuple[Advice, list[AdviceProgress]]:
    told: list[AdviceProgress] = []
    advice = rb.advise(
        "logistic",
        cancer,
        learning_rate=0.1,
        target_loss=0.12,
        budget_seconds=15,
        threads=1,
        progress=told.append,
    )
    return advice, told


def test_a_pilot_has_all_its_evidence(piloted: tuple[Advice, list[AdviceProgress]]) -> None:
    advice, told = piloted
    assert advice.grade == "pilot"
    assert advice.batch_size in advice.tested
    low, high = advice.interval
    assert low <= advice.batch_size <= high
    assert advice.memory is not None
    assert advice.memory.cap is not None
    assert advice.memory.cap >= advice.batch_size
    assert advice.pilot is not None
    runs = [run for run in advice.pilot.runs if run.batch_size == advice.batch_size]
    assert any(run.samples is not None for run in runs)
    assert advice.learning_rate in {run.learning_rate for run in runs}
    assert advice.law is not None
    assert advice.law.low < advice.law.critical_batch_size < advice.law.high
    assert advice.goal.target_loss == 0.12
    assert {cost.batch_size for cost in advice.costs} == set(advice.tested)
    assert advice.micro_batch_size is None
    assert 1 <= advice.evaluation_batch_size <= 1024
    assert any("Fits up to" in reason for reason in advice.reasons)
    assert any("half of the throughput" in reason for reason in advice.reasons)
    assert any("Gradients stop agreeing above about" in reason for reason in advice.reasons)
    assert {news.stage for news in told} == {"memory", "speed", "noise", "pilot"}
    seconds = [news.seconds for news in told]
    assert seconds == sorted(seconds)
    assert advice.seconds_spent >= seconds[-1]


def test_the_advice_goes_to_json_and_back(piloted: tuple[Advice, list[AdviceProgress]]) -> None:
    advice, _ = piloted
    stored = json.loads(json.dumps(advice.to_json(), allow_nan=False))
    assert Advice.from_json(stored) == advice
    assert stored["interval"] == list(advice.interval)
    assert {"cap", "predicted", "measured"} <= stored["memory"].keys()
    assert {"batch_size", "bytes", "high"} <= stored["memory"]["predicted"][0].keys()
    assert {"batch_size", "bytes"} <= stored["memory"]["measured"][0].keys()
    assert {"points", "fit"} <= stored["speed"].keys()
    assert {"scale", "low", "high", "trajectory"} <= stored["noise"].keys()
    assert {"critical_batch_size", "low", "high", "samples_min"} <= stored["law"].keys()


def test_it_has_a_text_and_a_table(piloted: tuple[Advice, list[AdviceProgress]]) -> None:
    advice, _ = piloted
    text = str(advice)
    assert text.startswith(f"Batch size {advice.batch_size:,}")
    assert "Goal: the least time to a validation loss of 0.12" in text
    assert "Learning rate to start from" in text
    assert all(reason in text for reason in advice.reasons)
    assert f"{advice.batch_size:,}" in repr(advice)
    assert "<table>" in advice._repr_html_()


def test_quick_advice_trains_no_branches(digits: Parts) -> None:
    advice = rb.advise("mlp:16", digits, learning_rate=0.2, epochs=5, grade="quick", **BRIEF)
    assert advice.grade == "quick"
    assert advice.pilot is None
    assert advice.memory is None
    assert advice.batch_size in advice.tested
    assert advice.law is not None
    assert advice.law.high > 10 * advice.law.low  # a factor of 4 each way, and no less
    assert advice.goal.epochs == 5


class Mixed(nn.Module):
    """Dropout, a frozen layer in evaluation mode, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(30, 8)
        self.frozen = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 8))
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(8, 1)
        self.register_buffer("scale", torch.tensor(2.0))
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.frozen(torch.relu(self.first(inputs)))
        return self.last(self.dropout(hidden)) * self.scale


def test_nothing_of_the_callers_is_moved(cancer: Parts) -> None:
    model = Mixed().train()
    model.frozen.eval()
    model.first.weight.grad = torch.full_like(model.first.weight, 0.25)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    memory = [parameter.data_ptr() for parameter in model.parameters()]
    state = json.dumps(optimizer.state_dict())
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the caller's global state is what must stay
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    advice = rb.advise(model, cancer, learning_rate=0.1, epochs=3, **BRIEF)
    assert advice.model == "Mixed"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert [parameter.data_ptr() for parameter in model.parameters()] == memory
    assert torch.equal(model.first.weight.grad, torch.full_like(model.first.weight, 0.25))
    assert model.last.weight.grad is None
    assert [p.requires_grad for p in model.frozen.parameters()] == [False, False]
    assert json.dumps(optimizer.state_dict()) == state
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_a_layer_that_couples_samples_gets_memory_and_speed_alone(cancer: Parts) -> None:
    model = nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    advice = rb.advise(model, cancer, learning_rate=0.1, epochs=3, **BRIEF)
    assert advice.law is None
    assert advice.pilot is None
    assert advice.noise.refused is not None
    assert "BatchNorm1d" in advice.noise.refused
    assert any(alert.startswith("No critical batch size") for alert in advice.alerts)
    assert 1 not in advice.tested
    assert advice.batch_size in advice.tested
    assert advice.micro_batch_size is None


def contrastive(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One number for the batch, in which every sample meets every other."""
    scores = outputs @ outputs.T
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(target)))


def test_a_loss_that_couples_samples_is_no_different(digits: Parts) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    advice = rb.advise(model, digits, loss=contrastive, learning_rate=0.01, epochs=2, **BRIEF)
    assert advice.law is None
    assert advice.noise.refused is not None
    assert "one number for the whole batch" in advice.noise.refused


def slow(inputs: np.ndarray) -> np.ndarray:
    """A decoder that takes 200 microseconds a sample."""
    time.sleep(200e-6 * len(inputs))
    return inputs


def test_a_slow_loader_is_said_first(digits: Parts) -> None:
    parts = digits.transform(slow)
    advice = rb.advise(
        "softmax", parts, epochs=1, grade="quick", batch_sizes=[64, 128, 256], **BRIEF
    )
    assert advice.reasons[0].startswith("The loader comes first")
    assert advice.alerts[0].startswith("The loader is the limit")


def test_the_full_batch_is_called_so(cancer: Parts) -> None:
    advice = rb.advise(
        "logistic", cancer, learning_rate=0.5, epochs=20, batch_sizes=["full"], **BRIEF
    )
    assert advice.batch_size == len(cancer.train) == 364
    assert advice.is_full
    assert "the full batch" in str(advice)
    assert any("364, the full batch," in reason for reason in advice.reasons)


def make(seed: int) -> nn.Module:
    """A small network that draws from torch's global state."""
    return nn.Sequential(nn.Linear(30, 4), nn.Tanh(), nn.Linear(4, 1))


def test_a_function_of_the_seed_makes_the_model(cancer: Parts) -> None:
    advice = rb.advise(
        make, cancer, learning_rate=0.2, optimizer="adam", epochs=4, grade="quick", **BRIEF
    )
    assert advice.companions.beta2 is not None
    assert advice.settings["optimizer"] == "adam"


def test_without_validation_the_alert_says_whose_losses_they_are() -> None:
    parts = rb.split(rb.open("iris"), test=0.2).transform(rb.standardize())
    advice = rb.advise("softmax", parts, learning_rate=0.1, epochs=2, grade="quick", **BRIEF)
    assert any("no validation part" in alert for alert in advice.alerts)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 3, "target_loss": 0.1}, "two goals"),
        ({"grade": "quik"}, "Did you mean 'quick'"),
        ({"budget_seconds": 0}, "budget_seconds=0"),
        ({"target_loss": -1.0}, "a validation loss above 0"),
        ({"target_loss": 50.0}, "reached before the first step"),
        ({"epochs": 0}, "epochs"),
        ({"batch_sizes": []}, "batch_sizes is empty"),
        ({"batch_sizes": [0]}, "0"),
        ({"memory_limit": "8GB"}, "probe_memory=False"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
    ],
)
def test_wrong_options_are_refused_with_what_is_valid(
    cancer: Parts, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        rb.advise("logistic", cancer, **{**BRIEF, **options})


def test_parts_are_asked_for_by_name(cancer: Parts) -> None:
    with pytest.raises(OptionError, match="the parts of a split"):
        rb.advise("logistic", cancer.train, **BRIEF)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def iris() -> Parts:
    """150 flowers, 120 of them for training."""
    return rb.split(rb.open("iris"), val=0.2, stratify=True, seed=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_starved_pilot_ends_and_says_so(iris: Parts, seed: int) -> None:
    options = {**BRIEF, "budget_seconds": 0.2}
    advice = rb.advise("softmax", iris, epochs=3, seed=seed, **options)
    assert advice.batch_size in advice.tested
    assert any("budget" in alert for alert in advice.alerts)


def test_a_target_that_was_not_reached_is_not_called_reached(iris: Parts) -> None:
    advice = rb.advise("softmax", iris, target_loss=1e-6, learning_rate=0.1, **BRIEF)
    assert advice.pilot is not None
    assert not advice.pilot.reaches_target
    assert "reaches the goal" not in str(advice)
    assert any("above the target" in alert for alert in advice.alerts)


def test_a_rate_that_diverges_gives_no_noise_scale(iris: Parts) -> None:
    advice = rb.advise("softmax", iris, learning_rate=1e6, epochs=3, grade="quick", **BRIEF)
    assert advice.noise.scale is None
    assert advice.noise.refused is not None
    assert "diverged" in advice.noise.refused


def test_sizes_beyond_the_samples_are_one_size(iris: Parts) -> None:
    advice = rb.advise(
        "softmax", iris, epochs=3, batch_sizes=[100, 4000, 5000], grade="quick", **BRIEF
    )
    assert advice.tested == [100, 120]


def test_branches_at_one_size_are_no_evidence_of_others(iris: Parts) -> None:
    advice = rb.advise("softmax", iris, learning_rate=0.1, epochs=5, batch_sizes=[40], **BRIEF)
    assert not any("Gradients stop agreeing above" in reason for reason in advice.reasons)
    assert not any("1 sizes" in reason for reason in advice.reasons)


def test_a_model_without_numbers_is_refused(iris: Parts) -> None:
    class Nothing(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * float("nan")

    with pytest.raises(OptionError, match="loss of nan, from which no training can start"):
        rb.advise(Nothing(4, 3), iris, epochs=2, probe_memory=False)


def test_what_is_no_model_is_refused(iris: Parts) -> None:
    with pytest.raises(OptionError, match="model=None is none"):
        rb.advise(None, iris, **BRIEF)  # type: ignore[arg-type]


class Locked(nn.Module):
    """Holds a lock, which can be copied nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.lock = threading.Lock()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs)


def test_a_module_that_can_not_be_copied_is_refused_with_the_way_out(iris: Parts) -> None:
    with pytest.raises(OptionError, match="a function of the seed that makes it"):
        rb.advise(Locked(), iris, **BRIEF)
    advice = rb.advise(lambda _: Locked(), iris, epochs=2, grade="quick", **BRIEF)
    assert advice.model == "Locked"

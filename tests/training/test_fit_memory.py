"""Training where memory runs out: smaller micro-batches and the same run, or the reason why not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import rightbatch as rb
from rightbatch.cli.failure import OUT_OF_MEMORY, report_failure
from rightbatch.errors import MemoryLimitError, is_out_of_memory
from rightbatch.training.checkpoint import load_checkpoint, save_checkpoint
from rightbatch.training.losses import find_loss
from rightbatch.training.memory import HalvingStep
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.step import AutogradGradient, Step

# --- a real limit of memory, in a process of its own ---------------------------------------------

TRAINING = r"""
hidden = 20_000  # one sample takes 80 kB in the hidden layer, and again for its gradient
X = generator.normal(size=(1600, 20)).astype(np.float32)
parts = rb.split(rb.open((X, (X[:, 0] > 0).astype(np.int64))), val=100)
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, hidden), nn.Tanh(), nn.Linear(hidden, 2))
kinds = {"dense": lambda: "mlp:20000", "module": module}
options = dict(batch_size=1000, epochs=2, learning_rate=0.01, loss="cross_entropy", threads=1)
whole, found = {}, {}
for kind, make in kinds.items():
    for optimizer in ("sgd", "adam"):
        whole[kind, optimizer] = rb.fit(make(), parts, optimizer=optimizer, **options)
limit(50 * 2**20)
for (kind, optimizer), wanted in whole.items():
    told.clear()
    result = rb.fit(kinds[kind](), parts, optimizer=optimizer, **options)
    found[f"{kind} {optimizer}"] = {
        "micro_batch_size": result.micro_batch_size, "told": [*told], "history": result.history,
        "wanted": wanted.history, "step_losses": [result.step_losses, wanted.step_losses],
        "differences": [
            [float(apart.max()), float(apart.mean())]
            for one, two in zip(result.model.parameters(), wanted.model.parameters(), strict=True)
            for apart in [(one.detach() - two.detach()).abs()]
        ],
    }
print(json.dumps(found))
"""

REFUSED = r"""
X = generator.normal(size=(1200, 20)).astype(np.float32)
parts = rb.split(rb.open((X, X[:, 0])))
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(20, 20_000), nn.BatchNorm1d(20_000), nn.ReLU(), nn.Linear(20_000, 1)
)
limit(50 * 2**20)
try:
    rb.fit(model, parts, batch_size=1000, epochs=1, threads=1)
    print(json.dumps({"error": None}))
except rb.MemoryLimitError as error:
    print(json.dumps({"error": str(error), "code": error.exit_code, "told": told}))
"""

VALIDATION = r"""
hidden = 20_000
X = generator.normal(size=(2064, 20)).astype(np.float32)
parts = rb.split(rb.open((X, (X[:, 0] > 0).astype(np.int64))), val=2000)
wanted = rb.fit("mlp:20000", parts, batch_size=32, epochs=2, threads=1)
limit(50 * 2**20)
result = rb.fit("mlp:20000", parts, batch_size=32, epochs=2, threads=1)
scores = rb.evaluate(result, parts.val, batch_size="full")
print(json.dumps({
    "told": told, "micro_batch_size": result.micro_batch_size, "batch_size": result.batch_size,
    "history": result.history, "wanted": wanted.history, "scores": scores,
    "same": all(
        torch.equal(one, two)
        for one, two in zip(result.model.parameters(), wanted.model.parameters(), strict=True)
    ),
}))
"""


def test_a_batch_without_room_is_learned_from_in_halves_with_the_same_result(run_limited):
    for kind, found in run_limited(TRAINING).items():
        micro = found["micro_batch_size"]
        sizes = [500, 250, 125, 63, 32]
        assert micro in sizes, kind
        assert [row["micro_batch_size"] for row in found["history"]][-1] == micro
        halvings = [line for line in found["told"] if "micro-batches" in line]
        assert len(halvings) == sizes.index(micro) + 1, "one warning for each halving"
        assert "the batch size stays" in halvings[0]
        for row, wanted in zip(found["history"], found["wanted"], strict=True):
            assert "micro_batch_size" not in wanted
            assert (row["steps"], row["samples"]) == (wanted["steps"], wanted["samples"])
            assert row["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-5)
            assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)
        ours, theirs = found["step_losses"]
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        largest, mean = (max(values) for values in zip(*found["differences"], strict=True))
        # Adam moves a weight whose gradient is a rounding error as far as any other.
        assert (largest if "sgd" in kind else mean) < 1e-6, kind


def test_batch_normalisation_is_refused_with_the_reason(run_limited):
    found = run_limited(REFUSED)
    assert "memory ran out at batch size 1,000" in found["error"]
    assert "'1' (BatchNorm1d) normalises over the batch" in found["error"]
    assert "smaller batch_size" in found["error"]
    assert found["code"] == 4
    assert found["told"] == []


def test_a_validation_without_room_is_halved_and_leaves_training_alone(run_limited):
    found = run_limited(VALIDATION)
    assert found["same"], "training is untouched"
    assert found["micro_batch_size"] is None
    assert found["batch_size"] == 32
    told = found["told"]
    assert told[0].startswith("evaluating batches of 1,024 samples finds no room in memory")
    assert len([line for line in told if "1,024" in line]) == 1, "an epoch remembers"
    for row, wanted in zip(found["history"], found["wanted"], strict=True):
        assert "micro_batch_size" not in row
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-6)
        assert row["val_accuracy"] == wanted["val_accuracy"]
    assert found["scores"]["loss"] == pytest.approx(found["wanted"][-1]["val_loss"], rel=1e-6)


# --- a module that says so from a number of samples on -------------------------------------------


class Cramped(nn.Module):
    """Runs out of memory in training at more than `room` samples, after the model has run."""

    def __init__(self, model: nn.Module, room: int | None, *, everywhere: bool = False) -> None:
        super().__init__()
        self.model = model
        self.room = room
        self.everywhere = everywhere
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(inputs))
        outputs = self.model(inputs)
        if (self.training or self.everywhere) and self.room is not None:
            refuse(len(inputs), self.room)
        return outputs


def refuse(samples: int, room: int) -> None:
    if samples > room:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")


def layers(*added: nn.Module) -> nn.Module:
    with torch.random.fork_rng(()):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(30, 8), *added, nn.ReLU(), nn.Linear(8, 1))


OPTIONS: dict[str, Any] = {"batch_size": 100, "epochs": 3, "learning_rate": 0.05, "seed": 5}


def assert_equal_weights(one: rb.FitResult, two: rb.FitResult) -> None:
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name]), name


def without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    left_out = ("seconds", "loading_seconds", *names)
    return [{name: row[name] for name in row if name not in left_out} for row in rows]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("layer", [nn.Tanh, lambda: nn.Dropout(0.4), lambda: nn.GroupNorm(2, 8)])
def test_the_run_is_bit_for_bit_that_of_the_micro_batches_it_ends_with(layer, optimizer, cancer):
    options = {**OPTIONS, "optimizer": optimizer, "l2": 1e-3}
    halved = rb.fit(Cramped(layers(layer()), 30), cancer, **options)
    assert halved.micro_batch_size == 25
    assert halved.batch_size == 100
    given = rb.fit(Cramped(layers(layer()), None), cancer, micro_batch_size=25, **options)
    assert_equal_weights(halved, given)
    assert halved.step_losses == given.step_losses
    assert [row["micro_batch_size"] for row in halved.history] == [25, 25, 25]
    assert without(halved.history, "micro_batch_size") == without(given.history)
    assert given.micro_batch_size == 25


@pytest.mark.parametrize("layer", [nn.Tanh, lambda: nn.Dropout(0.4)])
def test_a_late_halving_repeats_the_step_from_the_same_random_state(layer):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(100, 30, generator=generator) for _ in range(16)]
    weights = []
    for kind in (HalvingStep, Step):
        model = Cramped(layers(layer()), None)
        gradient = AutogradGradient(model, find_loss("squared_error"))
        optimizer = build_optimizer("adam", gradient.parameters, learning_rate=0.1, momentum=0.0)
        step = kind(gradient, optimizer, l1=0.0, l2=0.0, micro_batch_size=None)
        with torch.random.fork_rng(()):
            torch.manual_seed(3)
            for number, inputs in enumerate(batches):
                if number == 14:
                    model.room = 30
                    step.micro_batch_size = None if kind is HalvingStep else 25
                step(inputs, inputs[:, 0])
        assert step.micro_batch_size == 25
        weights.append([value.detach() for value in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))


def test_each_halving_is_told_once(cancer, caplog):
    with caplog.at_level(logging.WARNING, "rightbatch"):
        rb.fit(Cramped(layers(), 30), cancer, **OPTIONS)
    assert [record.getMessage() for record in caplog.records] == [
        f"a batch of 100 samples finds no room in memory in {before}; going on with "
        f"micro-batches of {after}, the batch size stays as it is"
        for before, after in (("one piece", 50), ("micro-batches of 50", 25))
    ]


def test_micro_batches_that_were_asked_for_are_halved_further(cancer):
    result = rb.fit(Cramped(layers(), 15), cancer, micro_batch_size=45, **OPTIONS)
    assert result.micro_batch_size == 12
    assert [row["micro_batch_size"] for row in result.history] == [12, 12, 12]


def test_a_history_without_shortage_says_nothing(cancer):
    assert all("micro_batch_size" not in row for row in rb.fit("mlp:6", cancer, epochs=2).history)
    given = rb.fit("mlp:6", cancer, epochs=2, micro_batch_size=8)
    assert all("micro_batch_size" not in row for row in given.history)
    assert given.micro_batch_size == 8


class CrampedLater(Cramped):
    """There is less room after the model has learned from a number of pieces."""

    def __init__(self, model: nn.Module, room: int, after: int) -> None:
        super().__init__(model, room)
        self.after = after

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.model(inputs)
        if self.training:
            self.after -= 1
            refuse(len(inputs), self.room if self.after < 0 else 10**9)
        return outputs


def test_the_history_says_it_from_the_epoch_on_in_which_it_happened(cancer, tmp_path):
    news = []
    result = rb.fit(  # 5 steps an epoch
        CrampedLater(layers(), 50, 7), cancer, progress=news.append, out=tmp_path / "run", **OPTIONS
    )
    assert [row.get("micro_batch_size") for row in result.history] == [None, 50, 50]
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line).get("micro_batch_size") for line in lines] == [None, 50, 50]
    assert [told.micro_batch_size for told in news if told.row] == [None, 50, 50]
    assert (result.steps, result.history[-1]["samples"]) == (15, 3 * 455)
    html = result._repr_html_()
    assert "micro batch size" in html


# The checkpoint inside the first epoch is of before any evaluation.
@pytest.mark.parametrize(("steps", "everywhere"), [(2, False), (5, True), (8, True), (12, True)])
def test_a_run_resumed_after_halving_is_exact_where_there_is_room_again(
    steps, everywhere, cancer, tmp_path
):
    def make(room: int | None) -> nn.Module:
        return Cramped(layers(nn.Dropout(0.4)), room, everywhere=everywhere)

    options = {**OPTIONS, "optimizer": "adam"}
    whole = rb.fit(make(30), cancer, out=tmp_path / "whole", **options)
    rb.fit(make(30), cancer, **{**options, "epochs": None, "steps": steps, "out": tmp_path / "run"})
    resumed = rb.fit(make(None), cancer, out=tmp_path / "run", resume=True, **options)
    assert_equal_weights(resumed, whole)
    assert without(resumed.history) == without(whole.history)
    assert resumed.step_losses == whole.step_losses
    assert resumed.micro_batch_size == 25
    again = rb.fit(make(None), cancer, out=tmp_path / "run", resume=True, **options)
    assert again.micro_batch_size == 25


def test_a_checkpoint_of_earlier_versions_has_no_word_of_memory(cancer, tmp_path):
    run = tmp_path / "run"
    rb.fit("logistic", cancer, steps=5, out=run)
    _, state = load_checkpoint(run / "checkpoint.safetensors")
    tensors = load_file(run / "checkpoint.safetensors")
    del state["memory"]
    save_checkpoint(run / "checkpoint.safetensors", tensors, state)
    assert rb.fit("logistic", cancer, epochs=1, out=run, resume=True).micro_batch_size is None


def test_a_single_sample_without_room_is_an_error(cancer, tmp_path):
    with pytest.raises(MemoryLimitError, match=r"even a single sample.*smaller model") as caught:
        rb.fit(Cramped(layers(), 0), cancer, out=tmp_path / "run", **OPTIONS)
    assert caught.value.exit_code == 4
    assert is_out_of_memory(caught.value)
    assert "DefaultCPUAllocator" in str(caught.value.__cause__)


def test_other_errors_of_a_model_are_its_own(cancer):
    class Broken(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            if self.training:
                raise RuntimeError("shapes differ")
            return super().forward(inputs)

    with pytest.raises(RuntimeError, match="shapes differ"):
        rb.fit(Broken(30, 1), cancer, epochs=1)


# --- what would silently change the mathematics --------------------------------------------------


class OwnBatchNormalisation(nn.Module):
    """As courses have it written: no subclass of torch's, statistics that are no buffers."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return inputs
        return (inputs - inputs.mean(0)) / (inputs.var(0, unbiased=False) + 1e-5).sqrt()


class AttentionOverSamples(nn.Module):
    """(B, 8) taken for a sequence of B words."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.unsqueeze(1)
        return self.attention(inputs, inputs, inputs)[0].squeeze(1)


class OneCounter(nn.Module):
    """Keeps a number of its passes in a buffer, as moving averages are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        return inputs


COUPLED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: nn.BatchNorm1d(8), r"the layer 'model\.1' \(BatchNorm1d\) normalises over the batch"),
    (OwnBatchNormalisation, "depends on the samples beside it"),
    (AttentionOverSamples, "depends on the samples beside it"),
    (OneCounter, r"each pass changes 'model\.1\.passes'"),
    (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
        r"each pass changes 'model\.1\.parametrizations\.weight",
    ),
]


@pytest.mark.parametrize(("make", "telling"), COUPLED, ids=[word for _, word in COUPLED])
def test_layers_that_couple_samples_are_refused(make, telling, cancer, tmp_path):
    model = Cramped(layers(make()), 60)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(MemoryLimitError, match=telling) as caught:
        rb.fit(model, cancer, out=tmp_path / "run", **OPTIONS)
    assert "memory ran out at batch size 100" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


class RarelyCoupled(nn.Module):
    """Dropout leaves little of what the samples beside a sample say of it."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.Dropout(0.6)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.beside(torch.ones(1)) * inputs.mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_layers_that_couple_samples_in_some_draws_are_refused(seed, cancer):
    model = Cramped(layers(RarelyCoupled()), 60)
    with pytest.raises(MemoryLimitError, match="depends on the samples beside it"):
        rb.fit(model, cancer, **{**OPTIONS, "seed": seed})


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(8).eval(), nn.LayerNorm(8), nn.Dropout(0.9), nn.AlphaDropout(0.2)]
)
def test_layers_that_look_at_single_samples_are_not(layer, cancer):
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            self[1].train(mode and not isinstance(layer, nn.BatchNorm1d))
            return self

    model = Cramped(Frozen(*layers(layer)), 60)
    assert rb.fit(model, cancer, **OPTIONS).micro_batch_size == 50


def mean_loss(outputs: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs.squeeze(1), target.float())


def contrastive(outputs: Tensor, target: Tensor) -> Tensor:
    """A value a sample, and each is of all samples."""
    return nn.functional.cross_entropy(
        outputs @ outputs.T, torch.arange(len(outputs)), reduction="none"
    )


LOSSES: list[tuple[Any, str]] = [
    (mean_loss, "gives one number for the whole batch.*or set micro_batch_size yourself"),
    (contrastive, "depends on the samples beside it"),
]


@pytest.mark.parametrize(("loss", "telling"), LOSSES, ids=["mean", "contrastive"])
@pytest.mark.parametrize("early", [True, False])
def test_losses_that_may_couple_samples_are_refused(loss, telling, early, cancer):
    def cramped(outputs: Tensor, target: Tensor) -> Tensor:
        refuse(len(outputs), 60)
        return loss(outputs, target)

    model = Cramped(layers(), 60) if early else "mlp:6"
    with pytest.raises(MemoryLimitError, match=telling):
        rb.fit(model, cancer, loss=loss if early else cramped, **OPTIONS)


def test_a_loss_with_a_value_a_sample_is_halved(cancer):
    def cramped(outputs: Tensor, target: Tensor) -> Tensor:
        refuse(len(outputs), 60)
        return nn.functional.binary_cross_entropy_with_logits(
            outputs.squeeze(1), target.float(), reduction="none"
        )

    # Its validation has 114 samples: that is halved as well.
    result = rb.fit("mlp:6", cancer, loss=cramped, **OPTIONS)
    assert result.micro_batch_size == 50
    plain = rb.fit("mlp:6", cancer, loss="binary_cross_entropy", **OPTIONS)
    for row, wanted in zip(result.history, plain.history, strict=True):
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)


def test_a_dict_of_inputs_and_whole_numbers_are_cut_as_well():
    generator = np.random.default_rng(0)
    words = generator.integers(0, 50, size=(200, 6))
    data = rb.open(
        {"words": words, "more": generator.normal(size=200), "y": (words == 7).any(1).astype(int)},
        target="y",
    )

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(50, 4), nn.Linear(25, 1)

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            refuse(len(inputs["words"]), 40)
            flat = self.words(inputs["words"]).flatten(1)
            return self.head(torch.cat([flat, inputs["more"].reshape(-1, 1).float()], 1))

    result = rb.fit(Words(), rb.split(data, val=50), batch_size=64, epochs=1)
    assert result.micro_batch_size == 32


# --- after the gradient --------------------------------------------------------------------------


def test_an_update_without_room_is_no_matter_of_the_batch(run_limited):
    found = run_limited(UPDATE)
    assert "while the model was updated" in found["error"]
    assert "does not depend on the batch size" in found["error"]
    assert "resume" in found["error"]
    assert found["code"] == 4
    assert found["told"] == []


UPDATE = r"""
X = generator.normal(size=(64, 2000)).astype(np.float32)
parts = rb.split(rb.open((X, X[:, 0])))
model = nn.Sequential(nn.Flatten(), nn.Linear(2000, 5000, bias=False))  # 40 MB of weights
head = nn.Linear(5000, 1)
model.append(head)
# Adam's two moments, the gradient and the first checkpoint's copies: the square roots are too much.
limit(135 * 2**20)
try:
    rb.fit(model, parts, batch_size=2, epochs=1, optimizer="adam", threads=1)
    print(json.dumps({"error": None}))
except rb.MemoryLimitError as error:
    print(json.dumps({"error": str(error), "code": error.exit_code, "told": told}))
"""


def test_the_command_line_leaves_with_the_code_of_memory():
    assert report_failure(MemoryLimitError("memory ran out")) == OUT_OF_MEMORY

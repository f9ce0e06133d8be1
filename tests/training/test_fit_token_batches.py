"""Training in batches of tokens: exact means, exact resuming, and what does not go with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import rightbatch as rb
from rightbatch.loading.parts import Parts

VOCABULARY = 11
KILLED_AFTER = 17
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import test_fit_token_batches
test_fit_token_batches.train_until_killed(sys.argv[2])
"""


class Tagger(nn.Module):
    """Outputs (B, T, K) of ids, each from itself and a little of what comes before it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(()):
            torch.manual_seed(1)
            self.embedding = nn.Embedding(VOCABULARY, 6)
            self.outputs = nn.Linear(6, VOCABULARY)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        embedded = self.embedding(inputs["ids"]) * inputs["mask"].unsqueeze(-1)
        outputs: Tensor = self.outputs(self.dropout(embedded + 0.1 * embedded.cumsum(1)))
        return outputs


class Pooled(nn.Module):
    """One output a sample, the mean over its ids."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(()):
            torch.manual_seed(1)
            self.embedding = nn.Embedding(VOCABULARY, 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        mask = inputs["mask"].float()
        values = self.embedding(inputs["ids"]).squeeze(-1) * mask
        mean: Tensor = values.sum(1) / mask.sum(1).clamp(min=1)
        return mean


def columns() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    ids = [generator.integers(1, VOCABULARY, generator.integers(1, 20)) for _ in range(160)]
    following = [(entry * 2) % VOCABULARY for entry in ids]
    return {"ids": rb.Ragged.from_list(ids), "next": rb.Ragged.from_list(following)}


def make_parts(**options: Any) -> Parts:
    return rb.split(rb.open(columns(), target="next"), **{"val": 40, "seed": 7, **options})


def classes_parts() -> Parts:
    ids = columns()["ids"]
    target = np.array([int(entry.mean() > 5) for entry in ids])
    return rb.split(rb.open({"ids": ids, "y": target}, target="y"), val=40, test=20, seed=7)


def train(parts: Parts, model: nn.Module | None = None, **options: Any) -> rb.FitResult:
    made = Tagger() if model is None else model
    defaults = {"batch_tokens": 64, "epochs": 3, "learning_rate": 0.1, "threads": 1}
    return rb.fit(made, parts, **{**defaults, **options})


def train_until_killed(out: str) -> None:
    def kill(step: int, loss: float, model: nn.Module) -> None:
        if step == KILLED_AFTER:
            signal.raise_signal(signal.SIGKILL)

    train(make_parts(), Tagger(0.3), out=out, checkpoint_seconds=0.0, on_step=kill)


def mean_loss(model: nn.Module, part: rb.Part) -> float:
    """The mean over tokens, sample by sample and without padding."""
    total, tokens = 0.0, 0
    for row in np.concatenate([*part.rows.chunks()]):
        sample = part.data.rows(np.array([row]))
        ids, target = torch.from_numpy(sample["ids"][0]), torch.from_numpy(sample["next"][0])
        inputs = {"ids": ids[None], "mask": torch.ones_like(ids[None], dtype=torch.bool)}
        with torch.no_grad():
            total += functional.cross_entropy(model(inputs)[0], target, reduction="sum").item()
        tokens += len(ids)
    return total / tokens


def test_a_model_learns_and_its_scores_are_means_over_tokens():
    parts = make_parts()
    result = train(parts, optimizer="adam", epochs=12)
    assert result.history[-1]["val_accuracy"] > 0.9
    assert result.history[-1]["val_loss"] == pytest.approx(mean_loss(result.model, parts.val), 1e-5)
    assert result.history[-1]["samples"] == 12 * 120
    assert "batches of up to 64 tokens" in repr(result)


def test_the_loss_of_an_epoch_is_that_of_one_big_batch():
    parts = make_parts()
    result = train(parts, epochs=1, learning_rate=1e-12)
    wanted = mean_loss(Tagger(), parts.train)
    assert result.history[0]["train_loss"] == pytest.approx(wanted, 1e-5)
    (whole,) = train(parts, epochs=1, learning_rate=1e-12, batch_tokens=10_000).step_losses[:1]
    assert whole[1] == pytest.approx(wanted, 1e-5)


def test_micro_batches_make_the_same_steps():
    whole, cut = train(make_parts()), train(make_parts(), micro_batch_size=2)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(cut.model.state_dict()[name], value)


def test_one_target_a_sample_weighs_samples():
    parts = classes_parts()
    result = train(parts, Pooled(), epochs=30, optimizer="adam")
    assert result.history[-1]["val_accuracy"] > 0.9
    scores = [
        rb.evaluate(result, parts.test),
        rb.evaluate(result, parts.test, batch_size=3),
        rb.evaluate(result, parts.test, batch_tokens=40),
    ]
    for other in scores[1:]:
        assert other == pytest.approx(scores[0])


def test_a_run_folder_predicts_with_its_own_padding(tmp_path):
    parts = classes_parts()
    result = train(parts, Pooled(), out=tmp_path / "run")
    found = rb.predict(tmp_path / "run", parts.test, network=Pooled())
    assert found.accuracy == pytest.approx(rb.evaluate(result, parts.test)["accuracy"])


def letters(text: str) -> list[int]:
    return [1 + ord(letter) % 10 for letter in text]


def test_a_run_folder_takes_its_tokenizer_from_the_data(tmp_path):
    texts = ["a" * (1 + row % 7) if row % 2 else "c" * (1 + row % 5) for row in range(80)]
    columns = {"ids": rb.Ragged.from_list(texts), "y": np.arange(80) % 2}
    data = rb.open(columns, target="y")
    parts = rb.split(data, val=20).transform(rb.tokenize(letters))
    result = train(parts, Pooled(), out=tmp_path / "run", epochs=30, optimizer="adam")
    wanted = rb.evaluate(result, parts.val)["accuracy"]
    assert wanted > 0.9
    found = rb.predict(tmp_path / "run", parts.val, network=Pooled())
    assert found.accuracy == pytest.approx(wanted)
    whole = rb.predict(tmp_path / "run", data.transform(rb.tokenize(letters)), network=Pooled())
    assert whole.samples == 80
    with pytest.raises(rb.OptionError, match=r"through the function 'tokenize\(letters\)'"):
        rb.predict(tmp_path / "run", data, network=Pooled())


def test_outputs_of_varying_length_are_no_array_of_predictions():
    parts = make_parts(test=40)
    result = train(parts, epochs=1)
    with pytest.raises(rb.OptionError, match="Pad all samples to one length"):
        rb.predict(result, parts.test, batch_size=4)
    padded = parts.transform(rb.pad(longest=32, multiple_of=32))
    found = rb.predict(train(padded, epochs=1), padded.test, batch_size=4)
    assert found.samples == 40


@pytest.mark.parametrize("steps", [1, 9, 20, 40])
def test_a_run_goes_on_bit_for_bit_from_any_step(tmp_path, steps):
    whole = train(make_parts(), Tagger(0.3), out=tmp_path / "whole")
    train(make_parts(), Tagger(0.3), out=tmp_path / "run", epochs=None, steps=steps)
    found = train(make_parts(), Tagger(0.3), out=tmp_path / "run", resume=True)
    assert_same(found, whole)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path / "run")],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    whole = train(make_parts(), Tagger(0.3), out=tmp_path / "whole")
    found = train(make_parts(), Tagger(0.3), out=tmp_path / "run", resume=True)
    assert_same(found, whole)


def assert_same(found: rb.FitResult, wanted: rb.FitResult) -> None:
    def measures(result: rb.FitResult) -> list[dict[str, Any]]:
        return [
            {name: row[name] for name in row if "seconds" not in name} for row in result.history
        ]

    assert measures(found) == measures(wanted)
    assert found.step_losses == wanted.step_losses
    assert found.run is not None
    assert wanted.run is not None
    one, two = (load_file(run / "model.safetensors") for run in (found.run, wanted.run))
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_a_run_goes_on_with_its_tokens_alone(tmp_path):
    train(make_parts(), out=tmp_path, epochs=None, steps=5)
    with pytest.raises(rb.ResumeError, match="batch_tokens was 64 and is 65"):
        train(make_parts(), out=tmp_path, resume=True, batch_tokens=65)
    with pytest.raises(rb.ResumeError, match="batch_tokens was 64 and is None"):
        rb.fit(Tagger(), make_parts().transform(rb.pad()), out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 16}, "batch_size=16 contradict each other"),
        ({"batch_size": "full"}, "batch_size='full' contradict each other"),
        ({"window": 16}, "leave window out"),
        ({"memory": "1GB"}, "leave memory out"),
        ({"evaluation_batch_size": 16}, "validation goes in batches of as many tokens"),
        ({"on_bad_sample": "quarantine", "max_bad": 1}, "or take batch_size"),
        ({"batch_tokens": 0}, "batch_tokens=0 is not valid"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options, message):
    with pytest.raises(rb.OptionError, match=message):
        train(make_parts(), **options)


def test_evaluate_refuses_what_does_not_go_with_it():
    parts = make_parts()
    with pytest.raises(rb.OptionError, match="batch_size=7 contradict"):
        rb.evaluate(Tagger(), parts.val, batch_tokens=64, batch_size=7)


def test_samples_of_one_shape_are_refused():
    parts = rb.split(rb.open("iris"), val=0.2)
    with pytest.raises(rb.OptionError, match="give batch_size"):
        rb.fit("softmax", parts, batch_tokens=64)


def test_a_layer_that_normalises_over_the_batch_needs_two_samples():
    class Normalised(Pooled):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            normed: Tensor = self.norm(super().forward(inputs)[:, None])
            return normed[:, 0]

    with pytest.raises(rb.OptionError, match="up to 20 tokens hold one sample"):
        train(classes_parts(), Normalised(), batch_tokens=20)
    train(classes_parts(), Normalised(), batch_tokens=400, epochs=1)


def test_memory_that_runs_out_halves_the_tokens_of_validation(caplog):
    class Narrow(Pooled):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            if not self.training and inputs["ids"].numel() > 50:
                raise MemoryError
            return super().forward(inputs)

    result = train(classes_parts(), Narrow(), batch_tokens=200, epochs=1)
    assert "evaluating batches of 200 tokens finds no room in memory" in caplog.text
    wanted = train(classes_parts(), Pooled(), batch_tokens=200, epochs=1)
    assert result.history[0]["val_loss"] == pytest.approx(wanted.history[0]["val_loss"])


def test_numbers_a_token_are_learned_with_a_loss_that_leaves_padding_out() -> None:
    ids = [np.arange(1, 2 + n % 5) for n in range(24)]
    columns = {
        "ids": rb.Ragged.from_list(ids),
        "level": rb.Ragged.from_list([entry / 10 for entry in ids]),
    }
    parts = rb.split(rb.open(columns, target="level"), val=4)

    class Level(Pooled):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            levels: Tensor = self.embedding(inputs["ids"]).squeeze(-1)
            return levels

    def squared_error(outputs: Tensor, target: Tensor) -> Tensor:
        return torch.where(target.isnan(), 0, outputs - target.nan_to_num()).square()

    for loss in (None, "squared_error"):
        with pytest.raises(
            rb.OptionError, match=r"'level' of .* numbers a token, filled up with NaN"
        ):
            rb.fit(Level(), parts, batch_tokens=20, epochs=1, loss=loss)
    result = rb.fit(Level(), parts, batch_tokens=20, epochs=1, loss=squared_error)
    assert np.isfinite(result.history[-1]["val_loss"])

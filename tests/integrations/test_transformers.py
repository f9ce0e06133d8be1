"""Hugging Face's Trainer over `data_loader`: the curve of `rb.fit`, and its checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import rightbatch as rb
from rightbatch.integrations.transformers import data_loader
from rightbatch.loading.batches import Batches

with warnings.catch_warnings():
    # What a library warns of while it is imported is its own affair.
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason="the group `integrations` is not installed", exc_type=ImportError
    )
    pytest.importorskip("accelerate", reason="the group `integrations` is not installed")
    from transformers import Trainer, TrainerCallback, TrainingArguments

pytestmark = pytest.mark.filterwarnings("ignore")
# Float32 sums in another order: autograd against gradients written out.
TOLERANCE = 1e-5


class StoppedError(Exception):
    """The run ends here, as by a kill."""


class Model(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.losses: list[float] = []
        self.rows: list[list[int]] = []

    def forward(self, inputs: Any, labels: Any, rows: Any = None) -> dict[str, Any]:
        logits = self.network(inputs)
        loss = functional.cross_entropy(logits, labels)
        if self.training:
            self.losses.append(loss.item())
            self.rows.append(rows.tolist())
        return {"loss": loss, "logits": logits}


class BatchesTrainer(Trainer):
    def __init__(self, *arguments: Any, course: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.course = course

    def get_train_dataloader(self) -> Any:
        return data_loader(self.course.batches(with_rows=True))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return data_loader(Batches(self.course.parts.val, 100, shuffle=False))


class Stop(TrainerCallback):
    def __init__(self, after: int | None) -> None:
        self.after = after

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.after:
            raise StoppedError


def trainer(course: Any, folder: Path, stop: int | None = None, **options: Any) -> BatchesTrainer:
    model = Model(course.model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    arguments = TrainingArguments(
        folder,
        num_train_epochs=3,
        max_grad_norm=0,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
        save_strategy="no" if stop is None else "steps",
        save_steps=500 if stop is None else stop,
        **options,
    )
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    return BatchesTrainer(
        model,
        arguments,
        course=course,
        optimizers=(optimizer, schedule),
        callbacks=[Stop(stop)],
    )


@pytest.fixture(scope="module")
def whole(course, tmp_path_factory) -> Model:
    made = trainer(course, tmp_path_factory.mktemp("trainer"))
    made.train()
    return made.model


def test_the_loss_curve_is_that_of_fit(course, whole) -> None:
    assert whole.rows == course.rows
    assert whole.losses == pytest.approx(course.step_losses, abs=TOLERANCE)


def test_its_checkpoint_goes_on_with_the_next_batch(course, whole, stop, tmp_path) -> None:
    first = trainer(course, tmp_path, stop)
    with pytest.raises(StoppedError):
        first.train()
    second = trainer(course, tmp_path)
    second.train(resume_from_checkpoint=tmp_path / f"checkpoint-{stop}")
    assert first.model.rows + second.model.rows == course.rows
    assert first.model.losses + second.model.losses == whole.losses


def test_accumulated_gradients_resume_as_well(course, tmp_path) -> None:
    whole = trainer(course, tmp_path / "a", gradient_accumulation_steps=2)
    whole.train()
    first = trainer(course, tmp_path / "b", 5, gradient_accumulation_steps=2)
    with pytest.raises(StoppedError):
        first.train()
    second = trainer(course, tmp_path / "b", gradient_accumulation_steps=2)
    second.train(resume_from_checkpoint=tmp_path / "b" / "checkpoint-5")
    assert first.model.rows + second.model.rows == whole.model.rows == course.rows
    assert first.model.losses + second.model.losses == whole.model.losses


def test_what_is_skipped_is_not_read(course, tmp_path) -> None:
    first = trainer(course, tmp_path, 14)
    with pytest.raises(StoppedError):
        first.train()
    read: list[int] = []

    def look(inputs: Any, target: Any) -> Any:
        read.append(len(inputs))
        return inputs, target

    second = trainer(course, tmp_path)
    batches = Batches(course.parts.transform(look).train, 100, seed=4, with_rows=True, threads=0)
    second.get_train_dataloader = lambda: data_loader(batches)
    second.args.num_train_epochs = 1
    read.clear()
    second.train(resume_from_checkpoint=tmp_path / "checkpoint-14")
    assert read == [len(course.parts.train) % 100]


def test_evaluation_goes_over_all_samples(course, tmp_path) -> None:
    made = trainer(course, tmp_path)
    expected = rb.evaluate(course.model(), course.parts.val)["loss"]
    losses, weights = [], []
    made.model.eval()
    for batch in made.get_eval_dataloader():
        losses.append(made.model(**batch)["loss"].item())
        weights.append(len(batch["labels"]))
    assert np.average(losses, weights=weights) == pytest.approx(expected, rel=1e-5)
    assert made.evaluate()["eval_loss"] > 0


def test_two_arrays_of_one_name_are_refused_and_none_is_lost() -> None:
    columns = {"labels": np.ones((4, 2)), "pixels": np.ones((4, 3, 3)), "y": [0, 1, 0, 1]}
    batches = rb.Batches(rb.open(columns, target="y"), 2)
    with pytest.raises(rb.OptionError, match=r"an input is called 'labels'.*target=…"):
        next(iter(data_loader(batches)))
    assert set(next(iter(data_loader(batches, target="classes")))) == {
        "labels",
        "pixels",
        "classes",
    }

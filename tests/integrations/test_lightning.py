"""Lightning's own Trainer over plain `rb.Batches`: the curve of `rb.fit`, and its checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import rightbatch as rb

with warnings.catch_warnings():
    # What a library warns of while it is imported is its own affair.
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip(
        "lightning", reason="the group `integrations` is not installed", exc_type=ImportError
    )
    from rightbatch.integrations.lightning import BatchesModule

pytestmark = pytest.mark.filterwarnings("ignore")
# Float32 sums in another order: autograd against gradients written out.
TOLERANCE = 1e-5


class StoppedError(Exception):
    """The run ends here, as by a kill."""


class Module(lightning.LightningModule):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.losses: list[float] = []
        self.rows: list[list[int]] = []
        self.val_losses: list[float] = []

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        inputs, target, rows = batch
        loss = functional.cross_entropy(self.model(inputs), target)
        self.losses.append(loss.item())
        self.rows.append(rows.tolist())
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        inputs, target = batch
        self.val_losses.append(functional.cross_entropy(self.model(inputs), target).item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def train(course: Any, folder: Path, *, callbacks: Any = (), resume: Path | None = None) -> Module:
    module = Module(course.model())
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    batches = course.batches(output="torch", with_rows=True)
    val = rb.Batches(course.parts.val, "full", shuffle=False, output="torch")
    options = {} if resume is None else {"ckpt_path": resume, "weights_only": False}
    try:
        trainer.fit(module, datamodule=BatchesModule(batches, val), **options)
    except StoppedError:
        pass
    else:
        assert batches.current_epoch == 3
        assert batches.at_epoch_start
    return module


@pytest.fixture(scope="module")
def whole(course, tmp_path_factory) -> Module:
    return train(course, tmp_path_factory.mktemp("lightning"))


def test_the_loss_curve_is_that_of_fit(course, whole) -> None:
    assert whole.rows == course.rows
    assert whole.losses == pytest.approx(course.step_losses, abs=TOLERANCE)
    # One validation before training, as Lightning does, and one an epoch.
    assert len(whole.val_losses) == 4


def test_its_checkpoint_goes_on_with_the_next_batch(course, whole, stop, tmp_path) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == stop:
                raise StoppedError

    keep = lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=tmp_path, filename="{step}", every_n_train_steps=stop
    )
    first = train(course, tmp_path, callbacks=[keep, Stop()])
    second = train(course, tmp_path, resume=tmp_path / f"step={stop}.ckpt")
    assert first.rows + second.rows == course.rows
    assert first.losses + second.losses == whole.losses


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_checkpoint_between_two_epochs_goes_on_with_the_next_one(
    course, whole, epoch, tmp_path
) -> None:
    class Stop(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == epoch + 1:
                raise StoppedError

    keep = lightning.pytorch.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{epoch}")
    first = train(course, tmp_path, callbacks=[keep, Stop()])
    second = train(course, tmp_path, resume=tmp_path / f"epoch={epoch}.ckpt")
    assert first.rows + second.rows == course.rows
    assert first.losses + second.losses == whole.losses


def test_batches_are_accepted_as_they_are(course) -> None:
    module = Module(course.model())
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False
    )
    trainer.fit(module, course.batches(output="torch", with_rows=True))
    assert module.rows == course.rows


def checkpoint(course: Any, folder: Path) -> Path:
    keep = lightning.pytorch.callbacks.ModelCheckpoint(dirpath=folder, filename="last")
    train(course, folder, callbacks=[keep])
    return folder / "last.ckpt"


def test_a_checkpoint_of_other_batches_is_refused(course, tmp_path) -> None:
    path = checkpoint(course, tmp_path)
    trainer = lightning.Trainer(max_epochs=4, accelerator="cpu", logger=False)
    batches = rb.Batches(course.parts.train, 50, seed=4, output="torch", with_rows=True)
    with pytest.raises(rb.ResumeError, match="batch size: 100 in the cursor, 50 now"):
        trainer.fit(
            Module(course.model()),
            datamodule=BatchesModule(batches),
            ckpt_path=path,
            weights_only=False,
        )


def test_what_lightning_can_not_take_is_refused(course) -> None:
    with pytest.raises(rb.OptionError, match=r"train gives NumPy's arrays.*output='torch'"):
        BatchesModule(course.batches())
    with pytest.raises(rb.OptionError, match="val is Part"):
        BatchesModule(course.batches(output="torch"), course.parts.val)
    with pytest.raises(rb.OptionError, match="train is NoneType"):
        BatchesModule(None)
    module = BatchesModule(course.batches(output="torch"))
    module.trainer = lightning.Trainer(accelerator="cpu", logger=False)
    assert module.test_dataloader() == []

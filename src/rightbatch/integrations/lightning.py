"""Batches for Lightning's Trainer, with their place in every one of its checkpoints."""

from __future__ import annotations

from typing import Any

from rightbatch.errors import MissingDependencyError, OptionError
from rightbatch.loading.batches import Batches

try:
    from lightning.pytorch import LightningDataModule
except ImportError as error:
    raise MissingDependencyError(
        "rightbatch.integrations.lightning needs Lightning 2: pip install lightning"
    ) from error


class BatchesModule(LightningDataModule):  # type: ignore[misc]  # Lightning is not always there
    """The batches of a run as Lightning's data module: `trainer.fit(model, BatchesModule(train))`.

    `rb.Batches` with `output="torch"` may be given to the Trainer as they are, and Lightning asks
    for their state. But it does not load the state of a checkpoint that was written between two
    epochs, and would begin with the first epoch's order again; that of a data module it always
    loads.

    Raises OptionError where something is no `rb.Batches` of tensors, or several processes train:
    each would take every batch.

    >>> import rightbatch as rb
    >>> train = rb.Batches(([[1.0], [2.0], [3.0]], [0, 1, 0]), 2, output="torch")
    >>> BatchesModule(train).state_dict()["samples"]
    0
    """

    def __init__(
        self,
        train: Batches,
        val: Batches | None = None,
        test: Batches | None = None,
        predict: Batches | None = None,
    ) -> None:
        super().__init__()
        self.batches = {"train": train, "val": val, "test": test, "predict": predict}
        for name, batches in self.batches.items():
            if batches is None and name != "train":
                continue
            if not isinstance(batches, Batches):
                raise OptionError(
                    f"{name} is {type(batches).__name__}, and Lightning is to be given rb.Batches: "
                    f"rb.Batches(parts.{name}, 32, output='torch')"
                )
            if batches.output != "torch":
                raise OptionError(
                    f"{name} gives NumPy's arrays, and Lightning's models take tensors: say "
                    "rb.Batches(…, output='torch')"
                )

    def train_dataloader(self) -> Any:
        """The batches to train on."""
        return self._batches("train")

    def val_dataloader(self) -> Any:
        """The batches to validate with, none where none were given."""
        return self._batches("val")

    def test_dataloader(self) -> Any:
        """The batches to test with."""
        return self._batches("test")

    def predict_dataloader(self) -> Any:
        """The batches to predict."""
        return self._batches("predict")

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, for Lightning's checkpoint."""
        return self._train.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; ResumeError where it is of other batches."""
        self._train.load_state_dict(state_dict)

    @property
    def _train(self) -> Batches:
        train = self.batches["train"]
        assert train is not None  # refused at birth
        return train

    def _batches(self, name: str) -> Any:
        world_size = 1 if self.trainer is None else self.trainer.world_size
        if world_size > 1:
            raise OptionError(
                f"{world_size} processes train, and each would be given every batch: take "
                "Trainer(devices=1)"
            )
        # Lightning takes an empty list for "there are none".
        return [] if self.batches[name] is None else self.batches[name]

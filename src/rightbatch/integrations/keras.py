"""Batches inside Keras 3's `fit`, whatever its backend, and going on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rightbatch.data.ragged import Ragged
from rightbatch.durable_files import sync_file, write_atomically
from rightbatch.errors import MissingDependencyError, OptionError, ResumeError
from rightbatch.integrations.batch_access import BatchAccess
from rightbatch.loading.batches import Batches
from rightbatch.plan.checks import whole_number

try:
    import keras
except ImportError as error:
    raise MissingDependencyError(
        "rightbatch.integrations.keras needs Keras 3 and a backend: pip install keras, and torch, "
        "jax or tensorflow, which the environment variable KERAS_BACKEND chooses"
    ) from error

_PLACE_FILE = "place.json"
# `fit` knows these from the batches.
_OWN_OPTIONS = ("x", "y", "batch_size", "steps_per_epoch", "initial_epoch", "shuffle")


class KerasBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras is not always there
    """The batches of epoch after epoch, for Keras's own `fit(…, steps_per_epoch=len(batches))`.

    Keras asks for batch after batch without an end and is given epoch 0, then epoch 1 and so on,
    from batch `first_batch` of epoch `first_epoch` on. Keras can not shuffle them: their order is
    that of `batches`. Weights, which `remainder="pad"` and a quarantine append, are Keras's sample
    weights: make the loss with reduction="mean_with_sample_weight", so that they are counted.

    Raises OptionError where `batches` have row numbers, or entries that vary in length.

    >>> import rightbatch as rb
    >>> batches = rb.Batches(([[1.0], [2.0], [3.0]], [0, 1, 0]), 2, shuffle=False)
    >>> [target.tolist() for _, target in map(KerasBatches(batches).__getitem__, range(3))]
    [[0, 1], [0], [0, 1]]
    """

    def __init__(self, batches: Batches, *, first_epoch: int = 0, first_batch: int = 0) -> None:
        super().__init__()
        self._access = BatchAccess(batches)
        first_epoch = whole_number("first_epoch", first_epoch, at_least=0)
        self._first = first_epoch * len(batches) + whole_number("first_batch", first_batch)
        self._has_target = batches.part.data.target is not None

    @property
    def num_batches(self) -> None:
        """None: there is always another epoch."""
        return

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        epoch, number = divmod(self._first + index, len(self._access.batches))
        batch = self._access.get(epoch, number)
        values = batch if isinstance(batch, tuple) else (batch,)
        for value in values[0].values() if isinstance(values[0], Mapping) else values:
            if isinstance(value, Ragged):
                raise OptionError(
                    "Keras takes arrays, and entries vary in length: attach a function of a batch "
                    "that makes arrays, such as one that pads"
                )
        expected = 1 + self._has_target
        if len(values) > expected and str(values[expected].dtype).endswith("int64"):
            raise OptionError("Keras has no place for row numbers: leave with_rows=True out")
        if len(values) > expected and not self._has_target:
            return (values[0], None, values[1])
        return tuple(values)


def fit(
    model: Any,
    batches: Batches,
    *,
    epochs: int,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> dict[str, list[float]]:
    """Train a compiled Keras model by its own `fit`, going on from a checkpoint where there is one.

    `checkpoint` is a folder. Into it go the weights, the optimizer's state (Keras's own
    `.weights.h5`) and the place among the batches, after every epoch and after every `save_every`
    batches; the model must be built. Called again with the same folder, in another process too, it
    loads them, makes the rest of the epoch one call of `model.fit`, and the epochs after it
    another, so that every batch is the one of a run without a stop. `options` are `model.fit`'s.

    Gives Keras's history: values by name, one an epoch; an epoch that went on has those of its
    rest. Raises OptionError for options that follow from the batches and for a model that is not
    built, ResumeError where the checkpoint is of other batches.
    """
    epochs = whole_number("epochs", epochs, at_least=1)
    for name in _OWN_OPTIONS:
        if name in options:
            raise OptionError(f"{name} follows from the batches and their place: leave it out")
    if save_every is not None:
        save_every = whole_number("save_every", save_every, at_least=1)
        if checkpoint is None:
            raise OptionError(f"save_every={save_every} needs a folder: checkpoint=…")
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None:
        _restore(model, batches, folder)
    history: dict[str, list[float]] = {}
    while (epoch := batches.current_epoch) < epochs:
        done = len(batches) - batches.batches_left
        # The rest of an epoch has fewer steps than a whole one, and Keras knows one number of them.
        last = epoch + 1 if done else epochs
        place = _Place(batches, epoch=epoch, done=done, folder=folder, save_every=save_every)
        made = model.fit(
            KerasBatches(batches, first_epoch=epoch, first_batch=done),
            steps_per_epoch=batches.batches_left,
            initial_epoch=epoch,
            epochs=last,
            shuffle=False,
            callbacks=[*callbacks, place],
            **options,
        )
        for name, values in made.history.items():
            history.setdefault(name, []).extend(values)
        if model.stop_training or batches.current_epoch < last:
            break  # a callback has ended it
    return history


class _Place(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is not always there
    """Moves the batches' cursor as Keras trains, and writes checkpoints."""

    def __init__(
        self,
        batches: Batches,
        *,
        epoch: int,
        done: int,
        folder: Path | None,
        save_every: int | None,
    ) -> None:
        super().__init__()
        self._batches = batches
        self._epoch = epoch
        self._done = self._before = done
        self._folder = folder
        self._save_every = save_every
        self._unsaved = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del logs
        self._before = self._done if epoch == self._epoch else 0
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        del logs
        done = self._before + batch + 1
        self._unsaved += done - self._done if done > self._done else done
        self._done = done
        self._stand(self._epoch, done)
        if self._save_every is not None and self._unsaved >= self._save_every:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        if self._folder is not None and self._unsaved:
            self._save()

    def _stand(self, epoch: int, done: int) -> None:
        samples = self._batches.plan.samples_before(done, epoch)
        if done == len(self._batches):
            epoch, samples = epoch + 1, 0
        state = {**self._batches.state_dict(), "epoch": epoch, "samples": samples}
        self._batches.load_state_dict(state)

    def _save(self) -> None:
        assert self._folder is not None  # else nobody saves
        state = self._batches.state_dict()
        self._folder.mkdir(parents=True, exist_ok=True)
        weights = self._folder / f"{state['epoch']}-{state['samples']}.weights.h5"
        self.model.save_weights(weights, overwrite=True)
        sync_file(weights)
        place = {"weights": weights.name, "batches": state}
        write_atomically(self._folder / _PLACE_FILE, json.dumps(place).encode())
        for other in self._folder.glob("*.weights.h5"):
            if other != weights:
                other.unlink()
        self._unsaved = 0


def _restore(model: Any, batches: Batches, folder: Path) -> None:
    """Load weights, optimizer and place, where the folder has them."""
    if not (folder / _PLACE_FILE).exists():
        if any(folder.glob("*.weights.h5")):
            raise ResumeError(
                f"{folder} has weights and no {_PLACE_FILE}: they are none of this function's. "
                "Give another folder"
            )
        return
    try:
        place = json.loads((folder / _PLACE_FILE).read_text(encoding="utf-8"))
        weights = folder / Path(str(place["weights"])).name
        state = dict(place["batches"])
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{folder / _PLACE_FILE} can not be read: {error!r}") from error
    if not model.built:
        raise OptionError(
            f"the weights in {folder} need a model that is built: begin it with keras.Input(shape)"
        )
    batches.load_state_dict(state)
    if model.optimizer is not None and not model.optimizer.built:
        # Else there is nothing yet to load the optimizer's state into.
        model.optimizer.build(model.trainable_variables)
    model.load_weights(weights)

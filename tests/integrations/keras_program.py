"""Train with the Keras backend that KERAS_BACKEND names, stop, resume, and tell as JSON.

Arguments: a folder, and a file of the beginning weights. A process has one backend.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import rightbatch as rb
from rightbatch.integrations.keras import KerasBatches, fit

FOLDER, WEIGHTS, *STOPS = sys.argv[1:]
PARTS = rb.split(rb.open("digits"), val=0.2, seed=1).transform(rb.scale(1 / 16), rb.flatten())


class StoppedError(Exception):
    """The run ends here, as by a kill."""


class Stop(keras.callbacks.Callback):
    """Ends the run before step `after` + 1."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.left == 0:
            raise StoppedError
        self.left -= 1


class EndAfter(keras.callbacks.Callback):
    """Ends training in good order, as early stopping does."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = epoch == 1


def batches(batch_size: int = 100, **options: Any) -> rb.Batches:
    return rb.Batches(PARTS.train, batch_size, seed=4, **options)


def model(**loss: Any) -> Any:
    made = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(20, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    with np.load(WEIGHTS) as stored:
        made.set_weights([stored[name] for name in stored.files])
    made.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, **loss),
    )
    return made


def weights(of: Any) -> list[Any]:
    return [values.tolist() for values in of.get_weights()]


def refusal(call: Any) -> str:
    try:
        call()
    except rb.RightbatchError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def stopped(after: int) -> dict[str, Any]:
    folder = Path(FOLDER, f"stopped-{after}")
    options = {"epochs": 3, "checkpoint": folder, "verbose": 0}
    with contextlib.suppress(StoppedError):
        fit(model(), batches(), save_every=1, callbacks=[Stop(after)], **options)
    fresh, train = model(), batches()
    history = fit(fresh, train, save_every=4, **options)
    return {
        "weights": weights(fresh),
        "history": history,
        "files": sorted(file.name for file in folder.iterdir()),
        "epoch": train.current_epoch,
    }


def main() -> None:
    told: dict[str, Any] = {"backend": keras.backend.backend()}

    whole = model()
    told["history"] = fit(whole, batches(), epochs=3, verbose=0)
    told["weights"] = weights(whole)

    # Keras's own fit over the endless batches, which it can not shuffle, with validation.
    own, train = model(), batches()
    val = rb.Batches(PARTS.val, 100, shuffle=False)
    made = own.fit(
        KerasBatches(train),
        steps_per_epoch=len(train),
        epochs=3,
        shuffle=False,
        validation_data=KerasBatches(val),
        validation_steps=len(val),
        verbose=0,
    )
    told["own_history"] = made.history
    told["own_weights"] = weights(own)

    padded = model(reduction="mean_with_sample_weight")
    fit(padded, batches(remainder="pad"), epochs=3, verbose=0)
    told["padded_weights"] = weights(padded)

    told["stopped"] = {stop: stopped(int(stop)) for stop in STOPS}

    ended, train = model(), batches()
    history = fit(ended, train, epochs=3, callbacks=[EndAfter()], verbose=0)
    told["ended"] = [len(history["loss"]), train.current_epoch]

    folder = Path(FOLDER, "stopped-7")
    told["refusals"] = {
        "other batches": refusal(
            lambda: fit(model(), batches(50), epochs=3, checkpoint=folder, verbose=0)
        ),
        "not built": refusal(
            lambda: fit(
                keras.Sequential([keras.layers.Dense(10)]),
                batches(),
                epochs=3,
                checkpoint=folder,
            )
        ),
        "rows": refusal(lambda: fit(model(), batches(with_rows=True), epochs=1, verbose=0)),
        "shuffle": refusal(lambda: fit(model(), batches(), epochs=1, shuffle=True)),
        "no folder": refusal(lambda: fit(model(), batches(), epochs=1, save_every=3)),
    }
    sys.stdout.write(json.dumps(told) + "\n")


main()

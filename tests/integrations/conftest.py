"""What every library trains here: the same network on the same batches as `rb.fit`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest

import rightbatch as rb
from rightbatch.training.models import build_model

# Programs that tests run in processes of their own.
collect_ignore = ["keras_program.py"]

BATCH_SIZE, EPOCHS, SEED, LEARNING_RATE = 100, 3, 4, 0.1


@dataclass(frozen=True)
class Course:
    """A course of training: its parts, and what `rb.fit` makes of them.

    `step_losses` has one loss a step, `epoch_losses` one an epoch, `rows` those of each batch.
    """

    parts: rb.Parts
    step_losses: list[float]
    epoch_losses: list[float]
    rows: list[list[int]]
    weights: list[Any]

    @property
    def steps(self) -> int:
        return len(self.step_losses)

    def batches(self, **options: Any) -> rb.Batches:
        """The training batches, new ones each time."""
        return rb.Batches(self.parts.train, BATCH_SIZE, seed=SEED, **options)

    def model(self) -> Any:
        """The network as `rb.fit` begins with it."""
        return build_model("mlp:20", inputs=64, outputs=10, seed=SEED)


@pytest.fixture(scope="session")
def course() -> Course:
    parts = rb.split(rb.open("digits"), val=0.2, seed=1).transform(rb.scale(1 / 16), rb.flatten())
    result = rb.fit(
        "mlp:20",
        parts,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        seed=SEED,
        learning_rate=LEARNING_RATE,
        momentum=0.9,
    )
    batches = rb.Batches(parts.train, BATCH_SIZE, seed=SEED, with_rows=True)
    epochs = chain.from_iterable(batches.epoch(epoch) for epoch in range(EPOCHS))
    assert len(parts.train) % BATCH_SIZE, "the last batch must be a smaller one"
    return Course(
        parts=parts,
        step_losses=[loss for _, loss in result.step_losses],
        epoch_losses=[row["train_loss"] for row in result.history],
        rows=[rows.tolist() for _, _, rows in epochs],
        weights=[
            values.detach().numpy().copy()
            for layer in result.model.layers
            for values in (layer.weight, layer.bias)
        ],
    )


# After the first batch, inside an epoch, at its end, after it, before the last batch of all.
STOPS = (1, 7, 14, 15, 18, 44)


@pytest.fixture(params=STOPS)
def stop(request: pytest.FixtureRequest) -> int:
    return request.param

"""Predictions under a real limit of memory: batches are halved, and the result is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rightbatch as rb

MODEL = r"""
from rightbatch.training.predict import predict
hidden = 20_000  # one sample takes 80 kB in the hidden layer, twice
weights = {"W1": generator.normal(size=(20, hidden)), "b1": generator.normal(size=hidden),
           "W2": generator.normal(size=(hidden, 2)) / 50, "b2": np.zeros(2)}
X, y = generator.normal(size=(3000, 20)).astype(np.float32), np.arange(3000) % 2
part = rb.split(rb.open((X, y)), val=1000).train
few = predict(weights, part, activation="tanh", batch_size=16, threads=1)
limit(60 * 2**20)
many = predict(weights, part, activation="tanh", batch_size=2000, threads=1)
written = predict(weights, part, activation="tanh", batch_size="full", threads=1, out=sys.argv[1])
print(json.dumps({
    "batch_size": many.batch_size, "told": told, "correct": [few.correct, many.correct],
    "classes": bool((few.predicted == many.predicted).all()),
    "difference": float(np.abs(few.probabilities - many.probabilities).max()),
    "losses": [few.loss, many.loss, written.loss],
    "file": float(np.abs(np.load(sys.argv[1]) - few.probabilities).max()),
}))
"""

LOADER = r"""
from rightbatch.training.predict import predict
path = sys.argv[1] + "-inputs.npy"
array = np.lib.format.open_memmap(path, "w+", np.uint8, (2000, 50_000))
array[:, 0] = np.arange(2000) % 200
array.flush(); del array
weights = {"W1": np.eye(50_000, 2), "b1": np.zeros(2)}
data = rb.open(path)
few = predict(weights, data, batch_size=8, loss="squared_error", threads=1)
limit(100 * 2**20)
many = predict(weights, data, batch_size="full", loss="squared_error", threads=1)
print(json.dumps({
    "batch_size": many.batch_size, "told": told,
    "same": bool((few.values == many.values).all()),
    "expected": bool((few.values[:, 0] == np.arange(2000) % 200).all()),
}))
"""

WRITTEN = r"""
from rightbatch.training.predict import predict
weights = {"W1": np.ones((1, 200)), "b1": np.arange(200) / 200}
inputs = np.ones((200_000, 1), np.float32)
predict(weights, inputs[:5000], out=sys.argv[1])
limit(60 * 2**20)  # the probabilities take 160 MB
try:
    predict(weights, inputs)
    kept = True
except MemoryError:
    kept = False
written = predict(weights, inputs, out=sys.argv[1])
print(json.dumps({"kept": kept, "told": told, "shape": np.load(sys.argv[1], "r").shape}))
"""

ONE = r"""
from rightbatch.training.predict import predict
class Greedy(nn.Module):
    calls = 0
    def forward(self, inputs):
        # Not yet where predict looks at the outputs of one sample, to know what they mean.
        self.calls += 1
        return torch.zeros(len(inputs), 2**30 if self.calls > 1 else 1).sum(1)
limit(60 * 2**20)
try:
    predict(Greedy(), np.ones((9, 3), np.float32), loss="squared_error", batch_size=4)
    print(json.dumps({"error": None}))
except Exception as error:
    print(json.dumps({"error": str(error), "notes": error.__notes__, "told": told}))
"""


def assert_halvings(told: list[str], first: int, last: int) -> None:
    """Each warning names both sizes, and the next one goes on from there."""
    sizes = [first]
    for line in told:
        expected = (
            f"a batch of {sizes[-1]:,} samples finds no room in memory; going on with "
            f"{sizes[-1] // 2:,}"
        )
        assert line == expected
        sizes.append(sizes[-1] // 2)
    assert sizes[-1] == last < first


def test_what_the_model_has_no_room_for_is_halved(run_limited: Any) -> None:
    found = run_limited(MODEL)
    again = found["told"].index(found["told"][0], 1)
    assert_halvings(found["told"][:again], 2000, found["batch_size"])
    assert found["classes"]
    assert found["correct"][0] == found["correct"][1]
    assert found["difference"] < 1e-5
    assert found["file"] < 1e-5
    assert found["losses"] == pytest.approx([found["losses"][0]] * 3, rel=1e-6)


def test_what_the_loader_has_no_room_for_is_halved(run_limited: Any) -> None:
    found = run_limited(LOADER)
    assert_halvings(found["told"], 2000, found["batch_size"])
    assert found["same"]
    assert found["expected"]


def test_what_is_written_takes_no_memory_that_grows_with_the_data(run_limited: Any) -> None:
    found = run_limited(WRITTEN)
    assert not found["kept"], "the limit is one that would be met"
    assert found["shape"] == [200_000, 200]
    assert found["told"] == []


def test_a_single_sample_without_room_is_an_error_with_advice(run_limited: Any) -> None:
    found = run_limited(ONE)
    assert_halvings(found["told"], 4, 1)
    assert "memory" in found["error"]
    assert "one sample at a time" in found["notes"][0]


def test_a_pack_larger_than_a_budget_is_predicted_as_data_in_memory_are(tmp_path) -> None:
    generator = np.random.default_rng(0)
    data = {
        "x": generator.normal(size=(20_000, 100)).astype(np.float32),
        "y": generator.integers(0, 2, 20_000),
    }
    pack = rb.pack(rb.open(data, target="y"), tmp_path / "pack")
    weights = {"W1": generator.normal(size=(100, 2)), "b1": np.zeros(2)}
    expected = rb.predict(weights, rb.open(data, target="y"), batch_size=256)
    found = rb.predict(weights, pack, batch_size=256, memory="7MB")
    assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert found.loss == expected.loss

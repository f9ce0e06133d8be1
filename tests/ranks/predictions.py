"""What each of three real processes predicts, over gloo: `predictions.py RANK FOLDER`.

The first one predicts alone, two of them together, then all three: they write what came out to
FOLDER/WORLD-RANK.json, and files to FOLDER/WORLD. In the end one of the processes is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group

import rightbatch as rb

PROCESSES = 3


class Called(nn.Module):
    """A function of the inputs, and of how often it was called."""

    def __init__(self, function: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.calls = function, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.function(inputs, self.calls)


def described(prediction: rb.Prediction) -> dict[str, Any]:
    """All that a prediction says, to the bit, but for its time."""
    report = prediction.to_json()
    del report["seconds"], report["output"]
    for name in ("predicted", "probabilities", "values"):
        array = getattr(prediction, name)
        if array is not None:
            content = hashlib.blake2b(np.ascontiguousarray(array).tobytes()).hexdigest()
            report[name] = [str(array.dtype), array.shape, content]
    return {**report, "repr": repr(prediction.loss), "classes": prediction.classes}


def network(inputs: int, outputs: int, hidden: int = 20) -> nn.Module:
    torch.manual_seed(inputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def texts(folder: Path) -> Any:
    """A table with classes that are texts, one of them empty, in batches of every kind."""
    generator = np.random.default_rng(0)
    columns = {name: generator.normal(size=1301) for name in "abcde"}
    labels = np.array(["größer", "", "two words"])[generator.integers(0, 3, 1301)]
    data = rb.open({**columns, "y": labels.tolist()}, target="y")
    part = rb.split(data, val=300, seed=3).transform(rb.standardize()).train
    found = {}
    for size in (1, 100, 512, 1000, "full"):
        for ending in ("npy", "csv", "parquet"):
            found[f"{size} {ending}"] = described(
                rb.predict(network(5, 3), part, batch_size=size, out=folder / f"{size}.{ending}")
            )
        found[f"{size}"] = described(rb.predict(network(5, 3), part, batch_size=size))
    return found


def shapes(folder: Path) -> Any:
    """Many sizes of data, models and batches: kernels for few samples have their own rounding."""
    del folder
    generator = np.random.default_rng(1)
    found = []
    for _ in range(40):
        inputs, hidden, outputs = (int(generator.integers(1, most)) for most in (40, 70, 5))
        samples, size = int(generator.integers(1, 900)), int(generator.integers(1, 130))
        X = generator.normal(size=(samples, inputs)).astype(np.float32)
        is_binary = outputs == 1
        y = generator.integers(0, max(2, outputs), samples)
        loss = "binary_cross_entropy" if is_binary else "cross_entropy"
        model = network(inputs, outputs, hidden)
        found.append(described(rb.predict(model, (X, y), batch_size=size, loss=loss)))
    return found


def quantities(folder: Path) -> Any:
    """A run's own part, a file larger than a budget, and data without a target."""
    model = folder.parent / "run"
    part = rb.split(rb.open("diabetes"), val=0.2, seed=7).val
    found = [described(rb.predict(model, part, batch_size=10, out=folder / "quantities.csv"))]
    found.append(described(rb.predict(model, part, batch_size=10)))
    weights = {"W1": np.arange(100.0).reshape(100, 1) / 200, "b1": np.ones(1)}
    pack = rb.open(folder.parent / "pack")
    options: dict[str, Any] = {"batch_size": 300, "memory": "7.4MB", "loss": "squared_error"}
    return [*found, described(rb.predict(weights, pack, **options, out=folder / "pack.parquet"))]


def tokens(folder: Path) -> Any:
    """A class a token, some of them masked."""
    generator = np.random.default_rng(2)
    ids = generator.integers(0, 9, (50, 6))
    target = np.where(generator.random((50, 6)) < 0.2, -100, ids)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    given = {"loss": "cross_entropy", "batch_size": 4}
    found = described(rb.predict(model, (ids, target), **given, out=folder / "tokens.npy"))
    return [found, described(rb.predict(model, (ids, target), **given))]


def functions(folder: Path) -> Any:
    """A function of a batch meets the batches of one process."""
    del folder
    X = np.arange(2003, dtype=np.float32).reshape(-1, 1)

    def with_size(inputs: Any) -> Any:
        return np.concatenate([inputs, np.full_like(inputs, len(inputs))], 1)

    part = rb.split(rb.open(X)).transform(with_size).train
    alike = Called(lambda inputs, calls: inputs)
    return [rb.predict(alike, part, batch_size=9, loss="squared_error").values.tolist()]


def few(folder: Path) -> Any:
    """Fewer batches than ranks, down to a single sample."""
    found = []
    for samples in (1, 2, 5):
        X, y = np.ones((samples, 3), np.float32), np.arange(samples) % 2
        out = folder / f"few-{samples}.csv"
        found.append(described(rb.predict(network(3, 2), (X, y), batch_size=2, out=out)))
        found.append(described(rb.predict(network(3, 2), (X, y), batch_size=2)))
    return found


ALIKE = {each.__name__: each for each in (texts, shapes, quantities, tokens, functions, few)}


X = np.arange(3000, dtype=np.float32).reshape(-1, 1)
PLAIN: dict[str, Any] = {"loss": "squared_error", "batch_size": 100}


def told(function: Callable[[], Any]) -> list[str]:
    """The error that it ends with."""
    try:
        function()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]


def failures(rank: int, folder: Path) -> dict[str, list[str]]:
    """What goes wrong on one rank, or on all, and what each one says."""

    def fails(inputs: torch.Tensor, calls: int) -> torch.Tensor:
        if rank == 1 and calls > 4:
            raise ZeroDivisionError("on purpose")
        return inputs

    def wider(inputs: torch.Tensor, calls: int) -> torch.Tensor:
        return torch.zeros(len(inputs), 3 if rank == 1 and calls > 4 else 2)

    taken = folder / "taken.csv"
    taken.write_text("of before")
    nowhere = {"out": "no/such/folder/out.csv"}
    apart = {"out": folder / "apart.csv"} if rank == 0 else {}
    cases: dict[str, Callable[[], Any]] = {
        "a rank": lambda: rb.predict(Called(fails), X, **PLAIN, out=taken),
        "kept": lambda: rb.predict(Called(fails), X, **PLAIN),
        "shapes": lambda: rb.predict(Called(wider), X, **PLAIN, out=taken),
        "data": lambda: rb.predict(Called(fails), X + (rank == 1), **PLAIN),
        "option": lambda: rb.predict(Called(fails), X, **{**PLAIN, "batch_size": 10 + rank}),
        "weights": lambda: rb.predict(network(1, 2 + (rank == 1)), X, **PLAIN),
        "place": lambda: rb.predict(Called(fails), X, **PLAIN, **apart),
        "folder": lambda: rb.predict(Called(fails), X, **PLAIN, **nowhere),  # before any pass
        "model": lambda: rb.predict("no/such/run", X),
    }
    found = {name: told(case) for name, case in cases.items()}
    found["file"] = [taken.read_text(), *sorted(path.name for path in folder.glob(".*"))]
    return found


def short_of_memory(rank: int, folder: Path) -> Any:
    """Rank 1 has room for 30 samples at a time, for one from the third pass on, then for none."""

    def has_room(inputs: torch.Tensor, calls: int) -> torch.Tensor:
        if rank == 1 and len(inputs) > 30:
            raise MemoryError("no room")
        return inputs

    def has_none(inputs: torch.Tensor, calls: int) -> torch.Tensor:
        if rank == 1 and calls > 4:
            raise MemoryError("no room")
        return inputs

    out = folder / "short.npy"
    kept = rb.predict(Called(has_room), X, **PLAIN)
    written = rb.predict(Called(has_room), X, **PLAIN, out=out)
    return {
        "kept": np.array_equal(np.asarray(kept), X.ravel()),
        "written": np.array_equal(np.load(out), X.ravel()),
        "batch_size": [kept.batch_size, written.batch_size],
        "none": told(lambda: rb.predict(Called(has_none), X, **PLAIN)),
    }


def sharded(world: int, folder: Path) -> Any:
    """A model that is divided among the ranks, with batches for some of them alone in the end."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    del folder
    model = network(5, 3)
    if world > 1:
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    generator = np.random.default_rng(4)
    inputs, y = generator.normal(size=(910, 5)).astype(np.float32), np.arange(910) % 3
    return [described(rb.predict(model, (inputs, y), batch_size=size)) for size in (100, 9, "full")]


def killed(rank: int, folder: Path) -> list[Any]:
    """The last rank is killed on its way."""

    def dies(inputs: torch.Tensor, calls: int) -> torch.Tensor:
        if rank == PROCESSES - 1 and calls > 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return inputs

    began = time.perf_counter()
    said = told(lambda: rb.predict(Called(dies), X, **PLAIN, out=folder / "killed.csv"))
    left = [path.name for path in folder.iterdir() if "killed" in path.name]
    return [*said, time.perf_counter() - began, left]


@contextmanager
def group(world: int, rank: int, folder: Path) -> Iterator[None]:
    if world == 1:
        yield
        return
    store = f"file://{folder}/store-{world}"
    init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        destroy_process_group()


def main(rank: int, folder: Path) -> None:
    for world in range(1, PROCESSES + 1):
        if rank >= world:
            continue
        place = folder / str(world)
        place.mkdir(exist_ok=True)
        with group(world, rank, folder):
            found: dict[str, Any] = {name: case(place) for name, case in ALIKE.items()}
            found["sharded"] = sharded(world, place)
            if world == PROCESSES:
                own = folder / "failures"
                own.mkdir(exist_ok=True)
                found["failures"] = failures(rank, own)
                found["short of memory"] = short_of_memory(rank, own)
                found["killed"] = killed(rank, own)
            (folder / f"{world}-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

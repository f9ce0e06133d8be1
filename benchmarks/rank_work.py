"""One process of the ranks' benchmark: `rank_work.py WHO MODEL RANK WORLD STORE REPEATS`.

It trains epochs over MNIST and prints, on rank 0, a line of JSON: the seconds of each epoch, and
the accuracy of the end on the first 10,000 samples.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

import mnist

LEARNING_RATE = 0.05
_CHECKED = 10_000
MODELS: dict[str, Callable[[], nn.Module]] = {
    "784-100-10": lambda: _dense(100),
    "784-1000-1000-10": lambda: _dense(1000, 1000),
}
Epoch = Callable[[int], None]


def _dense(*hidden: int) -> nn.Module:
    sizes = (mnist.FEATURES, *hidden, mnist.CLASSES)
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def rightbatch(model: nn.Module, batch_size: int, samples: int) -> Epoch:
    """`rb.fit`, an epoch at a time; the global batch is what is given."""
    import rightbatch as rb

    pixels, labels = mnist.load()
    data = (pixels[:samples], labels[:samples].astype(np.int64))
    parts = rb.split(rb.open(data)).transform(rb.scale(1 / 255))

    def epoch(number: int) -> None:
        rb.fit(
            model,
            parts,
            batch_size=batch_size,
            learning_rate=LEARNING_RATE,
            epochs=1,
            seed=number,
            threads=1,
        )

    return epoch


def torch_alone(model: nn.Module, batch_size: int, samples: int) -> Epoch:
    """DistributedDataParallel and DistributedSampler, as torch's tutorial has them.

    A batch of the sampler is a rank's own, so it is the global one divided by the world size.
    """
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import BatchSampler, DataLoader, TensorDataset
    from torch.utils.data.distributed import DistributedSampler

    pixels, labels = mnist.load()
    data = TensorDataset(
        torch.from_numpy(pixels[:samples]), torch.from_numpy(labels[:samples].astype(np.int64))
    )
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    rank = distributed.get_rank() if world > 1 else 0
    sampler: Any = DistributedSampler(data, world, rank)
    # A list of rows at a time: sample by sample the loader alone takes several times as long.
    rows: Any = _Rows(data)
    batches = BatchSampler(sampler, batch_size // world, drop_last=False)
    loader: Any = DataLoader(rows, sampler=batches, batch_size=None)
    network = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def epoch(number: int) -> None:
        sampler.set_epoch(number)
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(inputs.float().div_(255)), target)
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


class _Rows:
    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, rows: list[int]) -> Any:
        return self._data[rows]


CONTENDERS = {"rightbatch": rightbatch, "torch": torch_alone}


def main() -> None:
    who, kind, rank, world, store, batch_size, samples, repeats = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if int(world) > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world)
        )
    model = MODELS[kind]()
    epoch = CONTENDERS[who](model, int(batch_size), int(samples))
    epoch(0)
    seconds = []
    for number in range(1, int(repeats) + 1):
        if int(world) > 1:
            distributed.barrier()
        began = time.perf_counter()
        epoch(number)
        seconds.append(time.perf_counter() - began)
    if int(rank) == 0:
        pixels, labels = mnist.load()
        with torch.inference_mode():
            outputs = model(torch.from_numpy(pixels[:_CHECKED]).float() / 255)
        accuracy = float((outputs.argmax(1).numpy() == labels[:_CHECKED]).mean())
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(json.dumps({"seconds": seconds, "accuracy": accuracy, "parameters": parameters}))
    if int(world) > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()

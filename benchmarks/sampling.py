"""What drawing costs: rows of an epoch by weight and of a mixture, and batches made of them.

    python benchmarks/sampling.py [--repeats 5] [--samples 1000000] [--json FILE]

Each way gives the rows of a million positions of an epoch of as many draws as there are samples,
from its second epoch on; making its tables is timed apart. Ways are interleaved, the median over
the rounds counts, and ratios are taken inside a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import rightbatch as rb
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.order import Order
from rightbatch.plan.weighted import WeightedOrder

_STRETCH = 65_536
_MOST_OF_TORCH = 2**24
_ROWS, _FEATURES = 60_000, 784


def main() -> None:
    """Measure both tables and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {
        f"positions a second, {options.samples:,} samples": rounds(
            ways(options.samples), options.repeats
        ),
        f"batches of 128 of {_ROWS:,} x {_FEATURES} bytes to float32, samples a second": rounds(
            loaders(), options.repeats
        ),
    }
    for title, rates in tables.items():
        show(title, rates)
    if options.json is not None:
        options.json.write_text(json.dumps(tables, indent=1))


def ways(samples: int) -> dict[str, Callable[[int], int]]:
    """By name, what draws in epoch k and says how many rows it drew."""
    weights = np.random.default_rng(0).random(samples)
    drawn = min(samples, 1_000_000)
    uniform = Order(kind="uniform")
    weighted = timed("weighted", lambda: WeightedOrder.from_weights(weights, samples))
    classes = np.arange(samples) % 10
    balanced = timed("balanced", lambda: WeightedOrder.balanced(classes, samples))
    halves = MixtureOrder.of([samples // 2, samples - samples // 2], [0.7, 0.3])
    eight = MixtureOrder.of([samples // 8] * 8, [0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])

    def by(order: Order | WeightedOrder | MixtureOrder) -> Callable[[int], int]:
        def draw(epoch: int) -> int:
            for start in range(0, drawn, _STRETCH):
                order.positions(samples, 7, epoch, start, min(drawn, start + _STRETCH))
            return drawn

        return draw

    def choice(epoch: int) -> int:
        np.random.default_rng(epoch).choice(samples, drawn, p=shares)
        return drawn

    def multinomial(epoch: int) -> int:
        generator = torch.Generator().manual_seed(epoch)
        torch.multinomial(tensor, drawn, replacement=True, generator=generator)
        return drawn

    shares, tensor = weights / weights.sum(), torch.from_numpy(weights)
    made = {
        "uniform order": by(uniform),
        "weighted": by(weighted),
        "balanced, 10 classes": by(balanced),
        "mixture of 2": by(halves),
        "mixture of 8": by(eight),
        "numpy choice(p=)": choice,
    }
    if samples <= _MOST_OF_TORCH:
        made["torch.multinomial (WeightedRandomSampler)"] = multinomial
    return made


def loaders() -> dict[str, Callable[[int], int]]:
    """By name, what goes through epoch k of batches."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (_ROWS, _FEATURES), dtype=np.uint8)
    y = np.arange(_ROWS) % 10
    whole = rb.split((x, y)).transform(rb.scale(1 / 255))
    half = _ROWS // 2
    sources = {"a": ((x[:half], y[:half]), 0.7), "b": ((x[half:], y[half:]), 0.3)}
    mixed = rb.mix(sources).transform(rb.scale(1 / 255))
    made = {
        "uniform": rb.Batches(whole.train, 128),
        "weighted": rb.Batches(whole.train, 128, weights=generator.random(_ROWS)),
        "balanced": rb.Batches(whole.train, 128, weights="balanced"),
        "mixture of 2 arrays": rb.Batches(mixed.train, 128),
    }

    def through(batches: rb.Batches) -> Callable[[int], int]:
        return lambda epoch: sum(len(batch[0]) for batch in batches.epoch(epoch))

    return {name: through(batches) for name, batches in made.items()}


def timed(name: str, make: Callable[[], WeightedOrder]) -> WeightedOrder:
    """What `make` makes; how long it took is printed."""
    began = time.perf_counter()
    order = make()
    seconds = time.perf_counter() - began
    print(f"tables of the {name} order: {seconds:.2f} s, {order.nbytes / 2**20:.1f} MiB")
    return order


def rounds(work: dict[str, Callable[[int], int]], repeats: int) -> dict[str, list[float]]:
    """Rows a second by way and round."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for name in work:
        work[name](0)
    for epoch in range(1, repeats + 1):
        for name, draw in work.items():
            began = time.perf_counter()
            count = draw(epoch)
            rates[name].append(count / (time.perf_counter() - began))
    return rates


def show(title: str, rates: dict[str, list[float]]) -> None:
    """Print a table: the median rate, and against the first way."""
    print(f"\n{title}")
    first = next(iter(rates.values()))
    for name, own in rates.items():
        ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
        print(f"  {name:44} {statistics.median(own):14,.0f}   {ratio:5.2f}")


if __name__ == "__main__":
    main()

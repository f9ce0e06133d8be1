"""What a sample costs at each batch size: `rb.speed` on a 784-50-100-10 network and MNIST.

Prints every size against size 1 and against the limit, the same matrix products at the rate of
one large one, and writes the chart where it is asked to.
"""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

import click
import numpy as np
import torch

import mnist
import rightbatch as rb
from predictors import SIZES, random_weights
from report import describe_machine

_FLOPS_A_SAMPLE = 2 * sum(a * b for a, b in itertools.pairwise(SIZES))
_ASKED = (*range(1, 31), 64, 128, 256, 512, 1024)
_SIDE = 1024
_GOAL = 6.0


def peak_flops() -> float:
    """Multiplications and additions a second of one large matrix product, median of nine."""
    left, right = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return 2 * _SIDE**3 / statistics.median(seconds)


@click.command(help=__doc__)
@click.option("--seconds", default=20.0, show_default=True, help="Time to measure for.")
@click.option("--chart", type=click.Path(path_type=Path), help="Write the chart (.png, .svg).")
def main(seconds: float, chart: Path | None) -> None:
    """Measure, and print the table."""
    machine = describe_machine()
    torch.set_num_threads(1)
    pixels, _ = mnist.load()
    part = rb.split(rb.open(pixels)).transform(rb.scale(1 / 255)).train
    limit = _FLOPS_A_SAMPLE / statistics.median(peak_flops() for _ in range(3))
    timing = rb.speed(
        random_weights(), part, batch_sizes=_ASKED, activation="sigmoid", seconds=seconds
    )
    limit = statistics.median([limit, _FLOPS_A_SAMPLE / peak_flops()])
    first = timing.points[0].seconds_per_sample
    print(f"{machine['date']} · {machine['processor']} · load {machine['load_before']}")
    print(f"{timing!r}; {timing.rounds} rounds, {timing.threads} thread")
    print(f"{'batch':>6} {'µs a sample':>12} {'against 1':>10} {'of the limit':>13}")
    for point in timing.points:
        each = point.seconds_per_sample
        print(
            f"{point.batch_size:>6} {each * 1e6:>12.2f} {first / each:>9.1f}x {limit / each:>13.3f}"
        )
    ratio = first / next(p.seconds_per_sample for p in timing.points if p.batch_size == 30)
    verdict = "reached" if ratio >= _GOAL else "not reached"
    print(f"A sample at 30 against one at 1: 1/{ratio:.1f} of the time (goal 1/6): {verdict}")
    for note in timing.notes:
        print(note)
    if chart is not None:
        from rightbatch.report.time_chart import time_per_sample

        time_per_sample(timing).save(chart)


if __name__ == "__main__":
    np.seterr(all="raise")
    main()

"""Training on ranks: measured at 1 and 2, beside plain torch; expected at 8 to 1,024.

Measured: samples a second of `rb.fit` and of DistributedDataParallel with DistributedSampler, one
thread a rank, the global batch the same at every number of ranks. Expected: the step times of one
rank at several shares, and the time of an all-reduce by a stated model of latency and bandwidth.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

import mnist
from rank_work import CONTENDERS, MODELS
from report import describe_machine, show_machine, write_json

_WORLDS = (1, 2)
_EXPECTED_WORLDS = (1, 2, 8, 32, 128, 512, 1024)
_SHARES = (8, 32, 128, 512, 2048)
_GRADIENT_BYTES = 4
_MOST_BATCH = 1 << 17


@dataclass(frozen=True)
class Network:
    """What an all-reduce costs: a ring, 2 (N - 1) messages of 1/N of the gradient each.

    Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of workstations.
    """

    latency_seconds: float
    bytes_per_second: float

    def seconds(self, gradient_bytes: float, world: int) -> float:
        """The seconds of one all-reduce over `world` ranks."""
        messages = 2 * (world - 1)
        return messages * (self.latency_seconds + gradient_bytes / world / self.bytes_per_second)


@dataclass(frozen=True)
class StepLaw:
    """Seconds of a step of one rank, fixed + each · samples, from medians by least squares."""

    fixed_seconds: float
    sample_seconds: float

    @classmethod
    def fit(cls, shares: tuple[int, ...], seconds: list[float]) -> StepLaw:
        """Relative errors count, so that small steps are not drowned by large ones."""
        weights = 1 / np.array(seconds)
        design = np.stack([np.ones(len(shares)), np.array(shares, float)], 1) * weights[:, None]
        fixed, each = np.linalg.lstsq(design, np.ones(len(shares)), rcond=None)[0]
        return cls(max(float(fixed), 0.0), float(each))

    def seconds(self, share: float) -> float:
        """The seconds of a step on `share` samples."""
        return self.fixed_seconds + self.sample_seconds * share


def run_ranks(who: str, model: str, world: int, **numbers: int) -> dict[str, Any]:
    """Train on real processes over gloo; what rank 0 prints."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(__file__).with_name("rank_work.py")
        processes = [
            subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, str(program), who, model, str(rank), str(world), f"{folder}/store"]
                + [str(numbers[name]) for name in ("batch_size", "samples", "repeats")],
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                text=True,
            )
            for rank in range(world)
        ]
        said = processes[0].communicate()[0]
        for process in processes:
            if process.wait() != 0:
                raise SystemExit(f"{who} with {world} ranks has failed")
    found: dict[str, Any] = json.loads(said)
    return found


def expected(
    law: StepLaw, network: Network, parameters: int, noise_scale: float
) -> list[dict[str, Any]]:
    """For each number of ranks, efficiency at a global batch, and the batch of the shortest way.

    The samples to a target grow as 1 + B/B_noise, so the way there takes steps · seconds,
    proportional to (1 + B_noise/B) T(B/N) (McCandlish et al. 2018, arXiv 1812.06162).
    """
    batches = [2**k for k in range(3, int(math.log2(_MOST_BATCH)) + 1)]
    rows = []
    for world in _EXPECTED_WORLDS:
        exchange = network.seconds(parameters * _GRADIENT_BYTES, world)

        def step(batch: int, world: int = world, exchange: float = exchange) -> float:
            return law.seconds(math.ceil(batch / world)) + (exchange if world > 1 else 0.0)

        best = min(batches, key=lambda batch: (1 + noise_scale / batch) * step(batch))
        rows.append(
            {
                "world_size": world,
                "exchange_seconds": exchange,
                "batch_size": best,
                "samples_per_second": best / step(best),
                # Against as many machines that had nobody to wait for, each at its own best.
                "efficiency": best / step(best) / world / (best / law.seconds(best)),
                "efficiency_at_fixed_batch": law.seconds(512) / world / step(512),
                "time_to_target": (1 + noise_scale / best) * step(best),
            }
        )
    return rows


@click.command(help=__doc__.splitlines()[0])
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=512, show_default=True)
@click.option("--samples", type=click.IntRange(64), default=mnist.SAMPLES, show_default=True)
@click.option("--latency-us", default=25.0, show_default=True, help="Of one message.")
@click.option("--gigabytes-per-second", default=10.0, show_default=True, help="Of one link.")
@click.option("--noise-scale", default=2000.0, show_default=True, help="B_noise, in samples.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all to FILE.")
def command(
    repeats: int,
    batch_size: int,
    samples: int,
    latency_us: float,
    gigabytes_per_second: float,
    noise_scale: float,
    json_file: Path | None,
) -> None:
    machine = describe_machine()
    console = show_machine(machine)
    measured: list[dict[str, Any]] = []
    # One epoch at a time and in turn: the cores are shared with others.
    for model in MODELS:
        runs: dict[tuple[str, int], list[float]] = {}
        accuracy: dict[tuple[str, int], float] = {}
        for _ in range(repeats):
            for world in _WORLDS:
                for who in CONTENDERS:
                    with console.status(f"{model}: {who}, {world} ranks"):
                        found = run_ranks(
                            who, model, world, batch_size=batch_size, samples=samples, repeats=1
                        )
                    runs.setdefault((who, world), []).extend(found["seconds"])
                    accuracy[who, world] = found["accuracy"]
        for (who, world), seconds in runs.items():
            measured.append(
                {
                    "model": model,
                    "who": who,
                    "world_size": world,
                    "seconds": seconds,
                    "samples_per_second": samples / statistics.median(seconds),
                    "accuracy": accuracy[who, world],
                }
            )
    _show_measured(console, measured, batch_size, samples, repeats)
    network = Network(latency_us / 1e6, gigabytes_per_second * 1e9)
    forecasts = {}
    for model in MODELS:
        seconds = []
        parameters = 0
        for share in _SHARES:
            some = min(samples, max(share * 40, 4096))
            with console.status(f"{model}: steps of {share} samples"):
                found = run_ranks(
                    "rightbatch", model, 1, batch_size=share, samples=some, repeats=repeats
                )
            parameters = found["parameters"]
            seconds.append(statistics.median(found["seconds"]) / math.ceil(some / share))
        law = StepLaw.fit(_SHARES, seconds)
        rows = expected(law, network, parameters, noise_scale)
        forecasts[model] = {"shares": _SHARES, "step_seconds": seconds, "rows": rows}
        _show_expected(console, model, law, parameters, rows, network, noise_scale)
    if json_file is not None:
        write_json(json_file, {"machine": machine, "measured": measured, "expected": forecasts})


def _show_measured(
    console: Any, measured: list[dict[str, Any]], batch_size: int, samples: int, repeats: int
) -> None:
    table = Table(
        title=f"{samples:,} MNIST samples, global batch {batch_size}, SGD, one thread a rank",
        caption=f"Medians of {repeats} interleaved epochs; efficiency: rate over ranks times the "
        "rate of one",
    )
    for heading in ("model", "contender", "ranks", "samples/s", "efficiency", "× torch"):
        table.add_column(heading, justify="left" if heading in ("model", "contender") else "right")
    rates = {(r["model"], r["who"], r["world_size"]): r["samples_per_second"] for r in measured}
    for (model, who, world), rate in rates.items():
        table.add_row(
            model,
            who,
            str(world),
            f"{rate:,.0f}",
            f"{rate / world / rates[model, who, 1]:.2f}",
            f"{rate / rates[model, 'torch', world]:.2f}",
        )
    console.print(table)


def _show_expected(
    console: Any,
    model: str,
    law: StepLaw,
    parameters: int,
    rows: list[dict[str, Any]],
    network: Network,
    noise_scale: float,
) -> None:
    table = Table(
        title=f"Expected: {model}, {parameters:,} parameters, a step of n samples takes "
        f"{law.fixed_seconds * 1e6:,.0f} us + n · {law.sample_seconds * 1e6:.2f} us",
        caption=f"Ring all-reduce, {network.latency_seconds * 1e6:g} us a message, "
        f"{network.bytes_per_second / 1e9:g} GB/s a link; noise scale {noise_scale:,.0f} samples. "
        "An extrapolation, not a measurement",
    )
    for heading in ("ranks", "exchange", "efficiency at 512", "advised batch", "a rank's", "there"):
        table.add_column(heading, justify="right")
    table.add_column("time to target", justify="right")
    for row in rows:
        world, batch = row["world_size"], row["batch_size"]
        table.add_row(
            f"{world:,}",
            f"{row['exchange_seconds'] * 1e3:.2f} ms",
            f"{row['efficiency_at_fixed_batch']:.3f}",
            f"{batch:,}",
            f"{math.ceil(batch / world):,}",
            f"{row['samples_per_second']:,.0f}/s",
            f"{row['time_to_target'] / rows[0]['time_to_target']:.3f}",
        )
    console.print(table)


if __name__ == "__main__":
    command()

"""On a GPU: an epoch of MNIST, exposed loading beside a ResNet-18, and memory against prediction.

Without one it says so and measures nothing. `--device cpu` runs the same lines there in less of
everything, to see that they run: its numbers mean nothing.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import gpu_trainers as contenders
import mnist
import rightbatch as rb
from measure import Contender, measure
from report import Benchmark, Goal, as_json, describe_machine, show, show_machine, write_json
from resnet import resnet
from rightbatch.advice.memory_probe import confirm, measure_memory
from rightbatch.training.options import FitOptions

_OURS, _DATA_LOADER = "rightbatch fit", "torch loop + DataLoader"
_LIMIT = "torch loop, tensors on the device"
_NO_LOADING = "one batch, again and again"
_MOST_SECONDS, _MOST_EXPOSED, _MOST_OFF = 0.020, 0.02, 0.05
_PROFILED_STEPS = 12


@click.command(help=__doc__)
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N, or cpu to try.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1))
@click.option("--part", "parts", multiple=True, type=click.Choice(["mnist", "loading", "memory"]))
@click.option("--trace", type=click.Path(path_type=Path), help="Write the profile's trace to FILE.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all to FILE.")
def main(
    device: str, repeats: int, parts: tuple[str, ...], trace: Path | None, json_file: Path | None
) -> None:
    if device != "cpu" and not torch.cuda.is_available():
        print(
            f"No GPU here: torch {torch.__version__} finds none "
            "(torch.cuda.is_available() is False). Nothing was measured; --device cpu tries the "
            "same lines without one."
        )
        return
    is_small = device == "cpu"
    machine = {**describe_machine(), "gpu": describe_gpu(device)}
    console = show_machine(machine)
    console.print(" · ".join(f"{name} {value}" for name, value in machine["gpu"].items()))
    if is_small:
        console.print("A trial on the CPU, in less of everything: its numbers mean nothing.")
    measured: dict[str, Any] = {"machine": machine}
    for name, run in (("mnist", mnist_epoch), ("loading", exposed_loading), ("memory", memory)):
        if not parts or name in parts:
            console.rule(name)
            measured[name] = run(console, machine, device, repeats, is_small, trace)
    if json_file is not None:
        write_json(json_file, measured)


def describe_gpu(device: str) -> dict[str, object]:
    """The card, its memory, and the versions that belong to it."""
    if device == "cpu":
        return {"card": "none"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "matrix products in TF32": torch.backends.cuda.matmul.allow_tf32,
    }


def mnist_epoch(
    console: Console, machine: Any, device: str, repeats: int, is_small: bool, _: Path | None
) -> dict[str, object]:
    """An epoch of 784-100-10 with its data, of runs under way."""
    options: dict[str, Any] = {"is_small": is_small}
    ours = partial(contenders.RightbatchEpoch, device, **options)
    loader = partial(contenders.TorchDataLoaderEpoch, device, **options)
    on_device = {} if not is_small else {"device_memory": 1.0}
    benchmark = Benchmark(
        title=f"MNIST, 784-100-10 ReLU, SGD, batches of {mnist.BATCH_SIZE}: one epoch on {device}",
        samples=contenders._SMALL_SAMPLES if is_small else mnist.SAMPLES,
        reference=_DATA_LOADER,
        limit=_LIMIT,
        contenders=tuple(
            Contender(name=name, work=work, repeats_short_runs=False, is_limit=name == _LIMIT)
            for name, work in (
                (_OURS, partial(ours, **on_device)),
                (f"{_OURS}, capture=False", partial(ours, capture=False, **on_device)),
                (f"{_OURS}, samples on the host", partial(ours, device_memory=0)),
                (_DATA_LOADER, partial(loader, workers=0)),
                (f"{_DATA_LOADER}, 2 workers", partial(loader, workers=2)),
                (_LIMIT, partial(contenders.TorchByHandEpoch, device, **options)),
            )
        ),
        goals=(
            Goal(
                says="rightbatch: at least 20 times as fast as torch with a DataLoader",
                ours=_OURS,
                theirs=(_DATA_LOADER, f"{_DATA_LOADER}, 2 workers"),
                factor=20.0,
            ),
        ),
        notes=(mnist.describe(), "Epochs of a run under way, libraries set up, steps recorded."),
    )
    with Console(stderr=True).status("") as status:
        results = measure(benchmark.contenders, repeats=repeats, tell=status.update)
    show(benchmark, results, machine, repeats)
    found = next(result for result in results if result.contender.name == _OURS)
    for result in results:
        if result.details:
            told = ", ".join(f"{name} {value}" for name, value in result.details.items())
            console.print(f"{result.contender.name}: {told}", style="dim", soft_wrap=True)
    _tell(console, "an epoch within 20 ms", found.median_seconds, _MOST_SECONDS, "s")
    return as_json(benchmark, results, machine, repeats)


def exposed_loading(
    console: Console, _: Any, device: str, repeats: int, is_small: bool, trace: Path | None
) -> dict[str, object]:
    """How much longer steps take because their batches have to come."""
    steps = partial(contenders.ResNetSteps, device, is_small=is_small)
    names = {
        _NO_LOADING: "none",
        "rightbatch, samples on the device": "resident",
        "rightbatch, copies beside the steps": "copied",
        "torch DataLoader, 2 workers": "DataLoader",
    }
    with Console(stderr=True).status("") as status:
        results = measure(
            [
                Contender(name=name, work=partial(steps, loading=loading), repeats_short_runs=False)
                for name, loading in names.items()
            ],
            repeats=repeats,
            tell=status.update,
        )
    table = Table("batches", "ms a step", "exposed loading", "outcome", title="ResNet-18, bfloat16")
    reference = results[0]
    batch_size = contenders._SMALL_BATCH if is_small else contenders.CIFAR_BATCH
    count = 8 if is_small else contenders.CIFAR_SAMPLES // batch_size
    rows = []
    for result in results:
        exposed = 1.0 - result.speed_against(reference)
        milliseconds = 1000 * result.median_seconds / count
        said = result.skipped or result.outcome
        table.add_row(result.contender.name, f"{milliseconds:.3f}", f"{exposed:.2%}", said)
        rows.append(
            {
                "name": result.contender.name,
                "seconds": result.seconds,
                "exposed": None if np.isnan(exposed) else exposed,
                "outcome": said,
            }
        )
    console.print(table)
    for result in results[1:3]:
        exposed = 1.0 - result.speed_against(reference)
        _tell(console, f"{result.contender.name}: exposed below 2 %", exposed, _MOST_EXPOSED, "")
    copies = profile_copies(device, is_small, trace)
    console.print(
        f"Profile of {_PROFILED_STEPS} steps: copies took {copies['copy_ms']:.2f} ms, of which "
        f"{copies['beside']:.0%} while kernels of the steps ran"
        if copies["copy_ms"]
        else "Profile: no copies to a device were seen."
    )
    return {"steps": count, "batch_size": batch_size, "rows": rows, "profile": copies}


def profile_copies(device: str, is_small: bool, trace: Path | None) -> dict[str, float]:
    """Milliseconds of copies to the device, and the share of them that lies beside kernels."""
    from torch.profiler import ProfilerActivity, profile

    work = contenders.ResNetSteps(device, "copied", is_small=is_small)
    work.warm_up()
    activities = [ProfilerActivity.CPU]
    if device != "cpu":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        work.take(_PROFILED_STEPS)
        contenders.wait_for(device)
    if trace is not None:
        profiled.export_chrome_trace(str(trace))
    copies, kernels = [], []
    for event in profiled.events():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        span = (event.time_range.start, event.time_range.end)
        if "Memcpy HtoD" in event.name:
            copies.append(span)
        elif not event.name.startswith(("Memcpy", "Memset")):
            kernels.append(span)
    total = sum(end - start for start, end in copies)
    beside = sum(_covered(span, kernels) for span in copies)
    return {"copy_ms": total / 1000, "beside": beside / total if total else 0.0}


def _covered(span: tuple[float, float], others: list[tuple[float, float]]) -> float:
    """How much of a span lies within any of the others."""
    covered, reached = 0.0, span[0]
    for start, end in sorted(others):
        start, end = max(start, reached), min(end, span[1])
        if end > start:
            covered, reached = covered + end - start, end
    return covered


def memory(
    console: Console, _: Any, device: str, repeats: int, is_small: bool, __: Path | None
) -> dict[str, object]:
    """What the law of memory says of sizes that were not probed, against a run of each."""
    del repeats
    samples = 2_000 if is_small else 20_000
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (samples, *contenders.CIFAR_SHAPE), dtype=np.uint8)
    data = rb.open((pixels, random.integers(0, 10, samples)))
    parts = rb.split(data).transform(rb.scale(1 / 255))
    largest = 128 if is_small else 2048
    options = FitOptions(momentum=0.9, capture="auto")
    where = None if device == "cpu" else device
    table = Table("network", "batch size", "predicted MB", "measured MB", "off", title="Memory")
    rows = []
    for name, model in (
        ("ResNet-18", partial(_resnet, width=0.1 if is_small else 1.0)),
        ("mlp:512,512", "mlp:512,512"),
    ):
        law = measure_memory(
            model, parts, options=options, batch_sizes=[largest], device=where, seconds=30
        )
        if law.fit is None:
            console.print(f"{name}: no law ({law.declined})")
            continue
        probed = {point.batch_size for point in law.measured}
        for size in (largest // 13, largest // 5, largest // 3, int(largest * 0.7)):
            if size in probed:
                continue
            point = confirm(model, parts, batch_size=size, options=options, device=where)
            if point is None:
                console.print(f"{name} at {size:,}: does not fit")
                continue
            predicted, found = law.fit.bytes(size), point.bytes
            shown = (
                f"{predicted / 1e6:.1f}",
                f"{found / 1e6:.1f}",
                f"{predicted / found - 1:+.1%}",
            )
            table.add_row(name, f"{size:,}", *shown)
            rows.append(
                {"network": name, "batch_size": size, "predicted": predicted, "measured": found}
            )
    console.print(table)
    worst = max((abs(row["predicted"] / row["measured"] - 1.0) for row in rows), default=np.nan)
    _tell(console, "prediction within 5 % at sizes not probed", worst, _MOST_OFF, "")
    return {"rows": rows, "worst": None if np.isnan(worst) else worst}


def _resnet(seed: int, *, width: float) -> Any:
    torch.manual_seed(seed)
    return resnet(width=width)


def _tell(console: Console, says: str, found: float, most: float, unit: str) -> None:
    verdict = "[green]reached[/]" if found <= most else "[red]not reached[/]"
    shown = f"{1000 * found:.2f} ms" if unit == "s" else f"{found:.2%}"
    console.print(f"{says}: {shown}, {verdict}")


if __name__ == "__main__":
    # Contenders are made again in processes of their own, which import this file's neighbours.
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()

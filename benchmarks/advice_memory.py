"""How well memory is predicted, and whether what is advised fits: `measure_memory`, checked.

Part one: each workload with SGD and with Adam is measured, and its law asked for sizes that were
not probed; each of these is then run by `rb.fit` in newly started processes (not forked ones). In
one the C library is told to return what is freed (MALLOC_MMAP_THRESHOLD_), and the peak of its
resident memory above its loaded state is compared with the prediction; the others keep what is
freed, as any process does, and are held against the bound. Sizes that need less than 50 MB are
left out. Part two, `--trials N`: a workload, an optimizer and a limit are drawn, the
advised size is run by `rb.fit`, validation included, in a newly started process that joins a
control group of what the limit leaves it, beyond which the kernel kills it; a warning that memory
ran short counts as running out too. This needs control groups of version 1, root, and no swap.

With `--cache FILE` every finished line is kept there, and a run that was stopped goes on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

import mnist
import rightbatch as rb
from control_group import control_group, join
from report import describe_machine
from rightbatch.advice.memory_probe import measure_memory
from rightbatch.advice.probe_pages import give_back_free_memory, memory_bytes
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions

_LEAST_BYTES = 50_000_000
_GOAL = 0.05
_USUAL_RUNS = 3
_WINDOW = 32
_OPTIMIZERS = ("sgd", "adam")


class Cnn(nn.Module):
    """Two convolutions for images of 28 × 28, given flat."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 10),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10) of images (B, 784)."""
        return self.layers(inputs)


class Transformer(nn.Module):
    """One layer of attention over 32 characters, which says the next one."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(65, 32)
        self.place = nn.Parameter(torch.zeros(_WINDOW, 32))
        self.layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(32, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of windows (B, 32)."""
        return self.out(self.layer(self.embedding(inputs) + self.place)[:, -1])


# One at a time: what this process holds counts.
@lru_cache(maxsize=1)
def parts_of(workload: str) -> Parts:
    if workload in ("softmax", "mlp"):
        pixels, labels = mnist.load()
        return rb.split(rb.open((pixels, labels)), val=0.1, seed=1).transform(rb.scale(1 / 255))
    if workload == "cnn":
        data = rb.open(mnist.folder().parent / "fashion-mnist")
        return rb.split(data, val=0.1, seed=1).transform(rb.scale(1 / 255), rb.flatten())
    text = (mnist.folder().parent / "tinyshakespeare" / "input.txt").read_bytes()
    codes = np.unique(np.frombuffer(text, np.uint8), return_inverse=True)[1].astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, _WINDOW + 1)[::16]
    data = rb.open((np.ascontiguousarray(windows[:, :-1]), windows[:, -1].copy()))
    return rb.split(data, val=0.1, seed=1)


MODELS: dict[str, Any] = {
    "softmax": lambda: "softmax",
    "mlp": lambda: "mlp:100",
    "cnn": Cnn,
    "transformer": lambda: Transformer(len(np.unique(parts_of("transformer").data.array("y")))),
}
# Slow ones at smaller sizes.
LARGEST = {"softmax": 16384, "mlp": 16384, "cnn": 4096, "transformer": 2048}


def model_of(workload: str) -> Any:
    torch.manual_seed(0)
    return MODELS[workload]()


def run_apart(
    workload: str,
    optimizer: str,
    size: int,
    *,
    limit: int | None,
    validates: bool,
    returns_freed: bool = False,
    evaluation_batch_size: int | None = None,
) -> dict[str, Any]:
    """`rb.fit` in a newly started process: bytes above its loaded state, or how it failed."""
    # The C library's own first threshold, which it would raise as it sees larger blocks freed.
    returning = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)} if returns_freed else {}
    with contextlib.nullcontext() if limit is None else control_group() as group:
        asked = [workload, optimizer, size, limit, group, validates, evaluation_batch_size]
        done = subprocess.run(  # noqa: S603 - this file
            [sys.executable, __file__, "--child", json.dumps(asked)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **returning},
        )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"failed": f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def child(asked: str) -> None:
    workload, optimizer, size, limit, group, validates, evaluation_size = json.loads(asked)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    warnings = _Warnings()
    logging.getLogger("rightbatch").addHandler(warnings)
    parts, model = parts_of(workload), model_of(workload)
    if not validates:
        parts = replace(parts, val=None)
    _ = rb.fit  # its modules are libraries that are loaded
    gc.collect()
    give_back_free_memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    loaded, of_files = memory_bytes("VmRSS"), memory_bytes("RssFile")
    if limit is not None:
        join(group, limit - loaded)
    times = []

    def note(step: int, *_: Any) -> None:
        times.append(time.perf_counter())
        # At least one epoch and a bit where it is quick, some steps where it is slow.
        if not validates and step >= 24 and times[-1] - times[0] > 1.5:
            raise _EnoughError

    keywords: dict[str, Any] = {
        "optimizer": optimizer,
        "learning_rate": 1e-4,
        "batch_size": size,
        "evaluation_batch_size": evaluation_size,
    }
    epoch = math.ceil(len(parts.train) / size)
    quick = workload in ("softmax", "mlp")
    steps = (epoch + 3 if quick else 20) if validates else 1_000
    with contextlib.suppress(_EnoughError):
        rb.fit(model, parts, steps=steps, on_step=note, **keywords)
    print(
        json.dumps(
            {
                # Pages of files are code that is run for the first time, which is not the batch's.
                "bytes": memory_bytes("VmHWM") - loaded - (memory_bytes("RssFile") - of_files),
                "peak": memory_bytes("VmHWM"),
                "steps": len(times),
                "warnings": warnings.said,
            }
        )
    )


class _EnoughError(Exception):
    pass


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "memory" in record.getMessage():
            self.said.append(record.getMessage())


class Kept:
    """Finished lines, in a file where one is given."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = [] if file is None or not file.exists() else file.read_text().splitlines()
        self._lines = {json.dumps(key): value for key, value in map(json.loads, lines)}

    def __call__(self, key: list[Any], make: Any) -> Any:
        """What is kept under `key`, or what `make` gives now."""
        name = json.dumps(key)
        if name not in self._lines:
            self._lines[name] = value = make()
            if self._file is not None:
                with self._file.open("a") as file:
                    file.write(json.dumps([key, value]) + "\n")
        return self._lines[name]


def predict(workload: str, optimizer: str, seconds: float) -> list[dict[str, Any]]:
    """Predicted and measured at sizes that were not probed."""
    memory = measure_memory(
        model_of(workload),
        parts_of(workload),
        options=FitOptions(optimizer=optimizer),
        batch_sizes=[LARGEST[workload]],
        seconds=seconds,
    )
    assert memory.fit is not None, memory
    probed = [point.batch_size for point in memory.measured]
    asked = [
        round(probed[k] ** (1 - share) * probed[k + 1] ** share)
        for k in range(len(probed) - 1)
        for share in (1 / 3, 2 / 3)
    ]
    rows = []
    for size in asked:
        predicted, high = memory.fit.bytes(size), memory.fit.high(size)
        if predicted < _LEAST_BYTES:
            continue
        told, *usual = (
            run_apart(workload, optimizer, size, limit=None, validates=False, returns_freed=returns)
            for returns in (True, *[False] * _USUAL_RUNS)
        )
        held = [run["bytes"] for run in usual]
        rows.append(
            {
                "size": size,
                "predicted": predicted,
                "high": high,
                **told,
                "held": held,
                "probed": probed,
            }
        )
    return rows


def trial(number: int, workloads: list[str], seconds: float) -> dict[str, Any]:
    """A drawn workload, optimizer and limit: the advised size, and how its run ended."""
    drawn = np.random.default_rng(number)
    workload = workloads[number % len(workloads)]
    optimizer = _OPTIMIZERS[number // len(workloads) % 2]
    parts_of(workload)
    limit = int(memory_bytes("VmRSS") + drawn.uniform(40e6, 400e6))
    try:
        memory = measure_memory(
            model_of(workload),
            parts_of(workload),
            options=FitOptions(optimizer=optimizer),
            batch_sizes=[LARGEST[workload]],
            memory_limit=limit,
            seconds=seconds,
        )
    except rb.MemoryLimitError as error:
        return {"limit": limit, "cap": None, "refused": str(error)}
    told = run_apart(
        workload,
        optimizer,
        memory.cap or 1,
        limit=limit,
        validates=True,
        evaluation_batch_size=memory.evaluation_batch_size,
    )
    is_out = "failed" in told or bool(told["warnings"])
    return {"limit": limit, "cap": memory.cap, **told, "is_out": is_out}


@click.command(help=__doc__)
@click.option("--only", multiple=True, metavar="WORKLOAD", help="softmax, mlp, cnn, transformer.")
@click.option("--trials", default=0, show_default=True, help="Runs at advised sizes.")
@click.option("--seconds", default=15.0, show_default=True, help="Time for one measurement.")
@click.option("--no-table", is_flag=True, help="Trials alone.")
@click.option("--cache", "cache_file", type=click.Path(path_type=Path), help="Go on from FILE.")
@click.option("--child", hidden=True)
def main(
    only: tuple[str, ...],
    trials: int,
    seconds: float,
    no_table: bool,
    cache_file: Path | None,
    child: str | None,
) -> None:
    if child is not None:
        globals()["child"](child)
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    machine = describe_machine()
    kept = Kept(cache_file)
    workloads = [name for name in MODELS if not only or name in only]
    print(
        f"{machine['date']} · {machine['processor']}, {machine['cores']} cores · load "
        f"{machine['load_before']} · Python {machine['python']} · torch {torch.__version__}"
    )
    errors, above, ran = [], 0, 0
    print(
        f"{'workload':<12} {'optimizer':<9} {'size':>6} {'predicted':>10} {'measured':>10} error  "
        f"held by {_USUAL_RUNS} usual runs, and the bound"
    )
    for workload in [] if no_table else workloads:
        for optimizer in _OPTIMIZERS:
            key = ["predict", workload, optimizer, seconds]
            for row in kept(key, lambda w=workload, o=optimizer: predict(w, o, seconds)):
                if row.get("bytes", 0) < _LEAST_BYTES:
                    continue
                error = row["predicted"] / row["bytes"] - 1
                errors.append(abs(error))
                above += sum(held > row["high"] for held in row["held"])
                ran += len(row["held"])
                usual = ", ".join(f"{held / 1e6:.0f}" for held in row["held"])
                print(
                    f"{workload:<12} {optimizer:<9} {row['size']:>6} "
                    f"{row['predicted'] / 1e6:>7.1f} MB {row['bytes'] / 1e6:>7.1f} MB {error:+.1%}"
                    f"  {usual} <= {row['high'] / 1e6:.0f} MB",
                    flush=True,
                )
    if errors:
        within = sum(error <= _GOAL for error in errors)
        print(
            f"{within} of {len(errors)} within {_GOAL:.0%}; median {statistics.median(errors):.1%},"
            f" worst {max(errors):.1%}; {above} of {ran} usual runs held more than the bound"
        )
    outs = done = 0
    for number in range(trials):
        told = kept(
            ["trial", number, workloads, seconds],
            lambda n=number: trial(n, workloads, seconds),
        )
        done += told["cap"] is not None
        if told.get("is_out"):
            outs += 1
            print(f"trial {number} ran out: {told}")
    if trials:
        print(
            f"{done} trials at an advised size, {trials - done} refused; {outs} ran out of memory"
        )


if __name__ == "__main__":
    main()

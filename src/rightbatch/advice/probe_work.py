"""What a probe does in its own process: train or evaluate at one batch size, and read its peak."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from rightbatch.advice.memory_limit import MARGIN
from rightbatch.advice.probe_pages import memory_bytes, wait_for_threads
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Part, Parts

# What a loader gathers at once is its own affair; here it says how long an epoch has to be.
from rightbatch.loading.slabs import _MOST_BATCHES, _SLAB_BYTES, find_device
from rightbatch.plan.row_set import RowSet
from rightbatch.training.building import build
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE, score
from rightbatch.training.options import FitOptions
from rightbatch.training.settings import run_settings, threads_for
from rightbatch.training.task import Task
from rightbatch.training.trainer import Trainer

# Read-ahead, the batch in hand and the one before it: so many slabs exist at once, and more batches
# than that show nothing new.
_EPOCH_SLABS = 6
# Memory does not depend on it, and no loss may run away from a probe.
_LEARNING_RATE = 1e-9
_NEVER = 1e9
# An optimizer's state appears at the end of the first step, and the allocator of the C library
# changes its mind about what to keep as it meets larger pieces: after four steps peaks stand still.
LEAST_STEPS = 4
# How many batches exist at once is a matter of chance in each step: quick ones are taken until the
# worst has been seen.
ENOUGH_SECONDS = 0.7
_MOST_EPOCHS = 4
# So many steps begin with everything read ahead that a loader reads, as training does that is
# slower than its loader: a busy machine would show less by chance.
_SETTLED_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class ProbeJob:
    """What all probes of a measurement share; it travels to their process once.

    `threads` is the number that torch has in the caller's process.
    """

    model: str | nn.Module | Callable[[int], nn.Module]
    parts: Parts
    options: FitOptions
    device: str | None
    threads: int

    @property
    def on_gpu(self) -> bool:
        """Whether the memory in question is that of a GPU."""
        return self.device is not None and self.device.startswith("cuda")


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """One probe of `kind` at `batch_size`, in `steps` steps (None: as many as it takes).

    The kinds: "training" is steps alone, "fit" steps and validation as `fit` does them,
    "evaluation" a pass without gradients.

    `limit_bytes` is for the process as a whole; `timeout_seconds` is when it counts as hanging.
    Quick steps of "training" are repeated for `enough_seconds`.
    """

    kind: str
    batch_size: int
    steps: int | None
    limit_bytes: int | None
    timeout_seconds: float
    enough_seconds: float = ENOUGH_SECONDS


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The job with its model built: what the process holds before the first batch.

    `task` is None for a module, whose task is found by running it, which a probe does itself.
    """

    job: ProbeJob
    network: nn.Module
    task: Task | None


def load(job: ProbeJob) -> Loaded:
    """Build the model of a job, but run nothing of it."""
    if isinstance(job.model, str):
        network, task = build(job.model, job.parts.train, job.options)
        return Loaded(job=job, network=network, task=task)
    own = job.model if isinstance(job.model, nn.Module) else job.model(job.options.seed)
    return Loaded(job=job, network=own, task=None)


def probe(loaded: Loaded, request: ProbeRequest) -> dict[str, Any]:
    """Do it, and tell the peak of memory above the loaded state, as JSON.

    `bytes` is that peak, `loaded_bytes` the state before, `seconds_per_sample` the time of one,
    `sample_bytes` and `slab_bytes` are the loader's; `validation_batch_size` is what `fit` made do
    with.

    Raises MemoryError where it worked only in smaller pieces than was asked for.
    """
    job = loaded.job
    torch.set_num_threads(job.threads)
    meter = _meter(job, loaded.network, request)
    began = time.perf_counter()
    with run_settings(job.options.seed):
        work = _evaluate if request.kind == "evaluation" else _train
        told = work(loaded, request)
    return {
        **told,
        "loaded_bytes": meter.loaded_bytes,
        "limit_bytes": meter.limit_bytes,
        "limit_source": meter.limit_source,
        "bytes": meter.peak_bytes() - meter.loaded_bytes,
        "seconds": time.perf_counter() - began,
    }


def _train(loaded: Loaded, request: ProbeRequest) -> dict[str, Any]:
    job, size = loaded.job, request.batch_size
    micro = job.options.micro_batch_size
    options = replace(
        job.options,
        batch_size=size,
        epochs=None,
        steps=1,
        learning_rate=_LEARNING_RATE,
        early_stopping=None,
        micro_batch_size=None if micro is None or micro >= size else micro,
        checkpoint_seconds=_NEVER,
    )
    network, task = loaded.network, loaded.task
    if task is None:
        network, task = build(network, job.parts.train, options)
    torch.set_num_threads(options.threads or threads_for(network, size, job.parts))
    # An epoch of a few slabs, each of several batches where these are small.
    sample_bytes = task.prepare(job.parts.train).pipeline.sample_bytes
    slab_batches = min(max(1, _SLAB_BYTES // (sample_bytes * size)), _MOST_BATCHES)
    epoch_batches = min(math.ceil(len(job.parts.train) / size), _EPOCH_SLABS * slab_batches)
    is_validated = request.kind == "fit" and job.parts.val is not None
    # A fit goes on into a second epoch, which finds in memory what validation has left.
    steps = request.steps or epoch_batches + (2 if is_validated else _MOST_EPOCHS * epoch_batches)
    options = replace(options, steps=steps)
    val = job.parts.val if is_validated else None
    parts = replace(
        job.parts,
        train=_first(job.parts.train, epoch_batches * size),
        val=None if val is None else _first(val, _EPOCH_SLABS * EVALUATION_BATCH_SIZE),
    )
    watch = _Watch(
        options,
        enough_seconds=request.enough_seconds
        if request.steps is None and not is_validated
        else math.inf,
    )
    trainer = Trainer(
        network,
        parts,
        task,
        options,
        folder=None,
        device=None if job.device is None else find_device(job.device),
        watcher=None,
        observer=watch,
    )
    watch.trainer = trainer
    with contextlib.suppress(_Enough):
        trainer.run()
    return {
        "steps": len(watch.times) - 1,
        "validation_batch_size": trainer.validation and trainer.validation.batch_size,
        "seconds_per_sample": watch.step_seconds() / size,
        "sample_bytes": sample_bytes,
        "slab_bytes": _SLAB_BYTES,
    }


class _Enough(Exception):  # noqa: N818 - the end of a probe, and no error
    """Further steps would show nothing new."""


class _Watch:
    """Looks at every step: how long it took, and whether it was taken as a whole."""

    def __init__(self, options: FitOptions, *, enough_seconds: float) -> None:
        self.trainer: Trainer | None = None
        self.times = [time.perf_counter()]
        self.paused_seconds: dict[int, float] = {}
        self._began = time.process_time()
        self._options = options
        self._enough_seconds = enough_seconds

    def __call__(self, step: int, loss: float, model: nn.Module) -> None:
        """Note the time, and end training once there was enough of it."""
        del loss, model
        self.times.append(time.perf_counter())
        self.refuse_smaller_pieces()
        # Of the process, not of the clock: a busy machine must not end a probe early.
        if step >= LEAST_STEPS and time.process_time() - self._began > self._enough_seconds:
            raise _Enough
        if step <= _SETTLED_STEPS:
            wait_for_threads()
            self.paused_seconds[step] = time.perf_counter() - self.times[-1]

    def refuse_smaller_pieces(self) -> None:
        """MemoryError where training has made do with smaller micro-batches than asked for."""
        assert self.trainer is not None  # set before it runs
        if self.trainer.step.micro_batch_size != self._options.micro_batch_size:
            raise MemoryError("training went on in smaller micro-batches")

    def step_seconds(self) -> float:
        """The median; the first step prepares much that later ones find, and is left out."""
        intervals = np.diff(self.times)
        for step, paused in self.paused_seconds.items():
            if step < len(intervals):
                intervals[step] -= paused
        return float(np.median(intervals[1:] if len(intervals) > 1 else intervals))


def _evaluate(loaded: Loaded, request: ProbeRequest) -> dict[str, Any]:
    job, size = loaded.job, request.batch_size
    network, task = loaded.network, loaded.task
    # The largest part, as held-out samples come.
    part = replace(job.parts.train, transforms=job.parts.held_out_transforms)
    if task is None:
        network, task = build(network, part, job.options)
    prepared = task.prepare(_first(part, _EPOCH_SLABS * max(size, EVALUATION_BATCH_SIZE)))
    device = None if job.device is None else find_device(job.device)
    # Not as an `Evaluation`, which makes do with smaller batches where memory runs out.
    batches = Batches(
        prepared, min(size, len(prepared)), shuffle=False, output="torch", device=device
    )
    began = time.perf_counter()
    score(network, batches, task.loss)
    spent = time.perf_counter() - began
    return {
        "steps": math.ceil(len(prepared) / size),
        "seconds_per_sample": spent / len(prepared),
        "sample_bytes": prepared.pipeline.sample_bytes,
        "slab_bytes": _SLAB_BYTES,
    }


def _first(part: Part, samples: int) -> Part:
    if samples >= len(part):
        return part
    rows = part.rows.take(np.arange(samples))
    return replace(part, rows=RowSet.from_rows(part.rows.total, rows))


class _Meter:
    """The memory of the process: what it holds with everything loaded, and its peak since."""

    # The limit that only the process itself can find.
    limit_bytes: int | None = None
    limit_source = ""

    def __init__(self) -> None:
        self.loaded_bytes = memory_bytes("VmRSS")

    def peak_bytes(self) -> int:
        return memory_bytes("VmHWM")


class _CudaMeter(_Meter):
    """The memory on a GPU: the context of the driver, and what torch's allocator has reserved.

    What other processes hold on that GPU is told apart from the context by nobody, and counts.
    """

    def __init__(self, device: torch.device, network: nn.Module) -> None:
        self._device = device
        torch.empty(0, device=device)
        free, total = torch.cuda.mem_get_info(device)
        self.context_bytes = total - free
        network.to(device)
        torch.cuda.reset_peak_memory_stats(device)
        self.loaded_bytes = self.context_bytes + torch.cuda.memory_reserved(device)
        # Of the GPU as a whole, of which `loaded_bytes` has what others hold.
        self.limit_bytes = int(self.context_bytes + free * (1 - MARGIN))
        self.limit_source = f"free on the GPU, less {MARGIN:.0%}"

    def peak_bytes(self) -> int:
        return self.context_bytes + torch.cuda.max_memory_reserved(self._device)


def _meter(job: ProbeJob, network: nn.Module, request: ProbeRequest) -> _Meter:
    if job.device is None:
        return _Meter()
    device = find_device(job.device)
    if device.type != "cuda":
        network.to(device)
        return _Meter()
    meter = _CudaMeter(device, network)
    limit = meter.limit_bytes if request.limit_bytes is None else request.limit_bytes
    if limit is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        share = (limit - meter.context_bytes) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), device)
    return meter

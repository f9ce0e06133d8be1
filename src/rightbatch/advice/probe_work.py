"""What a probe does in its own process: train or evaluate at one batch size, and read its peak."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from rightbatch.advice.probe_meter import Meter, find_meter
from rightbatch.advice.probe_pages import wait_for_threads
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.resident_slabs import RESIDENT_SLAB_BYTES

# What a loader gathers at once is its own affair; here it says how long an epoch has to be.
from rightbatch.loading.slabs import _MOST_BATCHES, _SLAB_BYTES
from rightbatch.loading.tensors import find_device
from rightbatch.plan.row_set import RowSet
from rightbatch.training.building import build
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE, score
from rightbatch.training.options import FitOptions
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.ranks import Ranks
from rightbatch.training.settings import run_settings, threads_for
from rightbatch.training.task import Task
from rightbatch.training.trainer import Trainer

# Read-ahead, the batch in hand and the one before it: so many slabs exist at once, and more batches
# than that show nothing new.
_EPOCH_SLABS = 6
# Memory does not depend on it, and no loss may run away from a probe.
_LEARNING_RATE = 1e-9
_NEVER = 1e9
# The first steps of a probe show what the batch needs, the others what the process holds then (see
# `Meter`). Four steps show the optimizer's state; quick ones are repeated for a share of the time.
_NEED_STEPS, _MOST_NEED_STEPS, _NEED_SHARE = 4, 24, 0.4
_HELD_STEPS = 4
_MOST_FIT_STEPS = 96
LEAST_STEPS = _NEED_STEPS + _HELD_STEPS
# How many batches exist at once is a matter of chance in each step: quick ones are taken until the
# worst has been seen.
ENOUGH_SECONDS = 0.7
_MOST_EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class ProbeJob:
    """What all probes of a measurement share; it travels to their process once.

    `threads` is the number that torch has in the caller's process. `is_rank` says that it is one of
    several ranks that will train.
    """

    model: str | nn.Module | Callable[[int], nn.Module]
    parts: Parts
    options: FitOptions
    device: str | None
    threads: int
    is_rank: bool = False

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
    Quick steps of "training" are repeated for `enough_seconds`; "fit" validates in batches of
    `evaluation_batch_size`.
    """

    kind: str
    batch_size: int
    steps: int | None
    limit_bytes: int | None
    timeout_seconds: float
    enough_seconds: float = ENOUGH_SECONDS
    evaluation_batch_size: int = EVALUATION_BATCH_SIZE


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
    if job.is_rank:
        # DistributedDataParallel imports it when it is made: 80 MB, and no part of a batch.
        importlib.import_module("torch._dynamo.utils")
    own = job.model if isinstance(job.model, nn.Module) else job.model(job.options.seed)
    return Loaded(job=job, network=own, task=None)


def probe(loaded: Loaded, request: ProbeRequest) -> dict[str, Any]:
    """Do it, and tell the peak of memory above the loaded state, as JSON.

    `bytes` is what was in use at once, `held_bytes` the peak with what the allocator keeps of
    freed memory, `loaded_bytes` the state before, `seconds_per_sample` the time of one,
    `sample_bytes` and `slab_bytes` are the loader's; `validation_batch_size` is what `fit` made do
    with.

    Raises MemoryError where it worked only in smaller pieces than was asked for.
    """
    job = loaded.job
    torch.set_num_threads(job.threads)
    ranks = _group_of_one(job) if job.is_rank else Ranks()
    meter = find_meter(
        loaded.network,
        None if job.device is None else find_device(job.device),
        limit_bytes=request.limit_bytes,
    )
    began = time.perf_counter()
    with run_settings(job.options.seed):
        if request.kind == "evaluation":
            told = _evaluate(loaded, request, meter)
        else:
            told = _train(loaded, request, meter, ranks)
    meter.refuse_thrashing()
    return {
        **told,
        "loaded_bytes": meter.loaded_bytes,
        "limit_bytes": meter.limit_bytes,
        "limit_source": meter.limit_source,
        "bytes": meter.needed_bytes(),
        "held_bytes": meter.held_bytes(),
        "seconds": time.perf_counter() - began,
    }


def _group_of_one(job: ProbeJob) -> Ranks:
    """A process group for this process alone: what it holds for the others does not depend on them.

    The buckets of DistributedDataParallel are a copy of all gradients, with any number of ranks.
    """
    from torch import distributed

    public: Any = distributed  # torch does not type what it exports
    public.init_process_group(
        "nccl" if job.on_gpu else "gloo", store=public.HashStore(), rank=0, world_size=1
    )
    return ProcessGroup.default()


def _train(loaded: Loaded, request: ProbeRequest, meter: Meter, ranks: Ranks) -> dict[str, Any]:
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
        # What ranks do with layers that couple samples is another's to ask.
        batch_statistics="rank" if job.is_rank else None,
        checkpoint_seconds=_NEVER,
        evaluation_batch_size=request.evaluation_batch_size,
    )
    network, task = loaded.network, loaded.task
    if task is None:
        network, task = build(network, job.parts.train, options)
    torch.set_num_threads(options.threads or threads_for(network, size, job.parts))
    # An epoch of a few slabs, each of several batches where these are small.
    sample_bytes = task.prepare(job.parts.train).pipeline.sample_bytes
    slab_bytes = RESIDENT_SLAB_BYTES if job.on_gpu else _SLAB_BYTES
    slab_batches = min(max(1, slab_bytes // (sample_bytes * size)), _MOST_BATCHES)
    epoch_batches = min(math.ceil(len(job.parts.train) / size), _EPOCH_SLABS * slab_batches)
    is_validated = request.kind == "fit" and job.parts.val is not None
    # A fit goes on into a second epoch, which finds in memory what validation has left; where an
    # epoch is of many small batches, it ends in the first, and validation follows all the same.
    many = max(2 * _MOST_NEED_STEPS, (1 + _MOST_EPOCHS) * epoch_batches)
    steps = request.steps or (min(epoch_batches + 2, _MOST_FIT_STEPS) if is_validated else many)
    options = replace(options, steps=steps)
    parts = replace(job.parts, val=None)
    if is_validated:
        assert job.parts.val is not None  # as `is_validated` says
        # On a GPU the samples themselves may live there, all of them; the run ends after so many
        # steps in any case, and validates.
        parts = job.parts
        if not job.on_gpu:
            parts = replace(
                parts,
                train=_first(parts.train, epoch_batches * size),
                val=_first(job.parts.val, _EPOCH_SLABS * EVALUATION_BATCH_SIZE),
            )
    watch = _Watch(
        options,
        meter,
        enough_seconds=request.enough_seconds
        if request.steps is None and not is_validated
        else math.inf,
        # Validation comes at the end of the epoch.
        need_steps=epoch_batches + 1 if is_validated else None,
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
        ranks=ranks,
    )
    watch.trainer = trainer
    trainer.train = cast(Batches, _Settled(trainer.train, watch))
    with contextlib.suppress(_Enough):
        trainer.run()
    return {
        "steps": len(watch.times) - 1,
        "validation_batch_size": trainer.validation and trainer.validation.size,
        "seconds_per_sample": watch.step_seconds() / size,
        "sample_bytes": sample_bytes,
        "slab_bytes": slab_bytes if trainer.train.residency.is_resident else _SLAB_BYTES,
    }


class _Settled:
    """A trainer's batches, which come when everything is read ahead that a loader reads.

    How many exist at once is a matter of chance in each step, and chance shows the most sooner or
    later: where the loader has begun the next before training has let go of the last.
    """

    def __init__(self, batches: Batches, watch: _Watch) -> None:
        self._batches = batches
        self._watch = watch

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            self._watch.settle()
            yield batch

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


class _Enough(Exception):  # noqa: N818 - the end of a probe, and no error
    """Further steps would show nothing new."""


class _Watch:
    """Looks at every step: how long it took, and whether it was taken as a whole."""

    def __init__(
        self,
        options: FitOptions,
        meter: Meter,
        *,
        enough_seconds: float,
        need_steps: int | None,
    ) -> None:
        self.trainer: Trainer | None = None
        self._meter = meter
        self._need_steps: int | None = None
        self._first_steps, self._most_steps = (
            (_NEED_STEPS, _MOST_NEED_STEPS) if need_steps is None else (need_steps, need_steps)
        )
        self.times = [time.perf_counter()]
        self._began = time.process_time()
        self._options = options
        self._enough_seconds = enough_seconds

    def __call__(self, step: int, loss: float, model: nn.Module) -> None:
        """Note the time, and end training once there was enough of it."""
        del loss, model
        self.times.append(time.perf_counter())
        self.refuse_smaller_pieces()
        # Of the process, not of the clock: a busy machine must not end a probe early.
        spent = (time.process_time() - self._began) / self._enough_seconds
        if step >= (self._need_steps or step) + _HELD_STEPS and spent > 1.0:
            raise _Enough
        if self._need_steps is None and (
            step >= self._most_steps or (step >= self._first_steps and spent > _NEED_SHARE)
        ):
            self._need_steps = step
            self._meter.keep_freed()

    def settle(self) -> None:
        """Wait for the loader, in the steps that show what is needed."""
        if self._need_steps is None and len(self.times) <= _MOST_NEED_STEPS:
            wait_for_threads()

    def refuse_smaller_pieces(self) -> None:
        """MemoryError where training has made do with smaller micro-batches than asked for."""
        assert self.trainer is not None  # set before it runs
        if self.trainer.step.micro_batch_size != self._options.micro_batch_size:
            raise MemoryError("training went on in smaller micro-batches")

    def step_seconds(self) -> float:
        """The median of the steps after those that show what is needed, where there are any."""
        intervals = np.diff(self.times)
        first = min(self._need_steps or 1, len(intervals) - 1)
        return float(np.median(intervals[first:]))


def _evaluate(loaded: Loaded, request: ProbeRequest, meter: Meter) -> dict[str, Any]:
    job, size = loaded.job, request.batch_size
    network, task = loaded.network, loaded.task
    # The largest part, as held-out samples come.
    part = replace(job.parts.train, transforms=job.parts.held_out_transforms)
    if task is None:
        network, task = build(network, part, job.options)
    prepared = task.prepare(_first(part, _EPOCH_SLABS * max(size, EVALUATION_BATCH_SIZE)))
    device = None if job.device is None else find_device(job.device)
    # Not as an `Evaluation`, which makes do with smaller batches where memory runs out.
    # What lives on a GPU is seen where a run is probed as a whole; here it would grow with the
    # size.
    batches = Batches(
        prepared,
        min(size, len(prepared)),
        shuffle=False,
        output="torch",
        device=device,
        device_memory=0,
    )
    score(network, batches, task.loss)
    meter.keep_freed()
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

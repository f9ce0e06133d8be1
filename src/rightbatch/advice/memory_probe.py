"""`measure_memory` and `confirm`: what batch sizes take, each run in a process of its own."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from rightbatch.advice.memory import Memory, MemoryPoint
from rightbatch.advice.memory_limit import GIVEN, Room, find_limit, given_limit
from rightbatch.advice.memory_probes import Measurement, MemoryWatcher, is_within
from rightbatch.advice.probe_client import ProbeFailure, Prober
from rightbatch.advice.probe_pages import memory_bytes
from rightbatch.advice.probe_work import ProbeJob, ProbeRequest
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.training.options import FitOptions
from rightbatch.training.settings import device_of

ModelFactory = Callable[[int], nn.Module]

_LARGEST_BY_DEFAULT = 8192


def measure_memory(
    model: str | nn.Module | ModelFactory,
    parts: Parts,
    *,
    options: FitOptions,
    memory_limit: str | int | float | None = None,
    batch_sizes: Sequence[int] | None = None,
    device: str | torch.device | None = None,
    seconds: float = 15.0,
    patience_seconds: float | None = None,
    progress: MemoryWatcher | None = None,
    room: Room | None = None,
    is_rank: bool = False,
) -> Memory:
    """Measure what training and evaluation take at several batch sizes, and find what fits.

    `model` is a name, a `torch.nn.Module` or a function of a seed that makes one; a name or a
    function is built again in the process of the probes, a module travels there by cloudpickle.
    Nothing of it is run in the caller's process. `options` are those of `fit`; its batch size and
    length have no say. `batch_sizes` are the sizes that are asked about (the default is the powers
    of two up to 8,192 that there are samples for), the largest of them the largest that is run.

    `memory_limit` is what the training process may take *in all*, with libraries, model and data:
    "8GB", "2GiB", or a number of bytes. It is the calling process that is taken for the one that
    will train: what it holds more than a probe (other libraries, other data) is gone as well.
    Without a limit, it is what the machine or its control group has free, less 10 %; on a GPU
    what is free there, less 10 %. A larger limit than that is cut down to it.

    How: every size is run in a process of its own, smallest first and at three sizes at least
    (fewer only where there are not so many), through four steps of training or more, with the
    batches that `fit` reads ahead. Its peak of memory above what was loaded is fitted by
    m0 + m1 B plus what the loader is known to hold. The largest size whose upper bound is within
    the limit is run as `fit` runs it, with validation, under that limit; `cap` is the largest that
    was run so and fits. Evaluation is probed apart. All of it takes about `seconds`; sizes that
    would take longer are not run, which `notes` tells. A probe that has not ended after
    `patience_seconds` is taken for one that hangs.

    Of several ranks one measures for all: `is_rank` has the probes train as one of them, with what
    torch's DistributedDataParallel holds, and `room` is that of the rank which has least. Batch
    sizes are then those of a rank's share.

    Where nothing can be measured (a model that can not be sent, one that hangs or crashes, another
    system than Linux), `declined` says why.

    Raises MemoryLimitError where not even batch size 1 fits, OptionError where an option is not
    valid or the model itself fails.

    >>> import rightbatch as rb
    >>> from rightbatch.training.options import FitOptions
    >>> parts = rb.split(rb.open("digits"), val=0.1).transform(rb.scale(1 / 16))
    >>> memory = measure_memory("mlp:50", parts, options=FitOptions(), batch_sizes=[64, 1024])
    >>> memory.cap, [point.batch_size for point in memory.predicted]
    (1024, [64, 1024])
    """
    if not math.isfinite(seconds) or seconds <= 0:
        raise OptionError(f"seconds={seconds!r} is not valid; give a number of seconds above 0")
    job = replace(_job(model, parts, options, device), is_rank=is_rank)
    sizes = _sizes(batch_sizes, len(parts.train))
    room = Room.here() if room is None else room
    # What the machine has free says nothing of a GPU: a probe will ask there.
    limit = given_limit(memory_limit) if job.on_gpu else find_limit(memory_limit, room)
    reason = why_not_here()
    if reason is None:
        try:
            with Prober(job) as prober:
                limit = find_limit(memory_limit, room, loaded_bytes=prober.loaded_bytes)
                if job.on_gpu and memory_limit is None:
                    limit = None  # that of the machine says nothing of the GPU: a probe asks there
                return Measurement(
                    prober, parts, sizes, limit, seconds, patience_seconds, progress
                ).run()
        except ProbeFailure as failure:
            reason = str(failure)
    return Memory(
        cap=None,
        limit_bytes=None if limit is None else limit.bytes,
        limit_source="" if limit is None else limit.source,
        loaded_bytes=0,
        device=job.device or "cpu",
        declined=reason,
        notes=[f"No memory advice: {reason}."],
    )


def confirm(
    model: str | nn.Module | ModelFactory,
    parts: Parts,
    *,
    batch_size: int,
    options: FitOptions,
    memory_limit: str | int | float | None = None,
    device: str | torch.device | None = None,
    patience_seconds: float = 120.0,
) -> MemoryPoint | None:
    """Run one batch size as `fit` does, for some steps in a process of its own, under the limit.

    Gives what it took, or None where it does not fit. Options and errors are those of
    `measure_memory`.

    Raises ProbeFailure where it can not be run there; the text says why.

    >>> import rightbatch as rb
    >>> from rightbatch.training.options import FitOptions
    >>> parts = rb.split(rb.open("iris"), val=0.1)
    >>> confirm("softmax", parts, batch_size=16, options=FitOptions()).batch_size
    16
    """
    reason = why_not_here()
    if reason is not None:
        raise ProbeFailure(reason)
    job = _job(model, parts, options, device)
    limit = given_limit(memory_limit) if job.on_gpu else find_limit(memory_limit)
    size = min(whole_number("batch_size", batch_size, at_least=1), len(parts.train))
    request = ProbeRequest(
        kind="fit",
        batch_size=size,
        steps=None,
        limit_bytes=None if limit is None else limit.bytes,
        timeout_seconds=patience_seconds,
    )
    with Prober(job) as prober:
        if limit is not None and limit.source == GIVEN and not job.on_gpu:
            # As in `Measurement`: what the caller holds more than the probe is gone.
            more = max(0, memory_bytes("VmRSS") - prober.loaded_bytes)
            limit = replace(limit, bytes=max(1, limit.bytes - more))
            request = replace(request, limit_bytes=limit.bytes)
        outcome = prober.ask(request)
    if outcome.told is None or not is_within(outcome.told, limit):
        return None
    return MemoryPoint(
        batch_size=size, bytes=outcome.told["bytes"], held_bytes=outcome.told["held_bytes"]
    )


def why_not_here() -> str | None:
    """Why memory can not be measured on this system; None where it can.

    >>> why_not_here() is None or "Linux" in why_not_here()
    True
    """
    if not sys.platform.startswith("linux"):
        return f"memory is measured through /proc on Linux, and this is {sys.platform}"
    return None


def on_cpu(model: nn.Module) -> nn.Module:
    """A copy of a module in the memory of the machine, which takes none where the module is."""
    known: dict[int, Any] = {}
    for value in [*model.parameters(), *model.buffers()]:
        copied: torch.Tensor = value.detach().to("cpu", copy=True)
        if isinstance(value, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=value.requires_grad)
        known[id(value)] = copied
    return copy.deepcopy(model, known)


def _sizes(batch_sizes: Sequence[int] | None, samples: int) -> list[int]:
    if batch_sizes is None:
        largest = min(samples, _LARGEST_BY_DEFAULT)
        return [1 << power for power in range(largest.bit_length())]
    sizes: list[int] = sorted(
        {min(resolve_batch_size(size, samples), samples) for size in batch_sizes}
    )
    if not sizes:
        raise OptionError("batch_sizes is empty; give one at least, such as [32, 256, 2048]")
    return sizes


def _job(
    model: str | nn.Module | ModelFactory,
    parts: Parts,
    options: FitOptions,
    device: str | torch.device | None,
) -> ProbeJob:
    if not isinstance(parts, Parts):
        raise OptionError(
            f"memory is measured on the parts of a split, and was given {type(parts).__name__}: "
            "rb.split(data, val=0.1)"
        )
    if not isinstance(model, str | nn.Module) and not callable(model):
        raise OptionError(
            f"model={model!r} is none; give a name such as 'mlp:100', a torch.nn.Module, or a "
            "function of the seed that makes one"
        )
    if isinstance(model, nn.Module):
        place = device_of(model)
        if place is not None and place.type == "cuda":
            # The process that forks the probes must not have met the GPU: its children could not
            # use it.
            device, model = device or place, on_cpu(model)
    return ProbeJob(
        model=model,
        parts=parts,
        options=options,
        device=None if device is None else str(device),
        threads=torch.get_num_threads(),
    )

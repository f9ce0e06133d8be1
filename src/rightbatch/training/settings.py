"""What a run sets for its time and puts back: torch's threads and random state."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rightbatch.loading.parts import Parts
from rightbatch.plan.hashing import derive_key

# Multiplications of a step's first pass, parameters times samples. 784-100-10 at 128 is 10 million:
# there a second thread gains nothing on an idle machine and loses much on a busy one.
_DIVIDED_WORK = 1 << 24


def _is_cuda_used() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch leaves it so


def threads_for(network: nn.Module, batch_size: int | str, parts: Parts) -> int:
    """One thread where a step is too small to be divided, else as many as torch has now."""
    size = batch_size if isinstance(batch_size, int) else len(parts.train)
    work = sum(parameter.numel() for parameter in network.parameters()) * size
    return 1 if work < _DIVIDED_WORK else torch.get_num_threads()


def device_of(network: nn.Module) -> torch.device | None:
    """The GPU that a network lies on; None for the CPU, where batches are made anyway."""
    first = next(network.parameters(), None)
    return None if first is None or first.device.type == "cpu" else first.device


def device_here(device: str | torch.device) -> str | torch.device:
    """The device of that name for this process: of `cuda` without a number, each rank its own.

    >>> device_here("cpu")
    'cpu'
    """
    distributed = torch.distributed
    if str(device) == "cuda" and distributed.is_available() and distributed.is_initialized():
        # torchrun's number of a process on its machine.
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


class RandomState:
    """The random state of torch, on the CPU and on these devices, to go back to."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]

    @property
    def has_moved(self) -> bool:
        """Whether something was drawn since."""
        return self.has_moved_on_cpu or any(
            not torch.equal(state, torch.cuda.get_rng_state(device)) for device, state in self._cuda
        )

    @property
    def has_moved_on_cpu(self) -> bool:
        """Whether something was drawn since by the CPU's generator."""
        return not torch.equal(self._cpu, torch.get_rng_state())

    def next(self) -> RandomState:
        """The state of now, on the same devices."""
        return RandomState([device for device, _ in self._cuda])

    def restore(self) -> None:
        """Draw from here on what was drawn since."""
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda:
            torch.cuda.set_rng_state(state, device)


@contextmanager
def run_settings(seed: int) -> Iterator[None]:
    """The random state of torch for the time of a run; it and the threads are put back."""
    threads_before = torch.get_num_threads()
    # Asking CUDA for its state would start it up, for nothing where it is not used yet.
    cuda = range(torch.cuda.device_count()) if _is_cuda_used() else ()
    with torch.random.fork_rng(cuda):
        torch.manual_seed(derive_key("training", seed) >> 1)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)

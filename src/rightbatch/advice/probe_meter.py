"""What a probe needs and holds of memory: that of its process, or of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from typing_extensions import override

from rightbatch.advice.memory_limit import MARGIN
from rightbatch.advice.probe_pages import memory_bytes, return_freed_memory

# What the C library keeps of freed memory, to use it again, depends on chance: two runs of one
# convolutional network held 88 and 129 MB, of which 63 were in use at once in each. So a probe
# begins with returning what is freed, and the peak is what the batch needs; then the library keeps
# as much as it comes to keep in any training, and the peak is what the process held.
_RETURNED_ABOVE_BYTES, _KEPT_UP_TO_BYTES = 128 << 10, 32 << 20


class Meter:
    """The memory of the process: what it holds with everything loaded, and its peaks since.

    Until `keep_freed` the C library returns what is freed.
    """

    # The limit that only the process itself can find.
    limit_bytes: int | None = None
    limit_source = ""

    def __init__(self) -> None:
        self.loaded_bytes = memory_bytes("VmRSS")
        self._file_bytes = memory_bytes("RssFile")
        self._needed_bytes: int | None = None
        self._returns_freed = return_freed_memory(_RETURNED_ABOVE_BYTES)

    def keep_freed(self) -> None:
        """From here on the C library keeps what is freed."""
        if self._returns_freed:
            self._needed_bytes = self.held_bytes()
            return_freed_memory(_KEPT_UP_TO_BYTES)

    def needed_bytes(self) -> int:
        """The most that was in use at once, above the loaded state."""
        return self.held_bytes() if self._needed_bytes is None else self._needed_bytes

    def refuse_thrashing(self) -> None:
        """MemoryError where there was room only because the allocator gave back what it kept."""

    def held_bytes(self) -> int:
        """The most that the process held, above the loaded state."""
        # Code that is run for the first time is paged in from its file, some megabytes whatever
        # the batch, and the system may drop such pages at any time.
        paged_in = memory_bytes("RssFile") - self._file_bytes
        return memory_bytes("VmHWM") - paged_in - self.loaded_bytes


@dataclass(frozen=True, kw_only=True)
class GpuReading:
    """The memory of a GPU at one time, in bytes.

    `free` and `total` are the driver's, for all processes; the others are those of torch's
    allocator in this one, with their peaks. `retries` counts how often it found no room and gave
    back what it kept of freed memory to find some.
    """

    free: int
    total: int
    allocated: int
    reserved: int
    peak_allocated: int
    peak_reserved: int
    retries: int

    @property
    def outside(self) -> int:
        """What is taken beside torch's allocator: contexts, code of kernels, other processes."""
        return self.total - self.free - self.reserved


def read_gpu(device: torch.device) -> GpuReading:
    """How it is now, once the work that was given to it is done."""
    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    stats = torch.cuda.memory_stats(device)
    return GpuReading(
        free=free,
        total=total,
        allocated=torch.cuda.memory_allocated(device),
        reserved=torch.cuda.memory_reserved(device),
        peak_allocated=torch.cuda.max_memory_allocated(device),
        peak_reserved=torch.cuda.max_memory_reserved(device),
        retries=stats.get("num_alloc_retries", 0),
    )


class CudaMeter(Meter):
    """The memory on a GPU: what torch's allocator has there, and what is taken beside it.

    The peak of what is allocated is what is needed, that of what is reserved what is held: the
    difference lies in pieces between others that nothing fits into. Beside the allocator grow, in
    the first steps, the code of kernels and the workspaces of libraries, which count as held. What
    other processes hold on that GPU is told apart from those by nobody, and counts.
    """

    def __init__(
        self,
        device: torch.device,
        network: nn.Module,
        *,
        read: Callable[[torch.device], GpuReading] = read_gpu,
    ) -> None:
        self._device = device
        self._read = read
        torch.empty(0, device=device)
        before = read(device)
        # Of the GPU as a whole, of which `loaded_bytes` has what others hold.
        self.limit_bytes = int(before.outside + before.reserved + before.free * (1 - MARGIN))
        self.limit_source = f"free on the GPU, less {MARGIN:.0%}"
        network.to(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._loaded = read(device)
        self.loaded_bytes = self._loaded.outside + self._loaded.reserved

    @property
    def outside_bytes(self) -> int:
        """What was taken beside torch's allocator when everything was loaded."""
        return self._loaded.outside

    @override
    def keep_freed(self) -> None:
        """Nothing to do: this allocator tells both at any time."""

    @override
    def needed_bytes(self) -> int:
        """The most that was allocated at once, above the loaded state."""
        return max(0, self._read(self._device).peak_allocated - self._loaded.allocated)

    @override
    def held_bytes(self) -> int:
        """The most that was reserved or came to be taken beside it, above the loaded state."""
        now = self._read(self._device)
        beside = max(0, now.outside - self._loaded.outside)
        return max(0, now.peak_reserved - self._loaded.reserved) + beside

    @override
    def refuse_thrashing(self) -> None:
        retries = self._read(self._device).retries - self._loaded.retries
        if retries > 0:
            raise MemoryError(
                f"it found room only by giving memory back, {retries:,} times, which makes each "
                "step wait: there is less room than steps like these need"
            )


def find_meter(
    network: nn.Module, device: torch.device | None, *, limit_bytes: int | None
) -> Meter:
    """The meter of the device, to which the network is brought, with a GPU's limit set there.

    A limit beyond what the GPU has free is cut down to that.
    """
    if device is None:
        return Meter()
    if device.type != "cuda":
        network.to(device)
        return Meter()
    meter = CudaMeter(device, network)
    limit = meter.limit_bytes
    assert limit is not None  # a GPU's own is known
    if limit_bytes is not None:
        limit = min(limit, limit_bytes)
    total = torch.cuda.get_device_properties(device).total_memory
    share = (limit - meter.outside_bytes) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), device)
    return meter

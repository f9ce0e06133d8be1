"""What a probe needs and holds of memory: that of its process, or of a GPU."""

from __future__ import annotations

import torch
from torch import nn

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

    def held_bytes(self) -> int:
        """The most that the process held, above the loaded state."""
        # Code that is run for the first time is paged in from its file, some megabytes whatever
        # the batch, and the system may drop such pages at any time.
        paged_in = memory_bytes("RssFile") - self._file_bytes
        return memory_bytes("VmHWM") - paged_in - self.loaded_bytes


class CudaMeter(Meter):
    """The memory on a GPU: the context of the driver, and what torch's allocator has there.

    Its peak of what is allocated is what is needed, that of what is reserved what is held. What
    other processes hold on that GPU is told apart from the context by nobody, and counts.
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

    def keep_freed(self) -> None:
        """Nothing to do: this allocator tells both at any time."""

    def needed_bytes(self) -> int:
        """The most that was allocated at once, above the loaded state."""
        reserved = self.loaded_bytes - self.context_bytes
        return max(0, torch.cuda.max_memory_allocated(self._device) - reserved)

    def held_bytes(self) -> int:
        """The most that was reserved, above the loaded state."""
        reserved = self.loaded_bytes - self.context_bytes
        return torch.cuda.max_memory_reserved(self._device) - reserved


def find_meter(
    network: nn.Module, device: torch.device | None, *, limit_bytes: int | None
) -> Meter:
    """The meter of the device, to which the network is brought, with a GPU's limit set there."""
    if device is None:
        return Meter()
    if device.type != "cuda":
        network.to(device)
        return Meter()
    meter = CudaMeter(device, network)
    limit = meter.limit_bytes if limit_bytes is None else limit_bytes
    assert limit is not None  # a GPU's own is known
    total = torch.cuda.get_device_properties(device).total_memory
    share = (limit - meter.context_bytes) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), device)
    return meter

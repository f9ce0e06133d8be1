"""Copies to a GPU beside the computation: from pinned memory, on a stream of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CopiedSlab(list[Any]):
    """A slab whose copies may still be under way; `event` is when they have ended."""

    event: Any = None


class DeviceCopies:
    """Copies of batches on a stream of their own, made in a loader's thread while others compute.

    A batch goes into pinned memory and from there to the device without anybody waiting. Pinned
    memory and the device's own are torch's to pool: its allocator of pinned memory notes an event
    behind every copy that reads a block, and lends the block again only when that has passed.
    The consumer's stream waits for the copies of a slab when the slab is handed over.

    With a device that has no streams of its own, everything is done at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        self._lock = threading.Lock()

    def context(self) -> AbstractContextManager[Any]:
        """Where `move` is called: what is done inside goes to the stream of the copies."""
        return on_stream(self._own_stream())

    def move(self, values: Any) -> Any:
        """A tensor, or a dict of them, on the device, filled in time for who is handed the slab."""
        if isinstance(values, dict):
            return {name: to_device(tensor, self._device) for name, tensor in values.items()}
        return to_device(values, self._device)

    def end(self, batches: Iterable[Any]) -> CopiedSlab:
        """The slab of these batches, with the event behind their copies."""
        slab = CopiedSlab(batches)
        stream = self._own_stream()
        if stream is not None:
            slab.event = stream.record_event()
        return slab

    def hand_over(self, slab: list[Any]) -> None:
        """In the consumer's thread: its stream waits for the copies, and its use keeps them."""
        event = getattr(slab, "event", None)
        if event is None:
            return
        stream = current_stream(self._device)
        stream.wait_event(event)
        for _, batch in slab:
            for values in _tensors(batch):
                if values.device.type == self._device.type:
                    # The memory belongs to the copies' stream: it must not be lent again there
                    # while the consumer's work, which may come later, still reads it.
                    values.record_stream(stream)

    def _own_stream(self) -> Any:
        if self._device.type != "cuda":
            return None
        import torch

        # Made by whoever comes first: several threads of one loader share it.
        with self._lock:
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return self._stream


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; of a GPU by way of pinned memory, without waiting."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def current_stream(device: torch.device) -> Any:
    """The stream of the caller on a GPU; None elsewhere."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.current_stream(device)


def on_stream(stream: Any) -> AbstractContextManager[Any]:
    """The context in which work goes to a stream; nothing for None."""
    if stream is None:
        return contextlib.nullcontext()
    import torch

    return torch.cuda.stream(stream)


def _tensors(batch: Any) -> Iterable[Tensor]:
    if isinstance(batch, dict):
        batch = batch.values()
    elif not isinstance(batch, tuple):
        return [batch]
    return [tensor for values in batch for tensor in _tensors(values)]

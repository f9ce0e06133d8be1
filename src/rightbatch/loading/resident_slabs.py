"""Slabs of a part that lives on the device: the host works out the order, the device the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from rightbatch.loading.device_columns import DeviceColumns, find_residency
from rightbatch.loading.device_copies import current_stream, on_stream, to_device
from rightbatch.loading.parts import Part
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.tensors import aligned
from rightbatch.plan.plan import Plan
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.token_plan import AnyPlan

if TYPE_CHECKING:
    import torch

# A gather, a cast and a scaling take three launches whatever they move: over 32 MiB, 80 batches of
# 128 images of MNIST, they cost a batch nothing. Half a dozen such slabs are under way at a time.
RESIDENT_SLAB_BYTES = 32 << 20
_MOST_BATCHES = 1024


class Residence:
    """The part on the device, where it fits: makes the slabs of any epoch, in any thread.

    The columns are brought there when the first epoch begins, and stay as long as this object.
    What does not work out leaves the part on the host, and `residency` says why.
    """

    def __init__(
        self,
        part: Part,
        plan: AnyPlan | RankPlan,
        pipeline: Pipeline,
        reader: RowReader,
        device: torch.device | None,
        *,
        device_memory: str | int | float | None,
        reads_windows: bool,
        leaves_bad_out: bool,
        with_rows: bool,
    ) -> None:
        self._part = part
        self._plan = plan
        self._pipeline = pipeline
        self._reader = reader
        self._device = device
        self._with_rows = with_rows
        self.residency = find_residency(
            pipeline,
            part,
            plan,
            device,
            device_memory=device_memory,
            reads_windows=reads_windows,
            leaves_bad_out=leaves_bad_out,
        )
        self._columns: DeviceColumns | None = None
        self._lock = threading.Lock()

    def tasks(self, epoch: int, start: int) -> Iterator[Callable[[], list[tuple[int, Any]]]] | None:
        """The slabs from sample `start` of the epoch, as tasks; None where it is on the host."""
        columns = self._settle()
        if columns is None or self._device is None or not isinstance(self._plan, Plan):
            return None
        plan = self._plan
        # The consumer's stream, whichever thread makes the slab: so nothing has to be waited for.
        stream = current_stream(self._device)
        at_once = RESIDENT_SLAB_BYTES // (self._pipeline.sample_bytes * plan.batch_size)
        at_once = min(max(1, at_once), _MOST_BATCHES)
        spans = plan.spans(start, epoch)
        return (
            partial(self._load, columns, plan, together, epoch, stream)
            for together in iter(lambda: list(islice(spans, at_once)), [])
        )

    def _settle(self) -> DeviceColumns | None:
        """The columns, brought to the device by the first call; None where they stay here."""
        with self._lock:
            if self._columns is not None or not self.residency.is_resident:
                return self._columns
            assert self._device is not None  # something lives there
            region = self._reader.cut_off()
            why = None if region is None else f"{region.path} has been cut off"
            try:
                if why is None:
                    self._columns = DeviceColumns(self._pipeline, self._part, self._device)
            except Exception as error:  # what can not be read is told batch by batch, on the host
                why = (str(error).splitlines() or [type(error).__name__])[0]
            if why is not None:
                self.residency = replace(
                    self.residency,
                    is_resident=False,
                    reason=f"its samples could not be brought to {self._device} ({why})",
                )
            return self._columns

    def _load(
        self,
        columns: DeviceColumns,
        plan: Plan,
        spans: list[tuple[int, int]],
        epoch: int,
        stream: Any,
    ) -> list[tuple[int, Any]]:
        import torch

        device, size = columns.device, plan.batch_size
        first, last = spans[0][0], spans[-1][1]
        positions = plan.positions(epoch, first, last)
        row_ids = self._part.rows.take(positions) if self._with_rows else None
        pads = plan.remainder == "pad"
        missing = spans[-1][0] + size - last if pads else 0
        if missing:
            # Padding has the values of the last sample, and weighs nothing.
            positions = np.concatenate([positions, np.repeat(positions[-1:], missing)])
        with on_stream(stream):
            found = torch.from_numpy(np.ascontiguousarray(positions, np.int64))
            fields = columns.gather(to_device(found, device))
            beside = []
            if row_ids is not None:
                # Row numbers are for the host: on the device, whoever wants them would wait.
                padding = np.full(missing, -1, np.int64)
                beside.append(torch.from_numpy(np.concatenate([row_ids, padding])))
            if pads:
                weights = torch.ones(len(positions), device=device)
                weights[len(positions) - missing :] = 0.0
                beside.append(weights)
        pieces = zip(*(torch.split(values, size) for values in (*fields, *beside)), strict=True)
        slab: list[tuple[int, Any]] = []
        for (_, stop), values in zip(spans, pieces, strict=True):
            batch: list[Any] = list(map(aligned, values))
            if not self._pipeline.is_plain:
                count = len(fields)
                inputs, target = self._pipeline.finish(
                    batch[:count], np.empty(0, np.int64), seed=plan.seed, epoch=epoch
                )
                batch = [inputs, *([] if target is None else [target]), *batch[count:]]
            slab.append((stop, batch[0] if len(batch) == 1 else tuple(batch)))
        return slab

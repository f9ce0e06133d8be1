"""Slabs: consecutive batches that are gathered at once and handed out one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rightbatch.loading.ahead import PositionsAhead
from rightbatch.loading.parts import Part
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.transform import Values
from rightbatch.plan.plan import Plan

Output = Literal["numpy", "torch"]
Spans = list[tuple[int, int]]

# A slab of about this size pays for handing it from thread to thread and still fits the cache of
# one core: with batches of one sample, hundreds of them come out of one gather.
_SLAB_BYTES = 1 << 20
_MOST_BATCHES = 1024


class SlabReader:
    """Makes the batches of any epoch of a plan, a slab at a time; slabs may be read in parallel."""

    def __init__(
        self, part: Part, plan: Plan, *, with_rows: bool, output: Output, device: Any
    ) -> None:
        self._part = part
        self._plan = plan
        self._with_rows = with_rows
        self._output = output
        self._device = device
        # Its own pipeline: buffers are shared among the epochs of one reader and nobody else.
        self._pipeline = Pipeline(part.data, part.transforms)
        batches = _SLAB_BYTES // (self._pipeline.sample_bytes * plan.batch_size)
        self._batches_per_slab = min(max(1, batches), _MOST_BATCHES)
        longest = self._batches_per_slab * plan.batch_size
        if plan.remainder != "pad":
            longest = min(longest, plan.length)
        self._pipeline.reserve(longest)

    def slabs(self, epoch: int, start: int) -> Iterator[Callable[[], list[tuple[int, Any]]]]:
        """The slabs from sample `start` of the epoch, as tasks that any thread may run.

        A task gives pairs of (samples of the epoch taken after this batch, batch).
        """
        plan = self._plan
        ahead = PositionsAhead(plan.order, plan.length, plan.seed, epoch)
        spans: Spans = []
        for span in plan.spans(start):
            spans.append(span)
            if len(spans) == self._batches_per_slab:
                yield self._task(ahead, spans, epoch)
                spans = []
        if spans:
            yield self._task(ahead, spans, epoch)

    def _task(
        self, ahead: PositionsAhead, spans: Spans, epoch: int
    ) -> Callable[[], list[tuple[int, Any]]]:
        rows = self._part.rows.take(ahead.span(spans[0][0], spans[-1][1]))
        return partial(self._load, rows, spans, epoch)

    def _load(self, rows: NDArray[np.int64], spans: Spans, epoch: int) -> list[tuple[int, Any]]:
        plan = self._plan
        first, last = spans[0][0], spans[-1][1]
        missing = spans[-1][0] + plan.batch_size - last if plan.remainder == "pad" else 0
        row_ids = rows
        if missing:
            # Padding repeats a sample, so that its values are valid ones; it weighs nothing.
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing)])
            row_ids = np.concatenate([row_ids, np.full(missing, -1)])
        fields = self._pipeline.gather(rows)
        loaded = []
        for start, stop in spans:
            begin, end = start - first, stop - first
            if plan.remainder == "pad":
                end = begin + plan.batch_size
            batch = self._batch(
                [values[begin:end] for values in fields], row_ids[begin:end], stop - start, epoch
            )
            loaded.append((stop, batch))
        return loaded

    def _batch(
        self, values: list[Values], row_ids: NDArray[np.int64], real: int, epoch: int
    ) -> Any:
        inputs, target = self._pipeline.finish(values, row_ids, seed=self._plan.seed, epoch=epoch)
        batch = [inputs] if target is None else [inputs, target]
        if self._with_rows:
            batch.append(row_ids)
        if self._plan.remainder == "pad":
            batch.append((np.arange(len(row_ids)) < real).astype(np.float32))
        if self._output == "torch":
            batch = [self._to_torch(array) for array in batch]
        return batch[0] if len(batch) == 1 else tuple(batch)

    def _to_torch(self, values: Any) -> Any:
        import torch

        if isinstance(values, dict):
            return {name: self._to_torch(array) for name, array in values.items()}
        tensor = (
            values if isinstance(values, torch.Tensor) else torch.from_numpy(np.asarray(values))
        )
        return tensor if self._device is None else tensor.to(self._device)

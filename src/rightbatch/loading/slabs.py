"""Slabs: consecutive batches that are gathered at once and handed out one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.loading.ahead import RowsAhead
from rightbatch.loading.parts import Part
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.transform import as_numpy
from rightbatch.plan.plan import Plan

Output = Literal["numpy", "torch"]
Spans = list[tuple[int, int]]

# A slab of about this size pays for handing it from thread to thread; smaller ones cost a tenth of
# the speed and more. With batches of one sample, hundreds of them come out of one gather.
_SLAB_BYTES = 3 << 20
_MOST_BATCHES = 1024

# A function of a batch may take long. The first batch, and Ctrl-C, wait for a slab of them.
_MOST_BATCHES_WITH_FUNCTION = 16


class SlabReader:
    """Makes the batches of any epoch of a plan, a slab at a time; slabs may be read in parallel."""

    def __init__(
        self, part: Part, plan: Plan, *, with_rows: bool, output: Output, device: Any
    ) -> None:
        self._part = part
        self._plan = plan
        self._with_rows = with_rows
        self._output = output
        self._device = None if device is None else find_device(device)
        # Its own pipeline: buffers are shared among the epochs of one reader and nobody else.
        self._pipeline = Pipeline(part.data, part.transforms)
        batches = _SLAB_BYTES // (self._pipeline.sample_bytes * plan.batch_size)
        most = _MOST_BATCHES_WITH_FUNCTION if self._pipeline.has_functions else _MOST_BATCHES
        self.batches_per_slab = min(max(1, batches), most)
        longest = self.batches_per_slab * plan.batch_size
        if plan.remainder != "pad":
            longest = min(longest, plan.length)
        self._pipeline.reserve(longest)

    def slabs(self, epoch: int, start: int) -> Iterator[Callable[[], list[tuple[int, Any]]]]:
        """The slabs from sample `start` of the epoch, as tasks that any thread may run.

        A task gives pairs of (samples of the epoch taken after this batch, batch).
        """
        plan = self._plan
        ahead = RowsAhead(plan.order, self._part.rows, plan.seed, epoch)
        spans: Spans = []
        for span in plan.spans(start):
            spans.append(span)
            if len(spans) == self.batches_per_slab:
                yield self._task(ahead, spans, epoch)
                spans = []
        if spans:
            yield self._task(ahead, spans, epoch)

    def _task(
        self, ahead: RowsAhead, spans: Spans, epoch: int
    ) -> Callable[[], list[tuple[int, Any]]]:
        return partial(self._load, ahead.span(spans[0][0], spans[-1][1]), spans, epoch)

    def _load(self, rows: NDArray[np.int64], spans: Spans, epoch: int) -> list[tuple[int, Any]]:
        plan = self._plan
        first, last = spans[0][0], spans[-1][1]
        pads = plan.remainder == "pad"
        missing = spans[-1][0] + plan.batch_size - last if pads else 0
        row_ids = rows
        if missing:
            # Padding repeats a sample, so that its values are valid ones; it weighs nothing.
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing)])
            row_ids = np.concatenate([row_ids, np.full(missing, -1)])
        fields = self._pipeline.gather(rows)
        # What goes beside the fields, for all batches of the slab at once.
        beside = [row_ids] if self._with_rows else []
        if pads:
            beside.append((np.arange(len(rows)) < last - first).astype(np.float32))
        loaded = []
        for start, stop in spans:
            begin = start - first
            piece = slice(begin, begin + plan.batch_size if pads else stop - first)
            values = [array[piece] for array in fields]
            if not self._pipeline.is_plain:
                values = self._finish(values, row_ids[piece], epoch)
            values += [array[piece] for array in beside]
            if self._output == "torch":
                values = [self._to_torch(array) for array in values]
            loaded.append((stop, values[0] if len(values) == 1 else tuple(values)))
        return loaded

    def _finish(self, values: list[Any], row_ids: NDArray[np.int64], epoch: int) -> list[Any]:
        """Inputs and target of one batch after what runs batch by batch."""
        inputs, target = self._pipeline.finish(values, row_ids, seed=self._plan.seed, epoch=epoch)
        finished = [inputs] if target is None else [inputs, target]
        return [_to_numpy(array) for array in finished] if self._output == "numpy" else finished

    def _to_torch(self, values: Any) -> Any:
        import torch

        if isinstance(values, dict):
            return {name: self._to_torch(array) for name, array in values.items()}
        if not isinstance(values, torch.Tensor):
            array = np.asarray(values)
            # A function may have returned a flipped or a broadcast view; torch takes neither.
            if not array.flags.writeable or min(array.strides, default=0) < 0:
                array = array.copy()
            values = torch.from_numpy(array)
        return values if self._device is None else values.to(self._device)


def _to_numpy(values: Any) -> Any:
    """What functions return may be lists or tensors."""
    if isinstance(values, dict):
        return {name: as_numpy(array) for name, array in values.items()}
    return as_numpy(values)


def find_device(device: Any) -> Any:
    """The torch device of that name; OptionError where this machine or torch has none such.

    >>> find_device("cpu")
    device(type='cpu')
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        valid = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        first_line = str(error).splitlines()[0]
        raise OptionError(
            f"device={device!r} is not to be had here ({first_line}); valid are {', '.join(valid)}"
        ) from error
    return found

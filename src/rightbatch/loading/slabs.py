"""Slabs: consecutive batches that are gathered at once and handed out one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged
from rightbatch.loading.ahead import RowsAhead, TokenRows
from rightbatch.loading.decoded_slab import (
    DecodedSlab,
    Gathered,
    GatherSpan,
    pieces_ahead,
    samples_per_piece,
)
from rightbatch.loading.device_columns import Residency
from rightbatch.loading.device_copies import DeviceCopies
from rightbatch.loading.empty_batch import none_of
from rightbatch.loading.parts import Part
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.quarantine import Quarantine
from rightbatch.loading.readable_rows import ReadableRows
from rightbatch.loading.resident_slabs import Residence
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.tensors import aligned, find_device, to_torch
from rightbatch.loading.transform import Values, as_numpy
from rightbatch.loading.windows import WindowPool, WindowStream
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.token_plan import AnyPlan, TokenPlan

Output = Literal["numpy", "torch"]
Span = tuple[int, int]
Spans = list[Span]
Gather = Callable[[int, int, int], tuple[NDArray[np.int64], list[Values]]]
"""From places start and stop of an epoch, and a length to fill up to: rows, and field values."""

Slab = list[tuple[int, Any]]
"""Pairs of (samples of the epoch taken after this batch, batch); of a rank, its own samples."""

Task = Callable[[], Slab | None]

# A slab of about this size pays for handing it from thread to thread; smaller ones cost a tenth of
# the speed and more. With batches of one sample, hundreds of them come out of one gather.
_SLAB_BYTES = 3 << 20
# Half a dozen slabs are under way at a time, and most of the memory is for windows.
_SLABS_IN_MEMORY = 40
_MOST_BATCHES = 1024

# A function of a batch may take long. The first batch, and Ctrl-C, wait for a slab of them.
_MOST_BATCHES_WITH_FUNCTION = 16


def batches_per_slab(pipeline: Pipeline, batch_size: int, memory_bytes: int | None = None) -> int:
    """How many batches are gathered at once; in little memory, only few."""
    slab_bytes = _SLAB_BYTES
    if memory_bytes is not None:
        slab_bytes = min(slab_bytes, memory_bytes // _SLABS_IN_MEMORY)
    # A rank may have no sample of most batches.
    batches = slab_bytes // (pipeline.sample_bytes * max(1, batch_size))
    most = _MOST_BATCHES_WITH_FUNCTION if pipeline.has_functions else _MOST_BATCHES
    return min(max(1, batches), most)


class Slabs:
    """Tasks that make the slabs of an epoch, in order, and what reads for them.

    Where several tasks make one slab, one of them gives it and the others None.
    """

    def __init__(self, tasks: Iterator[Task], stream: WindowStream | None = None) -> None:
        self._tasks = tasks
        self._stream = stream

    def __iter__(self) -> Iterator[Task]:
        return self._tasks

    def close(self) -> None:
        """Stop reading; tasks that wait for a window give up."""
        if self._stream is not None:
            self._stream.close()


class SlabReader:
    """Makes the batches of any epoch of a plan, a slab at a time; slabs may be read in parallel.

    `pipeline` is the reader's own: its buffers are shared among the epochs of one reader and
    nobody else. With `windows` the samples are read from their files window by window. By a
    `RankPlan` the batches are a rank's own shares, some of which may hold no sample.
    """

    def __init__(
        self,
        part: Part,
        plan: AnyPlan | RankPlan,
        pipeline: Pipeline,
        reader: RowReader,
        *,
        with_rows: bool,
        output: Output,
        device: Any,
        device_memory: str | int | float | None = None,
        memory_bytes: int | None = None,
        windows: WindowPool | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._part = part
        self._plan = plan
        self._with_rows = with_rows
        self._output = output
        self._device = None if device is None else find_device(device)
        self._pipeline = pipeline
        self._reader = reader
        self._windows = windows
        self._quarantine = quarantine
        self._rows = ReadableRows(part, pipeline, reader, quarantine)
        size = plan.mean_batch_size if isinstance(plan, TokenPlan) else plan.batch_size
        self.batches_per_slab = batches_per_slab(pipeline, size, memory_bytes)
        longest = self.batches_per_slab * plan.batch_size
        if plan.remainder != "pad":
            longest = min(longest, plan.length)
        self._longest = longest = max(1, longest)
        self._piece_samples = samples_per_piece(pipeline) if pipeline.decoding_tracks else None
        self._pipeline.reserve(longest)
        self._copies = None if self._device is None else DeviceCopies(self._device)
        self._residence = Residence(
            part,
            plan,
            pipeline,
            reader,
            self._device,
            device_memory=device_memory,
            reads_windows=windows is not None,
            leaves_bad_out=quarantine is not None,
            with_rows=with_rows,
        )

    @property
    def residency(self) -> Residency:
        """Whether the samples live on the device, and why or why not."""
        return self._residence.residency

    def tasks_ahead(self, threads: int) -> int | None:
        """How many tasks may be done before their slabs are asked for; None for a few."""
        if self._piece_samples is None:
            return None
        return pieces_ahead(
            self._longest,
            self._piece_samples,
            threads,
            sample_bytes=self._pipeline.sample_bytes,
        )

    def prepare(self, epoch: int) -> None:
        """Have the order of an epoch at hand when it begins, where it is worked out as a whole."""
        self._plan.positions(epoch, 0, min(1, self._plan.length))

    def slabs(self, epoch: int, start: int, *, reads_ahead: bool = True) -> Slabs:
        """The slabs from sample `start` of the epoch, as tasks that any thread may run.

        Whoever takes them closes them in the end.
        """
        plan = self._plan
        resident = self._residence.tasks(epoch, start)
        if resident is not None:
            return Slabs(resident)
        if isinstance(plan, RankPlan):
            # Its positions, and so the places of all that is read, count from the first batch.
            plan, start = plan.after(start), 0
        spans = self._spans(plan.spans(start, epoch))
        if self._windows is None or isinstance(plan, TokenPlan):
            ahead = (
                TokenRows(plan, self._part.rows, epoch)
                if isinstance(plan, TokenPlan)
                else RowsAhead(plan, self._part.rows, epoch)
            )

            def tasks_of_rows(span: Span, batches: Spans) -> Iterable[Task]:
                rows = ahead.span(*span)
                if self._piece_samples is not None:
                    return self._decoding(partial(self._gather_some, rows), batches, epoch)
                return (partial(self._load, partial(self._gather, rows), batches, epoch),)

            return Slabs(self._tasks(tasks_of_rows, spans))
        stream = WindowStream(
            self._windows,
            plan.stretches(epoch, start, self._windows.samples),
            lambda first, last: self._part.rows.take(plan.positions(epoch, first, last)),
            reads_ahead=reads_ahead,
            quarantine=self._quarantine,
        )
        gather = partial(stream.gather, self._pipeline.tracks)

        def tasks_of_windows(span: Span, batches: Spans) -> Iterable[Task]:
            if self._piece_samples is not None:
                return self._decoding(partial(_from, gather, span[0]), batches, epoch)
            return (partial(self._load, gather, batches, epoch),)

        return Slabs(self._tasks(tasks_of_windows, spans), stream)

    def hand_over(self, slab: Slab) -> None:
        """In the consumer's thread, before the batches of a slab are taken."""
        if self._copies is not None:
            self._copies.hand_over(slab)

    def _tasks(
        self,
        tasks_of: Callable[[Span, Spans], Iterable[Task]],
        slabs: Iterator[Spans],
    ) -> Iterator[Task]:
        for batches in slabs:
            span = batches[0][0], batches[-1][1]
            if span[0] < span[1]:
                yield from tasks_of(span, batches)
            else:
                yield partial(self._without_samples, batches)

    def _spans(self, spans: Iterator[Span]) -> Iterator[Spans]:
        """The spans of the batches of each slab; those of batches without a sample go apart."""
        most = self.batches_per_slab
        # Rows that are worked out one by one take a microsecond each, and the first batch waits for
        # those of three slabs.
        count = 1 if self._part.rows.is_arithmetic else most
        while together := list(islice(spans, count)):
            count = min(2 * count, most)
            first, last = together[0], together[-1]
            if last[0] == last[1] and first[0] < first[1]:
                # Of a rank's shares only the last one can be smaller than the first.
                yield together[:-1]
                yield together[-1:]
            else:
                yield together

    def _without_samples(self, batches: Spans) -> Slab:
        """Batches of which a rank holds nothing: arrays of 0 samples."""
        return [(stop, none_of(self._batch_of_one)) for _, stop in batches]

    @cached_property
    def _batch_of_one(self) -> Any:
        """Some sample as a batch, which has the shapes and types of a batch that has no sample.

        Functions of a batch are not asked what they make of none: many can not say.
        """
        rows = (
            self._part.rows.take(np.array([0]))
            if self._quarantine is None
            else self._rows.any_good(1)
        )
        # Not by the reader's pipeline: it may stack all samples, which a budget has no room for.
        fields = self._part.pipeline.gather(rows, seed=self._plan.seed)
        return self._load(lambda *_: (rows, fields), [(0, 1)], 0)[0][1]

    def _decoding(self, gather: GatherSpan, spans: Spans, epoch: int) -> Iterator[Task]:
        """The tasks that make one slab of decoded samples."""

        def finish(gathered: Gathered) -> Slab:
            return self._load(lambda *_: gathered, spans, epoch)

        plan = self._plan
        samples = spans[-1][1] - spans[0][0]
        padded = spans[-1][0] + plan.batch_size - spans[0][0]
        assert self._piece_samples is not None  # the caller has asked
        return DecodedSlab(
            self._pipeline,
            gather,
            samples=samples,
            length=padded if plan.remainder == "pad" else samples,
            piece_samples=self._piece_samples,
            seed=plan.seed,
            epoch=epoch,
            quarantine=self._quarantine,
            finish=finish,
        ).tasks()

    def _gather_some(self, rows: NDArray[np.int64], start: int, stop: int, length: int) -> Gathered:
        return self._rows.gather(rows[start:stop], length)

    def _gather(self, rows: NDArray[np.int64], start: int, stop: int, length: int) -> Gathered:
        del start, stop  # the rows are all of them
        return self._rows.gather(rows, length)

    def _load(self, gather: Gather, spans: Spans, epoch: int) -> Slab:
        plan = self._plan
        first, last = spans[0][0], spans[-1][1]
        pads = plan.remainder == "pad"
        length = spans[-1][0] + plan.batch_size - first if pads else last - first
        row_ids, fields = gather(first, last, length)
        if length > len(row_ids):
            row_ids = np.concatenate([row_ids, np.full(length - len(row_ids), -1)])
        # What goes beside the fields, for all batches of the slab at once.
        beside = [row_ids] if self._with_rows else []
        if pads or self._quarantine is not None:
            beside.append((row_ids >= 0).astype(np.float32))
        if self._pipeline.is_plain and self._output == "numpy":
            return _cut([*fields, *beside], spans, max(1, plan.batch_size))
        if self._device is not None:
            return self._load_on_device(fields, beside, row_ids, spans, epoch)
        loaded = []
        for start, stop in spans:
            begin = start - first
            piece = slice(begin, begin + plan.batch_size if pads else stop - first)
            values = [array[piece] for array in fields]
            if not self._pipeline.is_plain:
                values = self._finish(values, row_ids[piece], epoch)
            values += [array[piece] for array in beside]
            if self._output == "torch":
                values = [to_torch(array, self._part.data) for array in values]
            loaded.append((stop, values[0] if len(values) == 1 else tuple(values)))
        return loaded

    def _load_on_device(
        self,
        fields: list[Any],
        beside: list[NDArray[Any]],
        row_ids: NDArray[np.int64],
        spans: Spans,
        epoch: int,
    ) -> Slab:
        """The batches of a slab as tensors on the device; row numbers, for the host, stay here."""
        assert self._copies is not None  # there is a device
        data, move, size = self._part.data, self._copies.move, self._plan.batch_size
        first, pads = spans[0][0], self._plan.remainder == "pad"
        with self._copies.context():
            if not self._pipeline.has_functions:
                # One copy for all batches of the slab, which are views of it.
                fields = [move(to_torch(array, data)) for array in fields]
            tensors = [to_torch(array, data) for array in beside]
            rows = int(self._with_rows)
            tensors[rows:] = map(move, tensors[rows:])
            loaded = []
            for start, stop in spans:
                begin = start - first
                piece = slice(begin, begin + size if pads else stop - first)
                values: list[Any] = [array[piece] for array in fields]
                if self._pipeline.has_functions:
                    values = self._finish(values, row_ids[piece], epoch)
                    values = [move(to_torch(array, data)) for array in values]
                else:
                    values = list(map(aligned, values))
                    if not self._pipeline.is_plain:
                        values = self._finish(values, row_ids[piece], epoch)
                values += [tensor[piece] for tensor in tensors]
                loaded.append((stop, values[0] if len(values) == 1 else tuple(values)))
            return self._copies.end(loaded)

    def _finish(self, values: list[Any], row_ids: NDArray[np.int64], epoch: int) -> list[Any]:
        """Inputs and target of one batch after what runs batch by batch."""
        inputs, target = self._pipeline.finish(values, row_ids, seed=self._plan.seed, epoch=epoch)
        finished = [inputs] if target is None else [inputs, target]
        return [_to_numpy(array) for array in finished] if self._output == "numpy" else finished


def _from(gather: Gather, first: int, start: int, stop: int, length: int) -> Gathered:
    """Gather places of a slab that begins at place `first` of the epoch."""
    return gather(first + start, first + stop, length)


def _cut(
    arrays: list[Values], spans: Spans, batch_size: int
) -> list[tuple[int, Values | tuple[Values, ...]]]:
    """A slab as batches, where nothing runs batch by batch.

    Array by array, and without a slice for each batch: with batches of one sample this is most of
    the work, and batch by batch it takes half as long again.
    """
    columns = [_in_batches(array, batch_size) for array in arrays]
    batches = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
    return list(zip([stop for _, stop in spans], batches, strict=True))


def _in_batches(values: Values, batch_size: int) -> list[Values]:
    """Views of `batch_size` entries each, the last of what is left."""
    if isinstance(values, Ragged):
        starts = range(0, len(values), batch_size)
        return [values[start : start + batch_size] for start in starts]
    whole = len(values) // batch_size
    end = whole * batch_size
    batches = [*values[:end].reshape(whole, batch_size, *values.shape[1:])]
    return batches if end == len(values) else [*batches, values[end:]]


def _to_numpy(values: Any) -> Any:
    """What functions return may be lists or tensors."""
    if isinstance(values, dict):
        return {name: _to_numpy(array) for name, array in values.items()}
    return values if isinstance(values, Ragged) else as_numpy(values)

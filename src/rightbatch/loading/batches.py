"""Batches: a part of a data set as epochs of mini-batches, resumable to the sample."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from rightbatch.byte_sizes import parse_bytes
from rightbatch.data.dataset import Dataset
from rightbatch.errors import OptionError, ResumeError
from rightbatch.free_memory import free_memory
from rightbatch.loading.memory_budget import MemoryBudget, most_samples, warn_of_random_reads
from rightbatch.loading.parts import Part, Parts, whole
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.prefetch import in_order
from rightbatch.loading.quarantine import BadSample, OnBadSample, Quarantine
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.slabs import Output, SlabReader, batches_per_slab, ragged_for_torch
from rightbatch.loading.windows import WindowPool
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.plan.cursor import Cursor
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan

Remainder = Literal["keep", "drop", "pad"]

# One thread and the consumer, which helps when it would have to wait, fill two cores; on a larger
# machine two threads. More take cores from the training itself, and the interpreter's lock goes
# from hand to hand.
_MOST_THREADS = 2
# Two and one a thread ahead, one at hand, and one that the consumer holds. The number is the same
# for fewer threads: the order that a budget calls for must not depend on them.
_SLABS_HELD = 6
# What a budget of memory may call for.
_CHOSEN_ORDERS = ("uniform", "block-window")


class Batches:
    """Mini-batches of a part, shuffled anew every epoch, prefetched by a few threads.

    A batch is `(inputs, target)`, or the inputs alone where the data have no target;
    `with_rows=True` appends the row numbers in the data (int64, (B,); -1 for padding), and
    `remainder="pad"` appends the weights (float32, (B,); 0 for padding). Arrays are NumPy's, or
    torch tensors on the same memory (`output="torch"`), moved to `device` when one is given. A
    column of entries that vary in length is a `Ragged`, of which a function of a batch can make
    arrays (`Ragged.padded`); tensors are made of arrays alone.

    Iterating goes through the next epoch, or through the rest of the epoch that
    `load_state_dict` stood in, from when the first batch is taken; of several iterations under way
    the newest moves the cursor. `epoch(k)` is epoch k and changes nothing.

    `batch_size` is a number or "full". `shuffle=True` is a uniform permutation, `window=w`
    shuffles inside windows of w samples, `shuffle=False` keeps the order. `block=b` beside a window
    permutes blocks of b samples, and the samples of every `window / block` blocks.

    `memory="512MB"` is for data in files that are larger: blocks and window are chosen such that
    reading and batching stay within that budget, and samples are read from the files window after
    window by a few threads, the next one while this one is consumed. Where the data fit, it is the
    uniform permutation. What was chosen is part of the state; an object that is given another
    budget goes on with the order that the state has. Ragged columns count by their mean size. They
    are read ahead in the same way, into the system's cache, and gathered through their maps: pages
    of the files, which the system takes back, come on top of the budget, and so does what a batch
    holds above the mean.

    The last, smaller batch is kept (`remainder="keep"`), dropped ("drop"; `dropped_samples` says
    how many) or padded ("pad"). The same seed gives the same batches whatever `threads` is; 0
    loads in the caller's thread.

    A sample that can not be read (its file is cut off or damaged, its source raises) stops the
    iteration with its file and row. With `on_bad_sample="quarantine"` it is left out by its row
    number, another sample of weight zero keeps the batch size, and `bad_samples` lists it; more
    than `max_bad` of them (a count, or a share of the part) raise BadSampleError. Batches then end
    with the weights, as with "pad", and the state has the list, so that a run which goes on leaves
    the same samples out.

    A batch is yours for as long as you hold it: memory is used again only when you let go.

    Raises OptionError where an option is not valid.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())
    >>> train = rb.Batches(parts.train, 128, seed=7)
    >>> [x.shape for x, y in train]
    [(128, 30), (128, 30), (128, 30), (71, 30)]
    >>> train.state_dict()["epoch"]
    1
    """

    def __init__(
        self,
        part: Part | Dataset | Any,
        batch_size: int | str,
        *,
        seed: int = 0,
        shuffle: bool = True,
        window: int | None = None,
        block: int | None = None,
        memory: str | int | float | None = None,
        remainder: Remainder = "keep",
        on_bad_sample: OnBadSample | Quarantine = "stop",
        max_bad: int | float | None = None,
        with_rows: bool = False,
        output: Output = "numpy",
        device: Any = None,
        threads: int | None = None,
    ) -> None:
        if isinstance(part, Parts):
            named = ", ".join(f"parts.{name}" for name in part.all)
            raise OptionError(f"Batches goes through one part, and was given all of them: {named}")
        self.part = part if isinstance(part, Part) else whole(part)
        if device is not None:
            output = "torch"
        if output not in ("numpy", "torch"):
            raise OptionError(f"output={output!r} is not valid; valid are 'numpy' and 'torch'")
        if threads is None:
            threads = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) - 1))
        self.threads = whole_number("threads", threads, at_least=0)
        self.output: Output = output
        length = len(self.part)
        batch_size = resolve_batch_size(batch_size, length)
        self._quarantine = (
            on_bad_sample
            if isinstance(on_bad_sample, Quarantine)
            else Quarantine.resolve(on_bad_sample, max_bad, length)
        )
        self._make_reader = partial(
            SlabReader,
            self.part,
            with_rows=with_rows,
            output=output,
            device=device,
            quarantine=self._quarantine,
            memory_bytes=None if memory is None else parse_bytes(memory, name="memory"),
        )
        self._pipeline = Pipeline(self.part.data, self.part.transforms)
        if output == "torch" and not self._pipeline.has_functions and self._pipeline.has_ragged:
            raise ragged_for_torch(self.part.data)
        self._rows = RowReader(self.part.data, [track.source for track in self._pipeline.tracks])
        self._budget = None
        self._is_order_chosen = False
        if memory is not None:
            if window is not None or block is not None:
                raise OptionError(
                    "memory chooses block and window by itself: leave out those two, or memory"
                )
            self._is_order_chosen = shuffle
            self._budget = self._find_budget(memory, batch_size)
        order = (
            self._budget.order(length)
            if self._budget is not None and shuffle
            else Order.resolve(shuffle=shuffle, window=window, length=length, block=block)
        )
        self._use(
            Plan(length=length, batch_size=batch_size, order=order, seed=seed, remainder=remainder)
        )
        self._epoch = 0
        self._samples = 0
        # Whether the next iteration goes on inside the epoch: after load_state_dict only.
        self._goes_on = True
        # The iteration that moves the cursor: the newest one, none after load_state_dict.
        self._moving: object = None

    @property
    def order(self) -> Order:
        """The order of an epoch, as it was asked for or as memory called for it."""
        return self.plan.order

    @property
    def batch_size(self) -> int:
        """The number of samples in a full batch."""
        return self.plan.batch_size

    @property
    def batches_per_slab(self) -> int:
        """How many batches a thread of the loader makes at a time."""
        return self._reader.batches_per_slab

    @property
    def dropped_samples(self) -> int:
        """How many samples of each epoch `remainder="drop"` leaves out."""
        return self.plan.dropped

    @property
    def bad_samples(self) -> tuple[BadSample, ...]:
        """The samples that were left out so far, by row, each with what reading it raised."""
        return () if self._quarantine is None else tuple(self._quarantine)

    @property
    def current_epoch(self) -> int:
        """The epoch (from 0) that the next batch belongs to, once the one before it is whole."""
        return self._epoch

    @property
    def batches_left(self) -> int:
        """The batches of the present epoch that have not been taken yet."""
        return self.plan.batch_count(self._samples)

    @property
    def at_epoch_start(self) -> bool:
        """Whether the next batch is the first of an epoch, the one before it being taken whole."""
        return self._samples == 0

    def __len__(self) -> int:
        """The number of batches in a whole epoch."""
        return self.plan.batch_count()

    def __iter__(self) -> Iterator[Any]:
        return self._consume()

    def epoch(self, epoch: int, *, first_batch: int = 0) -> Epoch:
        """Epoch number `epoch` from batch `first_batch` on, without moving this object's cursor."""
        epoch = whole_number("epoch", epoch, at_least=0)
        first_batch = whole_number("first_batch", first_batch, at_least=0)
        start = min(first_batch * self.batch_size, self.plan.length)
        return Epoch(lambda: self._read(epoch, start), max(0, len(self) - first_batch), epoch)

    def release_memory(self) -> None:
        """Let go of what is kept for the next epoch of data that are read in windows."""
        if self._windows is not None:
            self._windows.clear()

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer stands, as small JSON: what it has taken, not what was prefetched."""
        state = self._cursor().to_json()
        if self._quarantine is not None:
            state["bad_samples"] = self._quarantine.to_json()
        return state

    def load_state_dict(self, state: dict[str, Any], *, allow_new_batch_size: bool = False) -> None:
        """Go on where `state` stood: the next iteration gives the rest of that epoch.

        Raises ResumeError where the state belongs to other data or another plan; with
        `allow_new_batch_size=True` the rest of the epoch is cut at this object's batch size.
        """
        state = dict(state)
        bad_samples = state.pop("bad_samples", [])
        cursor = Cursor.from_json(state)
        if bad_samples and self._quarantine is None:
            raise ResumeError(
                f"the state has left {len(bad_samples):,} bad samples out: go on with "
                'on_bad_sample="quarantine" and max_bad as it was'
            )
        is_other_order = cursor.order != self.plan.order
        if self._is_order_chosen and is_other_order and cursor.order.kind in _CHOSEN_ORDERS:
            # Whatever memory there is now, the samples come in the order of the run.
            self._use(replace(self.plan, order=cursor.order))
        cursor.check(self.plan, self.part.fingerprint, allow_new_batch_size=allow_new_batch_size)
        if self._quarantine is not None:
            self._quarantine.restore(bad_samples)
        self._epoch, self._samples = cursor.resume_point(self.plan)
        self._goes_on = True
        self._moving = None

    def __repr__(self) -> str:
        last = len(self.part) % self.batch_size
        return (
            f"<Batches of {self.part.data.name}, {self.part.name}: {len(self.part):,} samples, "
            f"{len(self):,} batches of {self.batch_size:,}"
            + (f", the last of {last:,}" if last and self.plan.remainder == "keep" else "")
            + (f", {self.dropped_samples:,} samples dropped" if self.dropped_samples else "")
            + ">"
        )

    def _find_budget(self, memory: str | int | float, batch_size: int) -> MemoryBudget | None:
        """What the memory comes to; None where all samples fit, or lie in memory anyway."""
        total_bytes = parse_bytes(memory, name="memory")
        if not self._rows.is_needed:
            return None
        slab = batches_per_slab(self._pipeline, batch_size, total_bytes) * batch_size
        slab_bytes = min(slab, len(self.part)) * self._pipeline.sample_bytes
        budget = MemoryBudget(total_bytes, self._rows, _SLABS_HELD * slab_bytes)
        return None if budget.fits(len(self.part.data)) else budget

    def _use(self, plan: Plan) -> None:
        """Read by this plan from now on."""
        self.plan = plan
        windows = self._windows = None
        if self._rows.is_needed and (self._budget is not None or plan.order.block is not None):
            room = None if self._budget is None else self._budget.window
            samples = most_samples(plan.order, plan.length, room, self._rows)
            windows = None if samples is None else WindowPool(self._rows, samples)
            self._windows = windows
        if windows is None and self._rows.is_needed:
            data = self.part.data
            warn_of_random_reads(data.name, plan.order, len(data), self._rows, free_memory())
        self._reader = self._make_reader(plan, self._pipeline, self._rows, windows=windows)

    def _cursor(self) -> Cursor:
        return Cursor.of(
            self.plan,
            epoch=self._epoch,
            samples=self._samples,
            fingerprint=self.part.fingerprint,
        )

    def _read(self, epoch: int, start: int) -> Generator[tuple[int, Any], None, None]:
        """Pairs of (samples of the epoch taken, batch)."""
        # With a single slab there is nothing to read ahead, and a thread costs more than it gives.
        threads = 0 if len(self) <= self._reader.batches_per_slab else self.threads
        reads_ahead = self.threads > 0
        # Reading stops first, hence the third: a thread of the loader may wait for a window that
        # nobody needs any more. The first is for what comes between the two.
        with (
            contextlib.closing(self._reader.slabs(epoch, start, reads_ahead=reads_ahead)) as slabs,
            contextlib.closing(in_order(slabs, threads=threads)) as loaded,
            contextlib.closing(slabs),
        ):
            for slab in loaded:
                # The slab's last batch must be the only thing that keeps its memory, hence pop.
                slab.reverse()
                while slab:
                    yield slab.pop()

    def _consume(self) -> Generator[Any, None, None]:
        # This runs when the first batch is taken: trainers make iterators that they never use, and
        # none of those may cost an epoch.
        if not self._goes_on:
            self._epoch, self._samples = self._epoch + 1, 0
        self._goes_on = False
        self._moving = iteration = object()
        epoch, samples = self._epoch, self._samples
        last = self.plan.batch_count(samples) - 1
        end = self.plan.span(last, samples)[1]
        with contextlib.closing(self._read(epoch, samples)) as batches:
            for stop, batch in batches:
                if self._moving is iteration:
                    if stop < end:
                        self._epoch, self._samples = epoch, stop
                    else:
                        # The epoch has been taken whole: the state is the start of the next one.
                        self._epoch, self._samples, self._goes_on = epoch + 1, 0, True
                yield batch


class Epoch:
    """One epoch of batches that can be gone through any number of times."""

    def __init__(
        self, read: Callable[[], Generator[tuple[int, Any], None, None]], length: int, number: int
    ) -> None:
        self._read = read
        self._length = length
        self.number = number

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        with contextlib.closing(self._read()) as batches:
            for _, batch in batches:
                yield batch

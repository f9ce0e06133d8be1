"""Batches: a part of a data set as epochs of mini-batches, resumable to the sample."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

from numpy.typing import ArrayLike

from rightbatch.byte_sizes import parse_bytes
from rightbatch.data.dataset import Dataset
from rightbatch.errors import OptionError
from rightbatch.free_memory import free_memory
from rightbatch.loading.batches_text import batches_text
from rightbatch.loading.consumed import Consumed, plan_of_run, read_state, state_of
from rightbatch.loading.device_columns import Residency
from rightbatch.loading.epoch import Epoch
from rightbatch.loading.memory_budget import most_samples, warn_of_random_reads
from rightbatch.loading.order_choice import choose_order, find_budget
from rightbatch.loading.parts import Part, Parts, whole
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.prefetch import in_order
from rightbatch.loading.quarantine import BadSample, OnBadSample, Quarantine
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.sampling import check_sampling, drawn_order, epoch_length
from rightbatch.loading.slabs import Output, Slab, SlabReader
from rightbatch.loading.tensors import ragged_for_torch
from rightbatch.loading.threads import default_threads
from rightbatch.loading.token_batches import (
    limited_part,
    refuse_with_tokens,
    refuse_without_tokens,
    token_plan,
)
from rightbatch.loading.weights import without_weights
from rightbatch.loading.windows import WindowPool
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.plan.orders import AnyOrder
from rightbatch.plan.plan import Plan
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.ranks import check_rank
from rightbatch.plan.token_plan import AnyPlan, TokenPlan

Remainder = Literal["keep", "drop", "pad"]


class Batches:
    """Mini-batches of a part, shuffled anew every epoch, prefetched by a few threads.

    A batch is `(inputs, target)`, or the inputs alone where the data have no target;
    `with_rows=True` appends the row numbers in the data (int64, (B,); -1 for padding), and
    `remainder="pad"` appends the weights (float32, (B,); 0 for padding). Arrays are NumPy's, or
    torch tensors (`output="torch"`), on the same memory where that is aligned to 16 bytes, moved to
    `device` when one is given; row numbers stay on the CPU. Samples that fit in a quarter of the
    free memory of a GPU live there (`device_memory`: another share, a size such as "2GB", or 0 for
    never), and are gathered, cast and scaled there, bit for bit as on the host; `residency` says
    whether, and why not. Others are copied from pinned memory while the batches before them are
    computed with (docs/gpu.md). A column of entries that vary in length is a `Ragged`, of which a
    function of a batch can make arrays (`Ragged.padded`); tensors are made of arrays alone.

    Iterating goes through the next epoch, or through the rest of the epoch that
    `load_state_dict` stood in, from when the first batch is taken; of several iterations under way
    the newest moves the cursor. `epoch(k)` is epoch k and changes nothing.

    `batch_size` is a number or "full". `shuffle=True` is a uniform permutation, `window=w`
    shuffles inside windows of w samples, `shuffle=False` keeps the order. `block=b` beside a window
    permutes blocks of b samples, and the samples of every `window / block` blocks.

    `batch_tokens=4096` in place of a batch size is for samples that vary in length: a batch has as
    many samples of like lengths as fit in 4,096 tokens, padding counted, and comes padded (see
    `pad`, which is added where it is not attached). Lengths are measured once. The samples of a
    length bucket are permuted, and all batches; with `shuffle=False` a batch comes where its first
    sample stands. `bucket_edges` are the longest lengths of the buckets, where those that are found
    will not do. A state belongs to its number of tokens. `truncated_samples` says how many samples
    `pad(longest=…)` cuts.

    `memory="512MB"` is for data in files that are larger: blocks and window are chosen such that
    reading and batching stay within that budget, and samples are read from the files window after
    window by a few threads, the next one while this one is consumed. Where the data fit, it is the
    uniform permutation. What was chosen is part of the state; an object that is given another
    budget goes on with the order that the state has. Ragged columns count by their mean size. They
    are read ahead in the same way, into the system's cache, and gathered through their maps: pages
    of the files, which the system takes back, come on top of the budget, and so does what a batch
    holds above the mean.

    `weights` draw samples with replacement, `epoch_samples` of them an epoch (as many as the part
    has, where it is not given): in an epoch of N draws a sample of weight w out of W comes N w / W
    times, rounded up or down (`WeightedOrder`). They are one number a sample of the part or of its
    data, the name of a column of numbers, which is no input then, or "balanced": all classes of the
    target equally likely. A part of a mixture (`rb.mix`) is gone through in its proportions, or,
    with `shuffle=False`, every sample once. A sample that comes twice in an epoch meets the same
    random transform both times, since that belongs to the sample.

    The last, smaller batch is kept (`remainder="keep"`), dropped ("drop"; `dropped_samples` says
    how many) or padded ("pad"). The same seed gives the same batches whatever `threads` is; 0
    loads in the caller's thread.

    A sample that can not be read (its file is cut off or damaged, its source raises) stops the
    iteration with its file and row. With `on_bad_sample="quarantine"` it is left out by its row
    number, another sample of weight zero keeps the batch size, and `bad_samples` lists it; more
    than `max_bad` of them (a count, or a share of the part) raise BadSampleError. Batches then end
    with the weights, as with "pad", and the state has the list, so that a run which goes on leaves
    the same samples out.

    With `rank=r, world_size=W` it gives the share of rank r of every batch: batch k of the ranks,
    one after another, is batch k of one process, and each reads its own samples alone. Shares
    differ by one sample at most; an empty one is a batch of 0 samples, so that all ranks take the
    same number of them. Everything else counts the batches and samples of all ranks: lengths,
    `batch_size`, and the state, which is the same on every rank, and from which any number of ranks
    goes on. Functions of a batch get the rank's share.

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
        batch_size: int | str | None = None,
        *,
        batch_tokens: int | None = None,
        bucket_edges: Sequence[int] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        window: int | None = None,
        block: int | None = None,
        memory: str | int | float | None = None,
        weights: ArrayLike | str | None = None,
        epoch_samples: int | None = None,
        remainder: Remainder = "keep",
        on_bad_sample: OnBadSample | Quarantine = "stop",
        max_bad: int | float | None = None,
        with_rows: bool = False,
        output: Output = "numpy",
        device: Any = None,
        device_memory: str | int | float | None = None,
        threads: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        _rank_samples: int | None = None,
    ) -> None:
        if isinstance(part, Parts):
            named = ", ".join(f"parts.{name}" for name in part.all)
            raise OptionError(f"Batches goes through one part, and was given all of them: {named}")
        self.part = part if isinstance(part, Part) else whole(part)
        if device is not None:
            output = "torch"
        if output not in ("numpy", "torch"):
            raise OptionError(f"output={output!r} is not valid; valid are 'numpy' and 'torch'")
        self.output: Output = output
        self.rank, self.world_size = check_rank(rank, world_size)
        # Filled rank by rank, so many samples each, a batch comes to a rank as one of its own:
        # for the passes of the library alone, which gather the results in the order of the data.
        self._rank_samples = _rank_samples
        check_sampling(weights, epoch_samples, shuffle=shuffle, window=window, block=block)
        self.part = without_weights(self.part, weights)
        length = epoch_length(
            self.part, weights=weights, epoch_samples=epoch_samples, shuffle=shuffle
        )
        drawn = drawn_order(
            self.part, length, weights=weights, shuffle=shuffle, window=window, block=block
        )
        if batch_tokens is not None:
            if self.world_size > 1:
                raise OptionError(
                    f"batch_tokens={batch_tokens} and world_size={self.world_size} do not go "
                    "together yet: a batch is padded to its own longest sample, and the shares of "
                    "ranks would differ in length; give batch_size, and rb.pad(longest=…)"
                )
            refuse_with_tokens(
                {
                    "batch_size": batch_size,
                    "window": window,
                    "block": block,
                    "memory": memory,
                    "remainder": remainder,
                    "on_bad_sample": on_bad_sample,
                    "weights": weights,
                },
                drawn=None if drawn is None else f"the {drawn.kind} order of {self.part.data.name}",
            )
            self.part = limited_part(self.part, batch_tokens)
        else:
            refuse_without_tokens(batch_size, bucket_edges)
        # Of batches of tokens it is the plan that says how many samples they hold.
        batch_size = length if batch_size is None else resolve_batch_size(batch_size, length)
        self._quarantine = (
            on_bad_sample
            if isinstance(on_bad_sample, Quarantine)
            else Quarantine.resolve(on_bad_sample, max_bad, len(self.part))
        )
        self._make_reader = partial(
            SlabReader,
            self.part,
            with_rows=with_rows,
            output=output,
            device=device,
            device_memory=device_memory,
            quarantine=self._quarantine,
            memory_bytes=None if memory is None else parse_bytes(memory, name="memory"),
        )
        self._pipeline = Pipeline(self.part.data, self.part.transforms)
        self.threads = (
            default_threads(self._pipeline)
            if threads is None
            else whole_number("threads", threads, at_least=0)
        )
        if output == "torch" and not self._pipeline.has_functions and self._pipeline.has_ragged:
            raise ragged_for_torch(self.part.data)
        self._rows = RowReader(
            self.part.data,
            [track.source for track in self._pipeline.tracks],
            is_shared=self.world_size > 1,
        )
        self._is_order_chosen = memory is not None and shuffle and drawn is None
        self._budget = None
        if memory is not None:
            if window is not None or block is not None:
                raise OptionError(
                    "memory chooses block and window by itself: leave out those two, or memory"
                )
            self._budget = find_budget(
                memory,
                self._rows,
                self._pipeline,
                samples=len(self.part),
                # Else that of all ranks: the order that is chosen must not depend on their number.
                batch_size=batch_size if self._rank_samples is None else self._rank_samples,
            )
        order = choose_order(
            self._budget,
            drawn,
            name=self.part.data.name,
            length=length,
            shuffle=shuffle,
            window=window,
            block=block,
        )
        self.truncated_samples = 0
        if batch_tokens is None:
            self._use(
                Plan(
                    length=length,
                    batch_size=batch_size,
                    order=order,
                    seed=seed,
                    remainder=remainder,
                )
            )
        else:
            plan, self.truncated_samples = token_plan(
                self.part, batch_tokens, shuffle=shuffle, seed=seed, edges=bucket_edges
            )
            self._use(plan)
        self._consumed = Consumed()

    @property
    def order(self) -> AnyOrder:
        """The order of an epoch, as it was asked for or as memory called for it."""
        return self.plan.order

    @property
    def batch_size(self) -> int:
        """The number of samples in a full batch; with `batch_tokens`, the most that one holds."""
        return self.plan.batch_size

    @property
    def batches_per_slab(self) -> int:
        """How many batches a thread of the loader makes at a time."""
        return self._reader.batches_per_slab

    @property
    def residency(self) -> Residency:
        """Whether the samples live on the device (see `device_memory`), and why or why not."""
        return self._reader.residency

    @property
    def dropped_samples(self) -> int:
        """How many samples of each epoch `remainder="drop"` leaves out."""
        return self.plan.dropped

    @property
    def bad_samples(self) -> tuple[BadSample, ...]:
        """The samples that were left out so far, by row, each with what reading it raised."""
        return () if self._quarantine is None else tuple(self._quarantine)

    @property
    def batch_samples(self) -> int:
        """The samples of the batch that was taken last, on all ranks together."""
        return self._consumed.batch_samples

    @property
    def current_epoch(self) -> int:
        """The epoch (from 0) that the next batch belongs to, once the one before it is whole."""
        return self._consumed.epoch

    @property
    def batches_left(self) -> int:
        """The batches of the present epoch that have not been taken yet."""
        return self.plan.batch_count(self._consumed.samples, self._consumed.epoch)

    @property
    def at_epoch_start(self) -> bool:
        """Whether the next batch is the first of an epoch, the one before it being taken whole."""
        return self._consumed.samples == 0

    def __len__(self) -> int:
        """The number of batches in a whole epoch."""
        return self.plan.batch_count()

    def __iter__(self) -> Iterator[Any]:
        return self._consumed.through(self.plan, self._read)

    def epoch(self, epoch: int, *, first_batch: int = 0) -> Epoch:
        """Epoch number `epoch` from batch `first_batch` on, without moving this object's cursor."""
        epoch = whole_number("epoch", epoch, at_least=0)
        first_batch = whole_number("first_batch", first_batch, at_least=0)
        start = self.plan.samples_before(first_batch, epoch)
        return Epoch(lambda: self._read(epoch, start), max(0, len(self) - first_batch), epoch)

    def release_memory(self) -> None:
        """Let go of what is kept for the next epoch of data that are read in windows."""
        if self._windows is not None:
            self._windows.clear()

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer stands, as small JSON: what it has taken, not what was prefetched."""
        return state_of(self._consumed, self.plan, self.part.fingerprint, self._quarantine)

    def load_state_dict(self, state: dict[str, Any], *, allow_new_batch_size: bool = False) -> None:
        """Go on where `state` stood: the next iteration gives the rest of that epoch.

        Raises ResumeError where the state belongs to other data or another plan; with
        `allow_new_batch_size=True` the rest of the epoch is cut at this object's batch size.
        """
        cursor, bad_samples = read_state(state, self._quarantine)
        if self._is_order_chosen and (plan := plan_of_run(cursor, self.plan)) is not self.plan:
            self._use(plan)
        cursor.check(self.plan, self.part.fingerprint, allow_new_batch_size=allow_new_batch_size)
        if self._quarantine is not None:
            self._quarantine.restore(bad_samples)
        self._consumed.stand(*cursor.resume_point(self.plan))

    def __repr__(self) -> str:
        return batches_text(self.part, self.plan, self._own)

    def _use(self, plan: AnyPlan) -> None:
        """Read by this plan from now on."""
        self.plan: AnyPlan = plan
        own = self._own = self._share_of(plan)
        windows = self._windows = None
        if self._rows.is_needed and (self._budget is not None or plan.order.block is not None):
            room = None if self._budget is None else self._budget.window
            samples = most_samples(plan.order, plan.length, room, self._rows)
            if samples is not None and own is not None:
                samples = own.most_within(samples)
            windows = None if samples is None else WindowPool(self._rows, samples)
            self._windows = windows
        if windows is None and self._rows.is_needed:
            data = self.part.data
            warn_of_random_reads(data.name, plan.order, len(data), self._rows, free_memory())
        self._reader = self._make_reader(
            plan if own is None else own, self._pipeline, self._rows, windows=windows
        )

    def _share_of(self, plan: AnyPlan) -> RankPlan | None:
        """The rank's view of the plan; None where one process reads all of it."""
        if self.world_size == 1 or isinstance(plan, TokenPlan):
            return None
        return RankPlan(
            plan=plan, rank=self.rank, world_size=self.world_size, share=self._rank_samples
        )

    def _read(self, epoch: int, start: int) -> Generator[tuple[int, Any], None, None]:
        """Pairs of (samples of the epoch taken, batch)."""
        # With a single slab there is nothing to read ahead, and a thread costs more than it gives.
        # Unless it is decoded, piece by piece.
        is_alone = len(self) <= self._reader.batches_per_slab
        ahead = self._reader.tasks_ahead(self.threads)
        threads = 0 if is_alone and ahead is None else self.threads
        reads_ahead = self.threads > 0
        # A rank's slabs count its own samples, and the cursor those of all ranks.
        stops = None if self._own is None else (stop for _, stop in self.plan.spans(start, epoch))
        # The next order, which may take a sort of all positions, is made while the last batches are
        # consumed: at the start of an epoch everybody waits for it, 5 to 14 % of one over MNIST.
        after: list[Callable[[], Slab | None]] = []
        if threads:
            after.append(partial(self._reader.prepare, epoch + 1))
        # Reading stops first, hence the third: a thread of the loader may wait for a window that
        # nobody needs any more. The first is for what comes between the two.
        with (
            contextlib.closing(self._reader.slabs(epoch, start, reads_ahead=reads_ahead)) as slabs,
            contextlib.closing(
                in_order(chain(slabs, after), threads=threads, ahead=ahead)
            ) as loaded,
            contextlib.closing(slabs),
        ):
            for slab in loaded:
                if slab is None:
                    continue
                self._reader.hand_over(slab)
                if stops is not None:
                    slab[:] = [(stop, batch) for (_, batch), stop in zip(slab, stops, strict=False)]
                # The slab's last batch must be the only thing that keeps its memory, hence pop.
                slab.reverse()
                while slab:
                    yield slab.pop()

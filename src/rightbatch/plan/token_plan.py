"""The plan of an epoch whose batches hold up to so many tokens, from buckets of like lengths."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.checks import whole_number
from rightbatch.plan.hashing import derive_key
from rightbatch.plan.length_buckets import LengthBuckets
from rightbatch.plan.order import Order
from rightbatch.plan.permutation import permute, permute_span
from rightbatch.plan.plan import Plan, Remainder

# One that is gone through, the next one, and one that somebody looks at meanwhile.
_EPOCHS_KEPT = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenPlan:
    """How samples of varying length are cut into batches of up to `tokens` tokens, padding counted.

    Every epoch permutes the samples of each bucket, cuts them into batches of
    `tokens // longest of the bucket` samples, the last one smaller, and permutes all batches: each
    a keyed permutation, so that any batch of any epoch is arithmetic on the stored index of rows by
    bucket. With `shuffle=False` the samples of a bucket keep their order, and a batch comes
    where its first sample stands in the part: the order of rows as far as buckets allow.

    What an epoch's order of batches takes, 8 bytes a batch for their numbers and 8 for the sums of
    their lengths, is worked out once and kept for two epochs. A number of samples consumed says
    where an epoch stands, as in a `Plan`.

    Build one with `of`; it raises OptionError where a length exceeds the tokens.

    >>> plan = TokenPlan.of([3, 9, 4, 10, 3], tokens=20, shuffle=False, seed=7)
    >>> [plan.positions(0, *span).tolist() for span in plan.spans()]
    [[0, 2, 4], [1, 3]]
    """

    buckets: LengthBuckets
    tokens: int
    shuffle: bool
    seed: int
    lengths_digest: str

    remainder: ClassVar[Remainder] = "keep"
    dropped: ClassVar[int] = 0

    @classmethod
    def of(
        cls,
        lengths: ArrayLike,
        *,
        tokens: int,
        shuffle: bool,
        seed: int,
        edges: Iterable[int] | None = None,
    ) -> Self:
        """The plan of samples of these lengths; see `LengthBuckets.of` for the edges."""
        tokens = whole_number("batch_tokens", tokens, at_least=1)
        lengths = np.asarray(lengths, np.int64)
        if not len(lengths):
            raise OptionError("a plan of 0 samples has no batch; give at least one sample")
        return cls(
            buckets=LengthBuckets.of(lengths, tokens=tokens, edges=edges),
            tokens=tokens,
            shuffle=bool(shuffle),
            seed=whole_number("seed", seed),
            lengths_digest=hashlib.blake2b(
                lengths.astype("<i8").tobytes(), digest_size=16
            ).hexdigest(),
        )

    @property
    def length(self) -> int:
        """The number of samples."""
        return len(self.buckets.index)

    @property
    def order(self) -> Order:
        """Whether samples are shuffled; inside of buckets, and the batches of all buckets."""
        return Order(kind="uniform" if self.shuffle else "sequential")

    @cached_property
    def batch_size(self) -> int:
        """The most samples that a batch holds."""
        return int(self._sizes.max())

    @property
    def smallest_batch(self) -> int:
        """The fewest samples that a batch holds."""
        return int(self._sizes.min())

    @property
    def mean_batch_size(self) -> int:
        """The samples of a batch on average, rounded up."""
        return -(-self.length // len(self._sizes))

    @cached_property
    def _per_batch(self) -> NDArray[np.int64]:
        """The samples of a full batch of each bucket."""
        return np.maximum(1, self.tokens // self.buckets.longest)

    @cached_property
    def _begins(self) -> NDArray[np.int64]:
        """Where each batch begins in the index, bucket after bucket."""
        return np.concatenate(
            [
                np.arange(start, start + count, size, dtype=np.int64)
                for start, count, size in zip(
                    self.buckets.starts.tolist(),
                    self.buckets.counts.tolist(),
                    self._per_batch.tolist(),
                    strict=False,
                )
            ]
        )

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """The samples of each batch, bucket after bucket."""
        sizes: NDArray[np.int64] = np.diff(self._begins, append=self.length)
        return sizes

    @cached_property
    def _epochs(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        return {}

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of the batches in their order, (K,), and where they end in samples, (K,)."""
        if not self.shuffle:
            epoch = 0
        found = self._epochs.get(epoch)
        if found is None:
            count = len(self._begins)
            if self.shuffle:
                numbers = permute_span(count, self._key("batches", epoch), 0, count)
            else:
                numbers = np.argsort(self.buckets.index[self._begins], kind="stable")
            found = numbers, np.cumsum(self._sizes[numbers])
            # Threads may meet here: each gets what it has made, whoever writes last.
            if len(self._epochs) >= _EPOCHS_KEPT:
                self._epochs.clear()
            self._epochs[epoch] = found
        return found

    def _key(self, what: str, epoch: int, bucket: int = 0) -> int:
        # Order and bucket sizes are part of the key, the content of other buckets is not.
        return derive_key("token batches", what, bucket, self.tokens, self.length, self.seed, epoch)

    def _first(self, start: int, epoch: int) -> int:
        """The number in the epoch of the batch that begins after `start` samples.

        Raises IndexError where no batch begins there.
        """
        stops = self._epoch(epoch)[1]
        if start == 0:
            return 0
        at = int(np.searchsorted(stops, start))
        if start < 0 or at == len(stops) or stops[at] != start:
            raise IndexError(f"no batch of epoch {epoch} begins after {start:,} samples")
        return at + 1

    def is_boundary(self, start: int, epoch: int) -> bool:
        """Whether `start` samples of the epoch are whole batches."""
        try:
            self._first(start, epoch)
        except IndexError:
            return False
        return True

    def batch_count(self, start: int = 0, epoch: int = 0) -> int:
        """The batches of an epoch, or of its rest after `start` samples of whole batches."""
        return len(self._begins) - self._first(start, epoch)

    def samples_before(self, batch: int, epoch: int = 0) -> int:
        """The samples of an epoch in the batches before number `batch`; all of them past the last.

        >>> TokenPlan.of([3, 9, 4, 10, 3], tokens=20, shuffle=False, seed=7).samples_before(1)
        3
        """
        stops = self._epoch(epoch)[1]
        return int(stops[min(batch, len(stops)) - 1]) if batch else 0

    def end(self, start: int = 0) -> int:
        """Where the last batch of the epoch ends, in samples."""
        del start
        return self.length

    def spans(self, start: int = 0, epoch: int = 0) -> Iterator[tuple[int, int]]:
        """The positions (start, stop) of every batch of an epoch after `start` samples, in order.

        Raises IndexError where no batch begins there.
        """
        stops = self._epoch(epoch)[1][self._first(start, epoch) :]
        return pairwise([start, *stops.tolist()])

    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Which samples, in range(length), stand at positions `start` up to `stop` of `epoch`.

        Raises IndexError unless 0 <= start <= stop <= length.
        """
        if not 0 <= start <= stop <= self.length:
            raise IndexError(
                f"span({start}, {stop}) lies outside 0 <= start <= stop <= {self.length}"
            )
        if start == stop:
            return np.empty(0, np.int64)
        numbers, stops = self._epoch(epoch)
        first = int(np.searchsorted(stops, start, side="right"))
        last = int(np.searchsorted(stops, stop, side="left"))
        batches = numbers[first : last + 1]
        sizes = self._sizes[batches]
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1]) + np.repeat(self._begins[batches] - (ends - sizes), sizes)
        skipped = start - (int(stops[first - 1]) if first else 0)
        places = places[skipped : skipped + stop - start]
        if self.shuffle:
            places = self._permuted(places, epoch)
        rows: NDArray[np.int64] = self.buckets.index[places].astype(np.int64)
        return rows

    def _permuted(self, places: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """What stands at places of the index once the samples of each bucket are permuted."""
        buckets = self.buckets
        bucket = np.searchsorted(buckets.starts, places, side="right") - 1
        permuted = np.empty_like(places)
        # A call for each bucket and not for each batch: many batches may be asked for at once.
        for number in np.unique(bucket).tolist():
            inside = bucket == number
            start, count = int(buckets.starts[number]), int(buckets.counts[number])
            key = self._key("samples", epoch, number)
            permuted[inside] = start + permute(count, key, places[inside] - start)
        return permuted

    def to_json(self) -> dict[str, Any]:
        """What the batches follow from beside the seed, as a dict for JSON."""
        return {
            "tokens": self.tokens,
            "bucket_edges": self.buckets.edges.tolist(),
            "lengths": self.lengths_digest,
        }


AnyPlan = Plan | TokenPlan
"""The plan of an epoch: batches of as many samples, or of up to so many tokens."""

"""Samples that can not be read: left out by their row number, counted, and never in silence."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import (
    BadSampleError,
    OptionError,
    RemoteError,
    ResumeError,
    did_you_mean,
    of_all_ranks,
)
from rightbatch.plan.checks import whole_number

logger = logging.getLogger(__name__)

OnBadSample = Literal["stop", "quarantine"]

# A state stays small enough for a line of JSON.
_MOST_REASON_CHARACTERS = 200
_LISTED = 3
_TOLD = 10


@dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that was left out: its row number in the data, and what reading it raised."""

    row: int
    reason: str


class Quarantine:
    """The bad samples of a run, up to `max_bad` of them; any thread may add one.

    >>> quarantine = Quarantine(max_bad=2)
    >>> quarantine.add(7, "the file ends")
    >>> quarantine.is_bad(np.array([6, 7])).tolist(), len(quarantine)
    ([False, True], 1)
    """

    def __init__(self, *, max_bad: int) -> None:
        self.max_bad = max_bad
        self._reasons: dict[int, str] = {}
        # In ascending order; None after another one came, until somebody asks.
        self._rows: NDArray[np.int64] | None = np.empty(0, np.int64)
        self._lock = threading.Lock()

    @classmethod
    def resolve(
        cls, on_bad_sample: str, max_bad: int | float | None, length: int
    ) -> Quarantine | None:
        """What the options ask for, of `length` samples; None where a bad sample stops the run.

        `max_bad` is a count, or a share of the samples. Raises OptionError where the options are
        not valid or contradict each other.
        """
        valid = get_args(OnBadSample)
        if on_bad_sample not in valid:
            raise OptionError(
                f"on_bad_sample={on_bad_sample!r} is not valid."
                f"{did_you_mean(str(on_bad_sample), valid)} Valid are: {', '.join(valid)}."
            )
        if on_bad_sample == "stop":
            if max_bad is not None:
                raise OptionError(
                    f"max_bad={max_bad} is how many samples may be left out, and "
                    "on_bad_sample='stop' leaves none out: take 'quarantine', or drop max_bad"
                )
            return None
        if max_bad is None:
            raise OptionError(
                "on_bad_sample='quarantine' leaves bad samples out: say how many at most, by "
                "max_bad=100 or, as a share, max_bad=0.001"
            )
        if isinstance(max_bad, float) and 0 < max_bad < 1:
            return cls(max_bad=int(max_bad * length))
        return cls(max_bad=whole_number("max_bad", max_bad, at_least=1))

    def __len__(self) -> int:
        return len(self._reasons)

    def __iter__(self) -> Iterator[BadSample]:
        """The bad samples by row."""
        with self._lock:
            found = sorted(self._reasons.items())
        return iter([BadSample(row=row, reason=reason) for row, reason in found])

    def add(self, row: int, reason: str) -> None:
        """Leave a row out from now on; BadSampleError where that is one too many."""
        with self._lock:
            if row in self._reasons:
                return
            self._reasons[row] = reason[:_MOST_REASON_CHARACTERS]
            self._rows = None
            count = len(self._reasons)
        if count <= _TOLD:
            logger.warning(f"row {row:,} is left out: {reason}")
        elif count == _TOLD + 1:
            logger.warning("more rows are left out; bad_samples lists all of them")
        self.refuse_too_many(f"; the last: {reason.rstrip('.')}")

    def refuse_too_many(self, last: str = "") -> None:
        """BadSampleError where more are left out than may be; `last` says which came last."""
        if len(self) > self.max_bad:
            bad = self.rows.tolist()
            rows = bad[:_LISTED]
            shown = ", ".join(f"{row:,}" for row in rows) + (", …" if len(bad) > _LISTED else "")
            raise BadSampleError(
                f"{len(bad):,} samples can not be read (rows {shown}), and max_bad allows "
                f"{self.max_bad:,}{last}. Repair the data, or allow more",
                rows=bad,
            )

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows that are left out, int64, ascending; not to be changed."""
        with self._lock:
            if self._rows is None:
                self._rows = np.array(sorted(self._reasons), np.int64)
            return self._rows

    def is_bad(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `rows` are left out."""
        bad = self.rows
        return np.isin(rows, bad) if len(bad) else np.zeros(len(rows), np.bool_)

    def to_json(self) -> list[dict[str, Any]]:
        """The bad samples as JSON; `restore` reads them back."""
        return [asdict(sample) for sample in self]

    def restore(self, saved: object) -> None:
        """Leave out what `to_json` listed, as the run did, whether or not it can be read now.

        Raises ResumeError where it is no such list.
        """
        try:
            entries: Any = saved
            found = {int(entry["row"]): str(entry["reason"]) for entry in entries}
        except (TypeError, KeyError, ValueError) as error:
            raise ResumeError(f"the list of bad samples can not be read: {error!r}") from error
        with self._lock:
            self._reasons.update(found)
            self._rows = None


def refuse_too_many_of_all(quarantine: Quarantine) -> None:
    """BadSampleError, the same on every rank, where more are left out than may be by all."""
    try:
        quarantine.refuse_too_many()
    except BadSampleError as error:
        of_all_ranks(error)
        raise


def read_around(
    read: Callable[[int, int], None], count: int, quarantine: Quarantine, rows: NDArray[np.int64]
) -> None:
    """Read entries 0 up to `count` by `read(first, last)`, and those that fail one by one.

    `rows` are their row numbers. A failing stretch is halved until single samples fail, which go
    into the quarantine. Memory that runs out and a network that fails are no fault of a
    sample, and are raised.
    """
    waiting = [(0, count)]
    while waiting:
        first, last = waiting.pop()
        if last <= first:
            continue
        try:
            read(first, last)
        except (MemoryError, RemoteError):
            raise
        except Exception as error:
            if last - first == 1:
                quarantine.add(int(rows[first]), f"{type(error).__name__}: {error}")
                continue
            middle = (first + last) // 2
            waiting += [(middle, last), (first, middle)]


def fillers(is_bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each entry itself, or for a bad one the nearest good one before it, else the first good.

    All zero where none is good.

    >>> fillers(np.array([True, False, True, True, False]))
    array([1, 1, 1, 1, 4])
    """
    places = np.where(is_bad, -1, np.arange(len(is_bad)))
    filled: NDArray[np.int64] = np.maximum.accumulate(places)
    good = np.flatnonzero(~is_bad)
    filled[filled < 0] = good[0] if len(good) else 0
    return filled


def rows_text(samples: Iterable[BadSample]) -> str:
    """The first rows of some bad samples, for a sentence."""
    rows = [sample.row for sample in samples]
    return ", ".join(f"{row:,}" for row in rows[:_LISTED]) + (", …" if len(rows) > _LISTED else "")

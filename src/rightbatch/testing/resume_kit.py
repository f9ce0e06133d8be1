"""`check_resume`: resuming is exact, for people who write a loader of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np

from rightbatch.data.ragged import Ragged

_MOST_STATE_BYTES = 65_536


class Resumable(Protocol):
    """What `check_resume` takes: epochs of batches with torchdata's state protocol."""

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch that a loaded state stood in, else the next epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer stands."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Stand there."""


def check_resume(make_batches: Callable[[], Resumable]) -> None:
    """Raise AssertionError, saying where, unless resuming is exact after any number of batches.

    `make_batches` makes an object at the start of its first epoch, the same one every time. The
    kit stops before the first batch, after the first, in the middle, before and after the last
    one; the state has to be JSON of at most 64 KiB that reading does not change; and an object
    that loads it has to give, byte for byte, the batches that were still to come, then the next
    epoch. So has the object that was stopped. All batches of two epochs are held: use few.

    >>> from rightbatch.loading.batches import Batches
    >>> check_resume(lambda: Batches(np.arange(10), 3, seed=7))
    """
    whole = make_batches()
    epochs = [[frozen(batch) for batch in whole] for _ in range(2)]
    length = len(epochs[0])
    hold(length > 0, "the first epoch has no batch")
    for stop in sorted({0, 1, length // 2, length - 1, length}):
        where = f"stopped after {stop} of {length} batches"
        stopped = make_batches()
        before = [frozen(batch) for batch in islice(iter(stopped), stop)] if stop else []
        hold(before == epochs[0][:stop], f"{where}: the batches before the stop differ")
        text = state_text(stopped, where)
        hold(len(text) <= _MOST_STATE_BYTES, f"{where}: the state takes {len(text):,} bytes")
        hold(
            state_text(stopped, where) == text,
            f"{where}: reading the state a second time gave another one",
        )
        fresh = make_batches()
        for who, batches in (("a new object", fresh), ("the stopped object", stopped)):
            batches.load_state_dict(json.loads(text))
            hold(
                state_text(batches, where) == text,
                f"{where}: {who} gives another state than the one it loaded",
            )
            expected = {"the rest of the epoch": epochs[0][stop:], "the next epoch": epochs[1]}
            if stop == length:
                del expected["the rest of the epoch"]
            for part, to_come in expected.items():
                found = [frozen(batch) for batch in batches]
                if found != to_come:
                    difference = _difference(found, to_come)
                    raise AssertionError(f"{where}: in {part} {who} gave {difference}")


def hold(kept: bool, broken: str) -> None:
    """AssertionError with what is broken unless it is kept."""
    if not kept:
        raise AssertionError(broken)


def state_text(batches: Resumable, where: str) -> str:
    """The state as JSON text; AssertionError where it is none."""
    state = batches.state_dict()
    try:
        return json.dumps(state)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{where}: the state is no JSON: {error}") from error


def frozen(batch: Any) -> Any:
    """A copy of a batch that `==` compares byte for byte."""
    if isinstance(batch, dict):
        return {name: frozen(values) for name, values in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(frozen(values) for values in batch)
    if isinstance(batch, Ragged):
        return "ragged", batch.is_text, frozen(batch.offsets), frozen(batch.values)
    array = np.asarray(batch)
    return array.dtype.str, array.shape, array.tobytes()


def _difference(found: list[Any], expected: list[Any]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} batches where {len(expected)} were to come"
    first = next(
        k for k, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]
    )
    return f"another batch {first} (counting from 0)"

"""`check_ranks` finds what it says it finds: one broken promise each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rightbatch.loading.batches import Batches
from rightbatch.testing import check_ranks


class Good:
    """Batches of ranks; each subclass breaks one promise."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self.batches = Batches(np.arange(20), 6, seed=7, rank=rank, world_size=world_size)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.batches.load_state_dict(state)


class MultipliesTheBatch(Good):
    """As many samples a rank as one process takes, from a part of the data of its own."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__(rank, world_size)
        self.batches = Batches(np.arange(20), 6, seed=7)


class ChangesTheOrder(Good):
    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__(rank, world_size)
        seed = 7 if world_size < 3 else 8
        self.batches = Batches(np.arange(20), 6, seed=seed, rank=rank, world_size=world_size)

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict({**state, "seed": self.batches.plan.seed})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seed": 7}


class CountsItsOwnSamples(Good):
    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "samples": state["samples"] // self.world_size}


class LeavesEmptySharesOut(Good):
    def __iter__(self) -> Iterator[Any]:
        return (batch for batch in super().__iter__() if len(batch))


class MakesEmptySharesOfAnotherType(Good):
    def __iter__(self) -> Iterator[Any]:
        return (batch if len(batch) else np.empty((0,)) for batch in super().__iter__())


def test_the_good_one_passes() -> None:
    check_ranks(Good)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (MultipliesTheBatch, "batch 0 .* of 2 ranks is not that of one process"),
        (ChangesTheOrder, "batch 0 .* of 3 ranks is not that of one process"),
        (CountsItsOwnSamples, "rank 0 of 2, after 1 batches: the state is not that of one"),
        (LeavesEmptySharesOut, "rank 2 of 3: 3 batches where one process has 4"),
        (MakesEmptySharesOfAnotherType, "the shares have samples of float64.* and int64"),
    ],
)
def test_what_breaks_a_promise_is_found(broken: type[Good], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_ranks(broken)

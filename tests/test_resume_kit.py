"""`check_resume` finds what it says it finds: one broken promise each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rightbatch.loading.batches import Batches
from rightbatch.testing import check_resume


class Good:
    """Ten batches an epoch; each subclass breaks one promise."""

    def __init__(self) -> None:
        self.at = 0
        self.goes_on = True

    def batch(self, epoch: int, position: int) -> Any:
        return np.arange(3) + 10 * position + 100 * epoch, {"epoch": np.float32(epoch)}

    def __iter__(self) -> Iterator[Any]:
        if not self.goes_on:
            self.at = (self.at // 10 + 1) * 10
        self.goes_on = False
        return self.rest()

    def rest(self) -> Iterator[Any]:
        epoch = self.at // 10
        for position in range(self.at % 10, 10):
            self.at = epoch * 10 + position + 1
            self.goes_on = position == 9
            yield self.batch(epoch, position)

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.at = state["at"]
        self.goes_on = True


class CountsWhatIsPrefetched(Good):
    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at + 2 if self.at % 10 in range(1, 8) else self.at}


class BeginsTheEpochAgain(Good):
    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict({"at": state["at"] // 10 * 10})

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at // 10 * 10}


class ForgetsTheEpoch(Good):
    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at % 10}


class GrowsItsState(Good):
    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at, "seen": list(range(100_000))}


class ChangesWhenRead(Good):
    reads = 0

    def state_dict(self) -> dict[str, Any]:
        self.reads += 1
        return {"at": self.at, "reads": self.reads}


class HoldsAnArray(Good):
    def state_dict(self) -> dict[str, Any]:
        return {"at": np.int64(self.at)}


class IsNeverTheSame(Good):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        IsNeverTheSame.made += 1

    def batch(self, epoch: int, position: int) -> Any:
        return np.arange(3) + self.made


class IsEmpty(Good):
    def rest(self) -> Iterator[Any]:
        return iter(())


BROKEN = [
    (CountsWhatIsPrefetched, "stopped after 1 of 10"),
    (BeginsTheEpochAgain, "10 batches where 9 were to come"),
    (ForgetsTheEpoch, "stopped after 10 of 10.*next epoch.*another batch 0"),
    (GrowsItsState, "the state takes"),
    (ChangesWhenRead, "reading the state a second time"),
    (HoldsAnArray, "the state is no JSON"),
    (IsNeverTheSame, "the batches before the stop differ|another batch 0"),
    (IsEmpty, "no batch"),
]


def test_what_keeps_the_promise_passes() -> None:
    check_resume(Good)
    check_resume(lambda: Batches(np.arange(10), 4))


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_what_breaks_it_is_named(broken, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_resume(broken)

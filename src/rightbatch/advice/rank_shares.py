"""What several ranks make of a batch: the share of each, its micro-batch, and what a step takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from rightbatch.advice.timing import time_text
from rightbatch.plan.ranks import least_share


@dataclass(frozen=True, kw_only=True)
class RankShares:
    """How `world_size` ranks divide the advised batch among themselves, and what that costs.

    `batch_size` is the global batch, of which a rank holds `largest_share` samples at most and
    `smallest_share` at least; `micro_batch_size` is what it works through at a time, None for the
    whole share. `step_seconds` is a step of all ranks, `share_seconds` the same without telling one
    another, `single_seconds` one rank alone with the whole batch, while the others wait.

    >>> shares = RankShares.of(100, 3, step_seconds=2e-3, share_seconds=1.5e-3, single_seconds=4e-3)
    >>> shares.largest_share, shares.smallest_share, shares.communication_share, shares.speedup
    (34, 33, 0.25, 2.0)
    """

    world_size: int
    batch_size: int
    largest_share: int
    smallest_share: int
    micro_batch_size: int | None
    step_seconds: float
    share_seconds: float
    single_seconds: float

    @classmethod
    def of(
        cls,
        batch_size: int,
        world_size: int,
        *,
        micro_batch_size: int | None = None,
        step_seconds: float,
        share_seconds: float,
        single_seconds: float,
    ) -> Self:
        """The shares of a batch, with the times that were measured."""
        return cls(
            world_size=world_size,
            batch_size=batch_size,
            largest_share=largest_share(batch_size, world_size),
            smallest_share=least_share(batch_size, world_size),
            micro_batch_size=micro_batch_size,
            step_seconds=step_seconds,
            share_seconds=share_seconds,
            single_seconds=single_seconds,
        )

    @property
    def communication_share(self) -> float:
        """The share of a step that ranks spend on telling one another, and on waiting for it."""
        return max(0.0, 1.0 - self.share_seconds / self.step_seconds)

    @property
    def speedup(self) -> float:
        """How many times as fast the ranks are as one of them alone, at this batch size."""
        return self.single_seconds / self.step_seconds

    @property
    def idle_ranks(self) -> int:
        """How many ranks hold no sample of a batch."""
        return max(0, self.world_size - self.batch_size)

    @property
    def shares_text(self) -> str:
        """What a rank holds, for people.

        >>> RankShares.of(3, 4, step_seconds=1, share_seconds=1, single_seconds=1).shares_text
        '1 sample on each of 3 ranks and none on 1'
        """
        working = self.world_size - self.idle_ranks
        if self.idle_ranks:
            return f"1 sample on each of {working:,} ranks and none on {self.idle_ranks:,}"
        noun = "sample" if self.largest_share == 1 else "samples"
        if self.largest_share == self.smallest_share:
            return f"{self.largest_share:,} {noun} on each of {working:,} ranks"
        larger = self.batch_size % self.world_size
        return (
            f"{self.largest_share:,} {noun} on {larger:,} of {working:,} ranks and "
            f"{self.smallest_share:,} on {working - larger:,}"
        )

    @property
    def times_text(self) -> str:
        """What a step takes, for people."""
        told = (
            f"a step of all ranks takes {time_text(self.step_seconds)}, of which communication and "
            f"waiting for one another are {self.communication_share:.0%}"
        )
        return f"{told}; one rank alone takes {time_text(self.single_seconds)} for the whole batch"

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return {
            **asdict(self),
            "communication_share": self.communication_share,
            "speedup": self.speedup,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave.

        >>> shares = RankShares.of(64, 2, step_seconds=2.0, share_seconds=1.5, single_seconds=3.0)
        >>> RankShares.from_json(shares.to_json()) == shares
        True
        """
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__})


def largest_share(batch_size: int, world_size: int) -> int:
    """The samples that the ranks with most have of a batch.

    >>> largest_share(10, 4), largest_share(3, 4)
    (3, 1)
    """
    return -(-batch_size // world_size)

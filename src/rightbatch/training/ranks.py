"""The processes that train one model together: what they tell one another, and who writes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rightbatch.errors import OptionError, RankError
from rightbatch.launch import launched_world_size


class Ranks:
    """One process alone; `ProcessGroup` is several.

    What is exchanged is small: numbers, JSON, and checkpoints as bytes. Every method but the
    properties is called by all ranks, in the same order.
    """

    rank = 0
    world_size = 1
    has_checkpoint = False
    """Whether a checkpoint is kept of what the ranks are doing, to go on from where one is lost."""

    @staticmethod
    def here() -> Ranks:
        """The ranks that this process is one of: torch's default process group, or itself alone.

        Raises OptionError where torchrun began several processes and none of them has made a group:
        each would train a model of its own, into the same folder.

        >>> Ranks.here().world_size
        1
        """
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            if distributed.get_world_size() == 1:
                return Ranks()
            from rightbatch.training.process_group import ProcessGroup

            return ProcessGroup.default()
        group = sys.modules.get("rightbatch.training.process_group")
        if group is not None and group.ProcessGroup.was_abandoned:
            # What the error's frames held keeps the connections, and the others waiting.
            gc.collect()
            raise RankError(
                "this rank has left its process group after an error, and can not train with the "
                "others any more: let the error end the program, or make a group anew on all ranks"
            )
        if launched_world_size() > 1:
            raise OptionError(
                f"this is one of {launched_world_size()} processes that torchrun began, and they "
                "have made no process group: put `with rb.process_group():` around the program"
            )
        return Ranks()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other rank."""
        return self.world_size == 1

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """The numbers of all ranks, float64 (world size, N), on every rank."""
        return np.array([numbers], np.float64)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all ranks, added in the order of the ranks: the same bits on each.

        >>> Ranks().sum([1.0, 2.0])
        [1.0, 2.0]
        """
        # NumPy adds the rows of a small array one by one, in float64.
        sums: list[float] = self.gather(numbers).sum(axis=0).tolist()
        return sums

    def gather_json(self, value: Any) -> list[Any]:
        """What each rank has to say, as JSON, in the order of the ranks."""
        return [value]

    def together(self, next_step: str) -> AbstractContextManager[None]:
        """A context in which an error of one rank is raised on all, at their next `gather_json`.

        Inside it nothing else is called than that, and what is made of it: `agree`, `exchange`.
        Where a rank is gone, `next_step` says what is to be done.
        """
        del next_step
        return nullcontext()

    def exchange(self, own: Sequence[Tensor], *, to_all: bool) -> list[list[Tensor]]:
        """The tensors of each rank, in the order of the ranks; those of others are on the CPU.

        All ranks get them, or with `to_all=False` rank 0 alone, and the others an empty list.
        """
        del to_all
        return [list(own)]

    def broadcast(self, content: bytes | None) -> bytes:
        """The bytes that rank 0 gives, on every rank."""
        assert content is not None  # rank 0 has some
        return content

    def on_first(self, function: Callable[[], Any]) -> Any:
        """What `function` gives on rank 0, as JSON, on every rank; so is what it raises.

        An error that a user can meet is raised on every rank; of another one the others learn that
        rank 0 has failed. They wait as long as the group's time-out allows, half an hour unless it
        was given: what takes longer says `keep_waiting` now and then.
        """
        return function()

    def keep_waiting(self) -> None:
        """Inside the function of `on_first`, on rank 0 alone: tell the others that it goes on."""

    def agree(self, aim: str = "train one model", /, **described: Any) -> None:
        """Raise RankError, naming what differs, unless all ranks describe themselves alike."""

    def abandon(self) -> None:
        """Leave after an error of this rank alone: it can not train with the others any more.

        They learn of it once the connections are closed: when the error has ended the process, or
        a program that has caught it trains again, which is refused.
        """

    def union(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The bits that any rank has set, on every rank."""
        return bits

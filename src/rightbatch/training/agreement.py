"""What the ranks of a run decide together after each step: to stop, and to write a checkpoint."""

from __future__ import annotations

import time

from rightbatch.training.ranks import Ranks


class Agreement:
    """When to stop and when to save, the same on every rank.

    A Ctrl-C may reach one rank before the others, and clocks differ: what each has heard is
    exchanged with the sizes of a batch, and rank 0's clock says when a checkpoint is due. One
    process alone decides at once.

    >>> alone = Agreement(Ranks(), save_seconds=3600.0)
    >>> alone.exchange(32, 32), alone.stops, alone.saves
    ((32, 32), False, False)
    >>> alone.interrupt()
    >>> alone.stops
    True
    """

    def __init__(self, ranks: Ranks, *, save_seconds: float) -> None:
        self._ranks = ranks
        self._save_seconds = self._wanted = save_seconds
        self._is_interrupted = False
        self._agreed = (False, False)
        self._saved = time.perf_counter()

    def interrupt(self) -> None:
        """Note a Ctrl-C that this process has got."""
        self._is_interrupted = True

    def note_saved(self) -> None:
        """Count the time to the next checkpoint from now."""
        self._saved = time.perf_counter()

    def exchange(
        self, weight: int = 0, samples: int = 0, *, save_seconds: float | None = None
    ) -> tuple[int, int]:
        """The weight and the samples of a batch of which each rank holds a share.

        `stops` and `saves` are then what the ranks have agreed on. `save_seconds` is another time
        between checkpoints than usual, up to the next exchange.
        """
        self._wanted = self._save_seconds if save_seconds is None else save_seconds
        if self._ranks.is_alone:
            return weight, samples
        says_save = self._ranks.is_first and self._is_due
        sums = self._ranks.sum([weight, samples, self._is_interrupted, says_save])
        self._agreed = (sums[2] > 0, sums[3] > 0)
        return int(sums[0]), int(sums[1])

    @property
    def stops(self) -> bool:
        """Whether Ctrl-C ends the run here."""
        return self._is_interrupted if self._ranks.is_alone else self._agreed[0]

    @property
    def saves(self) -> bool:
        """Whether a checkpoint is due."""
        return self._is_due if self._ranks.is_alone else self._agreed[1]

    @property
    def _is_due(self) -> bool:
        return time.perf_counter() - self._saved >= self._wanted

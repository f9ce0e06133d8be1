"""What the ranks of a run decide together after each step: to stop, and to write a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rightbatch.training.ranks import Ranks


class Agreement:
    """When to stop and when to save, the same on every rank.

    A Ctrl-C may reach one rank before the others, and clocks differ: what each has heard is
    added up with the loss of each step, and rank 0's clock says when a checkpoint is due. One
    process alone decides at once.

    >>> alone = Agreement(Ranks(), save_seconds=3600.0)
    >>> alone.interrupt()
    >>> alone.stops, alone.saves
    (True, False)
    """

    def __init__(self, ranks: Ranks, *, save_seconds: float) -> None:
        self._ranks = ranks
        self._save_seconds = save_seconds
        self._is_interrupted = False
        self._agreed = (False, False)
        self._saved = time.perf_counter()

    def interrupt(self) -> None:
        """Note a Ctrl-C that this process has got."""
        self._is_interrupted = True

    def note_saved(self) -> None:
        """Count the time to the next checkpoint from now."""
        self._saved = time.perf_counter()

    def say(self, *, save_seconds: float | None = None) -> list[float]:
        """What this rank has to say, as numbers that are added up over the ranks.

        `save_seconds` is the time between checkpoints here, where it is another one than usual.
        """
        says_save = self._ranks.is_first and self._is_due(save_seconds)
        return [float(self._is_interrupted), float(says_save)]

    def hear(self, sums: Sequence[float]) -> None:
        """Take the sums of what the ranks have said for what is agreed on."""
        self._agreed = (sums[0] > 0, sums[1] > 0)

    def exchange(self, *, save_seconds: float | None = None) -> None:
        """Agree where no step is taken; `save_seconds` is the time between checkpoints here."""
        self.hear(self._ranks.sum(self.say(save_seconds=save_seconds)))

    @property
    def stops(self) -> bool:
        """Whether Ctrl-C ends the run here."""
        return self._is_interrupted if self._ranks.is_alone else self._agreed[0]

    @property
    def saves(self) -> bool:
        """Whether a checkpoint is due."""
        return self._is_due() if self._ranks.is_alone else self._agreed[1]

    @property
    def agreed_to_save(self) -> bool:
        """Whether a checkpoint was due at the last exchange."""
        return self._agreed[1]

    def _is_due(self, save_seconds: float | None = None) -> bool:
        least = self._save_seconds if save_seconds is None else save_seconds
        return time.perf_counter() - self._saved >= least

"""How long a pilot goes on: some number of the runs that it is to speed up, within the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# A pilot that costs more than this many of the runs it is to speed up is not worth its advice; one
# that is over in about a second is.
_RUNS = 28.0
_LEAST_SECONDS = 1.2
# The spread of runs that this is meant for, and how much more of it a larger one is worth: as many
# more runs tell sizes apart as the square of the spread says.
_QUIET_ERROR, _MOST_NOISE = 0.15, 4.0


class Effort:
    """The seconds that a pilot has spent and may spend, `budget_seconds` at most.

    `noise` says how many times the effort the spread of runs is worth, from 1 to 4; while
    `is_limited` is False, only the budget ends the pilot.
    """

    def __init__(
        self, budget_seconds: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.budget_seconds = budget_seconds
        self.noise = 1.0
        self.is_limited = True
        self._clock = clock
        self._began = clock()
        self._seconds = math.inf
        self._best_seconds = math.inf

    @property
    def spent_seconds(self) -> float:
        """Since the pilot began."""
        return self._clock() - self._began

    def set_by(self, *, runs: int, best_seconds: float) -> None:
        """Bound the effort by the mean of the first `runs`, the best of which took so long."""
        self._seconds = _RUNS * self.spent_seconds / runs
        self._best_seconds = best_seconds

    def weigh(self, run_error: float) -> None:
        """Take the spread of runs, as that of log E, into account."""
        self.noise = min(max((run_error / _QUIET_ERROR) ** 2, 1.0), _MOST_NOISE)

    def limit_seconds(self, best_seconds: float) -> float:
        """What may be spent in all, where the best size is now known to take so long.

        That is more than was thought at first where the first runs were lucky ones.

        >>> effort = Effort(60.0, clock=iter([0.0, 2.0]).__next__)
        >>> effort.set_by(runs=20, best_seconds=0.1)
        >>> round(effort.limit_seconds(0.08), 2), round(effort.limit_seconds(0.2), 2)
        (2.8, 5.6)
        """
        if not self.is_limited or self._seconds == math.inf:
            return self.budget_seconds
        was_short = max(1.0, best_seconds / self._best_seconds)
        worth = self._seconds * self.noise * was_short
        return min(self.budget_seconds, max(worth, _LEAST_SECONDS))

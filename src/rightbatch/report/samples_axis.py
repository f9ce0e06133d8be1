"""An axis of samples seen, in decades, that has a place for the initial weights."""

from __future__ import annotations

from collections.abc import Sequence

import altair

from rightbatch.report.axes import log_scale, readable_ticks
from rightbatch.report.curve_rows import rounded

# How far before the first samples the start stands: zero has no logarithm.
_BEFORE = 2.0


class SamplesAxis:
    """Samples seen, in decades; 0 stands a little before the first number above it.

    >>> axis = SamplesAxis([0, 512, 2048])
    >>> axis.place(0), axis.place(2048)
    (256.0, 2048.0)
    """

    def __init__(self, samples: Sequence[int]) -> None:
        above = [float(count) for count in samples if count > 0]
        self._has_ticks = bool(above)
        self._first, self._last = min(above, default=1.0), max(above, default=1.0)
        self._start = self._first / _BEFORE if 0 in samples else None

    def place(self, samples: int) -> float:
        """Where a number of samples stands."""
        if samples > 0 or self._start is None:
            return rounded(float(max(samples, 1)))
        return rounded(self._start)

    @property
    def encoding(self) -> altair.X:
        """The channel: the field `x`."""
        first = self._first if self._start is None else self._start
        ticks = readable_ticks(self._first, self._last) if self._has_ticks else []
        start = [] if self._start is None else [self.place(0)]
        text = "(datum.value >= 1e4 ? format(datum.value, '~s') : format(datum.value, ',~g'))"
        if start:
            text = f"datum.value <= {self.place(0)!r} ? 'start' : {text}"
        return altair.X(
            "x:Q",
            title="samples seen",
            scale=log_scale([first, max(self._last, 1.01 * first)], padding=1.1),
            axis=altair.Axis(values=[*start, *ticks], labelExpr=text, titleAnchor="end"),
        )

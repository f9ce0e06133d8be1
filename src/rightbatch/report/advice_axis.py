"""The axis of batch sizes that the charts of an advice share, with the advice marked on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair

from rightbatch.advice.advice import Advice
from rightbatch.report.axes import log_scale, powers_of_two, readable_ticks
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import dressed, rows_chart

HEIGHT = 190
# Names of rules stand above the data, in two lines: the advised size, then what else is marked.
_ROOM_FOR_NAMES = 32
_FIRST_LINE, _SECOND_LINE = 7, 22
# The plots of all charts begin at the same place whatever their numbers are.
_LEFT_PIXELS = 56
_PADDING = 1.25
# A name takes up to this share of a narrow chart.
_NEAR_EDGE = 0.3
# Axis labels of numbers that need no unit.
PLAIN = "datum.value >= 1e4 ? format(datum.value, '~s') : format(datum.value, ',~g')"


class AdviceAxis:
    """Batch sizes in decades, from the smallest to the largest that anything is known of.

    Every chart made with it has the same domain and the same margins, so that charts one below
    the other share the axis. `marks` are the layers that show the interval and the advised size.
    """

    def __init__(self, advice: Advice) -> None:
        sizes = {advice.batch_size, *advice.interval, *advice.tested}
        sizes |= {point.batch_size for point in advice.speed.points}
        sizes |= {point.batch_size for point in advice.costs}
        if advice.memory is not None:
            sizes |= {point.batch_size for point in advice.memory.measured}
        if advice.pilot is not None:
            sizes |= {size.batch_size for size in advice.pilot.sizes}
        self.low, self.high = float(min(sizes)), float(max(sizes))
        self._chosen = advice.batch_size
        self._interval = advice.interval

    @property
    def encoding(self) -> altair.X:
        """The channel: the field `batch_size`."""
        ends = [self.low, self.high]
        return altair.X(
            "batch_size:Q",
            title="batch size",
            scale=log_scale(ends, padding=_PADDING),
            axis=altair.Axis(values=powers_of_two(ends), format=",d", titleAnchor="end"),
        )

    def grid(self, low: float | None = None, high: float | None = None) -> list[float]:
        """Batch sizes for a curve, from end to end or within the ends given."""
        first = math.log(max(self.low, low or self.low))
        last = math.log(min(self.high, high or self.high))
        if last <= first:
            return [math.exp(first)]
        return [math.exp(first + (last - first) * k / 80) for k in range(81)]

    def holds(self, batch_size: float) -> bool:
        """Whether the axis reaches this size."""
        return self.low <= batch_size <= self.high

    def shade(self) -> altair.Chart:
        """The interval, to lie under everything else."""
        low, high = self._interval
        shade: altair.Chart = (
            rows_chart([{"batch_size": low, "end": high}])
            .mark_rect(style="within")
            .encode(x=self.encoding, x2="end:Q")
        )
        return shade

    def chosen(self) -> list[altair.Chart]:
        """The rule of the advised size with its name."""
        name = f"advised: {self._chosen:,}"
        is_left = self._place(self._chosen) > 0.5
        return self._named_rule(
            self._chosen, name, style="chosen", line=_FIRST_LINE, is_left=is_left
        )

    def guide(self, batch_size: float, name: str) -> list[altair.Chart]:
        """A dashed rule with its name at another size; nothing beyond the ends."""
        if not self.holds(batch_size):
            return []
        # On the far side of the advised size, unless the edge is near.
        place = self._place(batch_size)
        is_left = place > _NEAR_EDGE and (batch_size < self._chosen or place > 1 - _NEAR_EDGE)
        return self._named_rule(batch_size, name, style="guide", line=_SECOND_LINE, is_left=is_left)

    def band(self, low: float, high: float) -> list[altair.Chart]:
        """A shade between two sizes under the names, such as the interval of an estimate."""
        low, high = max(low, self.low), min(high, self.high)
        if high <= low:
            return []
        return [
            rows_chart([{"batch_size": rounded(low), "end": rounded(high)}])
            .mark_rect(style="band", y=_ROOM_FOR_NAMES - 4, y2=_ROOM_FOR_NAMES)
            .encode(x=self.encoding, x2="end:Q")
        ]

    def level(self, value: float, name: str, y: altair.Y) -> list[altair.Chart]:
        """A dashed line across the chart with its name, on the side away from the advised size."""
        on_the_right = self._place(self._chosen) < 0.5
        place: dict[str, Any] = {"x": 0, "align": "left", "dx": 4}
        if on_the_right:
            place = {"x": "width", "align": "right", "dx": -4}
        base = rows_chart([{"value": rounded(value)}]).encode(y=y)
        words = {"text": name, "dy": -7, **place}
        return [
            base.mark_rule(style="guide"),
            base.mark_text(style="text-halo", **words),
            base.mark_text(style="guide-text", **words),
        ]

    def _place(self, batch_size: float) -> float:
        """Where on the axis a size is, from 0 to 1."""
        length = math.log(self.high / self.low)
        return math.log(batch_size / self.low) / length if length > 0 else 0.0

    def _named_rule(
        self, batch_size: float, name: str, *, style: str, line: int, is_left: bool
    ) -> list[altair.Chart]:
        base = rows_chart([{"batch_size": rounded(batch_size)}]).encode(x=self.encoding)
        words: dict[str, Any] = {"text": name, "y": line, "align": "left", "dx": 6}
        if is_left:
            words |= {"align": "right", "dx": -6}
        return [
            # From its name on: a rule through the name of another one makes both hard to read.
            base.mark_rule(style=style).encode(
                y=altair.value(line - _FIRST_LINE), y2=altair.value(HEIGHT)
            ),
            base.mark_text(style="text-halo", **words),
            base.mark_text(style=f"{style}-text", **words),
        ]


def vertical(
    values: Sequence[float], title: str, *, label: str = PLAIN, height: int = HEIGHT
) -> altair.Y:
    """The channel of the field `value` in decades around `values`, with room for names above."""
    low, high = min(values) / 1.15, max(values) * 1.15
    scale = altair.Scale(
        type="log", domain=[low, high], nice=False, clamp=True, range=[height, _ROOM_FOR_NAMES]
    )
    axis = altair.Axis(
        values=readable_ticks(low, high),
        labelExpr=label,
        minExtent=_LEFT_PIXELS,
        maxExtent=_LEFT_PIXELS,
    )
    return altair.Y("value:Q", title=title, scale=scale, axis=axis)


def panel(
    axis: AdviceAxis,
    layers: Sequence[altair.Chart],
    *,
    theme: str,
    width: int | str,
    height: int = HEIGHT,
) -> altair.LayerChart:
    """A chart over the axis: the interval and the advised size below its layers."""
    chart = altair.layer(axis.shade(), *axis.chosen(), *layers).properties(
        width=width, height=height
    )
    return dressed(chart, theme, series=1)


def line(
    rows: Sequence[Mapping[str, Any]], axis: AdviceAxis, y: altair.Y, *, style: str = "fitted"
) -> list[altair.Chart]:
    """A curve through `batch_size` and `value`, and its band where rows have `low` and `high`."""
    if len(rows) < 2:
        return []
    base = rows_chart(rows).encode(x=axis.encoding)
    drawn = [base.mark_line(style=style, strokeWidth=1.5, clip=True).encode(y=y)]
    if all("low" in row and "high" in row for row in rows):
        area = base.mark_area(style="band", clip=True)
        drawn.insert(0, area.encode(y=altair.Y("low:Q"), y2="high:Q"))
    return drawn

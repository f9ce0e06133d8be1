"""Axes that charts share: epochs, steps, samples or seconds at a switch, and decades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair

# Where runs end this far apart, the shorter ones would be a stroke at the edge of a linear axis.
_DECADES_FROM_RATIO = 12.0

_TITLES = {
    "epochs": "epochs",
    "steps": "steps (updates of the weights)",
    "samples": "samples seen",
    "seconds": "seconds of training",
}


class SwitchedAxis:
    """A horizontal axis that the reader switches between epochs, steps, samples and seconds.

    `rows` are the chart's rows, with `label` and a value for every position. A position at which
    the runs end far apart is drawn in decades: its logarithm is taken by the chart, since a scale
    of Vega-Lite cannot change its kind.
    """

    name = "axis"

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.positions = [name for name in _TITLES if rows and name in rows[0]]
        self.in_decades = [name for name in self.positions if _ends_apart(rows, name)]

    @property
    def parameter(self) -> altair.Parameter:
        """The switch."""
        return altair.param(
            name=self.name,
            value=self.positions[0] if self.positions else "epochs",
            bind=altair.binding_radio(options=self.positions, name="Against"),
        )

    @property
    def calculation(self) -> str:
        """The expression of a row's place on the axis."""
        return f"{self._is_decades} ? log(max(datum[axis], 1e-6)) / LN10 : datum[axis]"

    @property
    def encoding(self) -> altair.X:
        """The channel: the field `x` that `calculation` makes."""
        value = f"({self._is_decades} ? pow(10, datum.value) : datum.value)"
        # Between two decades an axis of logarithms has ticks of no round number.
        shown = f"!{self._is_decades} || abs(datum.value - round(datum.value)) < 1e-6"
        text = f"({value} >= 1e4 ? format({value}, '~s') : format({value}, ',~g'))"
        return altair.X(
            "x:Q",
            title=None,
            scale=altair.Scale(zero=False, nice=False),
            axis=altair.Axis(labelExpr=f"{shown} ? {text} : ''", labelFlush=True),
        )

    @property
    def title(self) -> altair.TitleParams:
        """The title under the chart, which follows the switch."""
        cases = "".join(f"axis == '{name}' ? '{_TITLES[name]}' : " for name in self.positions)
        return altair.TitleParams(text=altair.ExprRef(f"{cases}''"), orient="bottom", anchor="end")

    @property
    def _is_decades(self) -> str:
        if not self.in_decades:
            return "false"
        return f"indexof({self.in_decades!r}, axis) >= 0"


def log_scale(
    values: Sequence[float], *, padding: float = 1.15, clamp: bool = True
) -> altair.Scale:
    """A logarithmic scale around `values`, all above 0; `clamp` holds others at its ends."""
    return altair.Scale(
        type="log", domain=[min(values) / padding, max(values) * padding], nice=False, clamp=clamp
    )


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers for an axis of decades: 1, 2, 5 over a short range, powers of ten over a long.

    >>> log_ticks([0.02, 0.3]), log_ticks([1, 1e5])
    ([0.02, 0.05, 0.1, 0.2], [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0])
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    steps = (1, 2, 5) if high - low < 2.2 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    skipped = max(1, round(len(decades) / 7))
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    inside = [tick for tick in ticks if min(values) * 0.99 <= tick <= max(values) * 1.01]
    return inside[::skipped] if steps == (1,) else inside


def readable_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis, three at least: even ones where it is short.

    >>> readable_ticks(1, 1000), readable_ticks(53e3, 60e3)
    ([1.0, 10.0, 100.0, 1000.0], [54000.0, 56000.0, 58000.0, 60000.0])
    """
    decades = log_ticks([low, high])
    if len(decades) > 2 or high <= low:
        return decades
    if high > 10 * low:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [float(f"{step}e{k}") for k in range(first, last + 1) for step in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]
    step = 10.0 ** math.floor(math.log10(high - low))
    step *= next(factor for factor in (0.2, 0.5, 1, 2) if (high - low) / (factor * step) <= 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{place * step:.6g}") for place in range(first, last + 1)]


def powers_of_two(sizes: Sequence[float]) -> list[float]:
    """Ticks of an axis of batch sizes; the sizes themselves where no two powers lie among them.

    >>> powers_of_two([1, 9]), powers_of_two([5, 6])
    ([1.0, 2.0, 4.0, 8.0], [5, 6])
    """
    low, high = math.ceil(math.log2(min(sizes))), math.floor(math.log2(max(sizes)))
    if high <= low:
        return sorted(set(sizes))
    return [2.0**power for power in range(low, high + 1, 1 if high - low <= 12 else 2)]


def _ends_apart(rows: Sequence[dict[str, Any]], name: str) -> bool:
    ends: dict[str, float] = {}
    for row in rows:
        ends[row["label"]] = max(ends.get(row["label"], 0.0), row[name])
    reached = [end for end in ends.values() if end > 0]
    return len(reached) > 1 and max(reached) / min(reached) > _DECADES_FROM_RATIO

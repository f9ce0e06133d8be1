"""The legend of a chart of batch sizes: a click on an entry isolates what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair

_FADED = 0.08
# An entry takes about so many pixels: the legend has as many columns as the chart has room for.
_PIXELS_A_LETTER = 6.2
_PIXELS_AROUND = 32


class IsolatingLegend:
    """Colours by `label` in the order of `labels`, with a legend whose entries can be clicked."""

    def __init__(self, labels: Sequence[str], *, width: int | str) -> None:
        self.labels = list(labels)
        self._width = width
        self.selection = altair.selection_point(name="isolated", fields=["label"], bind="legend")

    @property
    def entry_pixels(self) -> int:
        """About what an entry takes: the page chooses the number of columns by it."""
        longest = max((len(label) for label in self.labels), default=1)
        return round(min(longest, 32) * _PIXELS_A_LETTER + _PIXELS_AROUND)

    @property
    def colour(self) -> altair.Color:
        """The channel that colours lines and points."""
        columns = self._width // self.entry_pixels if isinstance(self._width, int) else 4
        return altair.Color(
            "label:N",
            scale=altair.Scale(domain=self.labels),
            legend=altair.Legend(
                columns=max(1, columns), symbolOpacity=1, symbolStrokeWidth=3.5, symbolSize=220
            ),
        )

    def opacity(self, of_chosen: float = 1.0, of_others: float | None = None) -> Any:
        """`of_chosen` for what is isolated or when nothing is, next to nothing for the rest."""
        faded = min(_FADED, of_chosen) if of_others is None else of_others
        return altair.condition(self.selection, altair.value(of_chosen), altair.value(faded))

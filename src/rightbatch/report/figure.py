"""A chart of the report, and what stands in its place where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import altair

Section = Literal["advice", "learning", "speed", "shuffle", "landscape"]


class Drawing(Protocol):
    """Draws a chart in a theme and a width."""

    def __call__(self, *, theme: str, width: int | str) -> altair.LayerChart | None:
        """The chart, None where there is nothing to draw."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart of the report: `name` is its file, `group` the result it belongs to."""

    name: str
    section: Section
    group: str
    title: str
    caption: str
    draw: Drawing
    is_wide: bool = True


@dataclass(frozen=True, kw_only=True)
class Absence:
    """Says why a chart that belongs to a result can not be drawn."""

    title: str
    words: str

"""How the charts look: one palette ordered by batch size, in light, in dark, and by style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import altair

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.report.colours import ramp

ThemeName = Literal["light", "dark", "page"]

FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif'
)

# The small, noisy batch is warm and bright; the full batch is cool. In light the ramp grows darker
# from end to end and in dark brighter, so its order shows without any sense of colour.
_RAMPS = {
    "light": ("#f0852d", "#cf3476", "#7b3fc4", "#16255f"),
    "dark": ("#d05d20", "#ee72a4", "#b9a2fb", "#b9ecff"),
}
# From the lowest loss to the highest: a valley in the light, or a deep one in the dark.
_HEATS = {
    "light": ("#ffffff", "#e9edf5", "#d3dbe8", "#b9c5d8"),
    "dark": ("#12151c", "#1c222d", "#28303f", "#394456"),
}
HEAT_LEVELS = 16


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of a theme, as CSS writes them.

    `ink` is text, `soft` secondary text, `grid` lines behind the data, `paper` what the chart
    stands on, `line` a contour of the landscape.
    """

    name: ThemeName
    ink: str
    soft: str
    grid: str
    paper: str
    line: str

    def series(self, count: int) -> list[str]:
        """One colour for each of `count` batch sizes, the smallest first.

        >>> THEMES["light"].series(2)
        ['#f0852d', '#16255f']
        """
        if self.name == "page":
            return [f"var(--series-{count}-{index})" for index in range(count)]
        return ramp(_RAMPS[self.name], count)

    def heat(self) -> list[str]:
        """The colours of the landscape, the lowest loss first."""
        if self.name == "page":
            return [f"var(--heat-{index})" for index in range(HEAT_LEVELS)]
        return ramp(_HEATS[self.name], HEAT_LEVELS)


THEMES: dict[str, Theme] = {
    "light": Theme(
        name="light", ink="#1b1f27", soft="#626b7a", grid="#e6e9ef", paper="#ffffff", line="#8592a8"
    ),
    "dark": Theme(
        name="dark", ink="#e8eaf0", soft="#99a2b3", grid="#272d39", paper="#161a22", line="#5d6b83"
    ),
    # The page's style sheet gives the variables their colours, so light, dark and print are one
    # drawing and change without drawing again.
    "page": Theme(
        name="page",
        ink="var(--ink)",
        soft="var(--soft)",
        grid="var(--grid)",
        paper="var(--paper)",
        line="var(--line)",
    ),
}


def theme_of(name: str) -> Theme:
    """The theme of this name; OptionError where there is none.

    >>> theme_of("dark").name
    'dark'
    """
    if name not in THEMES:
        valid = ", ".join(THEMES)
        raise OptionError(f"theme={name!r} is none.{did_you_mean(name, THEMES)} Valid: {valid}")
    return THEMES[name]


def style_variables(name: Literal["light", "dark"], counts: set[int]) -> str:
    """The colours of a theme as CSS declarations; `counts` are the sizes of palette in use.

    >>> style_variables("light", {1})[:30]
    '--ink:#1b1f27;--soft:#626b7a;-'
    """
    theme = THEMES[name]
    pairs = [(role, getattr(theme, role)) for role in ("ink", "soft", "grid", "paper", "line")]
    for count in sorted(counts):
        pairs += [(f"series-{count}-{k}", colour) for k, colour in enumerate(theme.series(count))]
    pairs += [(f"heat-{k}", colour) for k, colour in enumerate(theme.heat())]
    return "".join(f"--{role}:{colour};" for role, colour in pairs)


def config(theme: Theme, series: int) -> dict[str, Any]:
    """The Vega-Lite configuration of a chart with `series` batch sizes in it."""
    axis = {
        "domain": False,
        "ticks": False,
        "gridColor": theme.grid,
        "gridWidth": 1,
        "labelColor": theme.soft,
        "labelFontSize": 11,
        "labelPadding": 6,
        "titleColor": theme.soft,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 10,
    }
    return {
        "background": "transparent" if theme.name == "page" else theme.paper,
        "font": FONT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 4,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False, "domain": True, "domainColor": theme.line, "tickCount": 6},
        "axisY": {"tickCount": 5, "titleAnchor": "end", "titleAngle": 0, "titleAlign": "left"}
        | {"titleX": 0, "titleY": -14, "titleBaseline": "alphabetic"},
        "legend": {
            "orient": "top",
            "title": None,
            "labelColor": theme.ink,
            "labelFontSize": 12,
            "labelLimit": 220,
            "symbolType": "stroke",
            "symbolSize": 220,
            "symbolStrokeWidth": 3.5,
            "symbolOpacity": 1,
            "columnPadding": 18,
            "rowPadding": 4,
            "offset": 30,
        },
        # The title under a chart is its x axis, which a switch may change.
        "title": {"color": theme.soft, "fontSize": 12, "fontWeight": 500, "offset": 10},
        "range": {"category": theme.series(max(1, series)), "ordinal": theme.heat()},
        "line": {"strokeWidth": 2.25, "strokeCap": "round", "strokeJoin": "round"},
        "style": {
            # `color`, since a mark's own colour would hide a stroke or fill that is given here.
            "guide": {"color": theme.soft, "strokeDash": [4, 4], "strokeWidth": 1},
            "guide-text": {"color": theme.soft, "fontSize": 11},
            "interval": {"color": theme.series(1)[0], "strokeWidth": 2, "opacity": 0.5},
            "measured": {"color": theme.series(1)[0]},
            "fitted": {"color": theme.soft, "strokeWidth": 1.5, "opacity": 0.8},
            "within": {"color": theme.series(1)[0], "opacity": 0.1},
            "chosen": {"color": theme.ink, "strokeWidth": 1.5},
            "chosen-text": {"color": theme.ink, "fontSize": 11.5, "fontWeight": 600},
            "text-halo": {"fill": theme.paper, "stroke": theme.paper, "strokeWidth": 4}
            | {"fontSize": 11, "strokeJoin": "round", "opacity": 0.9},
            "band": {"color": theme.soft, "opacity": 0.2},
            "contour": {"color": theme.line, "strokeWidth": 0.7, "opacity": 0.8},
            "contour-label": {"color": theme.soft, "fontSize": 10},
            "halo": {"color": theme.paper, "strokeWidth": 4.5, "opacity": 0.85},
            "end-halo": {"color": theme.paper, "opacity": 1},
            "start": {"color": theme.ink, "opacity": 1, "strokeWidth": 2},
            "diverged": {"color": theme.ink, "fontSize": 15, "fontWeight": "bold"},
        },
    }


def dressed(chart: object, theme: str, *, series: int) -> altair.LayerChart:
    """The layered chart with the configuration of a theme."""
    # Altair types a layer as what it might become in other hands: facets too.
    assert isinstance(chart, altair.LayerChart)
    configured: altair.LayerChart = chart.configure(**config(theme_of(theme), series))
    return configured


def save(chart: altair.LayerChart, path: Path) -> Path:
    """Write a chart as PNG (twice the pixels) or SVG, by the file's ending.

    Raises OptionError where the ending is another one or the file can not be written.
    """
    if path.suffix not in (".png", ".svg"):
        raise OptionError(f"{path.name}: a chart is written as .png or .svg")
    import vl_convert

    spec = chart.to_dict()
    content = (
        vl_convert.vegalite_to_png(spec, scale=2)
        if path.suffix == ".png"
        else vl_convert.vegalite_to_svg(spec).encode()
    )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OptionError(f"{path} can not be written: {error}") from error
    return path


def rows_chart(rows: Sequence[Mapping[str, Any]]) -> altair.Chart:
    """A chart over rows, handed over as plain data.

    Altair's own classes for data check every cell against the schema, seconds for a few thousand.
    """
    return altair.Chart({"values": rows})

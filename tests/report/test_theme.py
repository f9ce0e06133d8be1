"""Colours that anybody tells apart, in one order, in both themes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.report.colours import _to_oklab
from rightbatch.report.learning_chart import learning_curves
from rightbatch.report.theme import THEMES, save, style_variables, theme_of

# Machado, Oliveira and Fernandes 2009, at severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour: str) -> np.ndarray:
    encoded = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def seen(colour: str, matrix: np.ndarray) -> np.ndarray:
    rgb = (matrix @ linear(colour)).clip(0, 1)
    encoded = np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return _to_oklab("#" + "".join(f"{round(value * 255):02x}" for value in encoded))


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of luminances."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_any_two_colours_are_told_apart_by_every_eye(theme, deficiency, count) -> None:
    colours = [seen(colour, DEFICIENCIES[deficiency]) for colour in THEMES[theme].series(count)]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)]
    # 0.02 is a just noticeable difference in Oklab.
    assert min(distances) > 0.06


@pytest.mark.parametrize(("theme", "sign"), [("light", -1), ("dark", 1)])
@pytest.mark.parametrize("count", [2, 4, 9])
def test_lightness_follows_the_batch_size(theme, sign, count) -> None:
    lightness = [_to_oklab(colour)[0] for colour in THEMES[theme].series(count)]
    assert (sign * np.diff(lightness) > 0).all()


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_is_readable_and_lines_are_visible(name) -> None:
    theme = THEMES[name]
    assert contrast(theme.ink, theme.paper) > 12
    assert contrast(theme.soft, theme.paper) > 4.5
    assert min(contrast(colour, theme.paper) for colour in theme.series(4)) > 2.4


def test_a_chart_is_the_same_in_every_theme_but_for_its_configuration(curves) -> None:
    specs = [learning_curves(curves, theme=theme).to_dict() for theme in THEMES]
    configs = [spec.pop("config") for spec in specs]
    assert specs[0] == specs[1] == specs[2]
    assert configs[0] != configs[1] != configs[2]


def test_the_style_sheet_has_every_colour_that_the_page_names() -> None:
    style = style_variables("dark", {3})
    for colour in [*THEMES["page"].series(3), *THEMES["page"].heat(), THEMES["page"].ink]:
        assert f"{colour.removeprefix('var(').removesuffix(')')}:" in style


def test_an_unknown_theme_names_the_nearest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'dark'"):
        theme_of("drak")


def test_charts_are_written_as_png_and_svg_and_nothing_else(curves, tmp_path) -> None:
    chart = learning_curves(curves)
    assert save(chart, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in save(chart, tmp_path / "a.svg").read_text(encoding="utf-8")
    with pytest.raises(OptionError, match=r"\.png or \.svg"):
        save(chart, tmp_path / "a.gif")
    with pytest.raises(OptionError, match="can not be written"):
        save(chart, tmp_path / "absent" / "a.svg")

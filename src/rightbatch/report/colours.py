"""Colours along a ramp, evenly spaced as the eye sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ramp(anchors: tuple[str, ...], count: int) -> list[str]:
    """`count` colours evenly along a way through Oklab (Ottosson 2020), as #rrggbb.

    >>> ramp(("#000000", "#ffffff"), 3)
    ['#000000', '#636363', '#ffffff']
    """
    points = np.array([_to_oklab(anchor) for anchor in anchors])
    # One batch size alone takes the colour that stands best on its own.
    places = np.linspace(0, 1, count) if count > 1 else np.array([2 / 3])
    known = np.linspace(0, 1, len(anchors))
    mixed = np.stack([np.interp(places, known, points[:, k]) for k in range(3)], axis=1)
    return [_from_oklab(colour) for colour in mixed]


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _to_oklab(colour: str) -> NDArray[np.float64]:
    encoded = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = _TO_LAB @ np.cbrt(_TO_CONES @ linear)
    return lab


def _from_oklab(lab: NDArray[np.float64]) -> str:
    linear = np.linalg.solve(_TO_CONES, np.linalg.solve(_TO_LAB, lab) ** 3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(value * 255):02x}" for value in encoded)

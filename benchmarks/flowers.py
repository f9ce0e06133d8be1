"""The photographs of the image benchmark: 736 flowers in five folders, from RIGHTBATCH_DATA."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

SIDE = 224
BATCH_SIZE = 32
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)


def folder() -> Path:
    """Where the flowers are looked for: $RIGHTBATCH_DATA/flowers, by default beside the code."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RIGHTBATCH_DATA", beside)) / "flowers"


@cache
def files() -> list[Path]:
    """The files in the order of their names; listed once, in no measured time."""
    found = sorted(folder().glob("*/*.jpg"))
    if not found:
        raise SystemExit(f"no photographs at {folder()}: set RIGHTBATCH_DATA to the folder above")
    return found


def classes() -> list[int]:
    """The class of each file."""
    names = sorted({path.parent.name for path in files()})
    return [names.index(path.parent.name) for path in files()]

"""The data of both benchmarks: MNIST where it is found, else random bytes of its shape."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = 60_000
FEATURES = 784
CLASSES = 10
BATCH_SIZE = 128


def folder() -> Path:
    """Where MNIST is looked for: $RIGHTBATCH_DATA/mnist, by default beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RIGHTBATCH_DATA", beside)) / "mnist"


def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (60,000, 784) uint8 and labels (60,000,) int64."""
    if folder().is_dir():
        import rightbatch as rb

        data = rb.open(folder())
        assert data.target is not None  # MNIST's folder has labels
        columns: dict[str, Any] = data.span(0, SAMPLES)
        pixels = columns[data.inputs[0].name].reshape(SAMPLES, FEATURES)
        return np.ascontiguousarray(pixels), columns[data.target].astype(np.int64)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (SAMPLES, FEATURES), dtype=np.uint8)
    return pixels, random.integers(0, CLASSES, SAMPLES)


def describe() -> str:
    """Which data were used."""
    return f"Data: {'MNIST' if folder().is_dir() else 'random bytes of MNIST shape'}."

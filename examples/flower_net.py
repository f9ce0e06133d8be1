"""A small convolutional network for photographs of 64 x 64 pixels in five classes."""

from __future__ import annotations

import itertools

from torch import nn

CLASSES = 5


def small() -> nn.Module:
    """Four blocks that halve the image each, then the mean over what is left."""
    widths = (3, 24, 48, 96, 128)
    blocks = [
        nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        for inputs, outputs in itertools.pairwise(widths)
    ]
    return nn.Sequential(
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], CLASSES),
    )

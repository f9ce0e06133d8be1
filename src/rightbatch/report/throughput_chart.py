"""How many samples a second go through at each batch size."""

from __future__ import annotations

import altair

from rightbatch.advice.timing import Speed
from rightbatch.report.speed_layers import Measured, speed_layers


def throughput(
    speed: Speed, *, theme: str = "light", width: int | str = 640, height: int = 280
) -> altair.LayerChart:
    """Samples a second against the batch size, both in decades, with 95 % intervals.

    >>> from rightbatch.advice.timing import Speed, SpeedPoint
    >>> from rightbatch.training.provenance import Provenance
    >>> points = [SpeedPoint(batch_size=1, seconds_per_batch=1e-4, seconds_per_sample=1e-4,
    ...                      low=9e-5, high=2e-4)]
    >>> speed = Speed(model="mlp:10", mode="predict", threads=1, device="cpu", points=points,
    ...               fit=None, provenance=Provenance(data="digits", fingerprint="", sizes={}))
    >>> throughput(speed).to_dict()["height"]
    280
    """
    measured = Measured(
        title="samples a second",
        unit="",
        of=lambda seconds_per_sample: 1 / seconds_per_sample,
    )
    return speed_layers(speed, measured, theme=theme, width=width, height=height)

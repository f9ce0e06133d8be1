"""The time that a sample costs at each batch size."""

from __future__ import annotations

import altair

from rightbatch.advice.timing import Speed
from rightbatch.report.speed_layers import Measured, speed_layers


def time_per_sample(
    speed: Speed, *, theme: str = "light", width: int | str = 640, height: int = 280
) -> altair.LayerChart:
    """Seconds a sample against the batch size, both in decades, with 95 % intervals.

    The curve is the fitted law t(B)/B, the dashed line its n½: the batch size at which half of
    the highest throughput is reached.

    >>> from rightbatch.advice.timing import Speed, SpeedPoint
    >>> from rightbatch.training.provenance import Provenance
    >>> points = [SpeedPoint(batch_size=1, seconds_per_batch=1e-4, seconds_per_sample=1e-4,
    ...                      low=9e-5, high=2e-4)]
    >>> speed = Speed(model="mlp:10", mode="predict", threads=1, device="cpu", points=points,
    ...               fit=None, provenance=Provenance(data="digits", fingerprint="", sizes={}))
    >>> time_per_sample(speed).to_dict()["width"]
    640
    """
    measured = Measured(
        title="time a sample",
        unit="s",
        of=lambda seconds_per_sample: seconds_per_sample,
    )
    return speed_layers(speed, measured, theme=theme, width=width, height=height)

"""What a step of each batch size takes, from readings that stray."""

from __future__ import annotations

import math

import numpy as np

from rightbatch.advice.timing import Speed

# How far the time of a step strays from its law, smoothly over octaves of the size, and by itself
# at a size whose shapes suit the machine (the sweeps' times of benchmarks/advice_regret.py are
# within 0.1 of the law, in one long arch).
_MISFIT, _MISFIT_OCTAVES, _OWN_MISFIT = 0.1, 2.0, 0.02
# From the ends of an interval of few rounds to the standard error of their median.
_INTERVAL_WIDTH = 3.0


def steady_step_seconds(speed: Speed) -> dict[int, float]:
    """The seconds of a step by batch size: the readings, each drawn to those beside it.

    On a machine with other tenants the reading of one size is a tenth off, and the comparison of
    two sizes more. Their law and its smooth misfit (a Gaussian process over octaves) tell how much
    of what a reading departs from its neighbours is chance, by the spread of the rounds over all
    sizes: where the machine is quiet, readings stay as they are.
    """
    sizes = [point.batch_size for point in speed.points]
    if speed.fit is None:
        return {point.batch_size: point.seconds_per_batch for point in speed.points}
    law = np.log([speed.fit.seconds(size) for size in sizes])
    departure = np.log([point.seconds_per_batch for point in speed.points]) - law
    errors = [math.log(point.high / point.low) / _INTERVAL_WIDTH for point in speed.points]
    octaves = np.log2(np.array(sizes, dtype=np.float64))
    apart = (octaves[:, None] - octaves[None, :]) / _MISFIT_OCTAVES
    misfit = _MISFIT**2 * np.exp(-0.5 * np.square(apart)) + _OWN_MISFIT**2 * np.eye(len(sizes))
    # Sizes are read in turn, so that what disturbs one round disturbs them all alike.
    noise = float(np.mean(np.square(errors))) * np.eye(len(sizes))
    drawn = misfit @ np.linalg.solve(misfit + noise, departure)
    return dict(zip(sizes, np.exp(law + drawn).tolist(), strict=True))

"""What a step costs several ranks, beside the same share without communication, and one alone."""

from __future__ import annotations

import time

import numpy as np

from rightbatch.advice.ground import Ground
from rightbatch.advice.loop_speed import Loop
from rightbatch.advice.rank_shares import RankShares, largest_share
from rightbatch.training.ranks import Ranks

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15


def measure_shares(
    ground: Ground, batch_size: int, ranks: Ranks, *, seconds: float, loading: float
) -> RankShares:
    """Time a step of this global batch in three ways; every rank calls it, and all have one result.

    Turn by turn: all ranks together as in training; all at once but each for itself, with a batch
    of its share; rank 0 alone with the whole batch, while the others wait. So what else the machine
    does falls on all three alike, and the second is no faster for finding the machine empty. Rounds
    go on for `seconds` by rank 0's clock, from 3 to 15 of them; the medians count, of the slowest
    rank. `loading` are the seconds of making the batch of a sample by one process.
    """
    share = largest_share(batch_size, ranks.world_size)
    together = Loop(ground, batch_size, loading / ranks.world_size, ranks)
    apart = Loop(ground, share, loading)
    single = Loop(ground, batch_size, loading)
    rows = []
    began = time.perf_counter()
    try:
        while True:
            row = [together.read()]
            ranks.gather([0.0])
            row.append(apart.read())
            ranks.gather([0.0])
            row.append(single.read() if ranks.is_first else 0.0)
            is_last = time.perf_counter() - began > seconds
            told = ranks.gather([*row, is_last])
            rows.append(told[:, :-1].max(axis=0))
            has_enough = bool(told[0, -1]) and len(rows) > _LEAST_ROUNDS
            if has_enough or len(rows) > _MOST_ROUNDS:
                break
    finally:
        for loop in (together, apart, single):
            loop.branch.close()
    # The first round warms up.
    together_seconds, share_seconds, single_seconds = np.median(rows[1:], axis=0).tolist()
    return RankShares.of(
        batch_size,
        ranks.world_size,
        micro_batch_size=ground.micro_batch_size(share),
        step_seconds=together_seconds,
        share_seconds=share_seconds,
        single_seconds=single_seconds,
    )

"""What users of several ranks complain about: the last batch, which does not divide.

Complaint 9 (pytorch #25162, #22584; webdataset #225): it is padded by repeated samples, dropped, or
some ranks wait for others that have no batch left. Each test fails with the peer's behaviour; that
gradients and metrics are means over samples is shown on real processes in tests/ranks.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from torch.utils.data.distributed import DistributedSampler

import rightbatch as rb

SAMPLES, BATCH_SIZE = 103, 12


def of_rank(rank: int, world_size: int) -> list[Any]:
    data = (np.arange(SAMPLES, dtype=np.float32), np.arange(SAMPLES))
    return list(rb.Batches(data, BATCH_SIZE, seed=7, rank=rank, world_size=world_size))


def test_9_the_peer_repeats_samples_so_that_ranks_have_as_many() -> None:
    # The complaint itself, so that it is noticed when it is gone.
    data = TensorDataset(torch.zeros(SAMPLES))
    seen = Counter(row for rank in range(4) for row in DistributedSampler(data, 4, rank))
    assert sum(seen.values()) == 104


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_9_no_sample_is_repeated_or_dropped(world_size: int) -> None:
    seen = [row for rank in range(world_size) for _, y in of_rank(rank, world_size) for row in y]
    assert sorted(seen) == list(range(SAMPLES))


@pytest.mark.parametrize("world_size", [2, 3, 4, 8, 20])
def test_9_all_ranks_have_as_many_batches_so_that_none_waits(world_size: int) -> None:
    counts = {len(of_rank(rank, world_size)) for rank in range(world_size)}
    assert counts == {-(-SAMPLES // BATCH_SIZE)}
    # 20 ranks are more than a batch has samples: some shares are empty, and still there.
    assert all(len(x) == len(y) for x, y in of_rank(world_size - 1, world_size))


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_9_the_global_batch_is_that_of_one_process(world_size: int) -> None:
    shares = [of_rank(rank, world_size) for rank in range(world_size)]
    together = [np.concatenate([y for _, y in parts]) for parts in zip(*shares, strict=True)]
    for found, (_, alone) in zip(together, of_rank(0, 1), strict=True):
        np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_9_a_mean_weighted_by_samples_is_the_mean_and_a_mean_of_means_is_not(
    world_size: int,
) -> None:
    shares = [of_rank(rank, world_size) for rank in range(world_size)]
    last = [parts[-1][0].astype(np.float64) for parts in shares]
    exact = float(np.concatenate(last).mean())
    held = [values for values in last if len(values)]
    weighted = sum(values.mean() * len(values) for values in held) / sum(map(len, held))
    assert weighted == pytest.approx(exact, rel=1e-12)
    uneven = len({len(values) for values in last}) > 1
    assert uneven == (SAMPLES % BATCH_SIZE % world_size != 0)

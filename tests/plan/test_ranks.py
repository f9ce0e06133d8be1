from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.ranks import rank_span


@given(st.integers(0, 10**12), st.integers(0, 5_000), st.integers(1, 64))
def test_ranks_share_a_batch_without_gap_or_overlap_and_evenly(start, size, world_size):
    spans = [rank_span(start, start + size, rank, world_size) for rank in range(world_size)]
    assert spans[0][0] == start
    assert spans[-1][1] == start + size
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
    sizes = [stop - begin for begin, stop in spans]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0)])
def test_ranks_outside_the_world_are_refused(rank, world_size):
    with pytest.raises(OptionError, match=f"rank {rank} of {world_size}"):
        rank_span(0, 10, rank, world_size)

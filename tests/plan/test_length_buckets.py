from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.length_buckets import LengthBuckets

LENGTHS = st.lists(st.integers(0, 400), min_size=1, max_size=200)


@given(lengths=LENGTHS, more=st.integers(0, 2000))
def test_every_sample_stands_in_the_first_bucket_that_holds_it(lengths, more):
    tokens = max(1, *lengths) + more
    buckets = LengthBuckets.of(lengths, tokens=tokens)
    assert sorted(buckets.index.tolist()) == list(range(len(lengths)))
    counted = np.maximum(lengths, 1)
    below = 0
    for number in range(len(buckets)):
        rows = buckets.index[buckets.starts[number] : buckets.starts[number + 1]].astype(int)
        assert rows.tolist() == sorted(rows.tolist())
        assert counted[rows].max() == buckets.longest[number]
        assert counted[rows].min() > below
        below = buckets.longest[number]


@given(lengths=LENGTHS, more=st.integers(0, 2000))
def test_a_bucket_fills_a_batch_or_is_joined_with_the_next(lengths, more):
    tokens = max(1, *lengths) + more
    buckets = LengthBuckets.of(lengths, tokens=tokens)
    full = tokens // buckets.edges
    assert (buckets.counts[:-1] >= full[:-1]).all()


def test_edges_grow_by_a_twentieth_so_that_little_is_padding():
    lengths = np.random.default_rng(0).lognormal(5, 1, 40_000).astype(int).clip(1, 4_000)
    buckets = LengthBuckets.of(lengths, tokens=4_096)
    padded = np.searchsorted(buckets.edges, lengths)
    assert 1 - lengths.sum() / buckets.edges[padded].sum() < 0.03


def test_golden_edges():
    buckets = LengthBuckets.of(np.arange(1, 200), tokens=200)
    assert buckets.edges.tolist() == [
        14,
        23,
        29,
        35,
        41,
        47,
        53,
        56,
        59,
        62,
        66,
        70,
        74,
        78,
        82,
        87,
        92,
        97,
        102,
        108,
        114,
        120,
        126,
        133,
        140,
        147,
        155,
        163,
        172,
        181,
        191,
        199,
    ]


def test_the_index_is_of_four_bytes_a_sample():
    assert LengthBuckets.of(np.ones(1_000), tokens=4).nbytes == 4_000


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (5, r"bucket_edges=5 is not valid; give a list"),
        ([], r"bucket_edges=\[\] is not valid"),
        ([4, 4], "each larger than the one before"),
        ([4, 8], r"end at 8, and there is a sample of 9 tokens: add an edge of at least 9"),
        ([0, 16], "give an integer of at least 1"),
    ],
)
def test_edges_that_hold_not_every_sample_are_refused(edges, message):
    with pytest.raises(OptionError, match=message):
        LengthBuckets.of([3, 9], tokens=20, edges=edges)


def test_a_sample_longer_than_a_batch_is_refused():
    with pytest.raises(OptionError, match="a sample of 21 tokens does not fit in a batch of 20"):
        LengthBuckets.of([3, 21], tokens=20)

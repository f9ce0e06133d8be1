"""Are the permutations uniform: positions, and pairs of positions?

Every statistic is a chi-square turned into a normal deviate z by Wilson and Hilferty's cube
root, exact enough from 3 degrees of freedom on. The keys are fixed, so a result never changes
from run to run. LIMIT = 5 is passed by chance once in 3.5 million draws; all tests together
make under 1,000, so a failure means a structure and not bad luck. The last tests show that the
statistics do see structure: they reject an affine map and a Feistel network of four rounds.

Numbers of one permutation are drawn without replacement, which makes cells slightly too even:
z is then too low, never too high, so only the upper tail is tested there.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from rightbatch.plan.feistel import FeistelNetwork
from rightbatch.plan.order import Order
from rightbatch.plan.permutation import permute_span

LIMIT = 5.0

UNIFORM = Order(kind="uniform")


def deviate(counts: NDArray[np.int64]) -> float:
    """How far `counts`, expected to be equal, are from it, in standard deviations."""
    expected = counts.sum() / counts.size
    chi_square = float(((counts - expected) ** 2).sum() / expected)
    freedom = counts.size - 1
    spread = 2 / (9 * freedom)
    return float(((chi_square / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)


def cells(numbers: NDArray[np.int64], length: int, count: int) -> NDArray[np.int64]:
    """The cell, of `count` equal ones, that each of `numbers` below `length` falls into."""
    return np.asarray((numbers.astype(np.float64) * (count / length)).astype(np.int64))


def pair_deviates(
    length: int, here: NDArray[np.int64], there: NDArray[np.int64]
) -> dict[str, float]:
    """Three views of pairs of images: their difference, where both lie, and their low bits."""
    both = cells(here, length, 16) * 16 + cells(there, length, 16)
    return {
        "difference": deviate(np.bincount(cells((there - here) % length, length, 500))),
        "both cells": deviate(np.bincount(both, minlength=256)),
        "low bits": deviate(np.bincount((here ^ there) & 255, minlength=256)),
    }


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_all_orders_of_tiny_lengths_are_equally_frequent(length):
    orders = dict.fromkeys(itertools.permutations(range(length)), 0)
    for seed in range(100 * len(orders)):
        order = UNIFORM.positions(length, seed, seed % 3, 0, length)
        orders[tuple(order.tolist())] += 1
    assert abs(deviate(np.array(list(orders.values())))) < LIMIT


@pytest.mark.parametrize(
    ("length", "seeds"),
    [
        (1_000, 1_500),
        (65_535, 250),
        (65_536, 250),
        (65_537, 1_500),
        (10**6 + 3, 1_500),
        (2**27 + 1, 1_500),
        (10**12, 1_500),
    ],
)
def test_over_seeds_single_images_and_pairs_are_uniform(length, seeds):
    images = np.array(
        [
            [
                *UNIFORM.positions(length, seed, 0, 0, 2),
                *UNIFORM.positions(length, seed, 0, length - 2, length),
            ]
            for seed in range(seeds)
        ]
    )
    for column in images.T:
        assert abs(deviate(np.bincount(cells(column, length, 16), minlength=16))) < LIMIT
    for one, other in itertools.combinations(range(images.shape[1]), 2):
        both = cells(images[:, one], length, 6) * 6 + cells(images[:, other], length, 6)
        assert abs(deviate(np.bincount(both, minlength=36))) < LIMIT
        difference = (images[:, one] - images[:, other]) % length
        assert abs(deviate(np.bincount(cells(difference, length, 20), minlength=20))) < LIMIT


@pytest.mark.parametrize("key", [3, 2**40 + 1])
@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 10**6 + 3, 2**20, 2**27 + 1, 10**12])
def test_within_one_permutation_pairs_at_any_distance_are_uniform(length, key):
    # The distances at which a Feistel network is weakest: those that leave one side as it was.
    side = 2 ** (((length - 1).bit_length() + 1) // 2)
    count = min(length, 200_000)
    for distance in (1, 2, 7, side // 2, side, side + 1, 3 * side):
        stop = min(length, distance + count)
        if distance < count:
            whole = permute_span(length, key, 0, stop)
            here, there = whole[:-distance], whole[distance:]
        else:
            here = permute_span(length, key, 0, stop - distance)
            there = permute_span(length, key, distance, stop)
        found = pair_deviates(length, here, there)
        assert max(found.values()) < LIMIT, f"distance {distance}: {found}"


@pytest.mark.parametrize("length", [65_536, 65_537, 10**6 + 3, 10**12])
def test_triples_stand_in_every_order_equally_often(length):
    triples = permute_span(length, 5, 0, 65_535).reshape(-1, 3)
    ranks = np.argsort(triples, axis=1)
    orders = np.bincount(3 * ranks[:, 0] + ranks[:, 1], minlength=9)[[1, 2, 3, 5, 6, 7]]
    assert abs(deviate(orders)) < LIMIT


@pytest.mark.parametrize("length", [60_000, 65_537, 10**6 + 3, 10**12])
def test_epochs_and_neighbouring_seeds_have_nothing_in_common(length):
    count = 50_000
    first = UNIFORM.positions(length, 42, 1, 0, count)
    for seed, epoch in ((42, 0), (42, 2), (43, 0), (43, 1), (41, 2), (-42, 1), (1, 42)):
        other = UNIFORM.positions(length, seed, epoch, 0, count)
        # The correlation of independent orders has a standard deviation of 1 / sqrt(count).
        correlation = np.corrcoef(first, other)[0, 1]
        assert abs(correlation) < LIMIT / count**0.5
        assert max(pair_deviates(length, first, other).values()) < LIMIT


def test_the_statistics_reject_an_affine_map():
    length = 10**6 + 3
    images = (np.arange(200_000) * 387_420_489 + 12_345) % length
    assert pair_deviates(length, images[:-1], images[1:])["difference"] > 1_000


def test_the_statistics_reject_a_network_of_four_rounds():
    length, side = 2**20, 2**10
    images = FeistelNetwork(length, 3, rounds=4).image(0, length)
    found = [
        pair_deviates(length, images[:-distance], images[distance:])["difference"]
        for distance in range(side, 9 * side, side)
    ]
    assert max(found) > 2 * LIMIT

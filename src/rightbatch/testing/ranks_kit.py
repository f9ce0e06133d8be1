"""`check_ranks`: ranks share the batches of one process, for people who write a loader."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rightbatch.data.ragged import Ragged
from rightbatch.testing.resume_kit import Resumable, frozen, hold, state_text


def check_ranks(
    make_batches: Callable[[int, int], Resumable], world_sizes: Sequence[int] = (2, 3, 4)
) -> None:
    """Raise AssertionError, saying where, unless ranks share each batch that one process has.

    `make_batches(rank, world_size)` makes the batches of a rank, at the start of their first epoch;
    those of rank 0 of 1 are the whole ones. The kit goes through an epoch: batch k of the ranks,
    one after another, has to be batch k of one process, byte for byte, the arrays of all ranks of
    one dtype and shape but for the samples; all ranks have to be in the same state, which is that
    of one process; and half-way each world goes on from the state of the one before it. All batches
    of an epoch are held: use few.

    >>> from rightbatch.loading.batches import Batches
    >>> check_ranks(lambda rank, n: Batches(np.arange(10), 3, seed=7, rank=rank, world_size=n))
    """
    whole = make_batches(0, 1)
    expected, states = [], [state_text(whole, "one process")]
    for batch in whole:
        expected.append(batch)
        states.append(state_text(whole, "one process"))
    count = len(expected)
    hold(count > 0, "the first epoch has no batch")
    for world_size in world_sizes:
        for start in sorted({0, count // 2}):
            ranks = [make_batches(rank, world_size) for rank in range(world_size)]
            shares = [
                _shares(batches, states[start:], f"rank {rank} of {world_size}")
                for rank, batches in enumerate(ranks)
            ]
            for k, of_ranks in enumerate(zip(*shares, strict=True), start):
                where = f"batch {k} (counting from 0) of {world_size} ranks"
                hold(
                    frozen(_joined(of_ranks, where)) == frozen(_joined([expected[k]], where)),
                    f"{where} is not that of one process",
                )


def _shares(batches: Resumable, states: list[str], where: str) -> list[Any]:
    """What a rank takes from the first of the states on, through all of them."""
    batches.load_state_dict(json.loads(states[0]))
    shares: list[Any] = []
    for batch in batches:
        shares.append(batch)
        where_now = f"{where}, after {len(shares)} batches"
        hold(len(shares) < len(states), f"{where}: there are more batches than one process has")
        hold(
            state_text(batches, where_now) == states[len(shares)],
            f"{where_now}: the state is not that of one process",
        )
    hold(
        len(shares) == len(states) - 1,
        f"{where}: {len(shares)} batches where one process has {len(states) - 1}",
    )
    return shares


def _joined(shares: Sequence[Any], where: str) -> Any:
    first = shares[0]
    if isinstance(first, dict):
        return {name: _joined([share[name] for share in shares], where) for name in first}
    if isinstance(first, (tuple, list)):
        return tuple(_joined(each, where) for each in zip(*shares, strict=True))
    if isinstance(first, Ragged):
        return Ragged.concatenate(shares)
    arrays = [np.asarray(share) for share in shares]
    kinds = sorted({f"{array.dtype}{array.shape[1:]}" for array in arrays})
    hold(len(kinds) == 1, f"{where}: the shares have samples of {' and '.join(kinds)}")
    return np.concatenate(arrays)

"""Ranks share a global batch; they do not multiply it."""

from __future__ import annotations

from rightbatch.errors import OptionError
from rightbatch.plan.checks import whole_number


def check_rank(rank: object, world_size: object) -> tuple[int, int]:
    """Rank and world size as ints, or an OptionError that says what is valid.

    >>> check_rank(1, 2)
    (1, 2)
    >>> check_rank(2, 2)
    Traceback (most recent call last):
    rightbatch.errors.OptionError: rank=2 is not valid in a world_size of 2; ranks are 0 and 1
    """
    world_size = whole_number("world_size", world_size, at_least=1)
    rank = whole_number("rank", rank, at_least=0)
    if rank >= world_size:
        last = world_size - 1
        valid = (
            "rank 0 is the only one: say how many there are, world_size=…",
            "ranks are 0 and 1",
        )
        raise OptionError(
            f"rank={rank} is not valid in a world_size of {world_size}; "
            + (valid[last] if last < 2 else f"ranks are 0 to {last}")
        )
    return rank, world_size


def rank_span(start: int, stop: int, rank: int, world_size: int) -> tuple[int, int]:
    """The contiguous share (start, stop) of the global batch `start` up to `stop` for `rank`.

    Shares differ by at most one sample, the first ranks having the larger ones; with more ranks
    than samples some shares are empty. Raises OptionError unless 0 <= rank < world_size.

    >>> [rank_span(100, 110, rank, 4) for rank in range(4)]
    [(100, 103), (103, 106), (106, 108), (108, 110)]
    """
    if not 0 <= rank < world_size:
        raise OptionError(
            f"rank {rank} of {world_size} is not valid; ranks are 0 <= rank < world size"
        )
    share, larger = divmod(stop - start, world_size)
    begin = start + rank * share + min(rank, larger)
    return begin, begin + share + (rank < larger)


def least_share(batch: int, world_size: int) -> int:
    """The samples that the rank with the fewest has of a batch.

    >>> least_share(10, 4), least_share(3, 4)
    (2, 0)
    """
    start, stop = rank_span(0, batch, world_size - 1, world_size)
    return stop - start

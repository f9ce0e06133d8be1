"""Ranks share a global batch; they do not multiply it."""

from __future__ import annotations

from rightbatch.errors import OptionError


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

"""Buffers that are used again once nobody holds them."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT = 16


class BufferPool:
    """Arrays of one shape and dtype, lent out and taken back without a word from the borrower.

    A batch is yours for as long as you hold it: the pool lends a buffer again only when no array,
    view or tensor refers to it any more, and makes a new one otherwise. So a loop that drops
    every batch runs in two or three buffers, and `list(batches)` is right as well. CPython's
    reference counts tell (a view or a tensor made by `torch.from_numpy` holds its base); where
    they could not be trusted, `_references` would never come down to `_IDLE` and every batch
    would be a new array, slower and still right.

    >>> pool = BufferPool((4, 2), np.dtype("float32"))
    >>> held = pool.take(3)
    >>> held.shape, np.shares_memory(held, pool.take(3))
    ((3, 2), False)
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self._buffers: list[NDArray[Any]] = []
        self._lock = threading.Lock()

    def take(self, length: int) -> NDArray[Any]:
        """The first `length` entries of a buffer that nobody holds; its content is arbitrary."""
        with self._lock:
            for position in range(len(self._buffers)):
                if _references(self._buffers, position) == _IDLE:
                    return self._buffers[position][:length]
            buffer = np.empty(self.shape, self.dtype)
            if len(self._buffers) < _KEPT:
                self._buffers.append(buffer)
            return buffer[:length]


def _references(buffers: list[Any], position: int) -> int:
    return sys.getrefcount(buffers[position])


# What an object counts that only its list holds differs between Python versions: ask, once.
_IDLE = _references([object()], 0)

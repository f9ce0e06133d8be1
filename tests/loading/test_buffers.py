"""A buffer is lent again when nobody holds it, and never before."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rightbatch.loading.buffers import BufferPool


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def pool() -> BufferPool:
    return BufferPool((8, 3), np.dtype("float32"))


HOLDERS = {
    "the array": lambda array: array,
    "a view": lambda array: array[1:2],
    "a view of a view": lambda array: array[1:][:, ::2].T,
    "a tensor": torch.from_numpy,
    "a view of a tensor": lambda array: torch.from_numpy(array)[2:, 1],
    "a detached, reshaped tensor": lambda array: torch.from_numpy(array).view(-1).detach(),
    "a tensor's storage": lambda array: torch.from_numpy(array).untyped_storage(),
    "a memoryview": memoryview,
    "DLPack": np.from_dlpack,
    "an array of a tensor": lambda array: torch.from_numpy(array).numpy(),
    "a broadcast": lambda array: np.broadcast_to(array, (2, *array.shape)),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_what_is_held_is_not_lent_again(hold) -> None:
    lender = pool()
    array = lender.take(8)
    first = address(array)
    held = hold(array)
    del array
    others = [lender.take(8) for _ in range(20)]
    assert first not in {address(other) for other in others}
    del held
    assert address(lender.take(8)) == first


def test_dropped_buffers_are_used_again() -> None:
    lender = pool()
    assert len({address(lender.take(length)) for length in (8, 3, 8, 1)}) == 1


def test_buffers_held_at_once_do_not_overlap() -> None:
    lender = pool()
    held = [lender.take(8) for _ in range(40)]
    for number, array in enumerate(held):
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(held))


def test_the_pool_does_not_grow_with_what_was_once_held() -> None:
    lender = pool()
    held = [lender.take(8) for _ in range(1000)]
    del held
    gc.collect()
    assert len(lender._buffers) <= 16


def test_threads_do_not_get_the_same_buffer() -> None:
    lender = pool()

    def use(number: int) -> bool:
        for round_number in range(200):
            array = lender.take(8)
            array[...] = number * 1000 + round_number
            if not (array == number * 1000 + round_number).all():
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(use, range(4)))

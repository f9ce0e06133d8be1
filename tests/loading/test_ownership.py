"""A batch is the consumer's for as long as the consumer holds it, and no longer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rightbatch as rb

# Rows of 32 KiB: a slab of 3 MiB holds one batch of 64.
X = np.random.default_rng(0).integers(0, 255, (2000, 8192)).astype(np.uint8)


def made(**options: Any) -> rb.Batches:
    part = rb.split(rb.open(X)).transform(rb.scale(1.0)).train
    return rb.Batches(part, 64, **{"seed": 7, "with_rows": True, **options})


def address(batch: Any) -> int:
    if isinstance(batch, torch.Tensor):
        return batch.data_ptr()
    return int(batch.__array_interface__["data"][0])


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_a_list_of_all_batches_is_right(threads: int, output) -> None:
    for x, rows in list(made(threads=threads, output=output)):
        np.testing.assert_array_equal(np.asarray(x), X[np.asarray(rows)])


VIEWS = {
    "array": ("numpy", lambda x: x),
    "view": ("numpy", lambda x: x[5:, ::3].T),
    "tensor": ("torch", lambda x: x),
    "view of a tensor": ("torch", lambda x: x[5:, 7]),
    "transposed tensor": ("torch", lambda x: x.t()[3:9].detach()),
    "array of a tensor": ("torch", lambda x: x.numpy()[1:]),
    "tensor of an array": ("numpy", lambda x: torch.as_tensor(x)[2]),
}


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(("output", "view"), VIEWS.values(), ids=VIEWS)
def test_what_is_held_does_not_change_when_the_loop_goes_on(threads: int, output, view) -> None:
    iterator = iter(made(threads=threads, output=output))
    held = [view(next(iterator)[0]) for _ in range(3)]
    copies = [np.asarray(one).copy() for one in held]
    for _ in iterator:
        pass
    for one, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(np.asarray(one), copy)


def test_a_batch_outlives_its_batches() -> None:
    x, rows = next(iter(made()))
    np.testing.assert_array_equal(x, X[rows])


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_batches_that_are_dropped_share_a_few_buffers(output) -> None:
    for threads, most in ((0, 3), (1, 6), (2, 7)):
        batches = made(threads=threads, output=output, remainder="drop")
        addresses = {address(x) for _ in range(4) for x, _ in batches}
        # threads + 2 loaded ahead, one taken over by the consumer, two in its hands.
        assert len(addresses) <= most < 4 * len(batches) == 124


def test_holding_every_batch_uses_new_memory_for_each() -> None:
    held = [x for x, _ in made()]
    assert len({address(x) for x in held}) == len(held)


@pytest.mark.parametrize("threads", [0, 2])
def test_writing_into_a_batch_spoils_neither_the_data_nor_other_batches(threads: int) -> None:
    small = np.arange(5000)
    batches = rb.Batches(small, 8, with_rows=True, threads=threads, seed=3)
    for _ in range(2):
        seen: list[int] = []
        for x, rows in batches:
            seen.extend(x.tolist())
            np.testing.assert_array_equal(x, rows)
            x[...] = -1
            rows[...] = -1
        assert sorted(seen) == list(range(5000))


def test_tensors_share_the_memory_of_the_loader_s_buffer() -> None:
    made_by_function: list[NDArray[Any]] = []

    def keep(inputs: NDArray[Any]) -> NDArray[Any]:
        made_by_function.append(inputs)
        return inputs

    part = rb.split(rb.open(X)).transform(rb.scale(1.0), keep).train
    tensors = list(rb.Batches(part, 64, output="torch", threads=0))
    assert [address(x) for x in tensors] == [address(x) for x in made_by_function]

"""Batches on a GPU: resident or copied, they are those of the host, and memory is not mixed up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.testing import check_resume

generator = np.random.default_rng(0)
BYTES = generator.integers(0, 256, (3000, 3, 8, 8)).astype(np.uint8)
REAL = generator.normal(loc=1e6, size=(3000, 7))
CODES = generator.integers(0, 10, 3000)
RESIDENT, COPIED = 0.25, 0


def doubled(inputs: np.ndarray) -> np.ndarray:
    return inputs * 2


PARTS = {
    "bytes": lambda: rb.split(rb.open((BYTES, CODES)), val=0.1, seed=1).transform(
        rb.scale(1 / 255), rb.standardize(channel_axis=0)
    ),
    "wide": lambda: rb.split(rb.open((REAL, CODES)), val=0.1, seed=1).transform(rb.standardize()),
    "fields": lambda: rb.split(
        rb.open({"image": BYTES, "number": REAL[:, 0], "y": CODES}, target="y"), val=0.1, seed=1
    ),
    "function": lambda: rb.split(rb.open((BYTES, CODES)), val=0.1, seed=1).transform(doubled),
}


def flat(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, dict):
        batch = list(batch.values())
    elif isinstance(batch, torch.Tensor):
        return [batch]
    return [tensor for values in batch for tensor in flat(values)]


@pytest.mark.parametrize("name", sorted(PARTS))
@pytest.mark.parametrize("device_memory", [RESIDENT, COPIED])
@pytest.mark.parametrize("remainder", ["keep", "pad"])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches_are_those_of_the_host_bit_for_bit(
    gpu, name, device_memory, remainder, threads
) -> None:
    part = PARTS[name]().train
    options: dict[str, Any] = {"seed": 3, "with_rows": True, "remainder": remainder}
    host = rb.Batches(part, 128, output="torch", **options)
    device = rb.Batches(
        part, 128, device=gpu, device_memory=device_memory, threads=threads, **options
    )
    assert device.residency.is_resident == (device_memory > 0 and name != "function")
    for epoch in (0, 1):
        for one, two in zip(host.epoch(epoch), device.epoch(epoch), strict=True):
            for a, b in zip(flat(one), flat(two), strict=True):
                assert torch.equal(a, b.cpu())
        assert two[-1 if remainder == "keep" else -2].device.type == "cpu"
        assert flat(two[0])[0].device == gpu


@pytest.mark.parametrize("device_memory", [RESIDENT, COPIED])
def test_batches_that_are_held_keep_their_values(gpu, device_memory) -> None:
    """Memory of a batch is not lent again while somebody holds it, nor while a kernel reads it."""
    part = PARTS["bytes"]().train
    host = [x for x, _ in rb.Batches(part, 64, seed=1, output="torch")]
    batches = rb.Batches(part, 64, seed=1, device=gpu, device_memory=device_memory)
    held = [x for x, _ in batches]
    for one, two in zip(host, held, strict=True):
        assert torch.equal(one, two.cpu())
    wanted = [float(x.double().sum()) for x in host]
    busy = torch.randn(2048, 2048, device=gpu)
    sums = []
    for x, _ in batches.epoch(0):
        for _ in range(3):
            busy = busy @ busy / 2048  # the kernel that reads the batch comes long after it
        sums.append(x.double().sum())
        del x
    np.testing.assert_allclose([float(value) for value in sums], wanted, rtol=1e-9)


@pytest.mark.parametrize("device_memory", [RESIDENT, COPIED])
def test_a_consumer_on_a_stream_of_its_own_sees_whole_batches(gpu, device_memory) -> None:
    part = PARTS["bytes"]().train
    host = [float(x.double().sum()) for x, _ in rb.Batches(part, 64, seed=1, output="torch")]
    stream = torch.cuda.Stream(gpu)
    with torch.cuda.stream(stream):
        batches = rb.Batches(part, 64, seed=1, device=gpu, device_memory=device_memory)
        sums = [x.double().sum() for x, _ in batches]
    np.testing.assert_allclose([float(value) for value in sums], host, rtol=1e-9)


@pytest.mark.parametrize("device_memory", [RESIDENT, COPIED])
def test_resume_is_exact(gpu, device_memory) -> None:
    part = PARTS["bytes"]().train

    class OnHost:
        """Batches brought back, for the kit compares bytes."""

        def __init__(self) -> None:
            self.batches = rb.Batches(part, 500, seed=1, device=gpu, device_memory=device_memory)
            self.state_dict = self.batches.state_dict
            self.load_state_dict = self.batches.load_state_dict

        def __iter__(self) -> Any:
            for batch in self.batches:
                yield tuple(values.cpu().numpy() for values in flat(batch))

    check_resume(OnHost)


def test_a_part_that_is_too_large_is_copied(gpu) -> None:
    batches = rb.Batches(PARTS["bytes"]().train, 64, device=gpu, device_memory="100kB")
    assert not batches.residency.is_resident
    assert "device_memory allows 100 kB" in batches.residency.reason
    assert sum(len(y) for _, y in batches) == 2700

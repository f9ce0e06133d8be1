"""The memory of a GPU: what is predicted of a size, and a limit that was given."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.memory_probe import confirm, measure_memory
from rightbatch.loading.device_columns import free_device_memory
from rightbatch.training.options import FitOptions


def parts() -> rb.Parts:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6000, 3, 32, 32), dtype=np.uint8)
    return rb.split(rb.open((pixels, random.integers(0, 10, 6000)))).transform(rb.scale(1 / 255))


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def test_memory_is_predicted_at_sizes_that_were_not_probed(gpu) -> None:
    options = FitOptions()
    data = parts()
    memory = measure_memory(
        network, data, options=options, batch_sizes=[1024], device=gpu, seconds=30
    )
    assert memory.fit is not None, memory.declined
    for size in (90, 300, 700):
        point = confirm(network, data, batch_size=size, options=options, device=gpu)
        assert point is not None
        assert abs(memory.fit.bytes(size) / point.bytes - 1) < 0.05


def test_a_module_on_the_gpu_is_probed_there_and_left_as_it_is(gpu) -> None:
    model = network(0).to(gpu)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    memory = measure_memory(model, parts(), options=FitOptions(), batch_sizes=[256], seconds=15)
    assert memory.declined is None
    assert memory.device.startswith("cuda")
    assert memory.cap == 256
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_given_limit_is_for_the_gpu_and_kept(gpu) -> None:
    total = torch.cuda.get_device_properties(gpu).total_memory
    taken = total - torch.cuda.mem_get_info(gpu)[0]
    limit = taken + (2 << 30)
    memory = measure_memory(
        network, parts(), options=FitOptions(), batch_sizes=[4096], memory_limit=limit,
        device=gpu, seconds=20,
    )  # fmt: skip
    assert memory.declined is None
    assert memory.cap is not None
    assert memory.limit_bytes is not None
    assert memory.limit_bytes <= limit


def test_what_is_free_counts_the_cache_of_torch(gpu) -> None:
    before = free_device_memory(gpu)
    held = torch.empty(256 << 20, dtype=torch.uint8, device=gpu)
    del held
    after = free_device_memory(gpu)
    assert before is not None
    assert after is not None
    assert abs(after - before) < 64 << 20

"""What a GPU's memory comes to, from readings as a driver and torch's allocator give them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rightbatch.advice.memory_limit import given_limit
from rightbatch.advice.memory_probe import on_cpu
from rightbatch.advice.probe_meter import CudaMeter, GpuReading, Meter
from rightbatch.errors import OptionError
from rightbatch.training.models import build_model

GB = 10**9
MB = 10**6
CPU = torch.device("cpu")


def reading(*, outside: int, reserved: int, **more: int) -> GpuReading:
    total = 80 * GB
    values = {
        "allocated": reserved, "peak_allocated": reserved, "peak_reserved": reserved, "retries": 0,
    }  # fmt: skip
    return GpuReading(
        total=total, free=total - outside - reserved, reserved=reserved, **{**values, **more}
    )


def meter(*readings: GpuReading) -> CudaMeter:
    waiting = list(readings)

    def read(device: torch.device) -> GpuReading:
        assert device == CPU
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return CudaMeter(CPU, nn.Linear(2, 2), read=read)


EMPTY = reading(outside=500 * MB, reserved=0)
LOADED = reading(outside=500 * MB, reserved=20 * MB, allocated=12 * MB)


def test_needed_is_what_was_allocated_above_what_was_allocated_before() -> None:
    # The 8 MB that the allocator had to spare when all was loaded serve the first batches.
    after = reading(
        outside=500 * MB, reserved=700 * MB, peak_allocated=512 * MB, peak_reserved=720 * MB
    )
    found = meter(EMPTY, LOADED, after)
    assert found.needed_bytes() == 500 * MB
    assert found.held_bytes() == 700 * MB
    assert found.loaded_bytes == 520 * MB
    assert found.outside_bytes == 500 * MB
    found.refuse_thrashing()


def test_what_grows_beside_the_allocator_is_held_and_not_needed() -> None:
    after = reading(
        outside=800 * MB, reserved=700 * MB, peak_allocated=512 * MB, peak_reserved=720 * MB
    )
    found = meter(EMPTY, LOADED, after)
    assert (found.needed_bytes(), found.held_bytes()) == (500 * MB, 1000 * MB)
    # Another process that ends meanwhile gives nothing to this one's account.
    after = reading(
        outside=100 * MB, reserved=700 * MB, peak_allocated=512 * MB, peak_reserved=720 * MB
    )
    assert meter(EMPTY, LOADED, after).held_bytes() == 700 * MB


def test_the_limit_is_nine_tenths_of_what_is_free_and_all_that_others_hold() -> None:
    others = reading(outside=30 * GB, reserved=0)
    found = meter(others, others)
    assert found.limit_bytes == 30 * GB + 45 * GB
    assert "free on the GPU, less 10%" in found.limit_source


def test_room_that_was_found_by_giving_memory_back_is_none() -> None:
    found = meter(EMPTY, LOADED, reading(outside=500 * MB, reserved=20 * MB, retries=3))
    with pytest.raises(MemoryError, match="only by giving memory back, 3 times"):
        found.refuse_thrashing()
    Meter().refuse_thrashing()


def test_a_given_limit_of_a_gpu_is_not_cut_to_what_the_machine_has_free() -> None:
    limit = given_limit("100TB")
    assert limit is not None
    assert (limit.bytes, limit.source) == (100 * 10**12, "given")
    assert given_limit(None) is None
    with pytest.raises(OptionError, match="is not a size of memory"):
        given_limit("much")


def test_a_module_is_copied_without_taking_memory_where_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].weight.requires_grad_(False)
    model.append(model[0])  # a layer that comes twice
    copied = on_cpu(model)
    assert copied[2] is copied[0]
    assert not copied[0].weight.requires_grad
    for one, two in zip(model.state_dict().values(), copied.state_dict().values(), strict=True):
        assert torch.equal(one, two)
        assert one.data_ptr() != two.data_ptr()
    named = build_model("mlp:5", inputs=3, outputs=2)
    inputs = torch.randn(4, 3)
    assert torch.equal(on_cpu(named)(inputs), named(inputs))

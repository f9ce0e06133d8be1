"""Which parts live on a device, what is said of the others, and how much they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.loading.affine import AffineMap
from rightbatch.loading.device_columns import DeviceColumns, find_residency, free_device_memory
from rightbatch.loading.pipeline import Pipeline

BYTES = np.random.default_rng(0).integers(0, 256, (90, 5)).astype(np.uint8)
CODES = np.arange(90) % 3
FORCED: dict[str, Any] = {"device": "cpu", "device_memory": 1.0}


def noise(inputs: np.ndarray) -> np.ndarray:
    return inputs + 1


def test_bytes_stay_bytes_on_the_device_and_a_target_lies_there_as_it_is_learned() -> None:
    part = (
        rb.split(rb.open((BYTES, CODES)))
        .transform(rb.scale(1 / 255), rb.one_hot(3, column="y"))
        .train
    )
    batches = rb.Batches(part, 32, **FORCED)
    assert batches.residency.bytes == 90 * (5 + 3 * 4)
    # One number as float64 takes less than three as float32.
    part = rb.split(rb.open(CODES.astype(float))).transform(rb.cast("float32")).train
    assert rb.Batches(part, 32, **FORCED).residency.bytes == 90 * 4


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (rb.open(BYTES), {}, "batches stay on the host"),
        (rb.open(BYTES), {"device": "cpu"}, "the device cpu has no memory of its own"),
        (rb.open(BYTES), {**FORCED, "device_memory": 0}, "device_memory=0"),
        (rb.open(BYTES).transform(noise), FORCED, "noise is a function of a batch, which runs"),
        (
            rb.open(BYTES),
            {**FORCED, "on_bad_sample": "quarantine", "max_bad": 3},
            "samples that can not be read",
        ),
        (rb.open(BYTES), {**FORCED, "device_memory": 100}, "its 90 samples take 450 bytes, and "),
        (rb.open(BYTES.astype("u4")), FORCED, "torch has no tensors of uint32 to gather from"),
    ],
)
def test_the_reason_is_told(data: Any, options: dict[str, Any], reason: str) -> None:
    batches = rb.Batches(data, 32, **options)
    assert not batches.residency.is_resident
    assert reason in batches.residency.reason
    assert "on the host" in repr(batches.residency)
    sizes = [len(batch[0] if isinstance(batch, tuple) else batch) for batch in batches]
    assert sum(sizes) == 90


def test_samples_of_varying_length_and_samples_in_windows_stay_on_the_host(tmp_path) -> None:
    words = rb.open({"words": rb.Ragged.from_list([[1, 2], [3], [4, 5, 6]])}).transform(rb.pad())
    assert "function" in rb.Batches(words, 2, **FORCED).residency.reason
    tokens = rb.Batches(words, batch_tokens=16, **FORCED)
    assert not tokens.residency.is_resident
    np.save(tmp_path / "x.npy", np.zeros((4000, 5000), np.uint8))
    data = rb.open(tmp_path / "x.npy")
    assert "in windows" in rb.Batches(data, 8, memory="12MB", **FORCED).residency.reason
    assert rb.Batches(data, 8, **FORCED).residency.is_resident


@pytest.mark.parametrize("wrong", ["much", -0.5, True, float("nan"), float("inf")])
def test_what_is_no_share_and_no_size_is_refused(wrong: Any) -> None:
    with pytest.raises(rb.OptionError, match="device_memory="):
        rb.Batches(BYTES, 8, device="cpu", device_memory=wrong)


def test_a_file_that_was_cut_off_is_told_of_row_by_row(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((90, 5000), np.uint8))
    batches = rb.Batches(tmp_path / "x.npy", 8, shuffle=False, **FORCED)
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(300_000)
    with pytest.raises(rb.DataError, match="ends before row"):
        list(batches)
    assert "has been cut off" in batches.residency.reason


def test_a_label_that_the_model_never_met_is_refused_where_it_stands() -> None:
    parts = rb.split(rb.open((BYTES, CODES)), val=10, seed=1)
    result = rb.fit("softmax", parts, epochs=1)
    strange = rb.split(rb.open((BYTES, CODES + 1)), seed=1).train
    prepared = result.task.prepare(strange, is_checked=True)
    batches = rb.Batches(prepared, 8, **FORCED)
    with pytest.raises(rb.DataError, match="has learned no such class"):
        list(batches)
    assert "could not be brought to cpu" in batches.residency.reason


def test_columns_are_brought_once_and_by_the_first_epoch_alone(monkeypatch) -> None:
    made = []
    born = DeviceColumns.__init__
    monkeypatch.setattr(
        DeviceColumns, "__init__", lambda *given: (made.append(given), born(*given))[1]
    )
    batches = rb.Batches(BYTES, 8, **FORCED)
    assert not made
    for _ in range(3):
        list(batches)
    assert len(made) == 1


def test_what_is_free_bounds_a_share() -> None:
    device = torch.device("cpu")
    free = free_device_memory(device)
    assert free is None or free > 1 << 20
    assert free_device_memory(torch.device("meta")) is None
    part = rb.split(rb.open(BYTES)).train
    pipeline = Pipeline(part.data, part.transforms)
    plan = rb.Batches(part, 8).plan
    for share, fits in ((1e-12, False), (1.0, True)):
        residency = find_residency(
            pipeline, part, plan, device,
            device_memory=share, reads_windows=False, leaves_bad_out=False,
        )  # fmt: skip
        assert residency.is_resident is fits


@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30),
    center=st.floats(-1e6, 1e6),
    factor=st.floats(1e-6, 1e6),
    dtype=st.sampled_from(["float32", "float64", "int64", "uint8", "float16"]),
)
def test_scaling_is_that_of_the_host_to_the_last_bit(values, center, factor, dtype) -> None:
    bound = 2.0**15 if dtype in ("float16", "int64") else 255.0 if dtype == "uint8" else 2.0**100
    array = np.clip(np.abs(values) if dtype == "uint8" else values, -bound, bound).astype(dtype)
    transform = rb.standardize()
    fitted = type(transform)(mean=np.float64(center), std=np.float64(1 / factor))
    with np.errstate(over="ignore"):
        expected = AffineMap(fitted.center, fitted.factor)(
            array, out=np.empty(array.shape, np.float32)
        )
    data = rb.open(array)
    part = rb.split(data).train.__class__(
        data=data, rows=rb.split(data).train.rows, name="all", transforms=(fitted,)
    )
    ((found),) = rb.Batches(part, "full", shuffle=False, **FORCED)
    assert found.numpy().tobytes() == expected.tobytes()

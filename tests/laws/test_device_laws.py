"""The laws of batches whose samples live on a device, forced onto the one that is here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.testing import check_resume

ON_DEVICE: dict[str, Any] = {"device": "cpu", "device_memory": 1.0}
MOST_ROWS = 120
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")

generator = np.random.default_rng(3)
BYTES = generator.integers(0, 256, (MOST_ROWS, 4, 3)).astype(np.uint8)
CODES = generator.integers(0, 5, MOST_ROWS)
TABLE = {
    "whole": generator.integers(-1000, 1000, MOST_ROWS),
    "real": generator.normal(size=MOST_ROWS),
    "large": 1_700_000_000 + generator.integers(0, 100, MOST_ROWS),
    "y": CODES,
}
SOURCES = {
    "bytes": lambda: rb.open((BYTES, CODES)),
    "big-endian": lambda: rb.open((BYTES.astype(">i4"), CODES)),
    "turned": lambda: rb.open((np.asfortranarray(BYTES), CODES)),
    "table": lambda: rb.open(TABLE, target="y"),
    "without a target": lambda: rb.open(BYTES.astype(np.float64)),
    "fields": lambda: rb.open({"image": BYTES, "number": TABLE["real"], "y": CODES}, target="y"),
}
TRANSFORMS: dict[str, list[tuple[Any, ...]]] = {
    "bytes": [
        (),
        (rb.scale(1 / 255),),
        (rb.standardize(),),
        (rb.scale(1 / 255), rb.standardize(channel_axis=-1), rb.flatten()),
        (rb.flatten(), rb.scale(1 / 3)),
        (rb.cast("float64"), rb.scale(0.1)),
        (rb.cast("int16"), rb.flatten(), rb.cast("float32"), rb.scale(0.3)),
        (rb.one_hot(5, column="y"), rb.scale(1 / 255)),
    ],
    "table": [(), (rb.standardize(),), (rb.standardize(), rb.scale(1 / 7))],
    "fields": [(), (rb.scale(1 / 255, column="image"),)],
}


def arrays(batch: Any) -> list[np.ndarray]:
    flat: list[np.ndarray] = []
    for values in batch if isinstance(batch, tuple | list) else [batch]:
        if isinstance(values, dict):
            flat += arrays(list(values.values()))
        else:
            flat.append(np.asarray(values))
    return flat


def same(one: Any, two: Any) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(arrays(one), arrays(two), strict=True)
    )


@st.composite
def parts_and_options(draw: st.DrawFn) -> tuple[rb.Part, dict[str, Any]]:
    name = draw(st.sampled_from(sorted(SOURCES)))
    val = draw(st.integers(0, MOST_ROWS - 1))
    parts = rb.split(SOURCES[name](), val=val, seed=draw(st.integers(0, 20)))
    transforms = draw(st.sampled_from(TRANSFORMS.get(name, [()])))
    if transforms:
        parts = parts.transform(*transforms)
    part = parts.all[draw(st.sampled_from(sorted(parts.all)))]
    remainder = draw(st.sampled_from(["keep", "drop", "pad"]))
    window = draw(st.none() | st.integers(1, len(part) + 5))
    options: dict[str, Any] = {
        "batch_size": draw(st.integers(1, len(part) if remainder == "drop" else len(part) + 5)),
        "seed": draw(st.integers(0, 2**64)),
        "shuffle": window is not None or draw(st.booleans()),
        "window": window,
        "remainder": remainder,
        "with_rows": draw(st.booleans()),
        "threads": draw(st.integers(0, 3)),
    }
    if options["shuffle"] and window is None and draw(st.booleans()):
        drawn = np.random.default_rng(draw(st.integers(0, 9)))
        options["weights"] = drawn.uniform(0.1, 2.0, len(part))
        options["epoch_samples"] = draw(st.integers(options["batch_size"], 2 * MOST_ROWS + 130))
    return part, options


@given(chosen=parts_and_options())
def test_law_3_batches_are_equal_bit_for_bit_on_the_device_and_on_the_host(chosen) -> None:
    part, options = chosen
    host = rb.Batches(part, output="torch", **options)
    device = rb.Batches(part, **ON_DEVICE, **options)
    assert device.residency.is_resident, device.residency
    assert not host.residency.is_resident
    for epoch in (0, 3):
        pairs = zip(host.epoch(epoch), device.epoch(epoch), strict=True)
        assert all(same(one, two) for one, two in pairs)
    assert device.residency.is_resident, device.residency


@given(
    samples=st.integers(1, MOST_ROWS),
    val=st.integers(0, 20),
    batch_size=st.integers(1, 130),
    remainder=st.sampled_from(["keep", "pad"]),
    threads=st.integers(0, 2),
)
def test_law_1_an_epoch_on_the_device_holds_every_sample_once(
    samples, val, batch_size, remainder, threads
) -> None:
    data = rb.open((np.arange(samples + val, dtype=np.float32), np.arange(samples + val)))
    part = rb.split(data, val=val, seed=1).train
    batches = rb.Batches(
        part, batch_size, remainder=remainder, with_rows=True, threads=threads, **ON_DEVICE
    )
    assert batches.residency.is_resident
    taken, weight = [], 0.0
    for x, y, rows, *weights in batches:
        real = rows >= 0
        assert torch.equal(x[real], rows[real].float())
        assert torch.equal(y[real], rows[real])
        taken.append(rows[real])
        weight += float(weights[0].sum()) if weights else len(rows)
        assert not weights or torch.equal(weights[0], real.float())
    expected = part.rows.take(np.arange(len(part)))
    np.testing.assert_array_equal(np.sort(torch.cat(taken).numpy()), expected)
    assert weight == len(part)


@given(chosen=parts_and_options())
def test_law_4_resume_on_the_device_is_exact(chosen) -> None:
    part, options = chosen
    check_resume(lambda: rb.Batches(part, **ON_DEVICE, **options))


@given(chosen=parts_and_options(), stop=st.integers(1, 5))
def test_law_4_a_run_goes_on_elsewhere_than_it_began(chosen, stop) -> None:
    part, options = chosen
    device = rb.Batches(part, **ON_DEVICE, **options)
    host = rb.Batches(part, output="torch", **options)
    for _ in zip(range(stop), device, strict=False):
        pass
    state = device.state_dict()
    host.load_state_dict(state)
    device.load_state_dict(state)
    assert all(same(one, two) for one, two in zip(device, host, strict=True))


@pytest.mark.parametrize("before", DTYPES)
@pytest.mark.parametrize("after", DTYPES)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_every_cast_is_that_of_numpy(before: str, after: str) -> None:
    edges = np.array([0.0, 1.0, 0.1, 3.7, 16_777_217.0, 1e300, 65_519.9, 2**53 + 1, 127, 255])
    if before.startswith(("u", "i", "b")):
        information = np.iinfo(before if before != "bool" else "uint8")
        edges = np.array([0, 1, information.min, information.max, information.max // 3])
        values = edges.astype(before)
    else:
        values = np.concatenate([edges, -edges, [np.nan, np.inf]]).astype(before)
    data = rb.open(values).transform(rb.cast(after))
    host = rb.Batches(data, 7, seed=1, output="torch")
    device = rb.Batches(data, 7, seed=1, **ON_DEVICE)
    assert device.residency.is_resident
    assert all(same(one, two) for one, two in zip(host, device, strict=True))


def test_a_mixture_which_has_no_arrays_of_its_own_comes_from_the_host() -> None:
    one = rb.split(rb.open((BYTES, CODES)), seed=1)
    two = rb.split(rb.open((BYTES[:50] + 1, CODES[:50])), seed=2)
    mixed = rb.mix({"one": (one, 0.3), "two": (two, 0.7)})
    batches = rb.Batches(mixed.train, 16, seed=4, **ON_DEVICE)
    assert "row by row" in batches.residency.reason
    host = rb.Batches(mixed.train, 16, seed=4, output="torch")
    assert all(same(a, b) for a, b in zip(host.epoch(1), batches.epoch(1), strict=True))


def test_batches_of_the_meta_device_have_their_shapes() -> None:
    data = rb.open((BYTES, CODES)).transform(rb.scale(1 / 255))
    batches = rb.Batches(data, 32, device="meta", device_memory="1GB", with_rows=True)
    assert batches.residency.is_resident
    x, y, rows = next(iter(batches))
    assert x.is_meta
    assert y.is_meta
    assert (x.shape, x.dtype, len(rows)) == ((32, 4, 3), torch.float32, 32)

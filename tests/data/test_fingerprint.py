"""Fingerprints: equal for equal content, different for anything else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

import rightbatch.data as rb
from rightbatch.data.column import Column
from rightbatch.data.fingerprint import fingerprint_columns
from rightbatch.data.ragged import Ragged, offsets_of

ARRAYS = numpy_strategies.arrays(
    st.sampled_from([np.uint8, np.int32, np.float32, np.float64, np.bool_]),
    numpy_strategies.array_shapes(min_dims=1, max_dims=3, max_side=6),
)


def sampled(array: np.ndarray) -> str:
    column = Column(name="x", dtype=array.dtype, shape=array.shape[1:])
    return fingerprint_columns([column], {"x": array}, whole_content_bytes=0)


@given(ARRAYS)
def test_storage_makes_no_difference(array):
    doubled = np.repeat(array, 2, axis=0)
    forms = [array, np.asfortranarray(array), doubled[::2], array.copy()]
    assert len({rb.open(form).fingerprint for form in forms}) == 1
    assert len({sampled(form) for form in forms}) == 1


@given(ARRAYS, st.data())
def test_one_flipped_bit_makes_a_difference(array, data):
    changed = array.copy()
    raw = changed.reshape(-1).view(np.uint8)
    # A bool has one bit that counts.
    bit = 0 if array.dtype == np.bool_ else data.draw(st.integers(0, 7))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << bit
    assert rb.open(array).fingerprint != rb.open(changed).fingerprint


def test_names_dtypes_shapes_and_categories_count():
    x = np.zeros((4, 6), np.uint8)
    forms = [
        {"x": x},
        {"z": x},
        {"x": x.astype(np.int8)},
        {"x": x.reshape(4, 2, 3)},
        {"x": x[:3]},
        {"x": x, "y": x},
        {"xy": x, "x": x},
        {"y": x, "x": x},
        {"x": np.array(["a"] * 4)},
        {"x": np.array(["b"] * 4)},
    ]
    prints = [rb.open(form).fingerprint for form in forms]
    assert len(set(prints)) == len(forms)


def test_mapped_and_in_memory_are_equal(tmp_path):
    x = np.random.default_rng(0).random((50, 7))
    np.save(tmp_path / "a.npy", x)
    assert rb.open(tmp_path / "a.npy").fingerprint == rb.open(x).fingerprint


@pytest.mark.parametrize("row", [0, 1, 100_000_000 // 2, 100_000_000 - 1])
def test_a_long_column_is_sampled_at_both_ends_and_between(row):
    long = np.zeros(100_000_000, np.uint8)
    before = sampled(long)
    long[row] = 1
    # The middle block begins a little before the middle, and is 64 KiB long.
    assert sampled(long) != before


def test_sampling_reads_a_part_only():
    long = np.zeros(200_000_000, np.uint8)
    before = sampled(long)
    gap = 200_000_000 // 1024 // 2 + 40_000
    long[gap] = 1
    assert sampled(long) == before


def test_a_fingerprint_is_the_same_in_another_process():
    code = "import rightbatch.data as rb; print(rb.open(([1.5, 2.5], ['a', 'b'])).fingerprint)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == rb.open(([1.5, 2.5], ["a", "b"])).fingerprint


def ragged_fingerprint(ragged: Ragged, *, whole_content_bytes: int = 2**30) -> str:
    data = rb.open(ragged)
    return fingerprint_columns(data.columns, {"x": ragged}, whole_content_bytes=whole_content_bytes)


@pytest.mark.parametrize("whole_content_bytes", [0, 2**30])
def test_of_entries_that_vary_in_length_content_lengths_and_kind_count(whole_content_bytes):
    def of(ragged):
        return ragged_fingerprint(ragged, whole_content_bytes=whole_content_bytes)

    one = Ragged.from_list([b"ab", b"", b"c"])
    others = [
        Ragged.from_list([b"a", b"b", b"c"]),  # the same bytes, cut elsewhere
        Ragged.from_list([b"", b"ab", b"c"]),
        Ragged.from_list([b"ab", b"", b"d"]),
        Ragged.from_list([b"ab", b"", b"c", b""]),
        Ragged.from_list(["ab", "", "c"]),
        Ragged(one.values.view(np.int8), one.offsets),
        Ragged(one.values[:, None], one.offsets),
    ]
    assert len({of(ragged) for ragged in [one, *others]}) == len(others) + 1
    strided = Ragged(np.repeat(one.values, 2)[::2], one.offsets)
    assert of(strided) == of(one) == of(one.take([0, 1, 2]))
    assert rb.open(one).fingerprint == ragged_fingerprint(one)


def test_of_a_large_ragged_column_blocks_of_lengths_and_of_values_are_read():
    lengths = np.full(12_000_000, 8)
    ragged = Ragged(np.zeros(lengths.sum(), np.uint8), offsets_of(lengths))
    before = ragged_fingerprint(ragged, whole_content_bytes=0)
    for place in (0, -1):
        changed = ragged.copy()
        changed.values[place] = 1
        assert ragged_fingerprint(changed, whole_content_bytes=0) != before
    lengths[0], lengths[1] = 7, 9
    moved = Ragged(ragged.values, offsets_of(lengths))
    assert ragged_fingerprint(moved, whole_content_bytes=0) != before

"""Samples of equal content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

import rightbatch.data as rb
from rightbatch.data import duplicates
from rightbatch.data.duplicates import content_bytes, content_keys, equal_content_groups


def brute_force(data: rb.Dataset) -> list[int]:
    """The group of each row by a dict of its bytes, counted in order of appearance."""
    whole = data.span(0, len(data))
    seen: dict[bytes, int] = {}
    groups = []
    for row in range(len(data)):
        content = b"".join(whole[column.name][row].tobytes() for column in data.inputs)
        groups.append(seen.setdefault(content, len(seen)))
    return groups


# Few distinct values, so that equal rows are frequent.
FEW = st.sampled_from([0.0, -0.0, 1.0, float("nan")])
TABLES = st.integers(1, 40).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            "a": numpy_strategies.arrays(np.uint8, (rows,), elements=st.integers(0, 2)),
            "b": numpy_strategies.arrays(np.float32, (rows, 3), elements=FEW.map(np.float32)),
            "c": numpy_strategies.arrays(np.bool_, (rows, 1, 2)),
            "y": numpy_strategies.arrays(np.int64, (rows,)),
        }
    )
)


@given(TABLES)
def test_groups_equal_brute_force(columns):
    data = rb.open(columns, target="y")
    assert equal_content_groups(data).tolist() == brute_force(data)


@given(TABLES, st.integers(0, 3))
def test_colliding_hashes_are_told_apart(columns, kinds):
    data = rb.open(columns, target="y")
    keys = content_keys(data) % np.uint64(kinds + 1)  # most rows collide
    assert len(set(duplicates._group(data, keys).tolist())) == max(brute_force(data)) + 1
    groups = duplicates._group(data, keys)
    expected = np.array(brute_force(data))
    np.testing.assert_array_equal(
        groups[:, None] == groups[None, :], expected[:, None] == expected[None, :]
    )


def test_keys_do_not_depend_on_chunks(monkeypatch):
    data = rb.open(np.random.default_rng(0).random((1000, 5)))
    whole = content_keys(data)
    monkeypatch.setattr(duplicates, "_CHUNK_BYTES", 128)
    np.testing.assert_array_equal(content_keys(data), whole)


def test_sign_flips_and_swaps_have_keys_of_their_own():
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 12)).reshape(12, -1).T
    assert len(np.unique(content_keys(rb.open(signs)))) == 2**12
    order = rb.open(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert len(np.unique(content_keys(order))) == 2


def test_the_target_plays_no_part():
    data = rb.open((np.array([[1.0], [1.0]]), [0, 1]))
    assert equal_content_groups(data).tolist() == [0, 0]
    assert content_bytes(data) == 16


@pytest.mark.parametrize("order", ["C", "F"])
def test_wide_rows_and_fortran_order(order):
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3)).astype(np.uint8)
    images[4] = images[1]
    data = rb.open(np.asarray(images, order=order))
    assert equal_content_groups(data).tolist() == [0, 1, 2, 3, 1, 4]


def test_mnist_has_no_two_equal_images(real_data):
    groups = equal_content_groups(rb.open(real_data / "mnist"))
    assert groups.max() + 1 == 70_000

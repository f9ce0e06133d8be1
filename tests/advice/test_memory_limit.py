"""Sizes of memory as people write them, and the limit that they and the machine set."""

from __future__ import annotations

import pytest

from rightbatch.advice.memory_limit import find_limit
from rightbatch.byte_sizes import parse_bytes
from rightbatch.errors import OptionError
from rightbatch.free_memory import free_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GB", 8 * 10**9),
        ("512 MB", 512 * 10**6),
        ("2GiB", 2 << 30),
        ("1.5gb", 1_500_000_000),
        ("800000000", 800_000_000),
        (8e9, 8 * 10**9),
        (123, 123),
    ],
)
def test_sizes_of_memory_are_read(text, expected) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("wrong", ["", "8XB", "GB", "-1GB", "0", 0, -5, float("nan"), True, [1]])
def test_what_is_no_size_is_refused_with_what_is_valid(wrong) -> None:
    with pytest.raises(OptionError, match=r"memory_limit=.*give such as '8GB'"):
        parse_bytes(wrong)


def test_a_limit_beyond_what_is_free_is_cut_down_and_says_so() -> None:
    free = free_memory()
    if free is None:
        pytest.skip("this system does not tell what is free")
    limit = find_limit("900TB")
    assert limit is not None
    assert limit.bytes < 1 << 49
    assert limit.source.endswith("less 10%")

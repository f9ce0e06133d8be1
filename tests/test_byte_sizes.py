"""Sizes in bytes, read and written."""

from __future__ import annotations

import numpy as np
import pytest

from rightbatch.byte_sizes import bytes_text, parse_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (31_400, "31.4 kB"), (2e15, "2000 TB")],
)
def test_sizes_in_words(size: float, text: str) -> None:
    assert bytes_text(size) == text


def test_numbers_of_numpy_are_sizes() -> None:
    assert parse_bytes(np.float32(1024.0)) == parse_bytes(np.int64(1024)) == 1024

"""Small real data that the tests of training share."""

from __future__ import annotations

import pytest

import rightbatch as rb
from rightbatch.loading.parts import Parts


@pytest.fixture(scope="session")
def cancer() -> Parts:
    """569 samples, 30 standardised features, two classes; 455 of them train, in 15 batches."""
    return rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())


@pytest.fixture(scope="session")
def digits() -> Parts:
    """1,797 images (8, 8) scaled to 1, ten classes."""
    return rb.split(rb.open("digits"), val=0.2, test=0.1, seed=7).transform(rb.scale(1 / 16))


@pytest.fixture(scope="session")
def diabetes() -> Parts:
    """442 samples, 10 features, a quantity from 25 to 346."""
    return rb.split(rb.open("diabetes"), val=0.2, seed=7).transform(rb.standardize())

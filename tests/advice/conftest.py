"""Small real data that the tests of the advice share."""

from __future__ import annotations

import pytest

import rightbatch as rb
from rightbatch.loading.parts import Parts


@pytest.fixture(scope="session")
def cancer() -> Parts:
    """569 samples of 30 standardised features, split 364, 91, 114 as the course does."""
    parts = rb.split(rb.open("breast_cancer"), val=0.16, test=0.2, stratify=True, seed=1)
    return parts.transform(rb.standardize())


@pytest.fixture(scope="session")
def diabetes() -> Parts:
    """442 samples, 10 features, a quantity."""
    return rb.split(rb.open("diabetes"), val=0.2, seed=7).transform(rb.standardize())


@pytest.fixture(scope="session")
def digits() -> Parts:
    """1,797 images of 8 x 8, a fifth of them for validation."""
    return rb.split(rb.open("digits"), val=0.2, stratify=True, seed=1).transform(rb.scale(1 / 16))


@pytest.fixture(scope="session")
def client():
    """A real cluster of Dask: two worker processes on the loopback, one thread each."""
    distributed = pytest.importorskip(
        "distributed", reason="no Dask here: pip install distributed, or make install"
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client

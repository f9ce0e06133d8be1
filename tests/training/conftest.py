"""Small real data that the tests of training share, and programs under a limit of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rightbatch as rb
from rightbatch.loading.parts import Parts

_SETTING = r"""
import json, logging, resource, sys
import numpy as np, torch
from torch import nn
import rightbatch as rb

told = []
class Handler(logging.Handler):
    def emit(self, record): told.append(record.getMessage())
logging.getLogger("rightbatch").addHandler(Handler())
logging.getLogger("rightbatch").propagate = False
torch.set_num_threads(1)

def limit(more):
    # What was allocated before and given back may be had again: the heap is trimmed first.
    import ctypes, gc
    libc = ctypes.CDLL("libc.so.6")
    # Else what is given back stays in the heap, in pieces, once larger blocks have been freed.
    libc.mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD
    gc.collect(); libc.malloc_trim(0)
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    used = int(fields["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + more, resource.RLIM_INFINITY))

generator = np.random.default_rng(0)
"""


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


@pytest.fixture
def run_limited(tmp_path: Path) -> Callable[[str], Any]:
    """Runs a program in a process of its own, where `limit(more)` leaves `more` bytes of memory.

    `sys.argv[1]` is a path that it may write to; the JSON that it prints is given back.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("limits memory as Linux does")

    def run(program: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", _SETTING + program, str(tmp_path / "out.npy")],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run

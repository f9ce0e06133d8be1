"""Tests that need a GPU: each is skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU; without one the test is skipped."""
    if not torch.cuda.is_available():
        pytest.skip(f"needs a GPU, and torch {torch.__version__} finds none here")
    return torch.device("cuda", 0)

from __future__ import annotations

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.plan.batching import resolve_batch_size


def test_integers_stay_and_full_is_everything():
    assert resolve_batch_size(128, 1_000) == 128
    assert resolve_batch_size(np.int32(128), 1_000) == 128
    assert resolve_batch_size(5_000, 1_000) == 5_000
    assert resolve_batch_size("full", 1_000) == 1_000


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, None, "128", np.array([3]), np.bool_(True)])
def test_other_values_are_refused(wrong):
    with pytest.raises(OptionError, match=r"batch_size=.* is not valid"):
        resolve_batch_size(wrong, 1_000)


def test_a_near_miss_names_the_word():
    with pytest.raises(OptionError, match="Did you mean 'full'"):
        resolve_batch_size("fulll", 1_000)


def test_full_of_nothing_is_refused():
    with pytest.raises(OptionError, match="no samples"):
        resolve_batch_size("full", 0)

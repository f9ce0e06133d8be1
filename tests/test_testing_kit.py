"""The kit finds what it says it finds: one broken promise each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rightbatch.data import ArrayDataset
from rightbatch.testing import check_dataset


class Good(ArrayDataset):
    """Breaks nothing; each subclass breaks one promise."""

    def __init__(self, **options):
        x = np.arange(12.0).reshape(6, 2)
        super().__init__({"x": x, "y": np.array([0, 1, 2, 0, 1, 2])}, target="y", **options)


class OtherDtype(Good):
    def rows(self, indices):
        return {name: array.astype(np.float32) for name, array in super().rows(indices).items()}


class OtherShape(Good):
    def span(self, start, stop):
        return {name: array[..., None] for name, array in super().span(start, stop).items()}


class OtherOrder(Good):
    def rows(self, indices):
        return super().rows(np.sort(indices)[::-1].copy())


class LostColumn(Good):
    def rows(self, indices):
        return {"x": super().rows(indices)["x"]}


class NegativeRows(Good):
    def rows(self, indices):
        return super().rows(indices % len(self))


class LongSpan(Good):
    def span(self, start, stop):
        return super().span(max(start, 0), min(max(stop, start), len(self)))


class WrongError(Good):
    def span(self, start, stop):
        if start < 0:
            raise ValueError("negative")
        return super().span(start, stop)


class Alias(Good):
    def rows(self, indices):
        if len(indices) and (np.diff(indices) == 1).all():
            return super().span(int(indices[0]), int(indices[-1]) + 1)
        return super().rows(indices)


class RestlessFingerprint(Good):
    numbers = itertools.count()

    @property
    def fingerprint(self):
        return str(next(self.numbers))


class NoFingerprint(Good):
    @property
    def fingerprint(self):
        return ""


class OtherArray(Good):
    def array(self, name):
        return self._arrays[name][::-1]


class LostTarget(Good):
    def __init__(self):
        super().__init__()
        self.target = "z"


class FewCategories(Good):
    def __init__(self):
        super().__init__(categories={"y": ("a", "b")})


class OverlappingParts(Good):
    def __init__(self):
        super().__init__(own_parts={"train": range(4), "test": range(3, 6)})


BROKEN = {
    OtherDtype: "gives float32 of shape .* where float64",
    OtherShape: "in column 'x', where float64 of shape",
    OtherOrder: r"rows\(indices\) differs from span",
    LostColumn: r"gives \['x'\], not its columns \['x', 'y'\]",
    NegativeRows: r"rows\(\[0, -1\]\) raised no IndexError",
    LongSpan: r"span\(-1, 0\) raised no IndexError",
    WrongError: r"span\(-1, 0\) raised ValueError, not IndexError",
    Alias: "gives memory of the source in column 'x'",
    RestlessFingerprint: "its fingerprint changed",
    NoFingerprint: "its fingerprint is ''",
    OtherArray: r"array\('x'\) differs from span",
    LostTarget: "its target 'z' is none of its columns",
    FewCategories: "codes from 0 to 2, and 2 categories",
    OverlappingParts: "its own part 'test' is range",
}


def test_a_good_data_set_passes():
    check_dataset(Good())


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_told(broken):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_dataset(broken())

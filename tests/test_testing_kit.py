"""The kit finds what it says it finds: one broken promise each."""

from __future__ import annotations

import itertools
import time

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


class DrawsNoise(Good):
    def rows(self, indices):
        taken = super().rows(indices)
        return {**taken, "x": taken["x"] + np.random.default_rng().random(taken["x"].shape)}


class DrawsInSpans(Good):
    def span(self, start, stop):
        read = super().span(start, stop)
        return {**read, "x": read["x"] + np.random.default_rng().random(read["x"].shape)}


class UsesABufferAgain(Good):
    buffer = np.empty((6, 2))

    def span(self, start, stop):
        out = self.buffer[: max(stop - start, 0)]
        out[...] = super().span(start, stop)["x"]
        return {**super().span(start, stop), "x": out}


class InChunks(Good):
    """Twelve samples in files of four; `span` goes from file to file."""

    shift = 0

    def __init__(self):
        x = np.arange(24.0).reshape(12, 2)
        ArrayDataset.__init__(self, {"x": x, "y": np.arange(12)}, target="y")

    def array(self, name):
        return None

    def span(self, start, stop):
        whole = super().span(start, stop)
        if stop - start > 4:
            rows = np.arange(start, stop)
            rows[4:] += self.shift
            return ArrayDataset.rows(self, np.clip(rows, 0, 11))
        return whole

    def rows(self, indices):
        rows = np.asarray(indices)
        if len(rows) > 4 and (np.diff(rows) == 1).all():
            return {name: a.copy() for name, a in self.span(rows[0], rows[-1] + 1).items()}
        return super().rows(indices)


class RepeatsAtAChunk(InChunks):
    shift = -1


class LosesAtAChunk(InChunks):
    shift = 1


class GivesEachRowTwice(Good):
    def array(self, name):
        return None

    def rows(self, indices):
        rows = np.asarray(indices)
        return super().rows(rows // 2 * 2 if len(rows) > 1 and rows.min() >= 0 else rows)

    def span(self, start, stop):
        super().span(start, stop)
        return self.rows(np.arange(start, stop))


class SharesAPosition(Good):
    at = 0

    def array(self, name):
        return None

    def rows(self, indices):
        super().rows(indices)
        found = []
        for row in np.asarray(indices).tolist():
            self.at = row
            time.sleep(1e-6)
            found.append(super().rows(np.array([self.at])))
        if not found:
            return super().rows(indices)
        return {name: np.concatenate([f[name] for f in found]) for name in ("x", "y")}


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
    OtherOrder: "row 0 read alone differs from row 0 among others",
    DrawsNoise: r"rows\(indices\) gave other values the second time in column 'x'",
    DrawsInSpans: r"span\(0, 6\) gave other values the second time in column 'x'",
    UsesABufferAgain: r"what span\(0, 6\) gave in column 'x' changed when other samples were read",
    RepeatsAtAChunk: r"differs from .* in column 'x': (it is|rows are) repeated, lost",
    LosesAtAChunk: r"differs from .* in column 'x': (it is|rows are) repeated, lost",
    GivesEachRowTwice: r"row 1 read alone differs from row 1 among others",
    SharesAPosition: "gave other values to 4 threads at once in column 'x'",
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

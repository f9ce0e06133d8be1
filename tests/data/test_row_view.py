"""Data sets that show another one's samples say of them what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.dataset import Dataset, RemoteObject
from rightbatch.data.row_view import RowView
from rightbatch.data.without_input import WithoutInput
from rightbatch.errors import DataError
from rightbatch.loading.applied import Applied, _Unmapped
from rightbatch.training.matching import MatchedData, match


class Told(ArrayDataset):
    """A source about whose rows everything is known."""

    released = 0
    is_cut_off = False

    def __init__(self) -> None:
        columns = {name: np.arange(6.0) for name in ("a", "b", "patient", "y")}
        super().__init__(
            columns, name="told", target="y", own_parts={"test": range(4, 6)}, notes=["a note"]
        )
        self.files = (Path("told.npy"),)
        self.remote_objects = (RemoteObject("s3://bucket/told", "tag", 48),)
        self.source_rows = np.arange(6) * 2
        self.overlap = 1
        self.runs_others_code = True

    def locate(self, row: int) -> str:
        return f"line {row}"

    def refuse_cut_off(self, stop: int) -> None:
        if self.is_cut_off and stop > 4:
            raise DataError("told.npy was cut off")

    def release_pages(self) -> None:
        self.released += 1


def matched(data: Dataset) -> MatchedData:
    part = rb.split(data, seed=0).train
    wanted = [data.column("b"), data.column("a")]
    found = match(part, wanted, None).data
    assert isinstance(found, MatchedData)
    return found


VIEWS = {
    WithoutInput: lambda data: WithoutInput(data, "patient"),
    Applied: lambda data: Applied(data, [rb.scale(2.0)]),
    _Unmapped: _Unmapped,
    MatchedData: matched,
}


def test_every_view_is_looked_at_here():
    assert set(VIEWS) == set(RowView.__subclasses__())


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
def test_what_is_known_of_rows_is_passed_on(kind):
    data = Told()
    view = VIEWS[kind](data)
    assert isinstance(view, kind)
    for name in ("name", "own_parts", "notes", "files", "remote_objects", "overlap"):
        assert getattr(view, name) == getattr(data, name), name
    assert view.runs_others_code
    np.testing.assert_array_equal(view.source_rows, data.source_rows)
    assert (len(view), view.locate(3)) == (6, "line 3")
    assert view.fingerprint != data.fingerprint or kind is _Unmapped
    view.refuse_cut_off(6)
    data.is_cut_off = True
    view.refuse_cut_off(4)
    with pytest.raises(DataError, match="was cut off"):
        view.refuse_cut_off(5)
    released = data.released
    view.release_pages()
    assert data.released == released + 1

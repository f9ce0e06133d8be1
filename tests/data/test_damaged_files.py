"""Whatever happens to a file, opening it ends in data or in one DataError that names it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch.data as rb
from rightbatch.errors import DataError

IDX = bytes([0, 0, 8, 2, 0, 0, 0, 20, 0, 0, 0, 30]) + bytes(range(200)) * 3
CSV = b"a,b,c\n" + b"".join(b'%d,"t, %d",0.5\r\n' % (k, k) for k in range(30))
X = np.linspace(0, 1, 60).reshape(20, 3)
WRITERS = {
    "x.npy": lambda path: np.save(path, X),
    "stored.npz": lambda path: np.savez(path, x=X, y=np.arange(20)),
    "compressed.npz": lambda path: np.savez_compressed(path, x=X, y=np.arange(20)),
    "x.idx": lambda path: path.write_bytes(IDX),
    "x.idx.gz": lambda path: path.write_bytes(gzip.compress(IDX)),
    "x.csv": lambda path: path.write_bytes(CSV),
    "spaces.csv": lambda path: path.write_bytes(CSV.replace(b',"', b', "')),
    "x.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV)),
    "x.parquet": lambda path: pq.write_table(
        pa.table({"a": list(range(50)), "b": [f"x{k}" for k in range(50)]}), path
    ),
}


@pytest.fixture(params=list(WRITERS), scope="module")
def file(request, tmp_path_factory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("damaged") / request.param
    WRITERS[request.param](path)
    return path, path.read_bytes()


def refusal_of(path: Path) -> DataError | None:
    """The one error that may come; any other goes through and fails the test."""
    try:
        data = rb.open(path)
        data.span(0, len(data))
    except DataError as refusal:
        return refusal
    return None


def test_the_whole_file_opens(file):
    path, content = file
    path.write_bytes(content)
    assert refusal_of(path) is None


@given(drawn=st.data())
def test_a_file_with_wrong_bytes_ends_in_data_or_one_clear_error(file, drawn):
    path, content = file
    damaged = bytearray(content)
    places = st.integers(0, len(content) - 1) | st.integers(0, 127) | st.integers(-100, -1)
    for place in drawn.draw(st.lists(places, max_size=4)):
        damaged[place] = drawn.draw(st.sampled_from([0, 255, *b'\n\r",']) | st.integers(0, 255))
    damaged = damaged[: drawn.draw(st.just(len(content)) | st.integers(0, len(content)))]
    path.write_bytes(bytes(damaged) + drawn.draw(st.binary(max_size=3)))
    refusal = refusal_of(path)
    assert refusal is None or path.name in str(refusal)


@pytest.mark.parametrize("file", [n for n in WRITERS if not n.endswith(".csv")], indirect=True)
@given(share=st.floats(0, 0.95))
def test_a_binary_file_that_is_cut_is_always_refused(file, share):
    path, content = file
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal_of(path) is not None

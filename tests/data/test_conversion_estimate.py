"""What a table would take in memory and as a pack, told before it is read."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rightbatch.data.conversion_estimate import estimate_conversion, refuse_too_large
from rightbatch.data.options import OpenOptions
from rightbatch.data.table_chunks import open_table_chunks
from rightbatch.errors import DataError
from rightbatch.free_memory import Limit

ROWS = 20_000


@pytest.fixture(params=["csv", "csv.gz", "parquet"])
def paths(request, tmp_path):
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=ROWS)
    words = np.array(["red", "green", "blue"])[generator.integers(0, 3, ROWS)]
    found = []
    for name in "ab":
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "parquet":
            table = pa.table({"number": numbers, "word": words})
            pq.write_table(table, path, row_group_size=ROWS // 4)
        else:
            lines = "".join(f"{n},{w}\n" for n, w in zip(numbers, words, strict=True))
            content = f"number,word\n{lines}".encode()
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        found.append(path)
    return found


@pytest.mark.parametrize(("target", "row_bytes"), [(None, 9), ("word", 16)])
def test_a_first_piece_tells_about_how_much_there_is(paths, target, row_bytes):
    estimate = estimate_conversion(
        paths, OpenOptions(target=target), source="t", sample_bytes=100_000
    )
    assert estimate.is_rough
    assert estimate.files == 2
    assert estimate.file_bytes == sum(path.stat().st_size for path in paths)
    # A gzip file is read ahead of what comes out of it.
    assert estimate.rows == pytest.approx(2 * ROWS, rel=0.3)
    assert estimate.packed_bytes == estimate.rows * row_bytes
    assert estimate.seconds > 0
    assert "2 files of" in str(estimate)


def test_after_the_survey_the_rows_are_counted(paths):
    data = open_table_chunks(paths, OpenOptions(), source="t")
    estimate = data.estimate
    assert not estimate.is_rough
    assert (estimate.rows, estimate.packed_bytes) == (2 * ROWS, 2 * ROWS * 9)
    whole = data.span(0, len(data))
    assert estimate.packed_bytes == sum(array.nbytes for array in whole.values())


def test_files_that_do_not_fit_are_refused_with_the_way_out(paths):
    with pytest.raises(DataError) as refusal:
        refuse_too_large(
            paths,
            OpenOptions(),
            source="taxi/*.csv",
            free=Limit(bytes=1_000_000, source="free on this machine"),
        )
    for words in (
        "taxi/*.csv: 2 files of ",
        "in memory, and 1.00 MB is free on this machine",
        "rightbatch pack 'taxi/*.csv' FOLDER",
        "rb.pack",
        "about a second",
    ):
        assert words in str(refusal.value)


@pytest.mark.parametrize(
    "free", [None, Limit(bytes=10**8, source="free"), Limit(bytes=10**12, source="free")]
)
def test_files_that_fit_are_let_through(paths, free):
    refuse_too_large(paths, OpenOptions(), source="t", free=free)

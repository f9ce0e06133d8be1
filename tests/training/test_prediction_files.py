"""Files of predictions: whole or not at all, and never in the place of what was read."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from torch import nn

import rightbatch as rb
from rightbatch.errors import OptionError
from rightbatch.training.predict import predict
from rightbatch.training.prediction_files import Piece, open_sink

LINE = {"W1": np.array([[1.0]]), "b1": np.zeros(1)}
X = np.array([[-2.0], [1.0], [3.0]])


def piece(values: list[float]) -> Piece:
    return Piece(rows=np.arange(len(values)), target=None, values=np.array(values, np.float32))


def idx(values: Any) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


# The place of what was read ------------------------------------------------------------------


def csv_in(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("a\n1\n2\n3\n")
    return path


@pytest.mark.parametrize("way", ["same", "dots", "symlink", "hard link"])
@pytest.mark.parametrize("given", ["file", "folder", "glob", "split"])
def test_tables_that_are_read_are_not_replaced(given, way, tmp_path: Path) -> None:
    first, second = csv_in(tmp_path, "1.csv"), csv_in(tmp_path, "2.csv")
    out = second
    if way == "dots":
        out = tmp_path / ".." / tmp_path.name / "2.csv"
    elif way == "symlink":
        (tmp_path / "out").mkdir()
        out = tmp_path / "out" / "o.csv"
        out.symlink_to(second)
    elif way == "hard link":
        (tmp_path / "out").mkdir()
        out = tmp_path / "out" / "o.csv"
        out.hardlink_to(second)
    if given == "file":
        first.unlink()
    named = {"file": second, "folder": tmp_path, "glob": str(tmp_path / "*.csv"), "split": second}
    data: Any = rb.open(named[given])
    if given == "split":
        data = rb.split(data, val=1).val
    with pytest.raises(OptionError, match=r"would replace .*2\.csv, which the data are read from"):
        predict(LINE, data, out=out)
    assert second.read_text() == "a\n1\n2\n3\n"
    assert out.read_text() == second.read_text()
    # Another file in the same folder harms nothing.
    assert predict(LINE, data, out=tmp_path / "new.csv").samples in (1, 3, 6)


def test_mapped_arrays_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    for data in (path, np.load(path, "r"), np.load(path, "r")[1:], (np.load(path, "r"), [1, 2, 3])):
        with pytest.raises(OptionError, match=r"would replace .*x\.npy"):
            predict(LINE, data, out=path, loss="squared_error")
    np.testing.assert_array_equal(np.load(path), X)
    # What was copied into memory is read from no file any more.
    predict(LINE, np.load(path), out=path)


@pytest.mark.parametrize("packed", [False, True])
def test_the_files_of_a_folder_of_images_are_known(packed, tmp_path: Path) -> None:
    for name, values in (("images-idx3", np.ones((3, 2, 2))), ("labels-idx1", np.arange(3) % 2)):
        path = tmp_path / f"train-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    linked = tmp_path.parent / f"{tmp_path.name}-link.csv"
    linked.symlink_to(sorted(tmp_path.iterdir())[0])
    weights = {"W1": np.ones((4, 2)), "b1": np.zeros(2)}
    with pytest.raises(OptionError, match=r"would replace .*train-images"):
        predict(weights, rb.open(tmp_path), out=linked)


def test_the_model_is_not_replaced(tmp_path: Path, cancer) -> None:
    np.savez(tmp_path / "weights.npz", **LINE)
    (tmp_path / "weights.npy").symlink_to(tmp_path / "weights.npz")
    with pytest.raises(OptionError, match=r"would replace .*weights\.npz, the model"):
        predict(tmp_path / "weights.npz", X, out=tmp_path / "weights.npy")
    rb.fit("logistic", cancer, epochs=1, out=tmp_path / "run")
    (tmp_path / "link.csv").symlink_to(tmp_path / "run" / "history.jsonl")
    for out in (tmp_path / "run", tmp_path / "link.csv"):
        with pytest.raises(OptionError, match="would replace"):
            predict(tmp_path / "run", cancer.val, out=out)
    # Predictions may lie with their run, and are replaced by those of the next time.
    for _ in range(2):
        predict(tmp_path / "run", cancer.val, out=tmp_path / "run" / "out.csv")


# Whole or not at all -------------------------------------------------------------------------


def test_a_partial_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "out.csv.partial"
    foreign.write_text("not ours")
    predict(LINE, X, out=tmp_path / "out.csv")
    assert foreign.read_text() == "not ours"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out.csv", foreign]


@pytest.mark.parametrize("ending", [".npy", ".csv", ".parquet"])
def test_of_two_at_once_the_last_to_finish_wins(ending, tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    with open_sink(path, 2) as first:
        first.add(piece([1, 1]))
        with open_sink(path, 3) as second:
            second.add(piece([2, 2, 2]))
            second.finish()
        assert values_in(path) == [2, 2, 2]
        first.finish()
    assert values_in(path) == [1, 1]
    assert list(tmp_path.iterdir()) == [path]


def values_in(path: Path) -> list[float]:
    if path.suffix == ".npy":
        return list(np.load(path))
    read = pyarrow.csv.read_csv if path.suffix == ".csv" else pyarrow.parquet.read_table
    found: list[float] = read(path)["predicted"].to_pylist()
    return found


def test_names_as_long_as_a_disk_takes_them(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".csv")
    predict(LINE, X, out=path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    predict(LINE, X, out=tmp_path / "out.csv")
    assert (tmp_path / "out.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


FULL = r"""
import resource, signal, sys
import numpy as np
import rightbatch as rb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    rb.predict({"W1": np.ones((1, 1)), "b1": np.zeros(1)}, np.ones((9000, 1)), out=sys.argv[1])
except rb.RightbatchError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
@pytest.mark.parametrize("ending", [".npy", ".csv", ".parquet"])
def test_a_disk_without_room_is_told(ending, tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("of before")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"out={str(path)!r} can not be written" in done.stdout, done.stdout
    assert "File too large" in done.stdout
    assert "name a file where there is room" in done.stdout
    assert path.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [path]


# What stands in them -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_quantities_are_written_as_the_data_have_them(ending, tmp_path: Path) -> None:
    target = np.array([0.1, 1234567.891, -3.0])
    path = tmp_path / f"out{ending}"
    read = pyarrow.csv.read_csv if ending == ".csv" else pyarrow.parquet.read_table
    predict(LINE, (X, target), out=path)
    assert read(path)["target"].to_pylist() == target.tolist()
    predict(LINE, (X, np.array([2**40 + 1, 5, 6])), loss="squared_error", out=path)
    assert read(path)["target"].to_pylist() == [2**40 + 1, 5, 6]


def test_a_target_that_was_transformed_stands_beside_what_was_learned(tmp_path: Path) -> None:
    data = rb.open((X, np.array([2.0, 4.0, 6.0])))
    parts = rb.split(data).transform(rb.scale(0.5, column="y"))
    result = rb.fit("linear", parts, epochs=1)
    predict(result, data, out=tmp_path / "out.csv")
    assert pyarrow.csv.read_csv(tmp_path / "out.csv")["target"].to_pylist() == [1, 2, 3]


def test_rows_keep_their_numbers_where_some_were_dropped(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("x,y\n1,1\n,2\n3,3\n4,\n5,5\n")
    data = rb.open(source, target="y", missing="drop")
    result = rb.fit("linear", rb.split(data), epochs=1, learning_rate=0.001, out=tmp_path / "run")
    for model in (LINE, result, tmp_path / "run"):
        loss = "squared_error" if model is LINE else None
        predict(model, data, out=tmp_path / "out.csv", batch_size=2, loss=loss)
        table = pyarrow.csv.read_csv(tmp_path / "out.csv")
        assert table["row"].to_pylist() == [0, 2, 4]
        assert table["target"].to_pylist() == [1, 3, 5]
    grouped = rb.split(rb.open(source, missing="drop"), group="y").train
    predict(LINE, grouped, out=tmp_path / "out.csv")
    assert pyarrow.csv.read_csv(tmp_path / "out.csv")["row"].to_pylist() == [0, 2, 4]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_class_without_a_text_has_a_column_of_its_own(ending, tmp_path: Path) -> None:
    kinds = np.array(["", "a"])[np.arange(20) % 2]
    data = rb.open((np.arange(20.0).reshape(20, 1), kinds))
    result = rb.fit("softmax", rb.split(data), epochs=1)
    path = tmp_path / f"out{ending}"
    predict(result, data, out=path)
    read = pyarrow.csv.read_csv if ending == ".csv" else pyarrow.parquet.read_table
    assert read(path).column_names[-2:] == ["probability_''", "probability_a"]


def test_scores_that_are_not_finite_are_null_as_json() -> None:
    prediction = predict(LINE, (np.full((3, 1), np.inf), [1.0, 2.0, 3.0]))
    assert prediction.to_json()["loss"] is None


class Rows(nn.Module):
    """Looks each number up, as a model of words does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 2)

    def forward(self, inputs: Any) -> Any:
        return self.table(inputs[:, 0])


@pytest.mark.parametrize("numbers", [[9, 1, 2], [1, 2, 9]])
def test_an_index_past_the_end_is_told(numbers) -> None:
    with pytest.raises(rb.DataError, match=r"out of range.*beyond what the model knows"):
        predict(Rows(), np.array(numbers).reshape(3, 1))


def test_numbers_beyond_float32_are_told_by_one_warning(caplog) -> None:
    assert not np.isfinite(predict(LINE, np.array([[1e300], [1.0]])).values[0])
    assert "1 of 2 samples are NaN or infinite" in caplog.text

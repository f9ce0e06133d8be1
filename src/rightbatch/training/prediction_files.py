"""Where predictions go, batch by batch: kept as arrays, or written to `.npy`, CSV or Parquet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.errors import OptionError, did_you_mean

OUTPUT_ENDINGS = (".npy", ".csv", ".parquet")

# Small pieces make large Parquet files that are slow to read; large ones take memory.
_ROWS_AT_ONCE = 1 << 16
_BYTES_AT_ONCE = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """What the model says of one batch: classes with probabilities, or values.

    `rows` (B,) int64 are row numbers in the data; `target` is as the data have it.
    """

    rows: NDArray[np.int64]
    target: NDArray[Any] | None
    predicted: NDArray[Any] | None = None
    probabilities: NDArray[np.float32] | None = None
    values: NDArray[np.float32] | None = None
    classes: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def numbers(self) -> NDArray[np.float32]:
        """The probabilities, or the values where there are none."""
        numbers = self.values if self.probabilities is None else self.probabilities
        assert numbers is not None  # a piece has one of the two
        return numbers

    def columns(self) -> dict[str, NDArray[Any]]:
        """The piece as columns of a table; OptionError where a value has several axes."""
        named: dict[str, NDArray[Any]] = {"row": self.rows}
        if self.target is not None:
            named.update(_spread("target", self.target))
        if self.predicted is not None and self.probabilities is not None:
            named["predicted"] = self.predicted
            for place, label in enumerate(self.classes or []):
                named[f"probability_{label}"] = self.probabilities[:, place]
        else:
            named.update(_spread("predicted", self.numbers))
        return named


class Sink(ABC):
    """Takes pieces in order; as a context it undoes what was begun where something fails."""

    @abstractmethod
    def add(self, piece: Piece) -> None:
        """Take the next piece."""

    def finish(self) -> None:  # noqa: B027  # most have nothing left to do
        """Every piece has been taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Kept(Sink):
    """Arrays of all samples, filled piece by piece; `arrays` has them by name."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._filled = 0
        self.arrays: dict[str, NDArray[Any]] = {}

    @override
    def add(self, piece: Piece) -> None:
        stop = self._filled + len(piece)
        for name in ("predicted", "probabilities", "values"):
            values = getattr(piece, name)
            if values is None:
                continue
            if name not in self.arrays:
                self.arrays[name] = np.empty((self._samples, *values.shape[1:]), values.dtype)
            self.arrays[name][self._filled : stop] = values
        self._filled = stop


def open_sink(path: Path, samples: int) -> Sink:
    """The file to write predictions of `samples` samples to, by its ending.

    Raises OptionError where the ending is not valid or the file could not be written.

    >>> open_sink(Path("predictions.xlsx"), 10)
    Traceback (most recent call last):
    rightbatch.errors.OptionError: out='predictions.xlsx': ... Valid are .npy, .csv, .parquet.
    """
    ending = path.suffix.lower()
    if ending not in OUTPUT_ENDINGS:
        raise OptionError(
            f"out={str(path)!r}: predictions are not written with the ending "
            f"{ending or 'absent'!r}.{did_you_mean(ending, OUTPUT_ENDINGS)} Valid are "
            f"{', '.join(OUTPUT_ENDINGS)}."
        )
    if path.is_dir():
        raise OptionError(f"out={str(path)!r} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise OptionError(
            f"out={str(path)!r}: there is no folder {path.absolute().parent}; make it first"
        )
    return NpyFile(path, samples) if ending == ".npy" else TableFile(path)


class _File(Sink):
    """A file that takes its own name once it is whole: until then it is called `….partial`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        try:
            self._file: IO[bytes] = self._partial.open("wb")
        except OSError as error:
            raise OptionError(f"out={str(path)!r} can not be written: {error}") from error

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._file.close()
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)
            self._file.close()


class NpyFile(_File):
    """One array, (N, K) float32, as `numpy.load` reads it."""

    def __init__(self, path: Path, samples: int) -> None:
        super().__init__(path)
        self._samples = samples
        self._is_begun = False

    @override
    def add(self, piece: Piece) -> None:
        numbers = np.ascontiguousarray(piece.numbers, np.dtype("<f4"))
        if not self._is_begun:
            shape = (self._samples, *numbers.shape[1:])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._is_begun = True
        self._file.write(numbers.data)


class TableFile(_File):
    """A row a sample, as CSV or Parquet by the ending."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._is_csv = path.suffix.lower() == ".csv"
        self._writer: Any = None
        self._waiting: list[Any] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    @override
    def add(self, piece: Piece) -> None:
        import pyarrow as pa

        table = pa.table(piece.columns())
        self._waiting.append(table)
        self._waiting_rows += len(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_rows >= _ROWS_AT_ONCE or self._waiting_bytes >= _BYTES_AT_ONCE:
            self._write()

    @override
    def finish(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        if not self._waiting:
            return
        import pyarrow as pa
        from pyarrow import csv, parquet

        table = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        if self._writer is None:
            kind = csv.CSVWriter if self._is_csv else parquet.ParquetWriter
            self._writer = kind(self._file, table.schema)
        self._writer.write_table(table)


def _spread(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One column, or one for each of several numbers a sample."""
    if values.ndim == 1:
        return {name: values}
    if values.ndim == 2:
        return {f"{name}_{place}": values[:, place] for place in range(values.shape[1])}
    raise OptionError(
        f"a sample's {name} has the shape {values.shape[1:]}, which no table holds: write it as "
        ".npy"
    )

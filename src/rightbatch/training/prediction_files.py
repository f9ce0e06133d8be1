"""Where predictions go, batch by batch: kept as arrays, or written to `.npy`, CSV or Parquet."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.durable_files import sync_folder
from rightbatch.errors import OptionError, did_you_mean

OUTPUT_ENDINGS = (".npy", ".csv", ".parquet")

# Small pieces make large Parquet files that are slow to read; large ones take memory.
_ROWS_AT_ONCE = 1 << 16
_BYTES_AT_ONCE = 1 << 24
# So much of a name is repeated in that of the unfinished file: a whole one may fill what a disk
# takes already.
_MOST_NAME = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """What the model says of one batch: classes with probabilities, or values.

    `rows` (B,) int64 are row numbers in the source; `target` is as the data have it, None where
    they have none or the sink has no use for it.
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
        if self.probabilities is not None and self.probabilities.ndim > 2:
            raise OptionError(
                f"a sample's predictions are probabilities of shape "
                f"{self.probabilities.shape[1:]}, a row of them a token, and a table has one row a "
                "sample: write .npy"
            )
        named: dict[str, NDArray[Any]] = {"row": self.rows}
        if self.target is not None:
            named.update(_spread("target", self.target))
        if self.predicted is not None and self.probabilities is not None:
            named["predicted"] = self.predicted
            for place, label in enumerate(self.classes or []):
                # A class may have no text at all, and a column needs one that tells it apart.
                word = "''" if label == "" else label
                named[f"probability_{word}"] = self.probabilities[:, place]
        else:
            named.update(_spread("predicted", self.numbers))
        return named


class Sink(ABC):
    """Takes pieces in order; as a context it undoes what was begun where something fails."""

    takes_target = False

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
    """A file that takes its own name once it is whole.

    Until then it lies beside it under a name that nobody else has: of two that are written at
    once, the last to finish stays, and each is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name[:_MOST_NAME]}.{secrets.token_hex(8)}.partial")
        with self._telling():
            self._file: IO[bytes] = self._partial.open("xb")

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with self._telling():
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._file.close()
                    self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)
            with suppress(OSError):
                # Of what could not be written, the rest can not be written either.
                self._file.close()
        if error is None:
            # The file is whole and in its place, also where its folder can not be synced.
            with suppress(OSError):
                sync_folder(self._path.parent)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OptionError(
                f"out={str(self._path)!r} can not be written: {error.strerror or error}. Make "
                "room, or name a file where there is room and which you may write; what was there "
                "before is as it was"
            ) from error


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
        with self._telling():
            self._file.write(numbers.data)


class TableFile(_File):
    """A row a sample, as CSV or Parquet by the ending."""

    takes_target = True

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
            with self._telling():
                self._writer.close()

    def _write(self) -> None:
        if not self._waiting:
            return
        import pyarrow as pa
        from pyarrow import csv, parquet

        table = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        with self._telling():
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

"""Tables in files: CSV and Parquet, one file, a folder of them or a glob."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.arrow_columns import PlainColumn, join_columns, plain_column
from rightbatch.data.bad_rows import BadRowsOfFile, rows_kept, settle_bad_rows
from rightbatch.data.categories import encode_arrow_texts, one_hot_columns, smallest_codes
from rightbatch.data.csv_files import CsvFile
from rightbatch.data.missing import apply_missing_policy
from rightbatch.data.options import Choice, OpenOptions
from rightbatch.data.parquet_files import ParquetFile
from rightbatch.data.table_file import TableFile, is_number
from rightbatch.errors import DataError

CSV_SUFFIXES = (".csv", ".tsv", ".tab", ".data", ".csv.gz", ".tsv.gz", ".tab.gz", ".data.gz")
# Read as CSV where somebody names the file, but not picked out of a folder: notes end so too.
TEXT_SUFFIXES = (".txt", ".txt.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
REMEDY = "Repair one of the files, or leave the column out by choosing other columns."
# No column of a file: such a name can not stand in one.
_ROW = "\0row"


def is_csv(path: Path) -> bool:
    """Whether a file's name says that it is read as CSV."""
    return path.name.lower().endswith(CSV_SUFFIXES + TEXT_SUFFIXES)


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.name.lower().endswith(PARQUET_SUFFIXES)


def tables_in(folder: Path) -> list[Path]:
    """The CSV and Parquet files of a folder, sorted by name."""
    endings = CSV_SUFFIXES + PARQUET_SUFFIXES
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.name.lower().endswith(endings)
        and not path.name.startswith((".", "_"))
    )


def open_tables(paths: Sequence[Path], options: OpenOptions, *, source: str) -> ArrayDataset:
    """The rows of all files, one file after the other in the order given.

    Raises DataError where a file is no table, or the files do not belong together.
    """
    data = build_dataset(table_files(paths, options, source=source), options, source=source)
    data.files = tuple(paths)
    return data


def table_files(paths: Sequence[Path], options: OpenOptions, *, source: str) -> list[TableFile]:
    """The files, their names of columns read; DataError where kinds are mixed."""
    parquet = [path for path in paths if is_parquet(path)]
    others = [path for path in paths if path not in parquet]
    if parquet and others:
        raise DataError(
            f"{source} mixes Parquet ({parquet[0].name}) with CSV ({others[0].name}); open one "
            "kind at a time, as with a glob (*.parquet)."
        )
    if parquet:
        options.refuse_unused(f"{source} (Parquet)", usable=("missing", "categories"))
        return [ParquetFile(path) for path in parquet]
    skip_ragged = options.on_bad_sample == "quarantine"
    return [CsvFile(path, header=options.header, skip_ragged=skip_ragged) for path in others]


def choose_columns(
    files: Sequence[TableFile],
    options: OpenOptions,
    *,
    source: str,
    default_target: str | None = None,
) -> Choice:
    """The columns to keep and the target; DataError where the files have not the same columns."""
    first = files[0]
    for file in files[1:]:
        _refuse_other_names(first, file)
    return options.choose(options.name or source, first.names, default_target=default_target)


def file_notes(files: Sequence[TableFile]) -> list[str]:
    """What reading the files' headers has to tell, each sentence once."""
    return list(dict.fromkeys(note for file in files for note in file.notes))


def date_notes(dates: Sequence[str]) -> list[str]:
    """The note that columns of dates have become numbers; none where there are none."""
    return [f"Dates read as seconds since 1970-01-01: {', '.join(dates)}."] if dates else []


def build_dataset(
    files: Sequence[TableFile],
    options: OpenOptions,
    *,
    source: str,
    default_target: str | None = None,
) -> ArrayDataset:
    """Join the files' chosen columns, settle missing values and text, and hand on arrays."""
    name = options.name or source
    chosen = choose_columns(files, options, source=source, default_target=default_target)
    tables = [file.read(chosen.columns) for file in files]
    locate = _locator(files, [table.num_rows for table in tables])
    tables_rows = sum(table.num_rows for table in tables)
    left_out = [
        BadRowsOfFile(label=file.label, rows=table.num_rows + len(file.bad_rows), bad=file.bad_rows)
        for file, table in zip(files, tables, strict=True)
    ]
    notes = [*file_notes(files), *settle_bad_rows(name, left_out, options.max_bad)]
    columns = {}
    dates = []
    for column in chosen.columns:
        joined = _join(column, files, [table.column(column) for table in tables])
        columns[column] = joined.values
        if joined.kind == "dates":
            dates.append(column)
    notes += date_notes(dates)
    del tables
    if chosen.target is not None:
        _refuse_infinite_target(name, chosen.target, columns[chosen.target], locate)
    is_bad = any(file.bad_rows for file in files)
    if options.missing.kind == "drop" or is_bad:
        columns[_ROW] = _row_numbers(left_out)
    columns, settled = apply_missing_policy(
        options.missing, columns, source=name, target=chosen.target, locate=locate
    )
    rows = columns.pop(_ROW, None)
    arrays, categories = _as_arrays(columns, chosen.target, options)
    data = ArrayDataset(
        arrays,
        name=name,
        target=chosen.target,
        categories=categories,
        notes=[*notes, *settled],
    )
    if rows is not None and (is_bad or len(rows) < tables_rows):
        data.source_rows = rows.to_numpy()
    return data


def _row_numbers(files: Sequence[BadRowsOfFile]) -> Any:
    """The numbers of the rows that were read, counting those left out."""
    import pyarrow as pa

    starts = np.cumsum([0, *(file.rows for file in files)])
    kept = [
        rows_kept(file.rows, file.bad) + start for file, start in zip(files, starts, strict=False)
    ]
    return pa.chunked_array([pa.array(np.concatenate(kept))])


def _as_arrays(
    columns: dict[str, Any], target: str | None, options: OpenOptions
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    """NumPy arrays of the Arrow columns, text as codes or one-hot, and the texts of the codes."""
    import pyarrow as pa

    arrays: dict[str, NDArray[Any]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in list(columns):
        column = columns.pop(name)  # each is let go once converted, to halve the peak of memory
        made: dict[str, NDArray[Any]]
        if not pa.types.is_string(column.type):
            made = {name: column.to_numpy()}
        else:
            codes, texts = encode_arrow_texts(column)
            if name != target and options.categories == "one-hot":
                made = dict(one_hot_columns(name, codes, texts))
            else:
                # Losses want int64 labels; an input may be as small as it can.
                made = {name: codes if name == target else smallest_codes(codes, len(texts))}
                categories[name] = texts
        refuse_taken_names(name, made, [*arrays, *columns])
        arrays.update(made)
    return arrays, categories


def refuse_taken_names(name: str, made: Iterable[str], taken: Iterable[str]) -> None:
    """Raise DataError where a one-hot column of column `name` has the name of another."""
    for twice in set(made) & set(taken):
        raise DataError(
            f"The one-hot column {twice!r} of {name!r} has the name of another column; rename "
            "that one, or use categories='codes'."
        )


def _join(name: str, files: Sequence[TableFile], parts: Sequence[Any]) -> PlainColumn:
    plain = [
        plain_column(part, f"{file.label}: column {name!r}")
        for file, part in zip(files, parts, strict=True)
    ]
    kinds = [part.kind for part in plain]
    remedy = REMEDY
    if {"numbers", "text"} <= set(kinds):
        file, texts = files[kinds.index("text")], plain[kinds.index("text")].values
        for row, text in enumerate(texts.to_pylist()):
            if text is not None and not is_number(text):
                remedy = first_text(text, file.locate(row))
                break
    return join_columns(name, plain, [file.label for file in files], remedy)


def first_text(text: str, place: str) -> str:
    """What to do about a text among numbers that stands at `place`."""
    return f"The first text is {text!r} at {place}. {REMEDY}"


def _refuse_other_names(first: TableFile, other: TableFile) -> None:
    """Names may stand in another order, for columns are found by name; but they must be equal."""
    if set(first.names) == set(other.names):
        return
    lacking = [name for name in first.names if name not in other.names]
    beyond = [name for name in other.names if name not in first.names]
    differences = [
        f"{verb} {', '.join(map(repr, names[:5]))}{', …' if len(names) > 5 else ''}"
        for verb, names in (("lacks", lacking), ("adds", beyond))
        if names
    ]
    raise DataError(
        f"{other.label} has other columns than {first.label}: it {' and '.join(differences)} "
        f"({len(other.names)} columns against {len(first.names)}). Files of one table need the "
        "same columns; open them apart, or say header=False (--no-header) if they have no header."
    )


def _refuse_infinite_target(
    name: str, target: str, column: Any, locate: Callable[[int], str]
) -> None:
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        infinite = np.flatnonzero(np.isinf(column.to_numpy(zero_copy_only=False)))
        if len(infinite):
            raise infinite_target(name, target, locate(int(infinite[0])))


def infinite_target(name: str, target: str, place: str) -> DataError:
    """The error that the target has an infinite value at `place`."""
    return DataError(
        f"{name}: the target {target!r} is infinite at {place}; a target needs finite values. "
        "Repair or delete the row."
    )


def _locator(files: Sequence[TableFile], lengths: Sequence[int]) -> Callable[[int], str]:
    ends = np.cumsum(lengths)

    def locate(row: int) -> str:
        index = int(np.searchsorted(ends, row, side="right"))
        return files[index].locate(row - int(ends[index]) + lengths[index])

    return locate

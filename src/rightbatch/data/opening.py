"""`open`: whatever holds samples becomes a Dataset."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rightbatch.data import arrays, builtin, cifar, fetched_sets, idx, numpy_files
from rightbatch.data.dataset import Dataset
from rightbatch.data.image_folder import ImageFolder, holds_images
from rightbatch.data.known_sets import KNOWN_SETS
from rightbatch.data.missing import MissingPolicy
from rightbatch.data.options import OpenOptions
from rightbatch.data.tokenizers import Tokenizer
from rightbatch.errors import DataError, did_you_mean
from rightbatch.free_memory import free_memory

_VALID = (
    "Valid are arrays, tensors, lists, (X, y), a dict of arrays, a frame (pandas, polars, "
    "pyarrow), a torch or Hugging Face data set, a path or glob of .csv, .tsv, .parquet, .npy, "
    ".npz or IDX files, a folder of them, a folder of images (in a folder for each class), text "
    "with sequence_length, a packed data set, and the names "
    f"{', '.join(builtin.BUILTIN_NAMES)}; once fetched, {', '.join(KNOWN_SETS)}."
)

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HUGGING_FACE = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
_TORCH = ("Dataset", "DataLoader")


def open(
    thing: object,
    *,
    target: str | int | None = None,
    columns: Sequence[str | int] | None = None,
    header: bool | None = None,
    missing: str = "refuse",
    categories: str = "codes",
    on_bad_sample: str = "stop",
    max_bad: int | float | None = None,
    name: str | None = None,
    sequence_length: int | None = None,
    stride: int | None = None,
    tokenizer: Tokenizer | None = None,
    vocabulary_size: int | None = None,
) -> Dataset:
    """Open `thing` as a Dataset of named columns.

    Args:
        thing: An array, tensor or list (column `x`), `(X, y)` (columns `x` and `y`, target `y`),
            a dict of arrays (a `Ragged` where samples vary in length), a frame that speaks Arrow,
            a map-style `torch.utils.data.Dataset`, a Hugging Face `Dataset` or `DatasetDict`, a
            path, folder or glob (`.csv`, `.tsv`, `.parquet`, `.npy`, `.npz`, IDX), a folder of
            images (columns `image` and, of class folders, `class`), a folder that `pack` wrote, or
            the name of a built-in set (`breast_cancer`, `diabetes`, `digits`, `iris`, `wine`) or of
            a set that `fetch` brought here (`mnist`, `fashion-mnist`, `cifar-10`, `adult`);
            `./wine` is a path. Opening never touches the network for them.
        target: The column to be learned, by name or by position (-1 is the last).
        columns: The columns to keep; the target is kept too.
        header: For CSV, whether the first row holds the names; by default yes, unless it looks
            like data, which is refused.
        missing: For tables, "refuse", "drop" the rows, "fill" (0 in numbers, "missing" in text)
            or "fill:VALUE". A missing target is refused or dropped, never filled.
        categories: For tables, text as sorted integer "codes" or as "one-hot" columns of uint8.
        on_bad_sample: For CSV, "stop" at a row of the wrong length, or "quarantine": leave out and
            list up to `max_bad` of them.
        max_bad: How many rows "quarantine" may leave out: a count, or a share of all rows.
        name: What the data set is called in messages; by default the path or name.
        sequence_length: Cut a stream of tokens into windows of so many: files of text (a path,
            folder or glob), or codes as an array of one axis or its `.npy`. The columns are
            `tokens` and the target `next`, the same one place on.
        stride: How many tokens further each window begins; by default `sequence_length`.
        tokenizer: For text, "characters" (those that occur, sorted; the default), "bytes", or a
            function of a text that gives its codes.
        vocabulary_size: How many codes there are, where a function or an array gives them.

    Raises:
        DataError: The data are refused; the message names file, row or column, and the remedy.
        OptionError: An option is not valid, or has no meaning for this source.

    >>> open(([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0]))
    <Dataset arrays: 3 samples; x: float64[2], y*: int64>
    >>> open("wine").column("target").categories
    ('class_0', 'class_1', 'class_2')
    """
    options = OpenOptions(
        target=target,
        columns=columns,
        header=header,
        missing=MissingPolicy.parse(missing),
        categories=categories,
        on_bad_sample=on_bad_sample,
        max_bad=max_bad,
        name=name,
        sequence_length=sequence_length,
        stride=stride,
        tokenizer=tokenizer,
        vocabulary_size=vocabulary_size,
    )
    is_uri = isinstance(thing, str) and _URI.match(thing) is not None
    if sequence_length is not None and not isinstance(thing, Dataset) and not is_uri:
        return _open_stream(thing, options)
    if isinstance(thing, str):
        return _open_text(thing, options)
    if isinstance(thing, os.PathLike):
        return _open_path(Path(thing), options)
    return _open_object(thing, options)


def find_tables(thing: object) -> tuple[list[Path], str] | None:
    """The CSV or Parquet files that `thing` names, and what messages call them.

    `thing` is a path, a folder or a glob, as for `open`; None where it names no tables.

    Raises DataError where a glob matches nothing.
    """
    from rightbatch.data import tables

    if not isinstance(thing, str | os.PathLike) or names_a_set(thing):
        return None
    text = os.fspath(thing)
    if text.startswith("file://"):
        text = _local_path(text)
    path = Path(text).expanduser()
    if not path.exists() and isinstance(thing, str) and glob.has_magic(text):
        paths = _matching(text)
    elif path.is_dir():
        paths = [] if idx.is_idx_folder(path) else tables.tables_in(path)
        text = str(path)
    else:
        paths, text = ([path] if path.exists() else []), str(path)
    if not paths or not all(tables.is_csv(path) or tables.is_parquet(path) for path in paths):
        return None
    return paths, str(paths[0]) if len(paths) == 1 and not path.is_dir() else text


def names_a_set(thing: object) -> bool:
    """Whether `open` takes `thing` for the name of a set that is here, and not for a path."""
    return thing in builtin.BUILTIN_NAMES or fetched_sets.is_fetched(thing)


def _local_path(uri: str) -> str:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return url2pathname(urlsplit(uri).path)


def _open_object(thing: Any, options: OpenOptions) -> Dataset:
    if isinstance(thing, Dataset):
        if options != OpenOptions():
            raise DataError(
                f"{thing.name} is open already; give target, columns and the like where it is "
                "opened first."
            )
        return thing
    # Whoever has an object of a library has imported it.
    if _is_one_of(thing, "datasets", _HUGGING_FACE):
        from rightbatch.data.hugging_face import open_hugging_face

        return open_hugging_face(thing, options)
    if _is_one_of(thing, "torch.utils.data", _TORCH):
        from rightbatch.data.torch_dataset import open_torch_dataset

        return open_torch_dataset(thing, options)
    if isinstance(thing, tuple):
        return _open_pair(thing, options)
    if hasattr(thing, "__arrow_c_stream__"):
        from rightbatch.data.parquet_files import Frame, arrow_table
        from rightbatch.data.tables import build_dataset

        table = arrow_table(thing)
        if table is not None:
            options.refuse_unused("a frame", usable=("missing", "categories"))
            return build_dataset([Frame(table)], options, source="frame")
    if isinstance(thing, Mapping):
        return arrays.open_arrays(thing, options)
    if arrays.is_array(thing):
        return arrays.open_arrays({"x": thing}, options)
    hint = " Make it dense first: .toarray()." if hasattr(thing, "toarray") else ""
    raise DataError(f"Cannot open an object of type {type(thing).__name__}.{hint} {_VALID}")


def _is_one_of(thing: object, library: str, names: Sequence[str]) -> bool:
    """Whether `thing` is an instance of one of the classes of a library that is imported."""
    module = sys.modules.get(library)
    found = [getattr(module, name, None) for name in names]
    return isinstance(thing, tuple(kind for kind in found if isinstance(kind, type)))


def _open_pair(pair: tuple[Any, ...], options: OpenOptions) -> Dataset:
    if len(pair) != 2:
        raise DataError(
            f"A tuple of {len(pair)} cannot be opened; valid is (X, y), the inputs and the target. "
            "Give more columns as a dict of arrays."
        )
    inputs, target = pair
    if hasattr(inputs, "__arrow_c_stream__"):
        from rightbatch.data.parquet_files import Frame, arrow_table
        from rightbatch.data.tables import build_dataset

        table = arrow_table(inputs)
        if table is not None:
            options.refuse_unused("a frame", usable=("missing", "categories"))
            frame = Frame(_with_target(table, target), label="the frame")
            return build_dataset([frame], options, source="frame", default_target="y")
    if isinstance(inputs, Mapping):
        if "y" in inputs:
            raise DataError("The inputs have a column 'y' already; name the target in the dict.")
        return arrays.open_arrays({**inputs, "y": target}, options, default_target="y")
    return arrays.open_arrays({"x": inputs, "y": target}, options, default_target="y")


def _with_target(table: Any, target: Any) -> Any:
    """The frame's table with the target as its last column, `y`."""
    import pyarrow as pa

    if "y" in table.column_names:
        raise DataError(
            "The frame has a column 'y' already; put the target into the frame and name it: "
            "open(frame, target=...)."
        )
    if hasattr(target, "__arrow_c_stream__"):
        column = pa.chunked_array(target)
    else:
        array = arrays.as_array(target, "the target 'y'")
        if array.ndim != 1:
            raise DataError(
                f"The target beside a frame has the shape {array.shape}; it needs one axis. Use "
                "target.ravel(), or give the frame's values as an array."
            )
        column = pa.chunked_array([pa.array(array)])
    if len(column) != table.num_rows:
        raise DataError(
            f"The frame has {table.num_rows:,} rows and the target {len(column):,}; row k of "
            "both must belong to the same sample."
        )
    return table.append_column("y", column)


def _open_text(text: str, options: OpenOptions) -> Dataset:
    if text in builtin.BUILTIN_NAMES:
        return builtin.open_builtin(text, options)
    if fetched_sets.is_fetched(text):
        return fetched_sets.open_fetched(text, options)
    if text.startswith("file://"):
        return _open_path(Path(_local_path(text)), options)
    if _URI.match(text):
        raise DataError(
            f"{text} is a remote source, which this version cannot open yet; download it first and "
            "give the path."
        )
    if not text:
        raise DataError(f"An empty text names no data. {_VALID}")
    path = Path(text).expanduser()
    if not path.exists() and glob.has_magic(text):
        return _open_glob(text, options)
    return _open_path(path, options, given=text)


def _open_glob(pattern: str, options: OpenOptions) -> Dataset:
    paths = _matching(pattern)
    return (
        _open_path(paths[0], options)
        if len(paths) == 1
        else _open_tables(paths, options, source=pattern)
    )


def _matching(pattern: str) -> list[Path]:
    """The files that match a glob, sorted; DataError where several are not all tables."""
    from rightbatch.data import tables

    expanded = str(Path(pattern).expanduser())
    # Path.glob takes no absolute pattern.
    found = sorted(Path(match) for match in glob.glob(expanded, recursive=True))  # noqa: PTH207
    paths = [path for path in found if path.is_file()]
    if not paths:
        raise DataError(
            f"No file matches {pattern!r}. Look at the pattern, and at the current folder, "
            f"{Path.cwd()}."
        )
    for path in paths if len(paths) > 1 else []:
        if not (tables.is_csv(path) or tables.is_parquet(path)):
            raise DataError(
                f"{pattern!r} matches {len(paths):,} files, and {path.name} is no table; several "
                "files are opened together where all are CSV or all are Parquet."
            )
    return paths


def _open_path(path: Path, options: OpenOptions, *, given: str | None = None) -> Dataset:
    path = path.expanduser()
    if not path.exists():
        from rightbatch.data.packing_folder import partial_folder, refuse_unfinished

        refuse_unfinished(partial_folder(path))
        if given in KNOWN_SETS:
            raise DataError(fetched_sets.not_fetched(KNOWN_SETS[given]))
        names = builtin.BUILTIN_NAMES
        near = did_you_mean(given or str(path), [*names, *KNOWN_SETS])
        raise DataError(
            f"No such file or folder: {given or path} (looked in {Path.cwd()}); and no built-in "
            f"set has that name.{near} The built-in sets are {', '.join(names)}; "
            f"`rightbatch fetch` brings {', '.join(KNOWN_SETS)}."
        )
    if options.sequence_length is not None:
        return _open_stream(path, options)
    try:
        return _open_folder(path, options) if path.is_dir() else _open_file(path, options)
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Look at its rights.") from error


def _open_stream(thing: object, options: OpenOptions) -> Dataset:
    from rightbatch.data.token_streams import open_tokens

    return open_tokens(thing, options)


def _open_folder(folder: Path, options: OpenOptions) -> Dataset:
    from rightbatch.data import tables
    from rightbatch.data.packed_manifest import MANIFEST_FILE, is_pack
    from rightbatch.data.packing_folder import refuse_unfinished

    refuse_unfinished(folder)
    if is_pack(folder):
        from rightbatch.data.packed import PackedDataset

        return PackedDataset(folder, options)
    if idx.is_idx_folder(folder):
        data = idx.open_idx_folder(folder, options)
        files = (path for path in sorted(folder.iterdir()) if path.is_file())
        data.files = tuple(filter(idx.is_idx, files))
        return data
    if cifar.is_cifar_folder(folder):
        return cifar.open_cifar_folder(folder, options)
    paths = tables.tables_in(folder)
    if paths:
        return _open_tables(paths, options, source=str(folder))
    if (folder / MANIFEST_FILE).is_file():
        from rightbatch.data.packed import PackedDataset

        return PackedDataset(folder, options)
    if holds_images(folder):
        return ImageFolder(folder, options)
    held = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    if not held:
        raise DataError(f"{folder} is an empty folder. {_VALID}")
    listed = ", ".join(held[:8]) + (f", … {len(held) - 8} more" if len(held) > 8 else "")
    raise DataError(
        f"{folder} is no packed data set and holds no CSV, Parquet or MNIST-like IDX files, but: "
        f"{listed}. Name a file in it, or a glob that reaches into its folders, such as "
        f"'{folder}/**/*.csv'."
    )


def _open_file(path: Path, options: OpenOptions) -> Dataset:
    from rightbatch.data import tables

    suffix = path.suffix.lower()
    if tables.is_csv(path) or tables.is_parquet(path):
        try:
            return _open_tables([path], options, source=str(path))
        except DataError as error:
            if suffix != ".txt" or type(error) is not DataError:
                raise
            raise DataError(
                f"{error} Where it is no table but running text, it is opened as windows of its "
                "characters or tokens: sequence_length=128 (--sequence-length 128)."
            ) from error
    if suffix == ".npy":
        data = numpy_files.open_npy(path, options)
    elif suffix == ".npz":
        data = numpy_files.open_npz(path, options)
    elif idx.is_idx(path):
        data = idx.open_idx(path, options)
    else:
        raise DataError(
            f"{path} is of no kind that can be opened: its ending is {suffix or 'absent'!r}. "
            f"{_VALID}"
        )
    data.files = (path,)
    return data


def _open_tables(paths: Sequence[Path], options: OpenOptions, *, source: str) -> Dataset:
    from rightbatch.data import tables
    from rightbatch.data.conversion_estimate import refuse_too_large

    refuse_too_large(paths, options, source=source, free=free_memory())
    return tables.open_tables(paths, options, source=source)

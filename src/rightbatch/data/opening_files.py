"""Opening what a name, a path, a folder, a glob or a URL stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rightbatch.data import builtin, cifar, fetched_sets, idx, numpy_files
from rightbatch.data.dataset import Dataset
from rightbatch.data.image_folder import ImageFolder, holds_images
from rightbatch.data.known_sets import KNOWN_SETS
from rightbatch.data.options import OpenOptions
from rightbatch.data.remote_errors import where_to_look
from rightbatch.data.remote_path import RemotePath, as_path, is_remote
from rightbatch.data.remote_url import is_url
from rightbatch.data.valid_sources import VALID_SOURCES
from rightbatch.errors import DataError, did_you_mean
from rightbatch.free_memory import free_memory

_MOST_OBJECTS = 100


def find_tables(
    thing: object, storage_options: Mapping[str, Any] | None = None
) -> tuple[list[Path], str] | None:
    """The CSV or Parquet files that `thing` names, and what messages call them.

    `thing` is a path, a folder or a glob, as for `open`; None where it names no tables.

    Raises DataError where a glob matches nothing.
    """
    from rightbatch.data import tables

    if not isinstance(thing, str | os.PathLike) or names_a_set(thing):
        return None
    text = os.fspath(thing)
    if is_url(text):
        return _find_remote_tables(RemotePath(text, storage_options))
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


def _find_remote_tables(path: RemotePath) -> tuple[list[Path], str] | None:
    from rightbatch.data import tables
    from rightbatch.data.packed_manifest import is_pack

    if path.is_pattern:
        paths = _matching_remote(path)
    elif path.is_file():
        paths = [as_path(path)]
    elif path.is_dir() and not is_pack(as_path(path)) and not idx.is_idx_folder(as_path(path)):
        paths = tables.tables_in(as_path(path))
    else:
        paths = []
    if not paths or not all(tables.is_csv(path) or tables.is_parquet(path) for path in paths):
        return None
    return paths, str(path)


def _local_path(uri: str) -> str:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return url2pathname(urlsplit(uri).path)


def open_text(text: str, options: OpenOptions) -> Dataset:
    """What a name, a path, a glob or a file:// address stands for."""
    if text in builtin.BUILTIN_NAMES:
        return builtin.open_builtin(text, options)
    if fetched_sets.is_fetched(text):
        return fetched_sets.open_fetched(text, options)
    if text.startswith("file://"):
        return open_path(Path(_local_path(text)), options)
    if not text:
        raise DataError(f"An empty text names no data. {VALID_SOURCES}")
    path = Path(text).expanduser()
    if not path.exists() and glob.has_magic(text):
        return _open_glob(text, options)
    return open_path(path, options, given=text)


def open_remote(path: RemotePath, options: OpenOptions) -> Dataset:
    """What is behind a URL."""
    try:
        data = _open_url(path, options)
        if any(map(is_remote, data.files)):
            _set_files(data, data.files)
    except FileNotFoundError as error:
        raise DataError(f"{path} has gone while it was opened: {error}") from error
    return data


def _open_url(path: RemotePath, options: OpenOptions) -> Dataset:
    if options.sequence_length is not None:
        return _open_remote_stream(path, options)
    if path.is_pattern:
        paths = _matching_remote(path)
        if len(paths) > 1:
            return _open_tables(paths, options, source=str(path))
        return _open_file(paths[0], options)
    if path.is_dir():
        return _open_folder(as_path(path), options)
    if path.exists():
        return _open_file(as_path(path), options)
    raise DataError(f"Nothing is at {path}. {where_to_look(path.url)}.")


def _open_remote_stream(path: RemotePath, options: OpenOptions) -> Dataset:
    from rightbatch.data.packed_manifest import is_pack
    from rightbatch.data.token_streams import open_token_files, open_token_pack

    if not path.is_pattern and is_pack(as_path(path)):
        return open_token_pack(as_path(path), options)
    if path.is_pattern:
        paths = [as_path(match) for match in path.matching()]
    elif path.is_dir():
        entries = sorted(as_path(path).iterdir(), key=lambda entry: entry.name)
        paths = [entry for entry in entries if entry.suffix.lower() == ".txt"]
    else:
        paths = [as_path(path)] if path.exists() else []
    if not paths:
        raise DataError(f"No text is at {path}. {where_to_look(path.url)}.")
    data = open_token_files(paths, str(path), options)
    _set_files(data, paths)
    return data


def _matching_remote(pattern: RemotePath) -> list[Path]:
    """The files that match; DataError where none does, or several are not all tables."""
    paths = [as_path(path) for path in pattern.matching()]
    if not paths:
        raise DataError(f"No file matches {pattern}. {where_to_look(pattern.url)}.")
    _refuse_mixed(str(pattern), paths)
    return paths


def _open_glob(pattern: str, options: OpenOptions) -> Dataset:
    paths = _matching(pattern)
    return (
        open_path(paths[0], options)
        if len(paths) == 1
        else _open_tables(paths, options, source=pattern)
    )


def _matching(pattern: str) -> list[Path]:
    """The files that match a glob, sorted; DataError where several are not all tables."""
    expanded = str(Path(pattern).expanduser())
    # Path.glob takes no absolute pattern.
    found = sorted(Path(match) for match in glob.glob(expanded, recursive=True))  # noqa: PTH207
    paths = [path for path in found if path.is_file()]
    if not paths:
        raise DataError(
            f"No file matches {pattern!r}. Look at the pattern, and at the current folder, "
            f"{Path.cwd()}."
        )
    _refuse_mixed(pattern, paths)
    return paths


def _refuse_mixed(pattern: str, paths: Sequence[Path]) -> None:
    from rightbatch.data import tables

    for path in paths if len(paths) > 1 else []:
        if not (tables.is_csv(path) or tables.is_parquet(path)):
            raise DataError(
                f"{pattern!r} matches {len(paths):,} files, and {path.name} is no table; several "
                "files are opened together where all are CSV or all are Parquet."
            )


def open_path(path: Path, options: OpenOptions, *, given: str | None = None) -> Dataset:
    """What is at a path, which messages call `given`."""
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
        return open_stream(path, options)
    try:
        return _open_folder(path, options) if path.is_dir() else _open_file(path, options)
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Look at its rights.") from error


def open_stream(thing: object, options: OpenOptions) -> Dataset:
    """Windows of a stream of tokens."""
    from rightbatch.data.token_streams import open_tokens

    return open_tokens(thing, options)


def _open_folder(folder: Path, options: OpenOptions) -> Dataset:
    from rightbatch.data import tables
    from rightbatch.data.packed_manifest import MANIFEST_FILE, is_pack
    from rightbatch.data.packing_folder import refuse_unfinished

    refuse_unfinished(folder)
    if is_pack(folder):
        return _open_pack(folder, options)
    if idx.is_idx_folder(folder):
        data = idx.open_idx_folder(folder, options)
        files = (path for path in sorted(folder.iterdir()) if path.is_file())
        _set_files(data, [path for path in files if idx.is_idx(path)])
        return data
    if cifar.is_cifar_folder(folder):
        return cifar.open_cifar_folder(folder, options)
    paths = tables.tables_in(folder)
    if paths:
        return _open_tables(paths, options, source=str(folder))
    if (folder / MANIFEST_FILE).is_file():
        return _open_pack(folder, options)
    if holds_images(folder):
        return ImageFolder(folder, options)
    held = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    if not held:
        raise DataError(f"{folder} is an empty folder. {VALID_SOURCES}")
    listed = ", ".join(held[:8]) + (f", … {len(held) - 8} more" if len(held) > 8 else "")
    raise DataError(
        f"{folder} is no packed data set and holds no CSV, Parquet or MNIST-like IDX files, but: "
        f"{listed}. Name a file in it, or a glob that reaches into its folders, such as "
        f"'{folder}/**/*.csv'."
    )


def _open_pack(folder: Path, options: OpenOptions) -> Dataset:
    if is_remote(folder):
        from rightbatch.data.remote_pack import RemotePack

        return RemotePack(folder, options)
    from rightbatch.data.packed import PackedDataset

    return PackedDataset(folder, options)


def _set_files(data: Dataset, paths: Sequence[Path]) -> None:
    """Let the data know what they are read from, here or behind URLs.

    Of thousands of objects the first ones stand for all: each may take a request.
    """
    some = paths[:_MOST_OBJECTS]
    objects = tuple(path.remote_object() for path in some if is_remote(path))
    if objects:
        data.files, data.remote_objects = (), objects
    else:
        data.files = tuple(paths)


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
    data: Dataset
    if suffix == ".npy":
        data = numpy_files.open_npy(path, options)
    elif suffix == ".npz":
        data = numpy_files.open_npz(path, options)
    elif idx.is_idx(path):
        data = idx.open_idx(path, options)
    else:
        raise DataError(
            f"{path} is of no kind that can be opened: its ending is {suffix or 'absent'!r}. "
            f"{VALID_SOURCES}"
        )
    _set_files(data, [path])
    return data


def _open_tables(paths: Sequence[Path], options: OpenOptions, *, source: str) -> Dataset:
    from rightbatch.data import tables
    from rightbatch.data.conversion_estimate import refuse_too_large

    refuse_too_large(paths, options, source=source, free=free_memory())
    data = tables.open_tables(paths, options, source=source)
    _set_files(data, paths)
    return data

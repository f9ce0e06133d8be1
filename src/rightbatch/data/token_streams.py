"""Opening what holds a stream of tokens: files of text, arrays of codes, and files of those."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.arrays import as_array, is_array
from rightbatch.data.dataset import Dataset
from rightbatch.data.file_region import file_region
from rightbatch.data.numpy_files import open_npy
from rightbatch.data.options import OpenOptions
from rightbatch.data.packed import PackedDataset
from rightbatch.data.packed_manifest import is_pack
from rightbatch.data.remote_pack import RemotePack
from rightbatch.data.remote_path import is_remote
from rightbatch.data.token_windows import TokenWindows
from rightbatch.data.tokenizers import Tokens, as_codes, code_dtype, read_tokens, tokenizer_name
from rightbatch.errors import DataError, OptionError

# Codes in a larger file are not looked at before they are read: the model's own look-up will say.
_MOST_CHECKED_BYTES = 1 << 30


def open_tokens(thing: object, options: OpenOptions) -> Dataset:
    """The windows of the stream that `thing` is: text by its path or glob, or codes as an array.

    Several files are one stream, in the order of their names. A `.npy` of codes is mapped into
    memory, and is not read until batches are made. A pack of such windows is opened as it is.

    Raises DataError where it holds no tokens, OptionError for an option that it has no use for.
    """
    if isinstance(thing, str | os.PathLike) and is_pack(Path(thing).expanduser()):
        options.refuse_unused("a stream of tokens")
        return open_token_pack(Path(thing).expanduser(), options)
    if isinstance(thing, str | os.PathLike):
        return open_token_files(
            *_paths(os.fspath(thing), is_pattern=isinstance(thing, str)), options
        )
    if is_array(thing):
        return _open(thing, [], "tokens", options)
    raise DataError(
        f"sequence_length cuts a stream of tokens, and {type(thing).__name__} is none: give a "
        "file of text, a glob of such files, or the codes as an array of one axis (.npy)"
    )


def open_token_files(paths: Sequence[Path], source: str, options: OpenOptions) -> Dataset:
    """The windows of the files' text, one after the other, or of the codes in a `.npy`.

    Raises what `open_tokens` raises.
    """
    for path in paths:
        if path.suffix.lower() == ".npy" and len(paths) > 1:
            raise DataError(
                f"{source!r} matches {len(paths):,} files, and {path.name} holds codes, which are "
                "opened one file at a time: join them first (numpy.concatenate)"
            )
    return _open(None, paths, source, options)


def _open(thing: object, paths: Sequence[Path], source: str, options: OpenOptions) -> Dataset:
    """The windows of an array of codes, or of files."""
    options.refuse_unused("a stream of tokens")
    is_codes = not paths or paths[0].suffix.lower() == ".npy"
    if is_codes and options.tokenizer is not None:
        raise OptionError(
            f"tokenizer={tokenizer_name(options.tokenizer)!r} makes tokens of text, and {source} "
            "holds their codes: leave it out"
        )
    notes: list[str] = []
    if is_codes:
        codes = _mapped(paths[0]) if paths else as_array(thing, source)
        is_stored = file_region(codes) is not None or bool(paths)
        tokens = Tokens(_checked(codes, source, options.vocabulary_size, is_stored), None)
    else:
        tokenizer = options.tokenizer or "characters"
        try:
            tokens = read_tokens(paths, tokenizer, options.vocabulary_size)
        except PermissionError as error:
            raise DataError(
                f"{error.filename} cannot be read: {error.strerror}. Look at its rights."
            ) from error
        notes.append(_made(tokens, tokenizer_name(tokenizer), len(paths)))
    assert options.sequence_length is not None  # the caller has asked
    data = TokenWindows(
        tokens.codes,
        sequence_length=options.sequence_length,
        stride=options.stride,
        name=options.name or source,
        categories=tokens.categories,
        notes=notes,
        options=options,
    )
    if not any(map(is_remote, paths)):
        data.files = tuple(paths)
    return data


def open_token_pack(folder: Path, options: OpenOptions) -> PackedDataset | RemotePack:
    """The pack, here or behind a URL; DataError where its windows are others than asked for."""
    plain = replace(
        options, sequence_length=None, stride=None, tokenizer=None, vocabulary_size=None
    )
    data = RemotePack(folder, plain) if is_remote(folder) else PackedDataset(folder, plain)
    length, stride = options.sequence_length, options.stride
    assert length is not None  # the caller has asked
    found = {column.shape for column in data.columns if column.is_token}
    overlap = min((length - 1) // (stride or length), len(data) - 1)
    if found != {(length,)} or data.overlap != overlap:
        shapes = ", ".join(str(shape[0]) for shape in found if shape)
        raise DataError(
            f"{folder} is packed, "
            + (f"as windows of {shapes} tokens" if found else "and holds no windows of tokens")
            + f", each of which shares tokens with the {data.overlap:,} that follow it: "
            f"sequence_length={length} and stride={stride or length} ask for others. Leave them "
            "out, or open what it was packed from"
        )
    return data


def _made(tokens: Tokens, name: str, files: int) -> str:
    vocabulary = (
        "" if tokens.categories is None else f", of which {len(tokens.categories):,} differ"
    )
    joined = f" of {files:,} files, one after the other" if files > 1 else ""
    return f"The tokenizer {name} made {len(tokens.codes):,} tokens{vocabulary}{joined}."


def _paths(text: str, *, is_pattern: bool) -> tuple[list[Path], str]:
    """The files, sorted, and what they are called together."""
    path = Path(text).expanduser()
    if path.is_file():
        return [path], text
    if path.is_dir():
        paths = sorted(entry for entry in path.iterdir() if entry.suffix.lower() == ".txt")
        if not paths:
            raise DataError(
                f"{path} is a folder that holds no .txt files. Name a file of text, or a glob such "
                f"as '{path}/**/*.md'"
            )
        return paths, text
    found: list[Path] = []
    if is_pattern and glob.has_magic(text):
        # Path.glob takes no absolute pattern.
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207
        found = sorted(entry for entry in map(Path, matches) if entry.is_file())
    if not found:
        raise DataError(f"No such file: {text} (looked in {Path.cwd()}).")
    return found, text


def _mapped(path: Path) -> NDArray[Any]:
    data = open_npy(path, OpenOptions())
    values = data.array("x")
    # A remote one is not mapped but read as it is asked for: here, all of it.
    return data.span(0, len(data))["x"] if values is None else values


def _checked(
    codes: NDArray[Any], source: str, vocabulary_size: int | None, is_stored: bool
) -> NDArray[Any]:
    """The codes as a stream that lies in order in memory, or in its file."""
    is_large = file_region(codes) is not None and codes.nbytes > _MOST_CHECKED_BYTES
    if is_large and codes.ndim == 1 and codes.dtype.kind in "iu" and codes.dtype.isnative:
        return codes
    codes = as_codes(codes, source, vocabulary_size)
    if codes.dtype.itemsize == 8 and not is_stored:
        codes = codes.astype(code_dtype(vocabulary_size or int(codes.max(initial=0)) + 1))
    return np.ascontiguousarray(codes)

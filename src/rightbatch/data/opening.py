"""`open`: whatever holds samples becomes a Dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rightbatch.data.dataset import Dataset
from rightbatch.data.missing import MissingPolicy
from rightbatch.data.opening_files import open_path, open_remote, open_stream, open_text
from rightbatch.data.opening_objects import open_object
from rightbatch.data.options import OpenOptions
from rightbatch.data.remote_path import RemotePath
from rightbatch.data.remote_url import is_url
from rightbatch.data.tokenizers import Tokenizer
from rightbatch.errors import OptionError


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
    storage_options: Mapping[str, Any] | None = None,
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
            `./wine` is a path. Opening never touches the network for them. Paths, folders and globs
            may be URLs of any protocol that fsspec speaks: `s3://`, `https://`, `hf://`, …
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
        storage_options: For a URL, what fsspec's file system of the protocol takes, such as
            `{"anon": True}`. They are never shown, and not kept with a run.

    Raises:
        DataError: The data are refused; the message names file, row or column, and the remedy.
            Its kind RemoteError says that the network or a server did not give them.
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
    if isinstance(thing, str) and is_url(thing):
        return open_remote(RemotePath(thing, storage_options), options)
    if storage_options is not None:
        raise OptionError(
            "storage_options are for data behind a URL (s3://, https://, hf://, …); leave them out"
        )
    is_uri = isinstance(thing, str) and thing.startswith("file://")
    if sequence_length is not None and not isinstance(thing, Dataset) and not is_uri:
        return open_stream(thing, options)
    if isinstance(thing, str):
        return open_text(thing, options)
    if isinstance(thing, os.PathLike):
        return open_path(Path(thing), options)
    return open_object(thing, options)

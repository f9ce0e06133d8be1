"""The bytes of a file, unzipped where it is gzipped; here or remote."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast


@contextmanager
def open_unzipped(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for reading bytes; one that ends in .gz is unzipped on the way.

    Raises what opening raises; reading raises that of gzip where the file is damaged.
    """
    with path.open("rb") as raw:
        if path.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as file:
            yield cast("IO[bytes]", file)

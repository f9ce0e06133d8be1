"""What is packed: data as `open` gives them, large tables chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rightbatch.data.conversion_estimate import ConversionEstimate, estimate_conversion
from rightbatch.data.dataset import Dataset
from rightbatch.data.missing import MissingPolicy
from rightbatch.data.opening import open as open_data
from rightbatch.data.opening_files import find_tables
from rightbatch.data.options import OpenOptions
from rightbatch.data.table_chunks import open_table_chunks

# Smaller tables are read whole, which is quicker and gives the same.
_CHUNKED_BYTES = 1 << 26


def open_to_pack(
    thing: Any,
    *,
    estimated: Callable[[ConversionEstimate], None] | None = None,
    watch: Callable[[int, int], None] | None = None,
    chunked_bytes: int = _CHUNKED_BYTES,
    **reading: Any,
) -> Dataset:
    """`thing` opened with the options of `open`, tables in files of 64 MiB and more in chunks.

    Those may be larger than memory: they are read once to find types, texts and gaps, and once more
    while they are packed. Before the first pass `estimated` is told what the conversion takes, and
    `watch` is called during it with the bytes that were read and those of all files.

    Raises OptionError and DataError where `open` does.
    """
    is_stream = reading.get("sequence_length") is not None
    tables = None if is_stream else find_tables(thing, reading.get("storage_options"))
    if tables is None or sum(path.stat().st_size for path in tables[0]) < chunked_bytes:
        return open_data(thing, **reading)
    paths, source = tables
    reading.pop("storage_options", None)
    missing = MissingPolicy.parse(reading.pop("missing", "refuse"))
    options = OpenOptions(**reading, missing=missing)
    if estimated is not None:
        estimated(estimate_conversion(paths, options, source=source))
    return open_table_chunks(paths, options, source=source, watch=watch)

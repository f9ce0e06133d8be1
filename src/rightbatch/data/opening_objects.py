"""Opening what is in memory, or what another library has opened."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rightbatch.data import arrays
from rightbatch.data.dataset import Dataset
from rightbatch.data.options import OpenOptions
from rightbatch.data.valid_sources import VALID_SOURCES
from rightbatch.errors import DataError

_HUGGING_FACE = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
_TORCH = ("Dataset", "DataLoader")


def open_object(thing: Any, options: OpenOptions) -> Dataset:
    """Arrays, frames, mappings of them, and data sets of other libraries, as a Dataset."""
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
    raise DataError(f"Cannot open an object of type {type(thing).__name__}.{hint} {VALID_SOURCES}")


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

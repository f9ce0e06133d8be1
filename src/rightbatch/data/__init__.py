"""Where samples live: a path, glob, name or object becomes a Dataset of named columns."""

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset, check_span, valid_rows
from rightbatch.data.opening import open

__all__ = ["ArrayDataset", "Column", "Dataset", "check_span", "open", "valid_rows"]

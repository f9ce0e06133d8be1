"""What can be opened, in words."""

from __future__ import annotations

from rightbatch.data.builtin import BUILTIN_NAMES
from rightbatch.data.known_sets import KNOWN_SETS

VALID_SOURCES = (
    "Valid are arrays, tensors, lists, (X, y), a dict of arrays, a frame (pandas, polars, "
    "pyarrow), a torch or Hugging Face data set, a path or glob of .csv, .tsv, .parquet, .npy, "
    ".npz or IDX files, a folder of them, a folder of images (in a folder for each class), text "
    "with sequence_length, a packed data set, and the names "
    f"{', '.join(BUILTIN_NAMES)}; once fetched, {', '.join(KNOWN_SETS)}."
)

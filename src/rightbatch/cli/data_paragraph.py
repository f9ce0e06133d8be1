"""What DATA may be, in the words that every verb's help ends with."""

from __future__ import annotations

# The names that the library knows, repeated so that the help need not import it; a test compares.
DATA_PARAGRAPH = (
    "DATA is a file, folder, glob in quotes or URL (s3://, https://, hf://, …) of .csv, .tsv, "
    ".parquet, .npy, .npz or IDX; a folder of images, in a folder for each class; text, with "
    "--sequence-length; a folder that `rightbatch pack` wrote; the name of a built-in set: "
    "breast_cancer, diabetes, digits, iris, wine; or of one that `rightbatch fetch` brought here: "
    "mnist, fashion-mnist, cifar-10, adult."
)

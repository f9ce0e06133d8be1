"""What sizes encoded images have, told before any of them is decoded."""

from __future__ import annotations

import numpy as np

from rightbatch.data.dataset import Dataset
from rightbatch.errors import DataError
from rightbatch.loading.decode_images import DecodeImages
from rightbatch.loading.encoded_image import EncodedImage
from rightbatch.loading.jpeg import decodes_pieces

_MOST_LOOKED_AT = 500


def image_notes(data: Dataset) -> list[str]:
    """Sentences on each input column of encoded images, on sizes first; none where there is none.

    Up to 500 images across the data are looked at. Those that can not be opened are counted, and
    the first one is named; where none can be, the column holds no images, and nothing is said.
    """
    return [
        note
        for column in data.inputs
        if DecodeImages.takes(column)
        for note in _notes_of(data, column.name)
    ]


def _notes_of(data: Dataset, name: str) -> list[str]:
    rows = np.unique(np.linspace(0, len(data) - 1, _MOST_LOOKED_AT).astype(np.int64))
    sizes = []
    has_jpegs = False
    wrong = ""
    for row in rows.tolist():
        try:
            image = EncodedImage(data.rows(np.array([row]))[name][0])
            sizes.append((image.height, image.width))
            has_jpegs |= image.is_jpeg
        except DataError as error:
            wrong = wrong or f"the first is {data.locate(row)}: {error}"
    if not sizes:
        return []
    heights, widths = zip(*sizes, strict=True)
    how_many = f"{len(rows):,} of {len(data):,}" if len(rows) < len(data) else f"{len(rows):,}"
    notes = [
        f"{name!r} holds encoded images, of {how_many} looked at: {min(widths):,} to "
        f"{max(widths):,} pixels wide, {min(heights):,} to {max(heights):,} high."
    ]
    if wrong:
        notes.append(f"{len(rows) - len(sizes):,} of them can not be opened; {wrong}.")
    if has_jpegs and not decodes_pieces():
        notes.append(
            "JPEGs are decoded whole, also where a piece is wanted: rightbatch was installed "
            "without its compiled part (docs/images.md, Speed)."
        )
    return notes

"""What is made of each column of a table in chunks: one type for all files, no gaps, codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rightbatch.data.arrow_columns import PlainColumn, join_columns, plain_column
from rightbatch.data.categories import one_hot_columns, smallest_codes
from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays
from rightbatch.data.missing import Fill
from rightbatch.data.options import Choice, OpenOptions
from rightbatch.data.table_file import is_number
from rightbatch.data.table_survey import FileSurvey, TableChunks, locate_row
from rightbatch.data.tables import REMEDY, first_text, refuse_taken_names


class Recipe(NamedTuple):
    """What is made of a column as it is read: one type for all files, its gaps filled, its codes.

    `codes` are the texts' codes in sorted order; None where the column holds no text.
    """

    type: Any
    fill: Fill | None
    codes: dict[str, int] | None
    is_target: bool
    is_one_hot: bool


def join_kinds(
    columns: Sequence[str], readers: Sequence[TableChunks], surveys: Sequence[FileSurvey]
) -> dict[str, PlainColumn]:
    """The kind and type of each column over all files, as columns without rows."""
    import pyarrow as pa

    joined = {}
    labels = [reader.file.label for reader in readers]
    for name in columns:
        parts = [
            plain_column(
                pa.chunked_array([pa.array([], type=survey.types[name])]),
                f"{label}: column {name!r}",
            )
            for label, survey in zip(labels, surveys, strict=True)
        ]
        kinds = [part.kind for part in parts]
        remedy = REMEDY
        if {"numbers", "text"} <= set(kinds):
            index = kinds.index("text")
            remedy = _remedy(name, readers[index], surveys[index])
        joined[name] = join_columns(name, parts, labels, remedy)
    return joined


def _remedy(name: str, reader: TableChunks, survey: FileSurvey) -> str:
    """What to do about text in a column of numbers: names the first one."""
    before = 0
    for chunk in survey.chunks:
        texts = plain_column(reader.read(chunk, [name]).column(0), name).values.to_pylist()
        for row, text in enumerate(texts):
            if text is not None and not is_number(text):
                return first_text(text, locate_row(reader, survey.chunks, before + row))
        before += chunk.rows
    return REMEDY


def recipes_of(
    chosen: Choice,
    options: OpenOptions,
    joined: Mapping[str, PlainColumn],
    fills: Mapping[str, Fill],
    surveys: Sequence[FileSurvey],
) -> dict[str, Recipe]:
    """How each chosen column is made; the distinct texts that the surveys hold are taken over."""
    import pyarrow as pa

    recipes = {}
    for name in chosen.columns:
        fill = fills.get(name)
        kind = joined[name].values.type
        codes = None
        if pa.types.is_string(kind if fill is None else fill.type):
            texts = set().union(*(survey.texts[name] for survey in surveys))
            if fill is not None:
                texts.add(str(fill.value))
            codes = {text: code for code, text in enumerate(sorted(texts))}
        for survey in surveys:
            survey.texts[name].clear()
        is_target = name == chosen.target
        is_one_hot = codes is not None and not is_target and options.categories == "one-hot"
        recipes[name] = Recipe(kind, fill, codes, is_target, is_one_hot)
    return recipes


def recipes_for(recipes: Mapping[str, Recipe], column: str) -> dict[str, Recipe]:
    """The recipe that makes `column`, which may be one of several that are made of a text."""
    return {
        name: recipe
        for name, recipe in recipes.items()
        if (column == name and not recipe.is_one_hot)
        or (recipe.is_one_hot and any(column == f"{name}={text}" for text in recipe.codes or {}))
    }


def describe(recipes: Mapping[str, Recipe]) -> list[Column]:
    """The columns that the recipes make, in order; DataError where two would have one name."""
    columns: list[Column] = []
    for index, (name, recipe) in enumerate(recipes.items()):
        empty = as_arrays(name, _no_values(recipe), recipe)
        refuse_taken_names(name, empty, [*(c.name for c in columns), *list(recipes)[index + 1 :]])
        categories = None if recipe.codes is None or recipe.is_one_hot else tuple(recipe.codes)
        columns += [
            Column(name=each, dtype=array.dtype, categories=categories)
            for each, array in empty.items()
        ]
    return columns


def _no_values(recipe: Recipe) -> Any:
    import pyarrow as pa

    kind = recipe.type if recipe.fill is None else recipe.fill.type
    return pa.chunked_array([pa.array([], type=kind)])


def as_arrays(name: str, values: Any, recipe: Recipe) -> Arrays:
    """The NumPy arrays of a column without gaps: its own, codes, or one for every category."""
    if recipe.codes is None:
        return {name: values.to_numpy()}
    encoded = values.combine_chunks().dictionary_encode()
    code_of = recipe.codes
    texts = np.fromiter((code_of[text] for text in encoded.dictionary.to_pylist()), np.int64)
    codes = texts[encoded.indices.to_numpy()]
    if recipe.is_one_hot:
        return dict(one_hot_columns(name, codes, list(code_of)))
    return {name: codes if recipe.is_target else smallest_codes(codes, len(code_of))}

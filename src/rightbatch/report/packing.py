"""Rows of a chart packed into columns for the page, which unpacks them: a third of the bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def packed_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A Vega-Lite specification with its data sets packed; `page.js` does the reverse."""
    datasets = {name: packed(rows) for name, rows in spec.get("datasets", {}).items()}
    return {**spec, "datasets": datasets}


def packed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of `rows`: {name: values}, text as {"words": […], "at": [place of each row]}.

    A row that lacks a name has null there.

    >>> packed([{"run": "a", "loss": 1.5}, {"run": "a", "loss": 1}])
    {'run': {'words': ['a'], 'at': [0, 0]}, 'loss': [1.5, 1]}
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _column([row.get(name) for row in rows]) for name in names}


def _column(values: list[Any]) -> Any:
    if not all(isinstance(value, str) for value in values):
        return [_short(value) for value in values]
    words = list(dict.fromkeys(values))
    place = {word: index for index, word in enumerate(words)}
    return {"words": words, "at": [place[value] for value in values]}


def _short(value: Any) -> Any:
    """A whole number without its ".0"."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

"""New data as a trained model expects them: the columns by name, texts by the codes it learned."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.errors import DataError, did_you_mean
from rightbatch.loading.parts import Part

logger = logging.getLogger(__name__)

_MOST_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one column comes from: a column of the data, one feature of it, or recoded."""

    name: str
    feature: int | None = None
    codes: NDArray[Any] | None = None

    def read(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values of this column, from those of the data's column."""
        if self.feature is not None:
            values = values[:, self.feature]
        return values if self.codes is None else self.codes[values]


class MatchedData(Dataset):
    """The samples of `data` under other columns: chosen, renamed, in another order, recoded.

    `sources` says of each column where its values come from; None stands for zeros.
    """

    def __init__(
        self,
        data: Dataset,
        columns: Sequence[Column],
        sources: Mapping[str, Source | None],
        target: str | None,
    ) -> None:
        super().__init__(
            name=data.name,
            columns=columns,
            target=target,
            own_parts=data.own_parts,
            notes=data.notes,
        )
        self._data = data
        self._sources = dict(sources)
        self._arrays: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self._data)

    @property
    def fingerprint(self) -> str:
        """That of the data, marked as seen through other columns."""
        return f"{self._data.fingerprint}-matched"

    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices`."""
        return self._read(self._data.rows(indices), len(np.asarray(indices)))

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`."""
        return self._read(self._data.span(start, stop), stop - start)

    def array(self, name: str) -> NDArray[Any] | None:
        """The whole column where the data's own lies in memory, else None."""
        if name not in self._arrays:
            source = self._sources[name]
            values = None if source is None else self._data.array(source.name)
            if source is None:
                self._arrays[name] = np.zeros(len(self), self.column(name).dtype)
            elif values is None:
                return None
            else:
                self._arrays[name] = source.read(values)
        return self._arrays[name]

    def _read(self, arrays: Arrays, samples: int) -> Arrays:
        read = {}
        for column in self.columns:
            source = self._sources[column.name]
            read[column.name] = (
                np.zeros((samples, *column.shape), column.dtype)
                if source is None
                else source.read(arrays[source.name])
            )
        return read


def match(part: Part, inputs: Sequence[Column], target: Column | None) -> Part:
    """The part with the columns `inputs`, in that order, and the target where the data have it.

    `inputs` and `target` are the columns a model learned from. Columns of a table are found by
    name, whatever their order; a single input column is found as such. Codes of a text column are
    those of the model's own texts. An array of F features stands for F columns of numbers.

    Raises DataError where a column is missing, of another shape or kind, or holds a text that the
    model has not met.
    """
    data = part.data
    matching = _Matching(part, inputs, target)
    sources = {column.name: matching.source(column) for column in inputs}
    unused = matching.unused(sources)
    if unused:
        logger.warning(
            f"{data.name}: the model was not trained on {_listed(unused)}, which is not used"
        )
    columns = [matching.describe(column, sources[column.name]) for column in inputs]
    if target is not None and matching.target is not None:
        found = data.column(matching.target)
        sources[target.name] = Source(
            name=found.name, codes=matching.codes(found, target.categories, "the target")
        )
        columns.append(matching.describe(target, sources[target.name]))
    has_target = target is not None and matching.target is not None
    matched = MatchedData(data, columns, sources, target.name if target and has_target else None)
    return replace(part, data=matched)


def match_labels(part: Part, labels: tuple[str, ...] | None) -> Part:
    """The part with the texts of its target coded as `labels` has them; DataError for others."""
    data = part.data
    if data.target is None or labels is None:
        return part
    found = data.column(data.target)
    if found.categories is None or found.categories == labels:
        return part
    wanted = replace(found, categories=labels)
    codes = _Matching(part, data.inputs, wanted).codes(found, labels, "the target")
    sources: dict[str, Source | None] = {
        column.name: Source(name=column.name) for column in data.inputs
    }
    sources[found.name] = Source(name=found.name, codes=codes)
    return replace(part, data=MatchedData(data, [*data.inputs, wanted], sources, data.target))


class _Matching:
    """One part against the columns that a model learned from."""

    def __init__(self, part: Part, inputs: Sequence[Column], target: Column | None) -> None:
        self._part = part
        self._data = data = part.data
        self._wanted = [column.name for column in inputs]
        names = [column.name for column in data.columns]
        self.target = data.target if data.target not in self._wanted else None
        if target is not None and target.name in names and target.name not in self._wanted:
            self.target = target.name
        self._given = [
            column for column in data.columns if column.name not in (self.target, data.target)
        ] + [column for column in data.columns if column.name == data.target != self.target]
        # The group column of a split is no input of the data, but a table may have it.
        self._by_name = {column.name: column for column in self._given}
        self._is_wide = (
            len(inputs) > 1
            and len(self._given) == 1
            and self._given[0].shape == (len(inputs),)
            and all(column.shape == () and column.categories is None for column in inputs)
        )
        self._is_single = len(inputs) == len(self._given) == 1

    def source(self, wanted: Column) -> Source | None:
        """Where the input `wanted` is found; DataError where it is not, or is another thing."""
        if self._is_wide:
            return Source(name=self._given[0].name, feature=self._wanted.index(wanted.name))
        found = self._given[0] if self._is_single else self._by_name.get(wanted.name)
        if found is None:
            if self._is_absent_category(wanted):
                return None
            raise DataError(
                f"{self._data.name} has no column {wanted.name!r}, which the model was trained on."
                f"{did_you_mean(wanted.name, self._by_name)} It needs {_listed(self._wanted)}; "
                f"the data have {_listed(list(self._by_name)) or 'no inputs'}. Open the data with "
                "the options of the training"
            )
        if found.shape != wanted.shape:
            raise DataError(
                f"{self._data.name}: a sample of {found.name!r} has the shape {found.shape}, and "
                f"the model was trained on {wanted.name!r} of shape {wanted.shape}. Reshape the "
                "array, or open the data that belong to the model"
            )
        if (found.dtype == np.uint8) != (wanted.dtype == np.uint8) and "f" in (
            found.dtype.kind,
            wanted.dtype.kind,
        ):
            raise DataError(
                f"{self._data.name}: {found.name!r} holds {found.dtype}, and the model was trained "
                f"on {wanted.dtype}: bytes from 0 to 255 and fractions are not on one scale. "
                "Give the data as they were in training"
            )
        return Source(name=found.name, codes=self.codes(found, wanted.categories, "the column"))

    def describe(self, wanted: Column, source: Source | None) -> Column:
        """The column that comes out."""
        if source is None:
            return wanted
        dtype = self._data.column(source.name).dtype if source.codes is None else wanted.dtype
        return replace(wanted, dtype=dtype)

    def unused(self, sources: Mapping[str, Source | None]) -> list[str]:
        """Input columns that the model does not know; DataError for those it would have coded."""
        used = {source.name for source in sources.values() if source is not None}
        unused = [
            column.name
            for column in self._data.inputs
            if column.name not in used and column.name != self.target
        ]
        for name in unused:
            stem, equals, category = name.partition("=")
            if equals and any(wanted.startswith(f"{stem}=") for wanted in self._wanted):
                raise DataError(
                    f"{self._data.name}: the column {stem!r} holds {category!r}, a text that the "
                    "model has not met in training. Leave such rows out, or train on data that "
                    "have it"
                )
        return unused

    def codes(
        self, found: Column, categories: tuple[str, ...] | None, what: str
    ) -> NDArray[Any] | None:
        """What each code of `found` becomes, so that equal texts get equal codes; None: itself."""
        if found.categories == categories:
            return None
        if found.categories is None and what == "the target":
            return None  # codes 0 … K-1 in the place of texts: their range is checked when read
        if found.categories is None or categories is None:
            is_text, was_text = (
                "text" if column is not None else "numbers"
                for column in (found.categories, categories)
            )
            raise DataError(
                f"{self._data.name}: {what} {found.name!r} holds {is_text}, and the model was "
                f"trained on {was_text}. Open the data as they were opened for the training"
            )
        code_of = {text: code for code, text in enumerate(categories)}
        codes = np.array([code_of.get(text, -1) for text in found.categories], np.int64)
        unknown = self._met(found, np.flatnonzero(codes < 0))
        if unknown:
            raise DataError(
                f"{self._data.name}: {what} {found.name!r} holds {_listed(unknown)}, which the "
                f"model has not met in training; it knows {_listed(categories)}. Leave such rows "
                "out, or train on data that have them"
            )
        return codes

    def _met(self, found: Column, codes: NDArray[Any]) -> list[str]:
        """The texts of those `codes` that samples of the part really have."""
        met: set[int] = set()
        if len(codes):
            array = self._data.array(found.name)
            for rows in self._part.rows.chunks():
                values = self._data.rows(rows)[found.name] if array is None else array[rows]
                met.update(np.unique(values[np.isin(values, codes)]).tolist())
        assert found.categories is not None  # the caller has asked for its codes
        return [found.categories[code] for code in sorted(met)]

    def _is_absent_category(self, wanted: Column) -> bool:
        """Whether `wanted` is one category of a one-hot column, and no sample here has it."""
        stem, equals, _ = wanted.name.partition("=")
        return bool(equals) and any(name.startswith(f"{stem}=") for name in self._by_name)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_MOST_SHOWN]))
    return shown + (f", … {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else "")

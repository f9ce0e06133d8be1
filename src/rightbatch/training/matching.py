"""New data as a trained model expects them: the columns by name, texts by the codes it learned."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.ragged import Ragged
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.data.row_view import RowView
from rightbatch.errors import DataError, did_you_mean
from rightbatch.loading.parts import Part
from rightbatch.training.recoding import Recoding, codes_of_numbers

logger = logging.getLogger(__name__)

_MOST_SHOWN = 8
# What `open` calls an array without a name.
_NAMELESS = "x"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one column comes from: a column of the data, one feature of it, or recoded."""

    name: str
    feature: int | None = None
    recoding: Recoding | None = None

    def read(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values of this column, from those of the data's column."""
        if self.feature is not None:
            values = values[:, self.feature]
        return values if self.recoding is None else self.recoding(values)


class MatchedData(RowView):
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
        super().__init__(data, columns, target)
        self._sources = dict(sources)
        self._arrays: dict[str, NDArray[Any]] = {}

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

    def ragged(self, name: str) -> Ragged | None:
        """The whole ragged column where the data have it at hand, else None."""
        source = self._sources[name]
        return None if source is None else self._data.ragged(source.name)

    def ragged_bytes(self, name: str) -> int | None:
        """The bytes of all values of a ragged column where the data know them."""
        source = self._sources[name]
        return None if source is None else self._data.ragged_bytes(source.name)

    def ragged_region(self, name: str) -> RaggedRegion | None:
        """Where values and offsets of a ragged column lie in files, else None."""
        source = self._sources[name]
        return None if source is None else self._data.ragged_region(source.name)

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

    Numbers stand for the texts that they are written as, where the model has learned texts.

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
    has_target = target is not None and matching.target is not None
    if target is not None and matching.target is not None:
        sources[target.name] = matching.target_source(target)
        columns.append(matching.describe(target, sources[target.name]))
    target_name = target.name if target is not None and has_target else None
    is_as_wanted = (
        data.target == target_name
        and [column.name for column in data.inputs] == [column.name for column in inputs]
        and all(source == Source(name=name) for name, source in sources.items())
    )
    if is_as_wanted:
        # The data's own blocks of values serve: no second copy of them is made.
        return part
    return replace(part, data=MatchedData(data, columns, sources, target_name))


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
            and not self._given[0].is_ragged
            and all(column.shape == () and column.categories is None for column in inputs)
        )
        self._is_single = len(inputs) == len(self._given) == 1
        self._spread: dict[str, tuple[tuple[str, ...], Recoding]] = {}

    def source(self, wanted: Column) -> Source | None:
        """Where the input `wanted` is found; DataError where it is not, or is another thing."""
        if self._is_wide:
            return Source(name=self._given[0].name, feature=self._wanted.index(wanted.name))
        found = self._given[0] if self._is_single else self._by_name.get(wanted.name)
        if found is None:
            spread = self._one_hot(wanted)
            if spread is not None:
                return spread
            if self._is_absent_category(wanted):
                return None
            raise DataError(
                f"{self._data.name} has no column {wanted.name!r}, which the model was trained on."
                f"{did_you_mean(wanted.name, self._by_name)} It needs {_listed(self._wanted)}; "
                f"the data have {_listed(list(self._by_name)) or 'no inputs'}. Open the data with "
                "the options of the training"
            )
        if found.is_ragged != wanted.is_ragged:
            raise DataError(
                f"{self._data.name}: {found.name!r} is {found.kind}, and the model was trained on "
                f"{wanted.name!r}, {wanted.kind}; … is a length that varies. Open the data that "
                "belong to the model"
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
        if _NAMELESS not in (found.name, wanted.name) and found.name != wanted.name:
            logger.warning(
                f"{self._data.name}: the column {found.name!r} is taken for {wanted.name!r}, the "
                "only input that the model was trained on"
            )
        recoding = self.recoding(found, wanted, wanted.categories, "the column")
        return Source(name=found.name, recoding=recoding)

    def target_source(self, wanted: Column) -> Source:
        """Where the target is found; DataError where it is another thing than was learned."""
        assert self.target is not None  # the caller has asked
        found = self._data.column(self.target)
        if wanted.categories is not None and found.shape != wanted.shape:
            raise DataError(
                f"{self._data.name}: a sample of the target {found.name!r} has the shape "
                f"{found.shape}, and the model has learned the texts {_listed(wanted.categories)}. "
                "Give one label a sample, or open the data without a target"
            )
        recoding = self.recoding(found, wanted, wanted.categories, "the target")
        return Source(name=found.name, recoding=recoding)

    def describe(self, wanted: Column, source: Source | None) -> Column:
        """The column that comes out."""
        if source is None:
            return wanted
        found = self._data.column(source.name)
        dtype = found.dtype if source.recoding is None else wanted.dtype
        return replace(wanted, dtype=dtype, is_ragged=found.is_ragged, is_text=found.is_text)

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

    def recoding(
        self, found: Column, wanted: Column, categories: tuple[str, ...] | None, what: str
    ) -> Recoding | None:
        """What values of `found` become, so that equal texts get equal codes; None: themselves."""
        if found.categories == categories:
            return None
        if categories is None:
            raise DataError(
                f"{self._data.name}: {what} {found.name!r} holds text, and the model was trained "
                "on numbers. Open the data as they were opened for the training"
            )
        if found.categories is None:
            return self._of_numbers(found, wanted, categories, what)
        code_of = {text: code for code, text in enumerate(categories)}
        codes = np.array([code_of.get(text, -1) for text in found.categories], np.int64)
        unknown = self._met(found, np.flatnonzero(codes < 0))
        if unknown:
            raise self._unknown(found, unknown, categories, what)
        # What no sample holds may have any code: unsigned ones know no -1.
        return Recoding(codes=codes.astype(wanted.dtype))

    def _of_numbers(
        self, found: Column, wanted: Column, categories: tuple[str, ...], what: str
    ) -> Recoding:
        """A table in which every text is a number holds numbers: they mean what they were."""
        # No two numbers are written alike: of more than there are texts, some are unknown.
        numbers = self._distinct(found, most=len(categories))[: len(categories) + _MOST_SHOWN]
        codes, unknown, ambiguous = codes_of_numbers(
            numbers, categories, may_be_codes=what == "the target"
        )
        if unknown:
            raise self._unknown(
                found,
                unknown,
                categories,
                what,
                " The column holds numbers, and the model was trained on texts.",
            )
        for number, texts in ambiguous.items():
            raise DataError(
                f"{self._data.name}: {what} {found.name!r} holds numbers, and the model was "
                f"trained on texts: {number} may be {' or '.join(map(repr, texts))}. Give the "
                "column as texts"
            )
        return Recoding(codes=codes.astype(wanted.dtype), values=numbers)

    def _one_hot(self, wanted: Column) -> Source | None:
        """Where `wanted` is one category of a column that these data hold in one piece."""
        stem, equals, category = wanted.name.partition("=")
        found = self._by_name.get(stem)
        if not equals or found is None or found.shape != () or wanted.dtype != np.uint8:
            return None
        if stem not in self._spread:
            names = [name.partition("=") for name in self._wanted]
            known = tuple(text for start, mark, text in names if mark and start == stem)
            coded = Column(name=stem, dtype=np.dtype(np.int64), categories=known)
            whole = self.recoding(found, coded, known, "the column")
            self._spread[stem] = (known, whole or Recoding(codes=np.arange(len(known))))
        known, recoding = self._spread[stem]
        return Source(name=stem, recoding=recoding.is_code(known.index(category)))

    def _unknown(
        self,
        found: Column,
        unknown: Sequence[Any],
        categories: Sequence[str],
        what: str,
        why: str = "",
    ) -> DataError:
        return DataError(
            f"{self._data.name}: {what} {found.name!r} holds {_listed(unknown)}, which the model "
            f"has not met in training; it knows {_listed(categories)}.{why} Leave such rows out, "
            "or train on data that have them"
        )

    def _distinct(self, found: Column, *, most: int) -> NDArray[Any]:
        """The values that samples of the part have, ascending; cut short beyond `most`."""
        distinct = np.empty(0, found.dtype)
        for values in self._chunks(found):
            distinct = np.union1d(distinct, values)
            if len(distinct) > most:
                break
        return distinct

    def _met(self, found: Column, codes: NDArray[Any]) -> list[str]:
        """The texts of those `codes` that samples of the part really have."""
        met: set[int] = set()
        if len(codes):
            for values in self._chunks(found):
                met.update(np.unique(values[np.isin(values, codes)]).tolist())
        assert found.categories is not None  # the caller has asked for its codes
        return [found.categories[code] for code in sorted(met)]

    def _chunks(self, found: Column) -> Iterator[NDArray[Any]]:
        array = self._data.array(found.name)
        for rows in self._part.rows.chunks():
            yield self._data.rows(rows)[found.name] if array is None else array[rows]

    def _is_absent_category(self, wanted: Column) -> bool:
        """Whether `wanted` is one category of a one-hot column, and no sample here has it."""
        stem, equals, _ = wanted.name.partition("=")
        return bool(equals) and any(name.startswith(f"{stem}=") for name in self._by_name)


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, names[:_MOST_SHOWN]))
    return shown + (f", … {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else "")

"""The survey of a CSV file: the types that Arrow would infer from all of its rows at once.

Arrow tries types in a fixed order and takes the first that every value reads as. Chunk by chunk
it finds the first for each chunk; the type of the file is the first that holds for all chunks.
Whether a later type holds for a chunk of an earlier one mostly follows from the two (whole
numbers read as floats); where it does not ("0" and "1" may be true/false), the chunk is read
again. So is a chunk of numbers in a column that turns out to be text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from rightbatch.data.arrow_columns import PlainColumn, plain_column
from rightbatch.data.csv_arrow import cast_texts, casts, inferred_type, trimmed_texts
from rightbatch.data.csv_chunks import Bytes, CsvChunks, CsvPiece, NeedsRewriting
from rightbatch.data.csv_files import CsvFile, refuse_bytes
from rightbatch.data.table_survey import (
    Chunk,
    FileSurvey,
    Question,
    TableChunks,
    Watcher,
    examine,
    locate_row,
)
from rightbatch.errors import DataError


class Reading(NamedTuple):
    """The type that Arrow reads a column as, and where that is text, the type behind spaces."""

    type: Any
    behind_spaces: Any | None


@dataclass(kw_only=True)
class _Look:
    """A chunk as it was looked at by itself.

    `behind_spaces` are types of texts without their spaces, and whether there were any, for the
    columns that are text. `has_hexadecimals`: such whole numbers are no floats; None where
    nobody has looked.
    """

    chunk: Chunk
    types: dict[str, Any]
    behind_spaces: dict[str, tuple[Any, bool]]
    has_hexadecimals: bool | None


class CsvTableChunks(TableChunks):
    """A CSV file in chunks of whole records."""

    def __init__(self, file: CsvFile, chunk_bytes: int) -> None:
        self.file: CsvFile = file
        self._chunks = CsvChunks(file, chunk_bytes)
        self._readings: dict[str, Reading] = {}

    def survey(self, question: Question, watch: Watcher | None = None) -> FileSurvey:
        """The types of the whole file, and what its chunks hold.

        Raises DataError where a row has the wrong length, or a value is no UTF-8.
        """
        try:
            survey = _CsvSurvey(self._chunks, question, watch)
            looks = survey.look_at_all()
        except NeedsRewriting:
            self._chunks.rewrites = True
            survey = _CsvSurvey(self._chunks, question, watch)
            looks = survey.look_at_all()
        types = {name: survey.settle_type(name, looks) for name in question.columns}
        self._refuse_bytes(types, looks)
        self._readings = survey.settle_texts(types, looks)
        return FileSurvey(
            chunks=[look.chunk for look in looks],
            types={
                name: reading.type if reading.behind_spaces is None else reading.behind_spaces
                for name, reading in self._readings.items()
            },
            texts=survey.texts,
        )

    def read(self, chunk: Chunk, columns: Sequence[str]) -> Any:
        """The chosen columns of a chunk, in the types of the whole file.

        Raises DataError where a value is no longer of its column's type.
        """
        import pyarrow as pa

        data = self._chunks.bytes_of(chunk.piece)
        types = [self._readings[name].type for name in columns]
        try:
            table = self._chunks.read(chunk.piece, data, columns, types).table
        except (pa.ArrowInvalid, NeedsRewriting) as error:
            raise self._changed() from error
        if table.num_rows != chunk.rows:
            raise self._changed()
        read = []
        for name, column in zip(columns, table.columns, strict=True):
            behind = self._readings[name].behind_spaces
            read.append(column if behind is None else cast_texts(trimmed_texts(column)[0], behind))
        return pa.table(read, names=list(columns))

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._chunks.close()

    def locate(self, chunk: Chunk, row: int) -> str:
        """The file and the line of row `row` of a chunk, those left out included."""
        return self._chunks.locate(chunk.piece, row)

    def _changed(self) -> DataError:
        return DataError(f"{self.file.path} has changed since it was opened. Open the data anew.")

    def _refuse_bytes(self, types: Mapping[str, Any], looks: Sequence[_Look]) -> None:
        import pyarrow as pa

        for name, kind in types.items():
            if not pa.types.is_binary(kind):
                continue
            before = 0
            for look in looks:
                if pa.types.is_binary(look.types[name]):
                    data = self._chunks.bytes_of(look.chunk.piece)
                    rows = self._chunks.read(look.chunk.piece, data, [name])
                    chunks = [each.chunk for each in looks]
                    locate = partial(self._locate_after, chunks, before)
                    refuse_bytes(name, rows.table.column(0), locate)
                before += look.chunk.rows

    def _locate_after(self, chunks: Sequence[Chunk], rows_before: int, row: int) -> str:
        return locate_row(self, chunks, rows_before + row)


class _CsvSurvey:
    def __init__(self, chunks: CsvChunks, question: Question, watch: Watcher | None) -> None:
        self.texts: dict[str, set[str]] = {name: set() for name in question.columns}
        self._chunks = chunks
        self._question = question
        self._watch = watch

    def look_at_all(self) -> list[_Look]:
        looks = []
        bad = 0
        file_bytes = self._chunks.file.path.stat().st_size
        for piece, data in self._chunks.pieces():
            try:
                looks.append(self._look(piece, data))
            except DataError:
                # Read right, this may be no bad row: a quote after spaces, met later, would tell.
                if not self._chunks.rewrites:
                    self._chunks.look_for_spaced_quotes_from(piece.offset)
                raise
            del data  # before the next is read
            bad += len(looks[-1].chunk.bad_rows)
            if self._question.most_bad is not None and bad > self._question.most_bad:
                break
            if self._watch is not None:
                self._watch(min(self._chunks.file_bytes_read, file_bytes), file_bytes)
        return looks

    def settle_type(self, name: str, looks: Sequence[_Look]) -> Any:
        """The first type that every value of the column reads as."""

        def holds(look: _Look, kind: Any) -> bool:
            known = _holds(look.types[name], kind)
            return known if known is not None else self._reads_as(look, name, kind)

        return _first_of_all(_arrow_order(), looks, lambda look: look.types[name], holds)

    def settle_texts(self, types: Mapping[str, Any], looks: Sequence[_Look]) -> dict[str, Reading]:
        """How each column is read; chunks that were looked at otherwise are looked at again."""
        import pyarrow as pa

        texts = [name for name, kind in types.items() if pa.types.is_string(kind)]
        # Text in one chunk is text in all, so that one more look at the others is enough.
        surely = {
            name
            for name in texts
            if any(_is_text(look.behind_spaces.get(name, (None,))[0]) for look in looks)
        }
        for look in looks:
            if any(
                not _is_text_or_nothing(look.types[name])
                or (name in surely and not _is_text_or_nothing(look.behind_spaces[name][0]))
                for name in texts
                if not pa.types.is_null(look.types[name])
            ):
                self._look_again(look, types, surely)
        readings = {name: Reading(kind, None) for name, kind in types.items()}
        for name in texts:
            if any(look.behind_spaces.get(name, (None, False))[1] for look in looks):
                kind = self._settle_behind_spaces(name, looks)
                readings[name] = Reading(types[name], kind)
        now = {name for name in texts if _is_text(readings[name].behind_spaces or types[name])}
        for look in looks:
            if any(not _is_text_or_nothing(look.behind_spaces.get(n, (None,))[0]) for n in now):
                self._look_again(look, types, now)
        return readings

    def _settle_behind_spaces(self, name: str, looks: Sequence[_Look]) -> Any:
        import pyarrow as pa

        def holds(look: _Look, kind: Any) -> bool:
            if pa.types.is_boolean(kind):
                # Behind spaces the words alone are true/false, not 0 and 1.
                return _is_flag_or_nothing(look.behind_spaces[name][0])
            known = _holds(look.behind_spaces[name][0], kind)
            return known if known is not None else self._reads_as(look, name, kind, spaces=True)

        seen = [look for look in looks if name in look.behind_spaces]
        order = _order_behind_spaces()
        return _first_of_all(order, seen, lambda look: look.behind_spaces[name][0], holds)

    def _look(
        self,
        piece: CsvPiece,
        data: Bytes,
        types: Sequence[Any] | None = None,
        as_text: Iterable[str] = (),
    ) -> _Look:
        import pyarrow as pa

        rows = self._chunks.read(piece, data, self._question.columns, types)
        found, behind, plain = {}, {}, {}
        for name, column in zip(self._question.columns, rows.table.columns, strict=True):
            found[name] = column.type
            if pa.types.is_string(column.type):
                trimmed, had_spaces = trimmed_texts(column)
                is_text = name in as_text and trimmed.null_count < len(trimmed)
                kind = pa.string() if is_text else inferred_type(trimmed)
                behind[name] = (kind, had_spaces)
                column = cast_texts(trimmed, kind)
            if pa.types.is_binary(column.type):
                plain[name] = PlainColumn("bytes", column)  # refused once its row is known
            else:
                plain[name] = plain_column(column, name)
        return _Look(
            chunk=examine(piece, plain, self._question, rows.bad_rows, self.texts),
            types=found,
            behind_spaces=behind,
            has_hexadecimals=None if b"x" in data or b"X" in data else False,
        )

    def _look_again(self, look: _Look, types: Mapping[str, Any], as_text: Iterable[str]) -> None:
        data = self._chunks.bytes_of(look.chunk.piece)
        again = self._look(look.chunk.piece, data, list(types.values()), as_text)
        look.chunk, look.behind_spaces = again.chunk, again.behind_spaces
        look.types = again.types

    def _reads_as(self, look: _Look, name: str, kind: Any, *, spaces: bool = False) -> bool:
        """Whether the column of a chunk, read again, has values of that type alone."""
        import pyarrow as pa

        data = None
        if pa.types.is_floating(kind):
            # Whole numbers are floats too, unless they are written as 0x1F.
            if look.has_hexadecimals is None:
                data = self._chunks.bytes_of(look.chunk.piece)
                look.has_hexadecimals = b"0x" in data or b"0X" in data
            if not look.has_hexadecimals:
                return True
        data = data or self._chunks.bytes_of(look.chunk.piece)
        wanted = pa.string() if spaces else kind
        try:
            column = self._chunks.read(look.chunk.piece, data, [name], [wanted]).table.column(0)
        except pa.ArrowInvalid:
            return False
        return casts(trimmed_texts(column)[0], kind) if spaces else True


def _first_of_all(
    order: Sequence[Any],
    looks: Sequence[_Look],
    type_in: Callable[[_Look], Any],
    holds: Callable[[_Look, Any], bool],
) -> Any:
    """The first type of `order` that holds for every chunk."""
    seen = {type_in(look) for look in looks}
    start = max((order.index(kind) for kind in seen), default=0)
    for kind in order[start:]:
        if all(holds(look, kind) for look in looks):
            return kind
    raise AssertionError("everything reads as the last type")


def _holds(found: Any, kind: Any) -> bool | None:
    """Whether values whose first type is `found` read as the later `kind`; None where it depends.

    Values read as text only where no value is bytes, which come after it.
    """
    import pyarrow as pa

    if found == kind or pa.types.is_null(found) or pa.types.is_binary(kind):
        return True
    if pa.types.is_string(kind):
        return not pa.types.is_binary(found)
    may_be = {
        pa.float64(): [pa.int64()],
        pa.bool_(): [pa.int64()],
        pa.timestamp("s"): [pa.date32()],
        pa.timestamp("us"): [pa.timestamp("s")],
        pa.timestamp("ns"): [pa.date32(), pa.timestamp("s")],
        pa.timestamp("ns", "UTC"): [pa.timestamp("s", "UTC")],
    }
    if found not in may_be.get(kind, []):
        return False
    return True if kind in (pa.timestamp("s"), pa.timestamp("us")) else None


def _arrow_order() -> list[Any]:
    import pyarrow as pa

    return [
        *(pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s")),
        *(pa.timestamp("s"), pa.timestamp("s", "UTC")),
        *(pa.timestamp("ns"), pa.timestamp("ns", "UTC")),
        *(pa.float64(), pa.string(), pa.binary()),
    ]


def _order_behind_spaces() -> list[Any]:
    import pyarrow as pa

    return [
        *(pa.null(), pa.int64(), pa.float64(), pa.timestamp("s"), pa.timestamp("us")),
        *(pa.bool_(), pa.string()),
    ]


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return kind is not None and bool(pa.types.is_string(kind))


def _is_text_or_nothing(kind: Any) -> bool:
    import pyarrow as pa

    return kind is None or bool(pa.types.is_string(kind) or pa.types.is_null(kind))


def _is_flag_or_nothing(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))

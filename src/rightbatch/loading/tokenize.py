"""`tokenize`: texts to token ids, text by text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.column import Column
from rightbatch.data.ragged import Ragged, offsets_of
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.loading.transform import Transform

_HOW = ("bytes", "characters")
# 0 is for padding, 1 for characters that the alphabet does not have.
_FIRST_CHARACTER = 2
_UNKNOWN = 1
_ID = np.dtype(np.int32)


@dataclass(frozen=True, eq=False)
class Tokenize(Transform):
    """See `tokenize`. `alphabet` are the characters in the order of their ids, from 2 on."""

    how: str | Callable[[str], Any]
    alphabet: str | None = None
    column: str | None = None

    @property
    @override
    def needs_fit(self) -> bool:
        return self.how == "characters" and self.alphabet is None

    @property
    def vocabulary_size(self) -> int | None:
        """One more than the largest id, for an embedding; None for a function, and before fitting.

        >>> tokenize("characters", alphabet="abc").vocabulary_size
        5
        """
        if self.how == "bytes":
            return 256
        return None if self.alphabet is None else _FIRST_CHARACTER + len(self.alphabet)

    @override
    def fitted(self, chunks: Iterable[Any]) -> Self:
        found: set[int] = set()
        for texts in chunks:
            found.update(np.unique(_code_points(texts)[0]).tolist())
        return replace(self, alphabet="".join(map(chr, sorted(found))))

    @override
    def describe(self, column: Column) -> Column:
        if not column.is_text:
            raise DataError(
                f"tokenize() takes texts, and column {column.name!r} is {column.kind}: open texts "
                "as such (rb.Ragged.from_list of texts), or name the column that holds them: "
                "column=…"
            )
        return replace(column, dtype=_ID, is_text=False, is_token=True)

    @override
    def apply(self, values: Any) -> Any:
        """The ids of a Ragged of texts, as a Ragged of int32."""
        if self.how == "bytes":
            return Ragged.of_checked(values.values.astype(_ID), values.offsets, False)
        if self.how == "characters":
            return self._characters(values)
        assert callable(self.how)  # tokenize() has seen to it
        entries = [_ids(self.how, text) for text in values.texts()]
        flat = np.concatenate(entries) if entries else np.empty(0, _ID)
        return Ragged.of_checked(flat, offsets_of([len(entry) for entry in entries]), False)

    def _characters(self, texts: Ragged) -> Ragged:
        assert self.alphabet is not None  # it has been fitted
        points, offsets = _code_points(texts)
        known = _points(self.alphabet)
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known, points, sorter=order)
        codes = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(len(points), int)
        is_known = known[codes] == points if len(order) else np.zeros(len(points), np.bool_)
        ids = np.where(is_known, codes + _FIRST_CHARACTER, _UNKNOWN).astype(_ID)
        return Ragged.of_checked(ids, offsets, False)

    @override
    def to_json(self) -> dict[str, Any]:
        if callable(self.how):
            name = getattr(self.how, "__name__", type(self.how).__name__)
            column = "" if self.column is None else f", column={self.column!r}"
            return {"kind": "function", "name": f"tokenize({name}{column})"}
        return {
            "kind": "tokenize",
            "how": self.how,
            "alphabet": self.alphabet,
            "column": self.column,
        }


def tokenize(
    how: str | Callable[[str], Any], *, alphabet: str | None = None, column: str | None = None
) -> Tokenize:
    """Make token ids of texts: entries of int32, of varying length as the texts are.

    `how` is `"bytes"` (ids 0 to 255), `"characters"` or a function that makes a list of whole
    numbers from 0 of a text, such as a tokenizer's `encode`. Of characters, id 0 is left to padding
    and 1 is any character that is not in the `alphabet`; the others follow in its order. Without
    one it is the characters of the training texts, in the order of their code points. It runs on
    the loader's threads, so a function may be called from several at once.

    `column` names the texts, by default the inputs. Raises OptionError where `how` is no way to
    tokenize or the alphabet does not fit it; DataError, when texts are read, where a function does
    not give ids.

    >>> import rightbatch as rb
    >>> lines = rb.Ragged.from_list(["to be", "not"])
    >>> part = rb.split(rb.open({"line": lines})).transform(rb.tokenize("characters")).train
    >>> next(iter(rb.Batches(part, 2, shuffle=False))).to_list()
    [array([7, 6, 2, 3, 4], dtype=int32), array([5, 6, 7], dtype=int32)]
    """
    if not callable(how) and how not in _HOW:
        raise OptionError(
            f"tokenize({how!r}) is not valid.{did_you_mean(str(how), _HOW)} Valid are: "
            f"{', '.join(map(repr, _HOW))} and a function that makes a list of ids of a text"
        )
    if alphabet is not None:
        if how != "characters":
            raise OptionError(
                f"alphabet={alphabet[:20]!r} is for tokenize('characters'); leave it out"
            )
        if len(set(alphabet)) < len(alphabet):
            repeated = next(char for char in alphabet if alphabet.count(char) > 1)
            raise OptionError(f"the alphabet has {repeated!r} more than once; give it once")
    return Tokenize(how, alphabet, column)


def _ids(tokenizer: Callable[[str], Any], text: str) -> NDArray[np.int32]:
    """What a function gives for one text, checked."""
    given = tokenizer(text)
    try:
        ids = np.asarray(given)
    except ValueError:
        ids = np.empty((0, 0))
    if ids.ndim == 1 and not len(ids):
        return np.empty(0, _ID)
    limit = np.iinfo(_ID).max
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() > limit:
        name = getattr(tokenizer, "__qualname__", type(tokenizer).__name__)
        raise DataError(
            f"the tokenizer {name} gave {_shown(given)} for the text {_shown(text)}; it has to "
            "give a list of whole numbers from 0, the ids of its tokens"
        )
    return ids.astype(_ID)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4")).astype(
        np.uint32
    )


def _code_points(texts: Ragged) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The characters of texts one after another, and where each text begins among them.

    All texts are decoded in one go: one by one costs a microsecond each.
    """
    values, offsets = texts.values, texts.offsets
    begins = (values & 0xC0) != 0x80
    inner = offsets[:-1][np.diff(offsets) > 0]
    if not begins[inner].all():
        texts.texts()  # names the entry that is no UTF-8
    try:
        points = _points(str(values.tobytes(), "utf-8"))
    except UnicodeDecodeError:
        texts.texts()
        raise
    counts = np.concatenate([[0], np.cumsum(begins)]).astype(np.int64)
    return points, counts[offsets]

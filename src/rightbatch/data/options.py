"""What a caller may ask of `open`, validated at birth, and the choice of columns it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rightbatch.data.missing import MissingPolicy
from rightbatch.data.tokenizers import Tokenizer, check_tokenizer
from rightbatch.errors import DataError, MissingColumnError, OptionError, did_you_mean

CATEGORIES = ("codes", "one-hot")
ON_BAD_SAMPLE = ("stop", "quarantine")


class Choice(NamedTuple):
    """The columns to keep, in order and with the target among them, and the target's name."""

    columns: tuple[str, ...]
    target: str | None


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """The options of `open`.

    `target` and `columns` name columns, or count them from 0 (from the end where negative).
    `header` is True, False, or None for "yes, unless the first row looks like data".
    `on_bad_sample="quarantine"` leaves out up to `max_bad` (a count, or a share) CSV rows of the
    wrong length, and lists them. `sequence_length` cuts a stream of tokens into windows, `stride`
    apart; `tokenizer` makes the tokens of text, and `vocabulary_size` says how many there are.

    Raises OptionError for a value of the wrong kind.
    """

    target: str | int | None = None
    columns: Sequence[str | int] | None = None
    header: bool | None = None
    missing: MissingPolicy = field(default_factory=MissingPolicy)
    categories: str = "codes"
    on_bad_sample: str = "stop"
    max_bad: int | float | None = None
    name: str | None = None
    sequence_length: int | None = None
    stride: int | None = None
    tokenizer: Tokenizer | None = None
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        if not (self.target is None or _is_reference(self.target)):
            raise OptionError(
                f"target={self.target!r} is no column; give a name, or a position (an integer)."
            )
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", (self.columns,))
        if self.columns is not None:
            if not self.columns:
                raise OptionError("columns is empty; name one at least, or leave the option out.")
            for column in self.columns:
                if not _is_reference(column):
                    raise OptionError(f"columns holds {column!r}; give names or positions.")
        if self.header not in (None, True, False):
            raise OptionError(f"header={self.header!r} is not valid; give True, False or None.")
        if self.categories not in CATEGORIES:
            raise OptionError(
                f"categories={self.categories!r} is not valid; give 'codes' or 'one-hot'."
                f"{did_you_mean(str(self.categories), CATEGORIES)}"
            )
        check_bad_sample(self.on_bad_sample, self.max_bad)
        self._check_tokens()

    def _check_tokens(self) -> None:
        """Raise OptionError unless the options of token streams are valid, and belong together."""
        for name in ("sequence_length", "stride", "vocabulary_size"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
                raise OptionError(
                    f"{name}={value!r} is not valid; give a whole number of tokens from 1 on."
                )
        if self.tokenizer is not None:
            check_tokenizer(self.tokenizer)
        for name in ("stride", "tokenizer", "vocabulary_size"):
            value = getattr(self, name)
            if value is not None and self.sequence_length is None:
                raise OptionError(
                    f"{name}={value!r} is for streams of tokens, which are cut into windows: say "
                    "how long they are, sequence_length=128 (--sequence-length 128)."
                )

    def refuse_unused(self, source: str, *, usable: Sequence[str] = ()) -> None:
        """Raise OptionError where an option is set that `source` has no use for."""
        given = {
            "header": None if self.header is None else repr(self.header),
            "missing": None if self.missing == MissingPolicy() else repr(str(self.missing)),
            "categories": None if self.categories == "codes" else repr(self.categories),
            "on_bad_sample": None if self.on_bad_sample == "stop" else repr(self.on_bad_sample),
        }
        for option, value in given.items():
            if value is not None and option not in usable:
                raise OptionError(
                    f"{option}={value} has no meaning for {source}; leave the option out "
                    f"({_MEANINGS[option]})."
                )

    def choose(
        self, source: str, names: Sequence[str], *, default_target: str | None = None
    ) -> Choice:
        """Which of the columns called `names` are kept, and which one is the target.

        Raises DataError, listing the columns, where a name or position does not exist.
        """
        if self.target is None:
            target = default_target
        else:
            target = _resolve(source, names, self.target, role="target")
        if self.columns is None:
            return Choice(tuple(names), target)
        kept = [_resolve(source, names, column, role="column") for column in self.columns]
        for column in kept:
            if kept.count(column) > 1:
                raise OptionError(f"columns names {column!r} twice; name each column once.")
        if target is not None and target not in kept:
            kept.append(target)
        if kept == [target]:
            raise OptionError(
                f"columns keeps nothing but the target {target!r}; name one input at least."
            )
        return Choice(tuple(kept), target)


_MEANINGS = {
    "header": "it says whether the first row of a CSV file holds the column names",
    "missing": "it is the policy for missing values of CSV, Parquet and frames",
    "categories": "it says what becomes of the text columns of CSV, Parquet and frames",
    "on_bad_sample": (
        "here it says what becomes of CSV rows of the wrong length; a sample that can not be read "
        "is left out where batches are made: train, Batches"
    ),
}


def check_bad_sample(on_bad_sample: object, max_bad: object) -> None:
    """Raise OptionError unless the two options are valid and belong together.

    >>> check_bad_sample("quarantine", 0.01)
    """
    if on_bad_sample not in ON_BAD_SAMPLE:
        raise OptionError(
            f"on_bad_sample={on_bad_sample!r} is not valid; give 'stop' or 'quarantine'."
            f"{did_you_mean(str(on_bad_sample), ON_BAD_SAMPLE)}"
        )
    if on_bad_sample == "stop":
        if max_bad is not None:
            raise OptionError(
                f"max_bad={max_bad!r} is for on_bad_sample='quarantine' (--on-bad-sample "
                "quarantine), and bad samples stop; leave out one of the two."
            )
        return
    is_count = isinstance(max_bad, int) and not isinstance(max_bad, bool) and max_bad >= 1
    is_share = isinstance(max_bad, float) and 0 < max_bad < 1
    if not (is_count or is_share):
        raise OptionError(
            f"max_bad={max_bad!r} is not valid with on_bad_sample='quarantine': say how many bad "
            "samples may be left out (--max-bad), as a count from 1 on or as a share such as 0.001."
        )


def _is_reference(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _resolve(source: str, names: Sequence[str], wanted: str | int, *, role: str) -> str:
    if wanted in names:
        return str(wanted)
    position = _position(wanted)
    if position is not None and -len(names) <= position < len(names):
        return names[position]
    listed = ", ".join(names[:40]) + (f", … {len(names) - 40} more" if len(names) > 40 else "")
    if position is not None:
        raise DataError(
            f"{source} has no {role} at position {position}: valid are 0 to {len(names) - 1}, or "
            f"-1 for the last. Its columns are: {listed}."
        )
    raise MissingColumnError(
        f"{source} has no {role} {wanted!r}.{did_you_mean(str(wanted), names)} "
        f"Its columns are: {listed}.",
        column=wanted,
    )


def _position(wanted: str | int) -> int | None:
    """A position, given as a number or (from a command line) as its text."""
    try:
        return int(wanted)
    except ValueError:
        return None

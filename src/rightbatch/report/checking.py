"""What stored results must look like before anything is made of them.

A check takes a value and its place in the file, and raises `WrongFieldError` with both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rightbatch.errors import OptionError

Check = Callable[[Any, str], None]

_LONGEST_SHOWN = 40
# What numbers and shapes that no check foresaw may end in, deep in a library that draws.
_UNFORESEEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class WrongFieldError(ValueError):
    """A field of a stored result holds something else than it may."""

    def __init__(self, where: str, value: Any, valid: str) -> None:
        shown = repr(value)
        if len(shown) > _LONGEST_SHOWN:
            shown = f"{shown[:_LONGEST_SHOWN]}…"
        super().__init__(f"{where or 'the whole'} is {shown}, and {valid} is valid")


class MissingFieldError(WrongFieldError):
    """A field of a stored result is not there."""

    def __init__(self, where: str) -> None:
        ValueError.__init__(self, f"the field {where} is missing")


@contextmanager
def naming(what: str, *, advice: str) -> Iterator[None]:
    """Turn whatever a stored result makes fail into an OptionError that names it.

    >>> with naming("a.json", advice="Make it anew."):
    ...     record({"curves": entries(text, fewest=1)})({"curves": []}, "")
    Traceback (most recent call last):
    rightbatch.errors.OptionError: a.json can not be used: curves is [], and one entry at least...
    """
    try:
        yield
    except OptionError:
        raise
    except WrongFieldError as error:
        raise OptionError(f"{what} can not be used: {error}. {advice}") from error
    except _UNFORESEEN as error:
        raise OptionError(
            f"{what} can not be used ({type(error).__name__}: {error}). {advice}"
        ) from error


def text(value: Any, where: str) -> None:
    """A text."""
    if not isinstance(value, str):
        raise WrongFieldError(where, value, "a text")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongFieldError(where, value, "true or false")


def anything(value: Any, where: str) -> None:
    """Whatever it is, nothing depends on it."""


def whole(least: int | None = None) -> Check:
    """A whole number, `least` at least."""
    valid = "a whole number" if least is None else f"a whole number from {least} on"

    def check(value: Any, where: str) -> None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or (least is not None and value < least):
            raise WrongFieldError(where, value, valid)

    return check


def number(*, above: float = -math.inf, least: float = -math.inf) -> Check:
    """A finite number in a range."""
    valid = "a finite number"
    if above > -math.inf:
        valid += f" above {above:g}"
    if least > -math.inf:
        valid += f" from {least:g} on"

    def check(value: Any, where: str) -> None:
        if not _is_number(value) or not math.isfinite(value) or value <= above or value < least:
            raise WrongFieldError(where, value, valid)

    return check


def loss(value: Any, where: str) -> None:
    """A number that need not be finite: JSON has null for one that is not."""
    if value is not None and not _is_number(value):
        raise WrongFieldError(where, value, "a number or null")


def maybe(check: Check) -> Check:
    """The same, or null."""

    def or_null(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return or_null


def entries(check: Check, *, fewest: int = 0, exactly: int | None = None) -> Check:
    """A list of so many entries, each of which passes `check`."""

    def all_of(value: Any, where: str) -> None:
        if not isinstance(value, list | tuple):
            raise WrongFieldError(where, value, "a list")
        if exactly is not None and len(value) != exactly:
            raise WrongFieldError(where, value, f"a list of {exactly}")
        if len(value) < fewest:
            raise WrongFieldError(where, value, "one entry at least")
        for place, entry in enumerate(value):
            check(entry, f"{where}[{place}]")

    return all_of


def named(check: Check) -> Check:
    """An object whose values pass `check`, whatever they are called."""

    def all_of(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise WrongFieldError(where, value, "an object")
        for name, inner in value.items():
            check(inner, f"{where}.{name}".lstrip("."))

    return all_of


def record(
    required: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
    *,
    is_open: bool = False,
) -> Check:
    """An object with these fields; unless `is_open`, with no others."""
    known = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise WrongFieldError(where, value, "an object")
        for name in required:
            if name not in value:
                raise MissingFieldError(f"{where}.{name}".lstrip("."))
        for name, inner in value.items():
            if name in known:
                known[name](inner, f"{where}.{name}".lstrip("."))
            elif not is_open:
                raise WrongFieldError(
                    f"{where}.{name}".lstrip("."), inner, f"one of {', '.join(known)}"
                )

    return check


def every(*checks: Check) -> Check:
    """All of them, one after the other."""

    def check(value: Any, where: str) -> None:
        for one in checks:
            one(value, where)

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

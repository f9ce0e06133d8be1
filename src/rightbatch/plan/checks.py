"""Checks that the options of a plan share."""

from __future__ import annotations

import operator
from typing import SupportsIndex, TypeGuard

from rightbatch.errors import OptionError


def is_integer(value: object) -> TypeGuard[SupportsIndex]:
    """Whether `value` is an integer of Python or NumPy; True and False are not.

    >>> is_integer(3), is_integer(True), is_integer(3.0)
    (True, False, False)
    """
    return hasattr(value, "__index__") and not isinstance(value, bool) and _has_no_axis(value)


def _has_no_axis(value: object) -> bool:
    return not getattr(value, "shape", ()) and str(getattr(value, "dtype", "")) != "bool"


def whole_number(name: str, value: object, *, at_least: int | None = None) -> int:
    """`value` as an int, or an OptionError that names the option.

    >>> whole_number("window", 8, at_least=1)
    8
    >>> whole_number("window", 0, at_least=1)
    Traceback (most recent call last):
    rightbatch.errors.OptionError: window=0 is not valid; give an integer of at least 1
    """
    bound = "" if at_least is None else f" of at least {at_least}"
    if not is_integer(value) or (at_least is not None and operator.index(value) < at_least):
        raise OptionError(f"{name}={value!r} is not valid; give an integer{bound}")
    return operator.index(value)

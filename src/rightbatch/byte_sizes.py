"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

import math
import re
from numbers import Real

from rightbatch.errors import OptionError

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+]?[0-9]+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(text: str | int | float, *, name: str = "memory_limit") -> int:
    """The number of bytes that a text such as "8GB" or "2GiB", or a number, stands for.

    KB, MB, GB and TB are powers of 1,000; KiB, MiB, GiB and TiB of 1,024.

    Raises OptionError where it is no size above 0; `name` is what the message calls it.

    >>> parse_bytes("8GB"), parse_bytes("1.5 GiB"), parse_bytes(8e9)
    (8000000000, 1610612736, 8000000000)
    """
    valid = "give such as '8GB', '512MB', '2GiB' or a number of bytes"
    number: float
    if isinstance(text, bool) or not isinstance(text, str | Real):
        raise OptionError(f"{name}={text!r} is not a size of memory; {valid}")
    if isinstance(text, str):
        found = _SIZE.fullmatch(text)
        factor = None if found is None else _UNITS.get(found[2].upper())
        if found is None or factor is None:
            raise OptionError(f"{name}={text!r} is not a size of memory; {valid}")
        number = float(found[1]) * factor
    else:
        number = float(text)
    if not math.isfinite(number) or number < 1:
        raise OptionError(f"{name}={text!r} is not a size of memory; {valid}")
    return int(number)


def bytes_text(number: float) -> str:
    """A size of memory in the unit that a person reads, to three digits; powers of 1,000.

    >>> bytes_text(1_234_567_890), bytes_text(40_100_000), bytes_text(999)
    ('1.23 GB', '40.1 MB', '999 bytes')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            value = number / factor
            decimals = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{number:,.0f} bytes"

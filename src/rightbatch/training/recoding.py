"""What the values of a column become where the model has learned texts by codes of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.table_file import is_number


@dataclass(frozen=True, kw_only=True)
class Recoding:
    """Codes by value: `codes[k]` for the value `values[k]`, in ascending order, or for k itself.

    `other` is for values that are not there, which no sample of the part has.

    >>> Recoding(codes=np.array([1, 0]), values=np.array([10, 20]))(np.array([20, 10, 15]))
    array([ 0,  1, -1])
    """

    codes: NDArray[Any]
    values: NDArray[Any] | None = None
    other: int = -1

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The codes of `values`."""
        if self.values is None:
            codes: NDArray[Any] = self.codes[values]
            return codes
        places = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        # A number of the codes' own type, so that they keep it.
        other = self.codes.dtype.type(self.other)
        return np.where(self.values[places] == values, self.codes[places], other)

    def is_code(self, code: int) -> Recoding:
        """The recoding to 1 where this one gives `code`, and to 0 elsewhere."""
        return Recoding(codes=(self.codes == code).astype(np.uint8), values=self.values, other=0)


def texts_of(number: np.generic) -> tuple[str, ...]:
    """The texts that may have become `number` when a table was read.

    >>> texts_of(np.int64(3)), texts_of(np.float64(3)), texts_of(np.float32(0.1))
    (('3',), ('3', '3.0'), ('0.1',))
    >>> texts_of(np.bool_(True))
    ('TRUE', 'True', 'true')
    """
    written = str(number)
    if isinstance(number, np.bool_):
        return tuple(sorted({written, written.lower(), written.upper()}))
    if isinstance(number, np.floating) and float(number).is_integer():
        return tuple(sorted({written, str(int(number))}))
    return (written,)


def codes_of_numbers(
    numbers: NDArray[Any], categories: Sequence[str], *, may_be_codes: bool
) -> tuple[NDArray[np.int64], list[Any], dict[Any, list[str]]]:
    """The code of the text that each number is written as, the unknown ones, the ambiguous ones.

    Numbers are the codes themselves with `may_be_codes`, where no text looks like a number, so
    that there is no doubt.

    >>> codes_of_numbers(np.array([2, 7]), ["1", "2"], may_be_codes=True)
    (array([ 1, -1]), [7], {})
    >>> codes_of_numbers(np.array([0, 1]), ["no", "yes"], may_be_codes=True)[0]
    array([0, 1])
    """
    code_of = {text: code for code, text in enumerate(categories)}
    codes = np.full(len(numbers), -1, np.int64)
    has_numbers = any(map(is_number, categories))
    if may_be_codes and numbers.dtype.kind in "iu" and not has_numbers:
        is_code = (numbers >= 0) & (numbers < len(categories))
        codes[is_code] = numbers[is_code]
        return codes, numbers[~is_code].tolist(), {}
    unknown: list[Any] = []
    ambiguous: dict[Any, list[str]] = {}
    for place, number in enumerate(numbers):
        known = [text for text in texts_of(number) if text in code_of]
        if len(known) == 1:
            codes[place] = code_of[known[0]]
        elif known:
            ambiguous[number.item()] = known
        else:
            unknown.append(number.item())
    return codes, unknown, ambiguous

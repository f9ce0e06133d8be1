"""Arrays out of a pickle, by a machine that knows nothing else: no code of the file can run.

A pickle is a program for a small stack machine, and Python's own machine lets it call anything.
`PickleMachine` knows the opcodes of dicts, lists, texts and numbers, and this file gives a meaning
to the eleven names by which old and new NumPy, Python 2 and 3, build an array. Nothing is ever
imported or looked up by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.errors import DataError
from rightbatch.training.pickle_machine import Builder, PickleMachine, RefusedError, shown

# Python 2 and 3, NumPy 1 and 2 call the same things by these names.
_MEANINGS = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
    "_codecs encode": "encode",
    "__builtin__ bytes": "bytes",
    "builtins bytes": "bytes",
}
# Booleans, whole numbers and floats: nothing that could point to an object.
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_BYTE_ORDERS = ("<", ">", "=", "|")
_MOST_AXES = 32
_MOST_LENGTH = 1 << 48
_LATIN = ("latin1", "latin-1", "iso-8859-1")
# One array may stand in the file once and in the dict a thousand times.
_MOST_SHARING = 8
_FREE_BYTES = 1 << 16


def read_array_pickle(path: Path) -> dict[str, NDArray[Any]]:
    """The named arrays of a pickled dict, of any protocol, by Python 2 or 3, NumPy 1 or 2.

    Raises DataError, with the name of what was refused, for anything but a dict of texts to
    arrays of numbers; nothing of the file is run.
    """
    return parse_array_pickle(path.read_bytes(), name=str(path))


def parse_array_pickle(content: bytes, *, name: str = "the pickle") -> dict[str, NDArray[Any]]:
    """`read_array_pickle` of bytes.

    >>> import pickle
    >>> parse_array_pickle(pickle.dumps({"W1": np.eye(2)}))["W1"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> parse_array_pickle(pickle.dumps(print))
    Traceback (most recent call last):
    rightbatch.errors.DataError: the pickle, byte ...: it asks for 'builtins.print', and ...
    """
    builder = _ArrayBuilder()
    value = PickleMachine(content, name, builder).run()
    if not isinstance(value, dict):
        raise DataError(
            f"{name} holds {builder.kind(value)}; valid is a dict of arrays, named W1, b1, …"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for key, entry in value.items():
        word = key.decode("latin-1") if isinstance(key, bytes) else key
        if word in arrays:
            raise DataError(
                f"{name} holds {shown(word)} twice, as text and as bytes: which of the two is "
                "meant can not be known. Save it anew with numpy.savez"
            )
        if isinstance(entry, _Array):
            array = entry.values
        elif isinstance(entry, np.generic):
            array = np.asarray(entry)
        else:
            array = None
        if array is None:
            raise DataError(
                f"{name} holds {builder.kind(entry)} under {shown(word)}; valid are arrays of "
                "numbers"
            )
        arrays[word] = array
    if sum(array.nbytes for array in arrays.values()) > _MOST_SHARING * len(content) + _FREE_BYTES:
        raise DataError(
            f"{name} holds {len(arrays):,} arrays that are one and the same, and larger than the "
            f"file by far. Save each of them once, with numpy.savez"
        )
    return arrays


@dataclass(frozen=True)
class _Function:
    """A function that the pickle names, and that only this file gives a meaning to."""

    meaning: str


@dataclass
class _Dtype:
    """What `numpy.dtype(…)` stands for."""

    dtype: np.dtype[Any]


@dataclass
class _Array:
    """An array under construction: NumPy pickles first make one, then fill it."""

    values: NDArray[Any] | None = None


class _ArrayBuilder(Builder):
    """Builds arrays of numbers, and nothing else."""

    @override
    def find(self, module: str, name: str) -> _Function:
        words = f"{module} {name}"
        if words not in _MEANINGS:
            raise RefusedError(
                f"it asks for {shown(f'{module}.{name}')}, and a file of arrays may ask for "
                "nothing but the functions that build NumPy arrays"
            )
        return _Function(_MEANINGS[words])

    @override
    def call(self, function: Any, arguments: Any, copied: Callable[[int], None]) -> Any:
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise RefusedError(f"it calls {self.kind(function)} with {self.kind(arguments)}")
        match (function.meaning, arguments):
            case ("bytes", ()):
                return b""
            case ("encode", (str(text), str() | bytes() as encoding)) if _text(encoding) in _LATIN:
                copied(len(text))
                return text.encode("latin-1")
            case ("reconstruct", (_Function("ndarray"), tuple(), str() | bytes())):
                return _Array()
            case ("dtype", (str() | bytes() as text, *_)):
                return _Dtype(_dtype(_text(text)))
            case ("scalar", (_Dtype(dtype), bytes(data))):
                return _array((), dtype, data, "C")[()]
            case ("frombuffer", (bytes(data), _Dtype(dtype), tuple(shape), "C" | "F" as order)):
                return _Array(_array(shape, dtype, data, order))
        kinds = ", ".join(self.kind(argument) for argument in arguments[:6]) or "nothing"
        raise RefusedError(f"it calls {self.kind(function)} with {kinds}")

    @override
    def build(self, made: Any, state: Any) -> None:
        match (made, state):
            case (_Array(), (int(), tuple(shape), _Dtype(dtype), int(is_fortran), bytes(data))):
                made.values = _array(shape, dtype, data, "F" if is_fortran else "C")
            case (_Array(), (int(), _, _, _, list())):
                raise RefusedError("an array holds Python objects, which are no numbers")
            case (_Dtype(), (int(), str() | bytes() as order, None, None, None, *_)) if (
                _text(order) in _BYTE_ORDERS
            ):
                made.dtype = made.dtype.newbyteorder(_text(order))  # type: ignore[arg-type]
            case _:
                raise RefusedError(f"it sets the state of {self.kind(made)} to {self.kind(state)}")

    @override
    def kind(self, value: Any) -> str:
        if isinstance(value, _Function):
            return f"NumPy's {value.meaning}"
        kinds: dict[type, str] = {_Array: "an array", _Dtype: "a dtype", type(None): "None"}
        return kinds.get(type(value), f"a value of the type {type(value).__name__}")


def _array(
    shape: tuple[Any, ...], dtype: np.dtype[Any], data: bytes, order: Literal["C", "F"]
) -> NDArray[Any]:
    """A view of the file's own bytes, whatever the shape."""
    if len(shape) > _MOST_AXES or not all(type(n) is int and 0 <= n < _MOST_LENGTH for n in shape):
        raise RefusedError("the shape of an array is none")
    promised = math.prod(shape) * dtype.itemsize
    if promised != len(data):
        raise RefusedError(
            f"an array of shape {shape} and {dtype} takes {promised:,} bytes, and {len(data):,} "
            "are there"
        )
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _dtype(text: str) -> np.dtype[Any]:
    if _DTYPE.fullmatch(text) is None:
        raise RefusedError(
            f"an array is of the type {shown(text)}; valid are truth values, whole numbers and "
            "floats of 2, 4 and 8 bytes"
        )
    return np.dtype(text)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value

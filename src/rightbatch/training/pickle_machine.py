"""The stack machine that a pickle is a program for, without anything that could run code.

It implements the opcodes that dicts, lists, tuples, texts and numbers take. What a name, a call
and a state mean is left to a `Builder`, which knows a few words and imports nothing.

What a file can make this machine allocate is bounded by the length of the file: promised lengths
are compared with the bytes that are there, the steps are counted, and so is what is copied more
than once (a text that is encoded again and again).
"""

from __future__ import annotations

import codecs
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from rightbatch.errors import DataError

# So many times the file's length may be copied: five times is what an ordinary pickle takes.
_MOST_COPIES = 8
_FREE_BYTES = 1 << 16
# An array takes about thirty steps; a step of one byte can make a list of a hundred.
_MOST_STEPS = 1_000_000
# Python refuses to read longer decimal numbers; no array has such a length.
_MOST_DIGITS = 4000
_MOST_NUMBER_BYTES = 16
_LAST_PROTOCOL = 5
_MOST_TEXT = 60

_ADVICE = (
    "Nothing of it was run. Save the arrays by numpy.savez(FILE, **arrays) or as safetensors, "
    "which can hold nothing else"
)


class RefusedError(Exception):
    """What is wrong with the opcode under way; the machine adds where it stands."""


class Builder(ABC):
    """What names, calls and states mean."""

    @abstractmethod
    def find(self, module: str, name: str) -> Any:
        """The value that stands for `module.name`; RefusedError for a name without a meaning."""

    @abstractmethod
    def call(self, function: Any, arguments: Any, copied: Callable[[int], None]) -> Any:
        """What `function(*arguments)` makes; `copied` is told of bytes made from others."""

    @abstractmethod
    def build(self, made: Any, state: Any) -> None:
        """Give `made` its state."""

    @abstractmethod
    def kind(self, value: Any) -> str:
        """What a value is, in words: nothing of its content, which may be anything."""


_MARK = object()


class PickleMachine:
    """The stack machine: bytes, a position in them, a stack and a memory of values."""

    def __init__(self, content: bytes, name: str, builder: Builder) -> None:
        self._content = content
        self._name = name
        self._builder = builder
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left_to_copy = _MOST_COPIES * len(content) + _FREE_BYTES

    def run(self) -> Any:
        """The value that the program leaves; DataError that says where it was refused."""
        for _ in range(_MOST_STEPS):
            began = self._at
            try:
                code = self._take(1)
                if code == b".":
                    return self._pop()
                step = _STEPS.get(code)
                if step is None:
                    raise RefusedError(
                        f"it uses {_OPCODE_NAMES.get(code, repr(code))}, which no "
                        "dict of arrays needs"
                    )
                step(self)
            except RefusedError as refusal:
                raise DataError(f"{self._name}, byte {began}: {refusal}. {_ADVICE}") from None
            except (ValueError, TypeError, OverflowError, struct.error, Warning) as error:
                raise DataError(
                    f"{self._name} is no pickle of arrays, or is damaged at byte {began} "
                    f"({type(error).__name__}). Save it anew with numpy.savez"
                ) from None
        raise DataError(
            f"{self._name} takes more than {_MOST_STEPS:,} steps, which no dict of arrays does. "
            f"{_ADVICE}"
        )

    # Reading ---------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        if count < 0 or count > len(self._content) - self._at:
            raise RefusedError(
                f"it promises {count:,} bytes and {len(self._content) - self._at:,} are left: the "
                "file is cut off or damaged"
            )
        taken = self._content[self._at : self._at + count]
        self._at += count
        return taken

    def _number(self, layout: str) -> int:
        value = struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        return int(value)

    def _line(self) -> bytes:
        end = self._content.find(b"\n", self._at)
        if end < 0:
            raise RefusedError("a line has no end: the file is cut off or damaged")
        line = self._content[self._at : end]
        self._at = end + 1
        return line

    def _decimal(self) -> int:
        line = self._line()
        if len(line) > _MOST_DIGITS:
            raise RefusedError(f"a number of {len(line):,} digits is none of an array")
        return int(line.rstrip(b"L"))

    # The stack -------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise RefusedError("it takes a value from an empty stack: the file is damaged")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._push(value)
        return value

    def _to_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise RefusedError("it looks for a mark that is not there: the file is damaged")

    def _copied(self, count: int) -> None:
        self._left_to_copy -= count
        if self._left_to_copy < 0:
            raise RefusedError("it makes far more bytes than the file holds")

    # Opcodes ---------------------------------------------------------------------------------

    def _protocol(self) -> None:
        version = self._take(1)[0]
        if version > _LAST_PROTOCOL:
            raise RefusedError(f"it is of protocol {version}; this rightbatch reads 0 to 5")

    def _frame(self) -> None:
        length = self._number("<Q")
        if length > len(self._content) - self._at:
            raise RefusedError("a frame is longer than the file, which is cut off or damaged")

    def _whole_number(self) -> None:
        line = self._line()
        # Protocols 0 and 1 write the two truth values so.
        if line in (b"00", b"01"):
            self._push(line == b"01")
            return
        self._at -= len(line) + 1
        self._push(self._decimal())

    def _text_string(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
            raise RefusedError("a text has no quotes around it: the file is damaged")
        self._copied(len(line))
        self._push(codecs.escape_decode(line[1:-1])[0])

    def _text_unicode(self) -> None:
        line = self._line()
        self._copied(4 * len(line))
        self._push(str(line, "raw-unicode-escape"))

    def _text(self, layout: str) -> None:
        taken = self._take(self._number(layout))
        # A single wide character makes every one of a text four bytes wide.
        self._copied(4 * len(taken))
        self._push(str(taken, "utf-8", "surrogatepass"))

    def _data(self, layout: str) -> None:
        self._push(self._take(self._number(layout)))

    def _big_number(self, layout: str) -> None:
        taken = self._take(self._number(layout))
        if len(taken) > _MOST_NUMBER_BYTES:
            raise RefusedError(f"a number of {len(taken):,} bytes is none of an array")
        self._push(int.from_bytes(taken, "little", signed=True))

    def _decimal_fraction(self) -> None:
        self._push(float(self._line()[:_MOST_DIGITS]))

    def _tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    def _append(self) -> None:
        value = self._pop()
        self._list().append(value)

    def _appends(self) -> None:
        values = self._to_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        values = self._top()
        if not isinstance(values, list):
            raise RefusedError(f"it appends to {self._builder.kind(values)}")
        return values

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._add_items([key, value])

    def _set_items(self) -> None:
        self._add_items(self._to_mark())

    def _make_dict(self) -> None:
        items = self._to_mark()
        self._push({})
        self._add_items(items)

    def _add_items(self, items: list[Any]) -> None:
        values = self._top()
        if not isinstance(values, dict):
            raise RefusedError(f"it sets an entry of {self._builder.kind(values)}")
        if len(items) % 2:
            raise RefusedError("a key has no value: the file is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Of tuples within tuples, the hash alone could take forever.
            if not isinstance(key, (str, bytes)):
                raise RefusedError(
                    f"{self._builder.kind(key)} is a key; the names of arrays are texts"
                )
            values[key] = value

    def _remember(self, place: int) -> None:
        # Numbers that a file chooses freely could all fall on one place of the table.
        if not 0 <= place < min(_MOST_STEPS, len(self._content)):
            raise RefusedError("it numbers what it remembers otherwise than from 0 up")
        self._memo[place] = self._top()

    def _recall(self, place: int) -> None:
        if place not in self._memo:
            raise RefusedError("it recalls what it has not remembered: the file is damaged")
        self._push(self._memo[place])

    def _find_global(self) -> None:
        module, name = self._line(), self._line()
        self._push(
            self._builder.find(str(module, "utf-8", "replace"), str(name, "utf-8", "replace"))
        )

    def _find_stacked_global(self) -> None:
        name, module = self._pop(), self._pop()
        for word in (module, name):
            if not isinstance(word, str):
                raise RefusedError(f"it names a function by {self._builder.kind(word)}")
        self._push(self._builder.find(module, name))

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._push(self._builder.call(function, arguments, self._copied))

    def _build(self) -> None:
        state = self._pop()
        self._builder.build(self._top(), state)


def shown(text: str) -> str:
    """A text of the file for a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…")


_Step = Callable[[PickleMachine], object]

_STEPS: dict[bytes, _Step] = {
    b"\x80": PickleMachine._protocol,
    b"\x95": PickleMachine._frame,
    b"(": lambda machine: machine._push(_MARK),
    b"0": lambda machine: machine._pop(),
    b"1": lambda machine: machine._to_mark(),
    b"N": lambda machine: machine._push(None),
    b"\x88": lambda machine: machine._push(True),
    b"\x89": lambda machine: machine._push(False),
    b"I": PickleMachine._whole_number,
    b"L": lambda machine: machine._push(machine._decimal()),
    b"J": lambda machine: machine._push(machine._number("<i")),
    b"K": lambda machine: machine._push(machine._number("<B")),
    b"M": lambda machine: machine._push(machine._number("<H")),
    b"\x8a": lambda machine: machine._big_number("<B"),
    b"\x8b": lambda machine: machine._big_number("<i"),
    b"F": PickleMachine._decimal_fraction,
    b"G": lambda machine: machine._push(struct.unpack(">d", machine._take(8))[0]),
    b"S": PickleMachine._text_string,
    b"T": lambda machine: machine._data("<i"),
    b"U": lambda machine: machine._data("<B"),
    b"V": PickleMachine._text_unicode,
    b"X": lambda machine: machine._text("<I"),
    b"\x8c": lambda machine: machine._text("<B"),
    b"\x8d": lambda machine: machine._text("<Q"),
    b"B": lambda machine: machine._data("<I"),
    b"C": lambda machine: machine._data("<B"),
    b"\x8e": lambda machine: machine._data("<Q"),
    b"\x96": lambda machine: machine._data("<Q"),
    b")": lambda machine: machine._push(()),
    b"t": lambda machine: machine._push(tuple(machine._to_mark())),
    b"\x85": lambda machine: machine._tuple_of(1),
    b"\x86": lambda machine: machine._tuple_of(2),
    b"\x87": lambda machine: machine._tuple_of(3),
    b"]": lambda machine: machine._push([]),
    b"l": lambda machine: machine._push(machine._to_mark()),
    b"a": PickleMachine._append,
    b"e": PickleMachine._appends,
    b"}": lambda machine: machine._push({}),
    b"d": PickleMachine._make_dict,
    b"s": PickleMachine._set_item,
    b"u": PickleMachine._set_items,
    b"g": lambda machine: machine._recall(machine._decimal()),
    b"h": lambda machine: machine._recall(machine._number("<B")),
    b"j": lambda machine: machine._recall(machine._number("<I")),
    b"p": lambda machine: machine._remember(machine._decimal()),
    b"q": lambda machine: machine._remember(machine._number("<B")),
    b"r": lambda machine: machine._remember(machine._number("<I")),
    b"\x94": lambda machine: machine._remember(len(machine._memo)),
    b"c": PickleMachine._find_global,
    b"\x93": PickleMachine._find_stacked_global,
    b"R": PickleMachine._call,
    b"b": PickleMachine._build,
}

# What is refused by name, in the words of the pickletools module.
_OPCODE_NAMES = {
    b"P": "PERSID (a persistent id)",
    b"Q": "BINPERSID (a persistent id)",
    b"i": "INST (an instance of a class)",
    b"o": "OBJ (an instance of a class)",
    b"\x81": "NEWOBJ (an instance of a class)",
    b"\x92": "NEWOBJ_EX (an instance of a class)",
    b"\x82": "EXT1 (a registered function)",
    b"\x83": "EXT2 (a registered function)",
    b"\x84": "EXT4 (a registered function)",
    b"\x8f": "EMPTY_SET",
    b"\x90": "ADDITEMS (of a set)",
    b"\x91": "FROZENSET",
    b"\x97": "NEXT_BUFFER (bytes outside of the file)",
    b"\x98": "READONLY_BUFFER (bytes outside of the file)",
    b"2": "DUP",
}

"""Texts as tokens: files of UTF-8 as codes of characters, of bytes, or of any function's making."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.remote_path import is_remote
from rightbatch.errors import DataError, OptionError, did_you_mean

TOKENIZERS = ("characters", "bytes")

Tokenizer = str | Callable[[str], Any]

# A text is decoded in pieces: as code points it takes four times its size.
_PIECE_BYTES = 1 << 22
_CODE_POINTS = 0x110000


class Tokens(NamedTuple):
    """A stream of tokens: their codes (T,), and the texts that these stand for where there are."""

    codes: NDArray[Any]
    categories: tuple[str, ...] | None


def tokenizer_name(tokenizer: Tokenizer) -> str:
    """What a tokenizer is called in notes and messages: a function by its own name.

    >>> tokenizer_name("bytes"), tokenizer_name(str.split)
    ('bytes', 'str.split')
    """
    if isinstance(tokenizer, str):
        return tokenizer
    return str(getattr(tokenizer, "__qualname__", type(tokenizer).__name__))


def check_tokenizer(tokenizer: object) -> None:
    """Raise OptionError unless it is the name of a tokenizer, or a function.

    >>> check_tokenizer("words")
    Traceback (most recent call last):
    rightbatch.errors.OptionError: tokenizer='words' is not valid... 'characters', 'bytes', or a ...
    """
    if tokenizer not in TOKENIZERS and (isinstance(tokenizer, str) or not callable(tokenizer)):
        raise OptionError(
            f"tokenizer={tokenizer!r} is not valid.{did_you_mean(str(tokenizer), TOKENIZERS)} Give "
            "'characters', 'bytes', or a function that makes whole numbers of a text."
        )


def read_tokens(
    paths: Sequence[Path], tokenizer: Tokenizer, vocabulary_size: int | None = None
) -> Tokens:
    """The tokens of the files, one after the other, in the smallest dtype that holds them.

    Of characters, the vocabulary are those that occur, sorted. Of one file, bytes are mapped into
    memory. A function is called with the text of a file, and its codes are kept alone.

    Raises DataError, with file and byte, where a text is not UTF-8, and where a function gives
    anything but whole numbers from 0 up to `vocabulary_size`.
    """
    if tokenizer == "bytes":
        return Tokens(_bytes_of(paths), None)
    if tokenizer == "characters":
        return _characters_of(paths)
    assert callable(tokenizer)  # check_tokenizer has refused other names
    name = tokenizer_name(tokenizer)
    pieces = []
    for path in paths:
        text = "".join(_decoded(path))
        codes = np.asarray(tokenizer(text))
        if codes.size == 0:
            codes = np.empty(0, np.int64)
        pieces.append(as_codes(codes, f"the tokenizer {name} on {path}", vocabulary_size))
    codes = np.concatenate(pieces)
    size = vocabulary_size or int(codes.max(initial=0)) + 1
    return Tokens(codes.astype(code_dtype(size), copy=False), None)


def as_codes(codes: NDArray[Any], what: str, vocabulary_size: int | None) -> NDArray[Any]:
    """The codes, checked; DataError where they are no tokens, and says `what` has given them."""
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise DataError(
            f"{what}: tokens are whole numbers in one axis, and were given {codes.dtype} of shape "
            f"{codes.shape}. Give the codes one after another, as an array or a list"
        )
    if not codes.dtype.isnative:
        codes = codes.astype(codes.dtype.newbyteorder("="))
    if len(codes):
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or (vocabulary_size is not None and high >= vocabulary_size):
            most = "" if vocabulary_size is None else f" to {vocabulary_size - 1}"
            place = int(np.argmin(codes) if low < 0 else np.argmax(codes))
            raise DataError(
                f"{what}: token {place:,} (counting from 0) is {int(codes[place])}; valid are "
                f"codes from 0{most}"
                + ("" if low < 0 else f", as vocabulary_size={vocabulary_size} says")
            )
    return codes


def code_dtype(size: int) -> np.dtype[Any]:
    """The smallest integers that hold the codes 0 to `size - 1`.

    Unsigned ones of up to 16 bits, signed ones beyond: torch looks things up by int32 as it is.

    >>> [str(code_dtype(size)) for size in (65, 257, 100_000)]
    ['uint8', 'uint16', 'int32']
    """
    for dtype in (np.uint8, np.uint16, np.int32):
        if size - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)


def _bytes_of(paths: Sequence[Path]) -> NDArray[np.uint8]:
    if any(map(is_remote, paths)):
        return np.concatenate([np.frombuffer(path.read_bytes(), np.uint8) for path in paths])
    if len(paths) == 1 and paths[0].stat().st_size:
        return np.asarray(np.memmap(paths[0], np.uint8, mode="r"))
    return np.concatenate([np.fromfile(path, np.uint8) for path in paths])


def _characters_of(paths: Sequence[Path]) -> Tokens:
    """Two passes: which characters there are, and what each of them is."""
    occurs = np.zeros(_CODE_POINTS, bool)
    length = 0
    for text in _pieces(paths):
        points = _code_points(text)
        occurs[points] = True
        length += len(points)
    vocabulary = np.flatnonzero(occurs)
    dtype = code_dtype(len(vocabulary))
    code_of = np.zeros(_CODE_POINTS, dtype)
    code_of[vocabulary] = np.arange(len(vocabulary))
    codes = np.empty(length, dtype)
    filled = 0
    for text in _pieces(paths):
        points = _code_points(text)
        if filled + len(points) > length or not occurs[points].all():
            raise _changed(paths)
        codes[filled : filled + len(points)] = code_of[points]
        filled += len(points)
    if filled < length:
        raise _changed(paths)
    return Tokens(codes, tuple(map(chr, vocabulary.tolist())))


def _changed(paths: Sequence[Path]) -> DataError:
    return DataError(
        f"{paths[0]}{' or a file beside it' if len(paths) > 1 else ''} changed while it was read. "
        "Open it again"
    )


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _pieces(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        yield from _decoded(path)


def _decoded(path: Path) -> Iterator[str]:
    """The text of a file, piece by piece; DataError with the byte where it is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    with path.open("rb") as file:
        while True:
            piece = file.read(_PIECE_BYTES)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                position = done - waiting + error.start
                found = error.object[error.start]
                raise DataError(
                    f"{path} is not UTF-8: byte {position:,} (counting from 0) is 0x{found:02x} "
                    f"({error.reason}). Convert the file (iconv -f latin-1 -t utf-8), or take its "
                    "bytes as they are: tokenizer='bytes' (--tokenizer bytes)"
                ) from error
            done += len(piece)
            if text:
                yield text
            if not piece:
                return

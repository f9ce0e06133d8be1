"""Every error that a user of rightbatch can meet, in one tree.

Each message says what was found and where, what is valid, and the next step.
`exit_code` is what the command line exits with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any


class RightbatchError(Exception):
    """The root of the tree: catch it to catch everything that rightbatch raises on purpose."""

    exit_code = 1


class OptionError(RightbatchError, ValueError):
    """An argument or option has a value that is not valid, or contradicts another one."""

    exit_code = 2


class ResumeError(RightbatchError):
    """A cursor or checkpoint does not belong to these data, this plan or this model."""

    exit_code = 2


class MissingDependencyError(RightbatchError, ImportError):
    """An optional library is needed; the message names what to install."""

    exit_code = 2


class DataError(RightbatchError, ValueError):
    """The data are refused: the message names file, row or column, and the remedy."""

    exit_code = 3


class MissingColumnError(DataError):
    """A column that was named is not there; `column` is its name or position as it was given."""

    def __init__(self, message: str, *, column: str | int) -> None:
        super().__init__(message)
        self.column = column

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), column=self.column), self.args


class BadSampleError(DataError):
    """More samples can not be read than may be left out; `rows` are their row numbers."""

    def __init__(self, message: str, *, rows: list[int]) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), rows=self.rows), self.args


class RemoteError(DataError):
    """Remote data can not be read: no way to the server, no right to them, or they have changed."""


class DuplicateError(DataError):
    """Samples of equal content stand on both sides of a split, and the caller asked for none."""


class DiskSpaceError(RightbatchError, OSError):
    """The disk has no room for what is to be written; what is written so far is kept."""


class DownloadError(RightbatchError, OSError):
    """No mirror gave a file as it was published; what is downloaded so far is kept."""


class TrainingError(RightbatchError, RuntimeError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss of a step is NaN or infinite; `step` and `rows` say which batch it was."""

    def __init__(self, message: str, *, step: int, rows: list[int]) -> None:
        super().__init__(message)
        self.step = step
        self.rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is rebuilt from its message alone, which would fail in the parent process.
        return partial(type(self), step=self.step, rows=self.rows), self.args


class RankError(TrainingError):
    """The ranks of a run have ended, can not be reached, or do not belong together."""


class WorkerError(RightbatchError, RuntimeError):
    """Runs that an executor was given came to no end, since a worker of it did.

    `comparison` is made of those that did come to their end, None where there is none; `compare`
    takes them over as `finished`.
    """

    def __init__(self, message: str, *, comparison: Any, runs: dict[str, Any]) -> None:
        super().__init__(message)
        self.comparison = comparison
        self.runs = runs

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), comparison=self.comparison, runs=self.runs), self.args


class MemoryLimitError(RightbatchError, MemoryError):
    """Memory does not hold even one sample, or a step that cannot be cut into smaller ones."""

    exit_code = 4


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """The half-sentence that names the nearest valid word, or nothing where none is near.

    >>> did_you_mean("lable", ["label", "age"])
    " Did you mean 'label'?"
    >>> did_you_mean("MNIST", ["digits", "mnist"])
    " Did you mean 'mnist'?"
    >>> did_you_mean("zzz", ["label", "age"])
    ''
    """
    words = list(valid)
    near = difflib.get_close_matches(given, words, n=1)
    if not near:
        # MNIST is spelled otherwise than mnist in every letter.
        folded = {word.casefold(): word for word in words}
        found = difflib.get_close_matches(given.casefold(), folded, n=1)
        near = [folded[word] for word in found]
    return f" Did you mean {near[0]!r}?" if near else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device ran out of memory.

    torch tells of the CPU's memory by a plain RuntimeError and of the device's by a class of its
    own; both are known by name, so that telling an error imports no torch.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )

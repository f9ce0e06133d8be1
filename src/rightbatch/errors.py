"""Every error that a user of rightbatch can meet, in one tree.

Each message says what was found and where, what is valid, and the next step.
`exit_code` is what the command line exits with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeVar


class RightbatchError(Exception):
    """The root of the tree: catch it to catch everything that rightbatch raises on purpose."""

    exit_code = 1
    is_of_all_ranks = False
    """Whether every rank of a job meets it at the same place: one tells it, and none has failed."""


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


Met = TypeVar("Met", bound=RightbatchError)


def of_all_ranks(error: Met) -> Met:
    """The error, marked as one that every rank of the job meets at the same place."""
    error.is_of_all_ranks = True
    return error


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


# What a GPU's libraries say where memory is refused to them rather than to torch's allocator: the
# driver (to a kernel's code, a context, a graph), and cuBLAS, cuDNN and their likes.
_REFUSED_BY_DEVICE = ("out of memory", "_ALLOC_FAILED", "OUT_OF_MEMORY")
_DEVICE_WORDS = ("CUDA", "HIP", "cuda", "CUBLAS", "CUDNN", "CUFFT", "CUSOLVER", "CUSPARSE", "MPS")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device ran out of memory.

    torch tells of the CPU's memory by a plain RuntimeError, of what its own allocator of a device
    refuses by a class of its own, and of what the driver or a library there refuses by an
    AcceleratorError or a RuntimeError that says so; classes are known by name, so that telling an
    error imports no torch.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    return "DefaultCPUAllocator" in said or (
        any(word in said for word in _DEVICE_WORDS)
        and any(refused in said for refused in _REFUSED_BY_DEVICE)
    )

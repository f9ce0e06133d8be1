"""A piece of work that any executor can carry out, in this process or on another machine."""

from __future__ import annotations

import pickle
import platform
import secrets
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import cloudpickle
import torch

from rightbatch.advice.placement import Beginning, Placement
from rightbatch.errors import OptionError, RightbatchError, TrainingError, is_out_of_memory

Value = TypeVar("Value")
# Threads of one worker share torch's random state and its number of threads: they take turns.
_TURN = threading.Lock()
_BEGINNING = Beginning()
_STARTED = 32


@dataclass(frozen=True, kw_only=True)
class Done(Generic[Value]):
    """What came out, and where it ran."""

    value: Value
    placement: Placement


@dataclass(frozen=True, kw_only=True)
class Raised:
    """What the work itself raised: an error of its own, not of the worker that ran it."""

    error: Exception


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalTask(Generic[Value]):
    """Work for a thread of this process: a function, which is called with `argument`."""

    work: Callable[[Any], Value]
    argument: Any

    def __call__(self) -> Done[Value] | Raised:
        """Call the function; gives what it raises as well."""
        return _carry_out(lambda: self.work(self.argument), torch.get_num_threads())


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SentTask(Generic[Value]):
    """Work as bytes of cloudpickle: a function, which is called with `argument`.

    It can be pickled whatever the function is. `torch_threads` is the number of threads that torch
    has where the task was made, and has for the time of the task: a worker with another number
    would sum in another order. Nothing of the worker is changed when it ends.
    """

    work: bytes
    argument: Any
    torch_threads: int
    name: str = field(default_factory=lambda: secrets.token_hex(8))

    def __repr__(self) -> str:
        # Dask asks for it several times a task, and of the work it would be megabytes.
        return f"<SentTask {self.name}>"

    def __dask_tokenize__(self) -> tuple[str, str]:
        # What tells tasks apart: else Dask would hash all that the work is, seconds for 50 MB, and
        # give what an equal task gave before, with its seconds of then.
        return "rightbatch", self.name

    def __call__(self) -> Done[Value] | Raised:
        """Call the function; gives what it raises as well, as something that can be pickled."""
        done: Done[Value] | Raised = _carry_out(
            lambda: self._work()(self.argument), self.torch_threads
        )
        return Raised(error=_sendable(done.error)) if isinstance(done, Raised) else done

    def _work(self) -> Any:
        try:
            return cloudpickle.loads(self.work)
        except (RightbatchError, MemoryError):
            raise
        except Exception as error:  # unpickling calls code of the objects, which raises anything
            raise OptionError(
                "model, loss, transforms or data can not be rebuilt in a worker on "
                f"{platform.node()}: {type(error).__name__}: {error}. Install there what they "
                "import, in the same versions, or define them in your script or notebook, from "
                "where they are sent along"
            ) from error


def start_workers(executor: Executor) -> None:
    """Have the workers of an executor import what tasks need, and wait until they have.

    An executor does not say how many there are: this reaches a good many. One that fails is left
    for whoever sends it work to find out.
    """
    with suppress(Exception):
        for started in [executor.submit(_import, number) for number in range(_STARTED)]:
            started.result()


def _import(_: int) -> None:
    """Unpickling it imports this module, and torch with it; equal calls Dask would make once."""


def check_executor(executor: Any) -> None:
    """Raise OptionError for what is no executor, and for a pool of forked processes.

    A forked process inherits the state of torch's threads without the threads, and waits for them
    for ever as soon as a step is divided.

    >>> check_executor("dask")
    Traceback (most recent call last):
    rightbatch.errors.OptionError: executor is of type str, and a concurrent.futures.Executor is ...
    """
    if executor is None:
        return
    if not isinstance(executor, Executor):
        raise OptionError(
            f"executor is of type {type(executor).__name__}, and a concurrent.futures.Executor is "
            "valid: a ProcessPoolExecutor, or of a Dask client its client.get_executor()"
        )
    # There is no public way to ask; a pool of another kind has no such attribute.
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise OptionError(
            "the processes of this executor are forked from this one, and torch hangs in them once "
            "it has used several threads here: ProcessPoolExecutor(…, "
            'mp_context=multiprocessing.get_context("spawn"))'
        )


def _carry_out(work: Callable[[], Value], torch_threads: int) -> Done[Value] | Raised:
    with _TURN:
        began = _BEGINNING.now()
        threads_before = torch.get_num_threads()
        try:
            torch.set_num_threads(torch_threads)
            return Done(value=work(), placement=Placement.until_now(began))
        except Exception as error:
            return Raised(error=error)
        finally:
            torch.set_num_threads(threads_before)


def _sendable(error: Exception) -> Exception:
    """The error itself, or one of ours with its text where it would not arrive as it is."""
    if not isinstance(error, RightbatchError):
        # A pickle leaves the traceback behind; notes it takes along.
        lines = traceback.format_exception(error)
        error.add_note(f"In a worker on {platform.node()}:\n{''.join(lines)}")
    try:
        arrived = pickle.loads(pickle.dumps(error))  # noqa: S301  # made in this line
        if type(arrived) is type(error):
            return error
    except Exception:  # noqa: S110  # whatever an error's own code raises: it can not be sent
        pass
    if is_out_of_memory(error):
        return MemoryError(f"on {platform.node()}: {error}")
    last = traceback.extract_tb(error.__traceback__)[-1]
    return TrainingError(
        f"a run on {platform.node()} failed at {last.filename}, line {last.lineno}: "
        f"{type(error).__name__}: {error}"
    )

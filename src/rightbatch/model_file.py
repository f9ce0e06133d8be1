"""A model from a user's own Python file, named on the command line as `module.py:factory`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.hashing import derive_key


@dataclass(frozen=True)
class ModelFile:
    """A model of a user's file, `module.py:factory`, as a function of the seed."""

    reference: str

    def __call__(self, seed: int) -> nn.Module:
        """Run the file and its function."""
        return load_model(self.reference, seed=seed)

    def __str__(self) -> str:
        return self.reference


def load_model(reference: str, *, seed: int) -> nn.Module:
    """Run the file before the colon of `reference` and call the function after it.

    The function takes no arguments and returns a `torch.nn.Module`. torch's random state is
    seeded for the call, so that the same seed gives the same weights, and put back after it.

    Raises OptionError where there is no such file or function, where either of them fails (the
    message names the line), or where the function returns something else.
    """
    file_name, _, factory_name = reference.rpartition(":")
    path = Path(file_name).expanduser().absolute()
    if not path.is_file():
        raise OptionError(
            f"model={reference!r}: there is no file {path}; write FILE.py:FUNCTION, where FUNCTION "
            "returns a torch module"
        )
    # A name of its own, so that a file called torch.py or numpy.py hides nothing.
    name = f"rightbatch_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OptionError(f"model={reference!r}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with torch.random.fork_rng():
        torch.manual_seed(derive_key("model file", seed) >> 1)
        try:
            spec.loader.exec_module(module)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise OptionError(
                f"model={reference!r}: {_place(error, path)} cannot be loaded: {_told(error, path)}"
            ) from error
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            functions = [word for word in vars(module) if callable(getattr(module, word))]
            raise OptionError(
                f"model={reference!r}: {path} has no function {factory_name!r}."
                f"{did_you_mean(factory_name, functions)} It defines: "
                f"{', '.join(word for word in functions if not word.startswith('_'))}."
            )
        _refuse_arguments(factory, reference, factory_name, path)
        try:
            model = factory()
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            raise OptionError(
                f"model={reference!r}: {factory_name}() failed at {_place(error, path)}: "
                f"{_told(error, path)}"
            ) from error
    if not isinstance(model, nn.Module):
        raise OptionError(
            f"model={reference!r}: {factory_name}() returned {type(model).__name__}; it must "
            "return a torch.nn.Module"
        )
    return model


def _refuse_arguments(
    factory: Callable[..., Any], reference: str, factory_name: str, path: Path
) -> None:
    """Raise OptionError where `factory` cannot be called without arguments."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # written in C: the call itself will say
    try:
        signature.bind()
    except TypeError as error:
        function = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
        code = getattr(function, "__code__", None)
        place = str(path)
        if code is not None and code.co_filename == place:
            place = f"{path}, line {code.co_firstlineno}"
        raise OptionError(
            f"model={reference!r}: {place}: {factory_name}{signature} is called without arguments: "
            f"{error}. Give its parameters defaults, or name a function that takes none."
        ) from error


def _place(error: BaseException, path: Path) -> str:
    """The file, and the line of it that the error comes from or passed through last."""
    if _is_syntax_of(error, path):
        line = error.lineno  # type: ignore[attr-defined]  # a SyntaxError has it
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = lines[-1] if lines else None
    return str(path) if line is None else f"{path}, line {line}"


def _told(error: BaseException, path: Path) -> str:
    """The kind of the error and its own message."""
    # The text of a SyntaxError ends with file and line, which are told already.
    text = error.msg if _is_syntax_of(error, path) else str(error)  # type: ignore[attr-defined]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_syntax_of(error: BaseException, path: Path) -> bool:
    return isinstance(error, SyntaxError) and error.filename == str(path)

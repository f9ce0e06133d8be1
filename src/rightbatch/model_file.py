"""A model from a user's own Python file, named on the command line as `module.py:factory`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.hashing import derive_key


def load_model(reference: str, *, seed: int) -> nn.Module:
    """Run the file before the colon of `reference` and call the function after it.

    The function takes no arguments and returns a `torch.nn.Module`. torch's random state is
    seeded for the call, so that the same seed gives the same weights, and put back after it.

    Raises OptionError where there is no such file or function, or it returns something else.
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
        spec.loader.exec_module(module)
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            functions = [word for word in vars(module) if callable(getattr(module, word))]
            raise OptionError(
                f"model={reference!r}: {path} has no function {factory_name!r}."
                f"{did_you_mean(factory_name, functions)} It defines: "
                f"{', '.join(word for word in functions if not word.startswith('_'))}."
            )
        model = factory()
    if not isinstance(model, nn.Module):
        raise OptionError(
            f"model={reference!r}: {factory_name}() returned {type(model).__name__}; it must "
            "return a torch.nn.Module"
        )
    return model

"""Models and data as bytes for another process, with the code that it could not import."""

from __future__ import annotations

import importlib.machinery
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cloudpickle
from torch import nn

from rightbatch.byte_sizes import bytes_text
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.loading.transform import Function

logger = logging.getLogger(__name__)

# With a hundred runs, more than a scheduler may have memory for.
_LARGE_BYTES = 64 << 20


def code_of(model: Any, loss: Any, parts: Parts) -> dict[str, Any]:
    """What of a study may be the user's own code, by what it is called."""
    functions = {
        f"transform {transform.name}": transform
        for part in parts.all.values()
        for transform in part.transforms
        if isinstance(transform, Function)
    }
    return {"model": model, "loss": loss, **functions}


def to_bytes(value: Any, code: dict[str, Any]) -> bytes:
    """`value` as bytes that `cloudpickle.loads` makes it of in another process.

    Lambdas, inner functions and what a script or notebook defines travel with their code, as does
    `code` of modules that the other process could not import.

    Raises OptionError, naming which of `code` it is, where something can not be sent.
    """
    with by_value(list(code.values())):
        try:
            sent = bytes(cloudpickle.dumps(value))
        except Exception as error:  # pickling calls code of the objects, which raises anything
            culprit = next((name for name in code if not _can_be_sent(code[name])), "data set")
            raise OptionError(
                f"the {culprit} can not be sent to another process: {error}. What holds an open "
                "file, a lock, a connection or a generator stays where it is: make it inside the "
                "function (a model as a function of the seed that builds it), or leave executor "
                "out"
            ) from error
    if len(sent) > _LARGE_BYTES:
        logger.warning(
            "Model and data are %s, which go to the workers with every run. Data in files do not: "
            "pack them (rb.pack(data, folder)) and open the folder, and each worker maps the files",
            bytes_text(len(sent)),
        )
    return sent


@contextmanager
def by_value(code: Sequence[Any]) -> Iterator[None]:
    """Send code by value that another process could not import, such as that of a model's file."""
    modules = []
    for each in _parts_of(code):
        name = getattr(each, "__module__", None)
        module = sys.modules.get(name or "")
        if module is None or name == "__main__" or module in modules:
            continue
        if not _is_importable(str(name)):
            modules.append(module)
    registered = []
    try:
        for module in modules:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                registered.append(module)
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _parts_of(code: Sequence[Any]) -> Iterator[Any]:
    for each in code:
        if isinstance(each, nn.Module):
            yield from {type(module) for module in each.modules()}
        elif isinstance(each, Function):
            yield each.function
        elif callable(each):
            yield each
            yield type(each)


def _is_importable(name: str) -> bool:
    top = name.partition(".")[0]
    if top in sys.builtin_module_names:
        return True
    try:
        found = importlib.machinery.PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return False
    return found is not None


def _can_be_sent(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # as above
        return False
    return True

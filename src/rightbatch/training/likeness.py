"""A short text that tells models and losses of ranks apart by their code and settings."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def likeness(thing: Any, *, with_values: bool = False) -> str:
    """16 hex digits that differ where code, plain attributes or shapes of tensors do.

    Of a module they are those of all its submodules, of a function its code, defaults and what it
    has closed over. The values of tensors count with `with_values`.

    >>> likeness(nn.Linear(2, 3)) == likeness(nn.Linear(2, 3))
    True
    >>> likeness(nn.CrossEntropyLoss()) == likeness(nn.CrossEntropyLoss(label_smoothing=0.1))
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for word in _Words(with_values=with_values).of(thing):
        digest.update(f"{len(word)} {word}".encode("utf-8", errors="surrogateescape"))
    return digest.hexdigest()


class _Words:
    """What a thing is made of as texts; a thing that is met again has been told of."""

    def __init__(self, *, with_values: bool) -> None:
        self._with_values = with_values
        # The things themselves: the number of one that is gone may be given to another.
        self._seen: dict[int, Any] = {}

    def of(self, thing: Any) -> Iterator[str]:
        if isinstance(thing, _PLAIN):
            yield repr(thing)
            return
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        yield f"{type(thing).__module__}.{type(thing).__qualname__}"
        if isinstance(thing, CodeType):
            yield thing.co_code.hex()
            yield from map(repr, thing.co_names)
            for constant in thing.co_consts:
                yield from self.of(constant)
        elif isinstance(thing, Tensor):
            yield from self._of_tensor(thing)
        elif isinstance(thing, tuple | list):
            for each in thing:
                yield from self.of(each)
        elif isinstance(thing, Mapping):
            for name in thing:
                yield str(name)
                yield from self.of(thing[name])
        elif isinstance(thing, functools.partial):
            yield from self.of([thing.func, thing.args, thing.keywords])
        elif isinstance(thing, FunctionType):
            cells = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
            yield from self.of([thing.__code__, thing.__defaults__, thing.__kwdefaults__, cells])
        elif isinstance(thing, MethodType):
            yield from self.of([thing.__func__, thing.__self__])
        elif isinstance(thing, BuiltinFunctionType | type):
            yield f"{thing.__module__}.{thing.__qualname__}"
        elif isinstance(thing, nn.Module):
            for name, module in thing.named_modules():
                yield name
                yield from self._of_settings(module)
        elif hasattr(thing, "__dict__"):
            yield from self._of_settings(thing)

    def _of_tensor(self, tensor: Tensor) -> Iterator[str]:
        yield f"{tensor.dtype} {tuple(tensor.shape)}"
        if self._with_values:
            yield str(tensor.detach().tolist())

    def _of_settings(self, thing: Any) -> Iterator[str]:
        kind = type(thing)
        yield f"{kind.__module__}.{kind.__qualname__}"
        settings = (*_PLAIN, tuple, list, FunctionType, BuiltinFunctionType, functools.partial)
        for name in sorted(vars(thing)):
            value = vars(thing)[name]
            if not name.startswith("_") and isinstance(value, settings):
                yield name
                yield from self.of(value)
        if not kind.__module__.startswith("torch."):
            for name, value in sorted(vars(kind).items()):
                if isinstance(value, FunctionType):
                    yield name
                    yield from self.of(value)
        if isinstance(thing, nn.Module):
            tensors = [*thing.named_parameters(recurse=False), *thing.named_buffers(recurse=False)]
            for name, tensor in tensors:
                yield name
                yield from self._of_tensor(tensor)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # one that is not filled yet raises
    except ValueError:
        return False
    return True

"""A short text that tells models and losses of ranks apart by their code and settings."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def likeness(thing: Any) -> str:
    """16 hex digits that differ where code, plain attributes or shapes of tensors do.

    Of a module they are those of all its submodules, of a function its code, defaults and what it
    has closed over. The values of parameters do not count.

    >>> likeness(nn.Linear(2, 3)) == likeness(nn.Linear(2, 3))
    True
    >>> likeness(nn.CrossEntropyLoss()) == likeness(nn.CrossEntropyLoss(label_smoothing=0.1))
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for word in _words(thing, set()):
        digest.update(f"{len(word)} {word}".encode("utf-8", errors="surrogateescape"))
    return digest.hexdigest()


def _words(thing: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(thing, _PLAIN):
        yield repr(thing)
        return
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, CodeType):
        yield thing.co_code.hex()
        yield from map(repr, thing.co_names)
        for constant in thing.co_consts:
            yield from _words(constant, seen)
    elif isinstance(thing, Tensor):
        yield f"{thing.dtype} {tuple(thing.shape)}"
    elif isinstance(thing, tuple | list):
        for each in thing:
            yield from _words(each, seen)
    elif isinstance(thing, Mapping):
        for name in thing:
            yield str(name)
            yield from _words(thing[name], seen)
    elif isinstance(thing, functools.partial):
        yield from _words([thing.func, thing.args, thing.keywords], seen)
    elif hasattr(thing, "__code__"):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
        yield from _words([thing.__code__, thing.__defaults__, cells], seen)
    elif hasattr(thing, "__func__"):
        yield from _words([thing.__func__, thing.__self__], seen)
    elif isinstance(thing, nn.Module):
        for name, module in thing.named_modules():
            yield name
            yield from _settings(module, seen)
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        yield from _settings(thing, seen)


def _settings(thing: Any, seen: set[int]) -> Iterator[str]:
    kind = type(thing)
    yield f"{kind.__module__}.{kind.__qualname__}"
    for name in sorted(vars(thing)):
        value = vars(thing)[name]
        if not name.startswith("_") and isinstance(value, (*_PLAIN, tuple, list)):
            yield name
            yield from _words(value, seen)
    for name in ("forward", "__call__"):
        own = kind.__dict__.get(name)
        if own is not None and not kind.__module__.startswith("torch."):
            yield from _words(own, seen)
    if isinstance(thing, nn.Module):
        tensors = [*thing.named_parameters(recurse=False), *thing.named_buffers(recurse=False)]
        for name, tensor in tensors:
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}"


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # one that is not filled yet raises
    except ValueError:
        return False
    return True

"""What a step does on the device: whether it is the same from step to step, and waits for nothing.

A CUDA graph replays what was done once. A model that reads a value to decide what comes next, that
draws a number in Python or that keeps a tensor of its own from one step for the next would be
learned from wrongly, in silence. So some steps are looked at, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

# These give the host a value, or a tensor whose shape is one: the host waits for the device.
_WAITING = {
    "_local_scalar_dense": "reads a value (item(), float(), an if of a tensor)",
    "is_nonzero": "reads a value",
    "equal": "compares tensors (torch.equal)",
    "nonzero": "asks where values are (nonzero(), a mask as an index)",
    "masked_select": "selects by a mask (masked_select)",
    "_unique2": "asks for unique values",
    "unique_dim": "asks for unique values",
    "unique_consecutive": "asks for unique values",
    "bincount": "counts values (bincount)",
}
_COPIES = ("_to_copy", "copy_")


class StepWatch(TorchDispatchMode):
    """Notes the operations of a step: `with StepWatch(inputs) as watch: …`.

    `operations` are comparable from step to step; `waits` says where the host waits for the device.
    """

    def __init__(self, batch: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # Names of memory, and where in it they begin: a batch is a piece of a larger array.
        self._names: dict[int, tuple[tuple[Any, ...], int]] = {
            _storage(value): (("batch", place), int(value.storage_offset()))
            for place, value in enumerate(tree_leaves(batch))
            if isinstance(value, Tensor)
        }
        self.operations: list[tuple[Any, ...]] = []
        self.waits: str | None = None

    @override
    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = str(getattr(func, "overloadpacket", func)).removeprefix("aten.")
        leaves = tree_leaves((args, kwargs))
        given = [self._described(value) for value in leaves]
        written = {_storage(value) for value in leaves if isinstance(value, Tensor)}
        if self.waits is None:
            self.waits = _why_waiting(name, args, kwargs)
        result = func(*args, **kwargs)
        number = len(self.operations)
        self.operations.append((name, *given))
        for place, value in enumerate(tree_leaves(result)):
            # A view, and what was written in place, keeps its name; other memory is new, though
            # something that is gone by now may have lain there.
            if isinstance(value, Tensor) and _storage(value) not in written:
                self._names[_storage(value)] = (("made by", number, place), 0)
        return result

    def _described(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            storage = _storage(value)
            name, begins = self._names.get(storage, (("from outside", storage), 0))
            place = value.storage_offset() - begins
            return (*name, place, tuple(value.shape), value.dtype, value.device)
        return repr(value)


def why_not_alike(steps: Sequence[StepWatch]) -> str | None:
    """Why steps can not stand for one another; None where they do the same and wait for nothing."""
    waits = next((step.waits for step in steps if step.waits is not None), None)
    if waits is not None:
        return f"the model or its loss {waits}, for which the host waits in each step"
    first = steps[0].operations
    for other in steps[1:]:
        for one, two in zip_longest(first, other.operations):
            if one != two:
                name = (one or two)[0]
                return (
                    "the model or its loss does not do the same in each step: "
                    f"the operation {name} differs"
                )
    return None


def _why_waiting(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if name in _WAITING:
        return _WAITING[name]
    if name in ("index", "index_put", "index_put_") and any(
        isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    ):
        return _WAITING["nonzero"]
    if name in _COPIES:
        here = [value.device.type for value in args[:2] if isinstance(value, Tensor)]
        there = kwargs.get("device")
        if there is not None:
            here.append(torch.device(there).type)
        if len(set(here)) > 1:
            return f"copies between {' and '.join(sorted(set(here)))}"
    return None


def _storage(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def addresses(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors lie, to see whether they are written in place or replaced."""
    return [_storage(value) for value in tensors]

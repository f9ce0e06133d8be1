"""Batches as JAX arrays on a device, for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rightbatch.data.ragged import Ragged
from rightbatch.errors import MissingDependencyError, OptionError
from rightbatch.loading.batches import Batches


class JaxBatches:
    """The batches of `batches` as `jax.Array`s, with the same iteration, length and state.

    `device` is a `jax.Device` or a sharding, the default device where none is given. JAX copies
    while the step before is still being computed, so nothing has to be taken in advance, and the
    state counts what the loop has taken. A jitted step is compiled once for each shape: a last,
    smaller batch is a second one, unless `batches` have `remainder="pad"`, which appends weights,
    or "drop".

    Raises MissingDependencyError without JAX, OptionError for tensors and entries of varying
    length.

    >>> import rightbatch as rb
    >>> train = JaxBatches(rb.Batches(([[1.0], [2.0], [3.0]], [0, 1, 0]), 2, remainder="pad"))
    >>> [tuple(array.shape for array in batch) for batch in train]
    [((2, 1), (2,), (2,)), ((2, 1), (2,), (2,))]
    """

    def __init__(self, batches: Batches, *, device: Any = None) -> None:
        try:
            import jax
        except ImportError as error:
            raise MissingDependencyError(
                "JaxBatches gives arrays of JAX, which is not installed: pip install jax"
            ) from error
        if not isinstance(batches, Batches):
            raise OptionError(
                f"an rb.Batches is wanted, and {type(batches).__name__} was given: "
                "rb.Batches(parts.train, 32)"
            )
        self.batches = batches
        self._device = device
        self._jax = jax

    def __len__(self) -> int:
        """The number of batches in a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return map(self._put, self.batches)

    def epoch(self, epoch: int) -> Iterator[Any]:
        """Epoch number `epoch`, without moving the cursor."""
        return map(self._put, self.batches.epoch(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Where the loop stands, as small JSON."""
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` stood; ResumeError where it is of other batches."""
        self.batches.load_state_dict(state)

    def _put(self, batch: Any) -> Any:
        for leaf in self._jax.tree.leaves(batch, is_leaf=lambda leaf: isinstance(leaf, Ragged)):
            if isinstance(leaf, Ragged):
                raise OptionError(
                    "JAX takes arrays, and entries vary in length: attach a function of a batch "
                    "that makes arrays, such as one that pads"
                )
            if hasattr(leaf, "requires_grad"):
                raise OptionError("JAX takes NumPy's arrays: leave output='torch' and device out")
            if leaf.dtype == np.int64 and leaf.size and not self._jax.config.jax_enable_x64:
                # JAX would make int32 of them without a word.
                _refuse_large(int(leaf.min()), int(leaf.max()))
        return self._jax.device_put(batch, self._device)


def _refuse_large(low: int, high: int) -> None:
    limits = np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        raise OptionError(
            f"whole numbers from {low:,} to {high:,} do not fit into JAX's int32: say "
            'jax.config.update("jax_enable_x64", True)'
        )

"""The order of an epoch: as it was asked for, or as a budget of memory calls for it."""

from __future__ import annotations

from rightbatch.byte_sizes import bytes_text, parse_bytes
from rightbatch.errors import OptionError
from rightbatch.loading.memory_budget import MemoryBudget
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.slabs import batches_per_slab
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.order import Order
from rightbatch.plan.orders import AnyOrder
from rightbatch.plan.weighted import WeightedOrder

# Two and one a thread ahead, one at hand, and one that the consumer holds. The number is the same
# for fewer threads: the order that a budget calls for must not depend on them.
_SLABS_HELD = 6


def find_budget(
    memory: str | int | float,
    reader: RowReader,
    pipeline: Pipeline,
    *,
    samples: int,
    batch_size: int,
) -> MemoryBudget | None:
    """What the memory comes to; None where all samples fit, or lie in memory anyway.

    Raises BudgetError where it has no room for windows of a few samples beside the batches.
    """
    total_bytes = parse_bytes(memory, name="memory")
    if not reader.is_needed:
        return None
    slab = batches_per_slab(pipeline, batch_size, total_bytes) * batch_size
    slab_bytes = min(slab, samples) * pipeline.sample_bytes
    budget = MemoryBudget(total_bytes, reader, _SLABS_HELD * slab_bytes)
    return None if budget.fits(len(pipeline.data)) else budget


def choose_order(
    budget: MemoryBudget | None,
    drawn: WeightedOrder | MixtureOrder | None,
    *,
    name: str,
    length: int,
    shuffle: bool,
    window: int | None,
    block: int | None,
) -> AnyOrder:
    """The order of `length` samples: `drawn`, that of the budget, or the one asked for.

    Raises OptionError, with the `name` of the data, where draws from all over them would be read
    within a budget.
    """
    if drawn is not None:
        if budget is not None:
            instead = "the weights" if drawn.kind == "weighted" else "take shuffle=False"
            raise OptionError(
                f"memory={bytes_text(budget.total_bytes)} would read {name} block by block, and a "
                f"{drawn.kind} order draws samples from all over it: leave memory out, or {instead}"
            )
        return drawn
    if budget is not None and shuffle:
        return budget.order(length)
    return Order.resolve(shuffle=shuffle, window=window, length=length, block=block)

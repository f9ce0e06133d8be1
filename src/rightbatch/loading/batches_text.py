"""Batches in a line of text."""

from __future__ import annotations

from rightbatch.loading.parts import Part
from rightbatch.plan.order import Order
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.token_plan import AnyPlan, TokenPlan


def batches_text(part: Part, plan: AnyPlan, own: RankPlan | None) -> str:
    """What is gone through, in how many batches of which size, and for which rank.

    >>> import rightbatch as rb
    >>> rb.Batches(rb.open("iris"), 32, rank=1, world_size=2)
    <Batches of iris, all: 150 samples, 5 batches of 32, the last of 22, rank 1 of 2>
    """
    name = f"{part.data.name}, {part.name}"
    count = plan.batch_count()
    if isinstance(plan, TokenPlan):
        return (
            f"<Batches of {name}: {len(part):,} samples, {count:,} batches of up to "
            f"{plan.tokens:,} tokens>"
        )
    last = plan.length % plan.batch_size
    return (
        f"<Batches of {name}: {plan.length:,} "
        + ("samples, " if isinstance(plan.order, Order) else f"draws, {_draws_text(part, plan)}, ")
        + f"{count:,} batches of {plan.batch_size:,}"
        + (f", the last of {last:,}" if last and plan.remainder == "keep" else "")
        + (f", {plan.dropped:,} samples dropped" if plan.dropped else "")
        + (f", rank {own.rank} of {own.world_size}" if own is not None else "")
        + ">"
    )


def _draws_text(part: Part, plan: AnyPlan) -> str:
    """From what an epoch's samples are drawn."""
    if part.mixture is None or plan.order.kind == "weighted":
        return f"{plan.order}, of {len(part):,} samples"
    return str(part.mixture)

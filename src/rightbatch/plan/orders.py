"""The orders that there are, and what a cursor keeps of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rightbatch.errors import OptionError
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.order import Order
from rightbatch.plan.weighted import WeightedOrder

AnyOrder = Order | WeightedOrder | MixtureOrder
"""What a plan takes: each has a kind, `positions`, `to_json` and a text form."""

# The keys of what is more than an `Order`.
_STORED_KEYS = {
    "weighted": {"kind", "population", "source"},
    "mixture": {"kind", "lengths", "proportions"},
}


@dataclass(frozen=True)
class StoredOrder:
    """What a cursor keeps of an order that draws: enough to tell it from any other one.

    >>> StoredOrder.of({"kind": "weighted", "population": 3, "source": "weights:5ca1ab1e"})
    StoredOrder(text='{"kind": "weighted", "population": 3, "source": "weights:5ca1ab1e"}')
    """

    text: str

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> StoredOrder:
        """From the order's JSON."""
        return cls(json.dumps(dict(described), sort_keys=True))

    @property
    def kind(self) -> str:
        """The kind of the order."""
        return str(self.to_json()["kind"])

    def to_json(self) -> dict[str, Any]:
        """The order's JSON again."""
        described: dict[str, Any] = json.loads(self.text)
        return described

    def __str__(self) -> str:
        described = self.to_json()
        kind = described.pop("kind")
        return f"{kind} ({', '.join(f'{name} {value}' for name, value in described.items())})"


def stored_order(order: AnyOrder) -> Order | StoredOrder:
    """What a cursor keeps: an `Order` itself, and of others their description."""
    return order if isinstance(order, Order) else StoredOrder.of(order.to_json())


def stored_order_from_json(saved: object) -> Order | StoredOrder:
    """The order that a cursor's JSON holds; OptionError where it is none."""
    kind = saved.get("kind") if isinstance(saved, Mapping) else None
    keys = _STORED_KEYS.get(kind) if isinstance(kind, str) else None
    if not isinstance(saved, Mapping) or keys is None:
        return Order.from_json(saved)
    if set(saved) != keys:
        raise OptionError(f"order {saved!r} is not valid; it needs {', '.join(sorted(keys))}")
    return StoredOrder.of(saved)

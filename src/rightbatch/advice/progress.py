"""What `advise` tells while it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AdviceProgress:
    """What is being measured and how far it is: seconds spent in all, of those it may take.

    `stage` is "memory", "speed", "noise" or "pilot"; `text` says more, for people.
    """

    stage: str
    text: str
    seconds: float
    total_seconds: float


AdviceWatcher = Callable[[AdviceProgress], None]

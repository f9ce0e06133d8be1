"""The fields that a stored measurement of a shuffle must have."""

from __future__ import annotations

from typing import Any

from rightbatch.report.checking import (
    entries,
    flag,
    loss,
    maybe,
    number,
    record,
    text,
    whole,
)

# The ratio is infinite where the uniform shuffle has none, and then null.
_measure = record({"value": number(least=0), "uniform": number(least=0)}, {"ratio": loss})


def _place(value: Any, where: str) -> None:
    """A place in the epoch and one in the data."""
    entries(whole(0), exactly=2)(value, where)


def _batch(value: Any, where: str) -> None:
    """A batch and its imbalance."""
    entries(number(least=0), exactly=2)(value, where)


shuffle_fields = record(
    {
        "data": text,
        "part": text,
        "fingerprint": text,
        "samples": whole(1),
        "batch_size": whole(1),
        "batches": whole(1),
        "order": record({"kind": text, "window": maybe(whole(1))}, {"block": whole(1)}),
        "seed": whole(),
        "epoch": whole(0),
        "block": whole(1),
        "evaluated": whole(1),
        "is_sampled": flag,
        "travel": _measure,
        "travel_low": _measure,
        "travel_high": _measure,
        "distinct_blocks": _measure,
        "neighbours": _measure,
        "label_imbalance": maybe(_measure),
        "consecutive_labels": maybe(_measure),
        "equal_neighbours": maybe(_measure),
        "classes": maybe(whole(1)),
        "tried": entries(
            record(
                {
                    "window": whole(1),
                    "imbalance": number(least=0),
                    "imbalance_ratio": number(least=0),
                    "label_correlation": number(),
                    "is_mixed": flag,
                }
            )
        ),
        "warning": maybe(text),
        "notes": entries(text),
        "places": entries(_place),
        "batch_imbalances": entries(_batch),
        "uniform_band": maybe(entries(number(least=0), exactly=2)),
    },
    {"window_that_would_do": maybe(whole(1))},
)

"""The fields that a stored advice must have."""

from __future__ import annotations

import math
from typing import Any

from rightbatch.report.checking import (
    Check,
    WrongFieldError,
    anything,
    entries,
    every,
    flag,
    loss,
    maybe,
    named,
    number,
    record,
    text,
    whole,
)
from rightbatch.report.stored_fields import provenance_fields, speed_fields

GRADES = ("quick", "pilot")
GOALS = ("target_loss", "epochs")

_positive = number(above=0)
_size = whole(1)


def _one_of(*words: str) -> Check:
    def check(value: Any, where: str) -> None:
        if value not in words:
            raise WrongFieldError(where, value, " or ".join(repr(word) for word in words))

    return check


def _in_order(low: str, high: str) -> Check:
    """The lower end of an interval is not above its upper one; null is no bound."""

    def check(value: Any, where: str) -> None:
        ends = value[low], value[high]
        if None not in ends and ends[0] > ends[1]:
            told = f"{low} {ends[0]:g} and {high} {ends[1]:g}"
            raise WrongFieldError(where, told, f"{low} up to {high}")

    return check


def _interval(value: Any, where: str) -> None:
    entries(_size, exactly=2)(value, where)
    if value[0] > value[1]:
        raise WrongFieldError(where, value, "two sizes, the smaller first")


def _goal_has_its_number(value: Any, where: str) -> None:
    if value[value["kind"]] is None:
        raise WrongFieldError(f"{where}.{value['kind']}".lstrip("."), None, "a number")


def _scale_or_refusal(value: Any, where: str) -> None:
    if value["scale"] is None and value["refused"] is None:
        raise WrongFieldError(f"{where}.refused".lstrip("."), None, "the reason, without a scale,")


law_fields = record(
    {
        "samples_min": _positive,
        # Null where they are infinite.
        "critical_batch_size": maybe(_positive),
        "low": maybe(number(least=0)),
        "high": maybe(_positive),
        "residual": maybe(number(least=0)),
    }
)
noise_fields = every(
    record(
        {
            "scale": maybe(_positive),
            "low": maybe(number(least=0)),
            "high": maybe(_positive),
            "method": text,
            "batch_size": _size,
            "learning_rate": _positive,
            "trajectory": entries(
                every(
                    record(
                        {
                            "samples": whole(0),
                            "loss": loss,
                            "scale": maybe(_positive),
                            "low": number(least=0),
                            "high": maybe(_positive),
                            "measured_on": whole(0),
                        }
                    ),
                    _in_order("low", "high"),
                )
            ),
            "refused": maybe(text),
        }
    ),
    _in_order("low", "high"),
    _scale_or_refusal,
)
_points = entries(record({"batch_size": _size, "bytes": whole(0), "held_bytes": whole(0)}))
_predicted = entries(record({"batch_size": _size, "bytes": whole(0), "high": whole(0)}))
_memory_law = maybe(
    record(
        {
            "base_bytes": number(),
            "bytes_per_sample": number(),
            "spread": number(least=0),
            "points": whole(1),
            "mean": number(),
            "scatter": number(least=0),
            "loader": maybe(
                record(
                    {
                        "sample_bytes": _positive,
                        "samples": _size,
                        "slabs": whole(0),
                        "slab_bytes": whole(0),
                    }
                )
            ),
            "bends": entries(entries(_positive, exactly=2)),
            "held": entries(entries(_positive, exactly=2)),
        }
    )
)
memory_fields = record(
    {
        "cap": maybe(_size),
        "limit_bytes": maybe(whole(0)),
        "limit_source": text,
        "loaded_bytes": whole(0),
        "measured": _points,
        "predicted": _predicted,
        "evaluation_cap": maybe(_size),
        "evaluation_batch_size": maybe(_size),
        "evaluation_measured": _points,
        "evaluation_predicted": _predicted,
        "fit": _memory_law,
        "evaluation_fit": _memory_law,
        "device": text,
        "declined": maybe(text),
        "notes": entries(text),
    }
)
_run = record(
    {
        "batch_size": _size,
        "learning_rate": _positive,
        "seed": whole(),
        "samples": maybe(number(least=0)),
        "ended": text,
        "points": entries(
            record({"samples": whole(0), "seconds": number(least=0), "loss": number()})
        ),
    }
)
pilot_fields = record(
    {
        "loss": number(),
        "target_loss": maybe(number()),
        "enough_samples": maybe(_positive),
        "sizes": entries(
            every(
                record(
                    {
                        "batch_size": _size,
                        "learning_rate": _positive,
                        "runs": whole(0),
                        "samples": _positive,
                        "low": _positive,
                        "high": _positive,
                        "seconds": _positive,
                    }
                ),
                _in_order("low", "high"),
            )
        ),
        "levels": entries(record({"loss": number(), "law": law_fields})),
        "runs": entries(_run),
        "seconds": number(least=0),
    }
)
_rank_shares = record(
    {
        "world_size": whole(2),
        "batch_size": _size,
        "largest_share": _size,
        "smallest_share": whole(0),
        "micro_batch_size": maybe(_size),
        "step_seconds": _positive,
        "share_seconds": _positive,
        "single_seconds": _positive,
        "communication_share": number(least=0),
        "speedup": _positive,
    }
)
_cost = every(
    record(
        {
            "batch_size": _size,
            "samples": _positive,
            "seconds": _positive,
            "low": _positive,
            # Null where it is infinite.
            "high": maybe(_positive),
            "has_run": flag,
        }
    ),
    _in_order("low", "high"),
)
advice_fields = record(
    {
        "batch_size": _size,
        "interval": _interval,
        "grade": _one_of(*GRADES),
        "goal": every(
            record(
                {
                    "kind": _one_of(*GOALS),
                    "target_loss": maybe(number()),
                    "epochs": maybe(_size),
                },
                {"text": text},
            ),
            _goal_has_its_number,
        ),
        "learning_rate": _positive,
        "companions": record(
            {"learning_rate_source": text, "beta2": maybe(number()), "schedule": text}
        ),
        "micro_batch_size": maybe(_size),
        "accumulation_steps": _size,
        "evaluation_batch_size": _size,
        "reasons": entries(text),
        "alerts": entries(text),
        "memory": maybe(memory_fields),
        "speed": speed_fields,
        "noise": noise_fields,
        "pilot": maybe(pilot_fields),
        "law": maybe(law_fields),
        "costs": entries(_cost),
        "tested": entries(_size, fewest=1),
        "seconds_spent": number(least=0),
        "model": text,
        "training_samples": _size,
        "settings": named(anything),
        "provenance": provenance_fields,
    },
    # Advice of before is of one process.
    {"ranks": maybe(_rank_shares)},
)


def with_infinities(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored advice with the bounds that JSON holds as null; all else is as it was.

    >>> with_infinities({"costs": [{"low": 1.0, "high": None}]})["costs"][0]["high"]
    inf
    """
    costs = [
        {**cost, "high": math.inf if cost["high"] is None else cost["high"]}
        for cost in stored["costs"]
    ]
    return {**stored, "costs": costs}

"""The fields that a stored comparison, measurement of speed or run folder must have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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


def _same_lengths(*names: str) -> Check:
    def check(value: Any, where: str) -> None:
        lengths = {name: len(value[name]) for name in names}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise WrongFieldError(where, told, f"the same length of {', '.join(names)}")

    return check


def _grid(value: Any, where: str) -> None:
    """A loss for every x and y, both of which grow."""
    for name in ("x", "y"):
        places: Sequence[float] = value[name]
        if any(not after > before for before, after in pairwise(places)):
            raise WrongFieldError(f"{where}.{name}".lstrip("."), places, "a list that grows")
    if len(value["losses"]) != len(value["y"]):
        raise WrongFieldError(
            f"{where}.losses".lstrip("."),
            f"{len(value['losses'])} rows",
            f"a row for each of the {len(value['y'])} y",
        )
    for place, row in enumerate(value["losses"]):
        entries(loss, exactly=len(value["x"]))(row, f"{where}.losses[{place}]".lstrip("."))


epoch_fields = record(
    {
        "epoch": whole(1),
        "steps": whole(0),
        "samples": whole(0),
        "seconds": number(least=0),
        "train_loss": loss,
    },
    {
        "loading_seconds": maybe(number(least=0)),
        "micro_batch_size": maybe(whole(1)),
        "val_loss": loss,
        "val_accuracy": loss,
        "val_r2": loss,
    },
    is_open=True,
)
step_fields = record({"step": whole(0), "loss": loss}, is_open=True)


def _pair(value: Any, where: str) -> None:
    """A step and its loss."""
    entries(anything, exactly=2)(value, where)
    whole(0)(value[0], f"{where}[0]")
    loss(value[1], f"{where}[1]")


_curve = record(
    {
        "batch_size": whole(1),
        "is_full": flag,
        "learning_rate": number(least=0),
        "seed": whole(),
        "history": entries(epoch_fields),
        "step_losses": entries(_pair),
        "checked_losses": entries(_pair),
        "diverged": maybe(text),
    },
    {
        "placement": maybe(
            record(
                {
                    "host": text,
                    "machine": text,
                    "processor": text,
                    "began": number(),
                    "ended": number(),
                    "overlapping_runs": whole(0),
                }
            )
        )
    },
)
_trial = record(
    {
        "batch_size": whole(1),
        "learning_rate": number(above=0),
        "loss": loss,
        "is_chosen": flag,
    }
)
environment_fields = record({}, {"versions": named(anything), "started": maybe(text)}, is_open=True)
_sizes = named(whole(0))
transforms_fields = entries(record({"kind": text}, is_open=True))
provenance_fields = record(
    {
        "command": maybe(text),
        "data": text,
        "fingerprint": text,
        "sizes": _sizes,
        "split": named(anything),
        "duplicate_samples": maybe(whole(0)),
        "environment": environment_fields,
    },
    {"transforms": transforms_fields},
)
landscape_fields = every(
    record(
        {
            "x": entries(number(), fewest=1),
            "y": entries(number(), fewest=1),
            "losses": entries(entries(loss)),
            "explained": entries(number(), exactly=2),
            "paths": entries(
                every(
                    record(
                        {
                            "label": text,
                            "batch_size": whole(1),
                            "steps": entries(whole(0)),
                            "x": entries(loss),
                            "y": entries(loss),
                            "losses": entries(loss),
                        }
                    ),
                    _same_lengths("steps", "x", "y", "losses"),
                )
            ),
            "samples": whole(0),
        }
    ),
    _grid,
)
_point = record(
    {
        "batch_size": whole(1),
        "seconds_per_batch": number(above=0),
        "seconds_per_sample": number(above=0),
        "low": number(above=0),
        "high": number(above=0),
    }
)


def _some_epoch(value: Any, _: str) -> None:
    """Every run that did not diverge has one epoch at least, or there is nothing to tell of."""
    if not any(curve["history"] or curve["diverged"] for curve in value["curves"]):
        raise WrongFieldError("curves[0].history", [], "one epoch at least")


comparison_fields = every(
    record(
        {
            "model": text,
            "metric": text,
            "learning_rate_rule": text,
            "learning_rate": number(least=0),
            "reference_batch_size": maybe(whole(1)),
            "curves": entries(_curve, fewest=1),
            "trials": entries(_trial),
            "landscape": maybe(landscape_fields),
            "timings_comparable": flag,
            "notes": entries(text),
            "settings": named(anything),
            "provenance": provenance_fields,
        }
    ),
    _some_epoch,
)
speed_fields = record(
    {
        "model": text,
        "mode": text,
        "threads": whole(1),
        "device": text,
        "points": entries(_point, fewest=1),
        "fit": maybe(
            record(
                {
                    "latency_seconds": number(least=0),
                    "seconds_per_sample": number(least=0),
                    "p": number(least=1),
                    "residual": number(least=0),
                },
                # Null where it is infinite.
                {"half_batch_size": loss},
            )
        ),
        "neighbours": entries(
            record(
                {"below": _point, "at": _point, "above": _point},
                {"saving": loss, "low": loss, "high": loss},
            )
        ),
        "loading_seconds_per_sample": maybe(number(least=0)),
        "rounds": whole(0),
        "notes": entries(text),
        "settings": named(anything),
        "provenance": provenance_fields,
    }
)
config_fields = record(
    {
        "options": record(
            {},
            {
                "learning_rate": number(least=0),
                "seed": whole(),
            },
            is_open=True,
        )
    },
    {
        "sizes": _sizes,
        "split": named(anything),
        "data": named(anything),
        "duplicate_samples": maybe(whole(0)),
        "columns": entries(
            record(
                {},
                {"shape": entries(whole(0)), "categories": maybe(entries(anything))},
                is_open=True,
            )
        ),
        "classes": maybe(entries(anything)),
        "command_line": maybe(text),
    },
    is_open=True,
)
result_fields = record(
    {},
    {
        "test_loss": loss,
        "test_accuracy": loss,
        "test_r2": loss,
        "leaked_samples": maybe(whole(0)),
    },
    is_open=True,
)

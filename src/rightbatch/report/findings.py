"""What a report is about: runs side by side, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rightbatch.advice.comparison import Comparison, Curve, RateTrial
from rightbatch.advice.landscape_map import Landscape
from rightbatch.training.provenance import Provenance


@dataclass(frozen=True, kw_only=True, eq=False)
class RunCurve(Curve):
    """The curve of a run that has a name of its own: its folder's."""

    name: str

    @property
    def label(self) -> str:
        """What legends call it: the name of the run."""
        return self.name


@dataclass(frozen=True, kw_only=True, eq=False)
class Origin:
    """Where a result comes from, for the sections on data and on reproducing it.

    `facts` are the options it was made with; `columns`, `classes` and `result` (the scores of
    `rightbatch train`) are there for run folders alone.
    """

    name: str
    provenance: Provenance
    facts: dict[str, Any] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)
    classes: list[Any] | None = None
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Runs that are drawn together: those of one comparison, or the run folders of one report."""

    title: str
    curves: list[Curve]
    origins: list[Origin]
    landscapes: list[tuple[str, Landscape]] = field(default_factory=list)
    trials: list[RateTrial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    timings_comparable: bool = True
    is_comparison: bool = False
    learning_rate_rule: str | None = None

    @property
    def has_seconds(self) -> bool:
        """Whether charts and tables set runs against each other by their seconds.

        Those of a comparison that shared a machine say nothing; run folders were timed apart.
        """
        return self.timings_comparable or not self.is_comparison

    def comparable(self) -> list[tuple[list[Curve], int | None]]:
        """The curves of one data set, split and loss together, with its validation samples.

        Those of a comparison are all of one; run folders may be of several.
        """
        if self.is_comparison:
            return [(self.curves, self.origins[0].provenance.sizes.get("val"))]
        groups: dict[str, tuple[list[Curve], int | None]] = {}
        for curve, origin in zip(self.curves, self.origins, strict=True):
            known = origin.provenance
            key = repr((known.data, known.fingerprint, known.split, origin.facts.get("loss")))
            groups.setdefault(key, ([], known.sizes.get("val")))[0].append(curve)
        return list(groups.values())


def of_comparison(comparison: Comparison) -> Study:
    """A comparison as a study of its own."""
    data = comparison.provenance.data
    title = f"Batch sizes compared: {comparison.model} on {data}"
    facts = {
        "model": comparison.model,
        "learning rate": f"{comparison.learning_rate:g} ({comparison.learning_rate_rule})",
        "seeds": ", ".join(str(seed) for seed in sorted({c.seed for c in comparison.curves})),
        # The seed among the settings is the first of these.
        **{name: value for name, value in comparison.settings.items() if name != "seed"},
    }
    return Study(
        title=title,
        curves=list(comparison.curves),
        origins=[Origin(name=title, provenance=comparison.provenance, facts=facts)],
        landscapes=[] if comparison.landscape is None else [("", comparison.landscape)],
        trials=list(comparison.trials),
        notes=list(comparison.notes),
        timings_comparable=comparison.timings_comparable,
        is_comparison=True,
        learning_rate_rule=comparison.learning_rate_rule,
    )


def joined(runs: Sequence[Study]) -> Study:
    """Single runs as one study, drawn on the same axes."""
    origins = [origin for run in runs for origin in run.origins]
    data = dict.fromkeys(origin.provenance.data for origin in origins)
    title = runs[0].title if len(runs) == 1 else f"{len(runs)} runs on {', '.join(data)}"
    return Study(
        title=title,
        curves=[curve for run in runs for curve in run.curves],
        origins=origins,
        landscapes=[landscape for run in runs for landscape in run.landscapes],
        # Runs of different days and machines are not timed against each other.
        timings_comparable=len(runs) == 1,
    )

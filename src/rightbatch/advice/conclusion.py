"""From the evidence to the advice: the rate to start from, the companions, the sentences."""

from __future__ import annotations

import math
from typing import Any

from rightbatch.advice.advice import Advice
from rightbatch.advice.evidence import Evidence, alerts_of, reasons_of
from rightbatch.advice.memory import Memory
from rightbatch.advice.rates import REFERENCE_BATCH_SIZE, companions_of, rate_at
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE
from rightbatch.training.options import FitOptions
from rightbatch.training.provenance import Provenance

# What starts and ends may take beyond the budget.
_OVERRUN = 1.5
_ECHOED = ("learning_rate", "optimizer", "momentum", "l1", "l2", "seed")


def conclude(
    evidence: Evidence,
    options: FitOptions,
    *,
    seconds_spent: float,
    provenance: Provenance,
    settings: dict[str, Any],
) -> Advice:
    """The advice that follows from the evidence; `settings` are what else was asked for."""
    choice, micro = evidence.choice, evidence.micro_batch_size
    held = choice.batch_size if evidence.ranks is None else evidence.ranks.largest_share
    rate, source = _learning_rate(evidence, options)
    has_piloted = evidence.pilot is not None and bool(evidence.pilot.sizes)
    asked = {name: value for name, value in options.to_json().items() if name in _ECHOED}
    return Advice(
        batch_size=choice.batch_size,
        interval=choice.interval,
        grade="pilot" if has_piloted else "quick",
        goal=evidence.goal,
        learning_rate=rate,
        companions=companions_of(options, choice.batch_size, evidence.training_samples, source),
        micro_batch_size=micro,
        accumulation_steps=1 if micro is None else math.ceil(held / micro),
        evaluation_batch_size=_evaluation_size(evidence.memory),
        reasons=reasons_of(evidence),
        alerts=[*alerts_of(evidence), *_overrun(settings["budget_seconds"], seconds_spent)],
        memory=evidence.memory,
        speed=evidence.speed,
        noise=evidence.noise,
        pilot=evidence.pilot,
        law=evidence.law,
        costs=choice.costs,
        tested=sorted(point.batch_size for point in evidence.speed.points),
        seconds_spent=seconds_spent,
        model=evidence.model,
        training_samples=evidence.training_samples,
        settings={
            **settings,
            **asked,
            "loss": evidence.loss,
            "reference_batch_size": REFERENCE_BATCH_SIZE,
        },
        provenance=provenance,
        ranks=evidence.ranks,
    )


def _overrun(budget_seconds: float, seconds_spent: float) -> list[str]:
    """An alert where the least that has to be measured took much longer than was asked for."""
    if seconds_spent <= _OVERRUN * budget_seconds:
        return []
    return [
        f"The advice took {seconds_spent:.0f} s where a budget of {budget_seconds:g} s was given: "
        "starting the probes of memory and timing steps took what there was. Give more time "
        "(budget_seconds, --budget), or end what else keeps the machine busy"
    ]


def _learning_rate(evidence: Evidence, options: FitOptions) -> tuple[float, str]:
    """The rate to start from at the chosen size, and where it comes from."""
    size = evidence.choice.batch_size
    for piloted in evidence.pilot.sizes if evidence.pilot is not None else []:
        if piloted.batch_size == size:
            return piloted.learning_rate, "the best of the pilot's search at this size"
    law = evidence.law
    return rate_at(size, options, None if law is None else law.critical_batch_size)


def _evaluation_size(memory: Memory | None) -> int:
    size = None if memory is None else memory.evaluation_batch_size
    return EVALUATION_BATCH_SIZE if size is None else size

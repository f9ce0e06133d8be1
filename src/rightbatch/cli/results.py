"""The results that several verbs print for people: an advice, and a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rightbatch.cli.output import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.advice.advice import Advice
    from rightbatch.run_report import RunReport

_METRICS = {"accuracy": "accuracy", "r2": "R²"}


def advice_texts(advice: Advice) -> Iterator[RenderableType]:
    """The advice in sentences, and a table of the batch sizes that ran."""
    from rightbatch.report.advice_section import tested_table

    yield (
        f"{advice.model} on {advice.provenance.data}: {advice.training_samples:,} training samples"
    )
    yield str(advice)
    tested = tested_table(advice)
    rows = table(*tested.columns, right=[name for name in tested.columns if name])
    for row in tested.rows:
        rows.add_row(*row)
    yield rows
    for note in tested.notes:
        yield f"Note: {note}"
    yield f"The advice took {advice.seconds_spent:.1f} s."


def training_texts(report: RunReport) -> Iterator[RenderableType]:
    """How a model learned and how well it does, in sentences and a table."""
    if report.advice is not None:
        yield from advice_texts(report.advice)
    epochs = f"{report.epochs:,} epoch{'' if report.epochs == 1 else 's'}"
    size = f"{report.batch_size:,}"
    if report.batch_tokens is not None:
        size = f"up to {report.batch_tokens:,} tokens"
    steps = f"{report.steps:,} batch{'' if report.steps == 1 else 'es'} of {size}"
    rate = "" if report.advice is None else f", learning rate {report.learning_rate:.3g} (advised)"
    yield f"{report.model} on {report.data}: {epochs}, {steps}{rate}"
    if report.samples_per_second:
        yield f"{report.seconds:.1f} s, {report.samples_per_second:,.0f} samples/s"
    elif report.reached_target:
        yield "The run was at its end; give a lower --target-loss to go further."
    else:
        yield "The run was at its end; give --epochs or --steps to go further."
    if report.best_epoch != report.epochs:
        yield f"The weights and losses are those of epoch {report.best_epoch:,}, the best one."
    if report.reached_target is not None:
        yield _target_text(report)
    name = _METRICS[report.metric]
    scores = table("part", "loss", name, right=["loss", name])
    scores.add_row("train", f"{report.train_loss:.4f}", "")
    for part, measured in (("val", report.val), ("test", report.test)):
        if measured is not None:
            scores.add_row(part, f"{measured['loss']:.4f}", f"{measured[report.metric]:.4f}")
    yield scores
    yield f"Held-out samples that training read: {report.leaked_samples:,}"
    if report.duplicate_samples:
        yield (
            "Held-out samples equal to one on the other side of the split: "
            f"{report.duplicate_samples:,}"
        )
    yield f"Run: {report.run}"


def _target_text(report: RunReport) -> str:
    assert report.val is not None  # the target was one of the validation loss
    if report.reached_target:
        return (
            f"The validation loss came down to {report.val['loss']:.4g} in epoch "
            f"{report.best_epoch:,}; the target was {report.target_loss:g}."
        )
    return (
        f"The validation loss is {report.val['loss']:.4g} and has not come down to the target, "
        f"{report.target_loss:g}. Go on for longer: rightbatch train --resume {report.run} "
        f"--epochs {2 * report.epochs}"
    )

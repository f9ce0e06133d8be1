"""The words and tables of a report: facts, runs, timings, data, provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rightbatch.advice.comparison import Curve, Spread, Summary
from rightbatch.advice.law import StepTime
from rightbatch.advice.target import ToTarget
from rightbatch.advice.target import to_target as find_target
from rightbatch.advice.timing import Speed, half_batch_text, row_texts, time_text
from rightbatch.report.alerts import best_labels
from rightbatch.report.curve_rows import by_label, metric_of
from rightbatch.report.findings import Origin, Study
from rightbatch.report.learning_chart import METRIC_NAMES

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts under headings; with `swatches` each row wears its curve's colour."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    swatches: bool = False
    notes: list[str] = field(default_factory=list)


def study_facts(study: Study) -> list[str]:
    """What the runs show, in a few sentences with numbers."""
    facts = []
    groups = by_label(study.curves)
    seeds = max((len(group) for group in groups.values()), default=0)
    best = best_labels(study.curves)
    if best is not None:
        labels, name, value = best
        measure = METRIC_NAMES.get(name.removeprefix("val_"), "loss")
        of_seeds = f", the mean of {seeds} seeds" if seeds > 1 else ""
        if len(groups) > 1:
            facts.append(
                f"Best on the validation samples: {_joined(labels)}, with {_a(measure)} of "
                f"{value:.4g} in the best epoch{of_seeds}."
            )
        else:
            facts.append(f"The validation {measure} is {value:.4g} in the best epoch{of_seeds}.")
    reached = find_target(study.curves)
    if reached is not None and len({point.label for point in reached.points}) > 1:
        facts.append(_race(reached, with_seconds=study.timings_comparable))
    for origin in study.origins:
        for metric, word in METRIC_NAMES.items():
            score = origin.result.get(f"test_{metric}")
            if score is not None:
                name = f"{origin.name}: " if len(study.origins) > 1 else ""
                facts.append(
                    f"{name}{'t' if name else 'T'}est {word} {score:.4g} on "
                    f"{origin.provenance.sizes.get('test', 0):,} samples."
                )
    return facts


def speed_facts(speed: Speed) -> list[str]:
    """What the timings show, in two sentences with numbers."""
    if not speed.points:
        return []
    slowest = max(speed.points, key=lambda point: point.seconds_per_sample)
    fastest = speed.fastest
    facts = []
    if fastest.batch_size != slowest.batch_size:
        gain = slowest.seconds_per_sample / fastest.seconds_per_sample
        facts.append(
            f"A sample takes {time_text(slowest.seconds_per_sample)} at batch size "
            f"{slowest.batch_size:,} and {time_text(fastest.seconds_per_sample)} at "
            f"{fastest.batch_size:,}: {gain:.3g} times less ({speed.mode}, {speed.threads} "
            f"thread{'' if speed.threads == 1 else 's'}, {speed.device})."
        )
    if speed.fit is not None:
        facts.append(_law(speed.fit, max(point.batch_size for point in speed.points)))
    return facts


def _law(fit: StepTime, largest: int) -> str:
    step = f"A step costs {time_text(fit.latency_seconds)} whatever its size"
    if fit.half_batch_size == math.inf:
        return f"{step}; up to {largest:,} samples, more of them cost nothing."
    beyond = f", beyond {largest:,}, the largest measured" if fit.half_batch_size > largest else ""
    return (
        f"{step} and {time_text(fit.seconds_per_sample)} a sample, equal at n½ = "
        f"{half_batch_text(fit)}{beyond}."
    )


def study_table(study: Study) -> Table:
    """A row for each batch size or run: where it ended."""
    metric = metric_of(study.curves) or "accuracy"
    tested = {origin.name: origin.result for origin in study.origins}
    found = []
    for label, curves in by_label(study.curves).items():
        texts = {
            ("run" if name == "batch" else name): text for name, text in _ended(curves, metric)
        }
        texts["run"] = label
        for name in ("test_loss", f"test_{metric}"):
            value = tested.get(label, {}).get(name)
            if value is not None:
                texts[_heading(name)] = f"{value:.4g}"
        found.append(texts)
    columns = list(dict.fromkeys(name for texts in found for name in texts))
    return Table(
        title=study.title,
        columns=columns,
        rows=[[texts.get(name, "") for name in columns] for texts in found],
        swatches=True,
    )


def trial_table(study: Study) -> Table | None:
    """The learning rates that `lr_rule="tuned"` tried, None where none was."""
    if not study.trials:
        return None
    return Table(
        title="Learning rates that were tried",
        columns=["batch size", "learning rate", "lowest loss", ""],
        rows=[
            [
                f"{trial.batch_size:,}",
                f"{trial.learning_rate:.4g}",
                "none" if trial.loss is None else f"{trial.loss:.4g}",
                "chosen" if trial.is_chosen else "",
            ]
            for trial in study.trials
        ],
    )


def speed_tables(speed: Speed) -> list[Table]:
    """The timings at every batch size, and those beside the powers of two."""
    columns = ["batch size", "a batch", "a sample", "95 % interval", "samples a second"]
    tables = [
        Table(
            title=f"Timings of {speed.model}",
            columns=columns,
            rows=[row_texts(point) for point in speed.points],
        )
    ]
    if speed.neighbours:
        rows = []
        for trio in speed.neighbours:
            three = [time_text(p.seconds_per_sample) for p in (trio.below, trio.at, trio.above)]
            # Adding zero takes the sign from a rounded minus nothing.
            saving = "" if trio.saving is None else f"{round(trio.saving, 3) + 0.0:+.1%}"
            rows.append([f"{trio.at.batch_size:,}", *three, saving])
        tables.append(
            Table(
                title="Why powers of two? Each beside its neighbours, time a sample",
                columns=["power of two", "one below", "at", "one above", "saved"],
                rows=rows,
                notes=speed.notes,
            )
        )
    elif speed.notes:
        tables.append(Table(title="Notes", columns=[], rows=[], notes=speed.notes))
    return tables


def origin_of_speed(speed: Speed) -> Origin:
    """Where a measurement of speed comes from."""
    return Origin(
        name=f"Speed of {speed.model} on {speed.provenance.data}",
        provenance=speed.provenance,
        facts={
            "model": speed.model,
            "mode": speed.mode,
            "threads": speed.threads,
            "device": speed.device,
            **speed.settings,
        },
    )


def data_blocks(origins: Sequence[Origin]) -> list[dict[str, Any]]:
    """What the section on data says: a block for every data set and split."""
    blocks: dict[str, dict[str, Any]] = {}
    for origin in origins:
        provenance = origin.provenance
        total = sum(provenance.sizes.values())
        pairs: Pairs = [("samples", f"{total:,}")]
        pairs += [
            (part, f"{size:,} ({size / total:.1%})")
            for part, size in provenance.sizes.items()
            if total
        ]
        if origin.classes is not None:
            pairs.append(("classes", _classes(origin)))
        pairs += [
            (f"split: {name.replace('_', ' ')}", _value(value))
            for name, value in provenance.split.items()
            if value is not None
        ]
        duplicates = provenance.duplicate_samples
        pairs.append(
            (
                "equal samples across parts",
                "not looked for" if duplicates is None else f"{duplicates:,}",
            )
        )
        if origin.transforms:
            kinds = ", ".join(str(transform.get("kind", "?")) for transform in origin.transforms)
            pairs.append(("transforms", kinds))
        pairs.append(("fingerprint", provenance.fingerprint))
        block = {
            "name": provenance.data,
            "sizes": list(provenance.sizes.items()),
            "pairs": pairs,
            "columns": [_column(column) for column in origin.columns],
        }
        # The same data and split in two results are one block.
        blocks.setdefault(repr((block["name"], provenance.fingerprint, provenance.split)), block)
    return list(blocks.values())


def reproduce_blocks(origins: Sequence[Origin]) -> list[dict[str, Any]]:
    """What it takes to get each result again: command, options, seed, versions, machine."""
    blocks = []
    for origin in origins:
        environment = dict(origin.provenance.environment)
        versions = environment.pop("versions", {})
        pairs: Pairs = [
            (str(name).replace("_", " "), _value(value))
            for name, value in origin.facts.items()
            if value is not None
        ]
        if "seed" not in origin.facts and "seed" in origin.provenance.split:
            pairs.append(("seed of the split", _value(origin.provenance.split["seed"])))
        pairs.append(
            ("data", f"{origin.provenance.data}, fingerprint {origin.provenance.fingerprint}")
        )
        pairs += [(name.replace("_", " "), _value(value)) for name, value in environment.items()]
        pairs.append(("versions", ", ".join(f"{name} {text}" for name, text in versions.items())))
        blocks.append({"name": origin.name, "command": origin.provenance.command, "pairs": pairs})
    return blocks


def _ended(curves: Sequence[Curve], metric: str) -> list[tuple[str, str]]:
    summary = Summary.of(curves, metric)
    texts = {
        **summary.texts(),
        **{
            name.replace("_r2", "_R²").replace("_", " "): _spread(found)
            for name, found in summary.measures.items()
        },
    }
    epochs = max(len(curve.history) for curve in curves)
    items = [(_heading(name), text) for name, text in texts.items()]
    items.insert(2, ("epochs", f"{epochs:,}"))
    return items


def _spread(spread: Spread | None) -> str:
    """Mean and, of several seeds, least to greatest, short enough for a table."""
    if spread is None:
        return ""
    if spread.low == spread.high:
        return f"{spread.mean:.4g}"
    return f"{spread.mean:.3g} ({spread.low:.3g}–{spread.high:.3g})"


def _heading(name: str) -> str:
    words = name.replace("_", " ").replace("val ", "validation ").replace(" r2", " R²")
    return words.replace("train ", "training ")


def _race(reached: ToTarget, *, with_seconds: bool) -> str:
    costs = ("steps", "samples", "seconds") if with_seconds else ("steps", "samples")
    pieces = []
    for cost in costs:
        means: dict[str, list[float]] = {}
        for point in reached.points:
            means.setdefault(point.label, []).append(getattr(point, cost))
        mean = {label: sum(values) / len(values) for label, values in means.items()}
        label = min(mean, key=lambda name: mean[name])
        amount = f"{mean[label]:.3g}" if cost == "seconds" else f"{mean[label]:,.0f}"
        pieces.append(f"{label} took the fewest {cost} ({amount})")
    return f"Down to a training loss of {reached.target:.3g}, {'; '.join(pieces)}."


def _classes(origin: Origin) -> str:
    categories = next(
        (column["categories"] for column in reversed(origin.columns) if column.get("categories")),
        None,
    )
    known = origin.classes or []
    names = categories if categories and len(categories) == len(known) else known
    listed = ", ".join(str(name) for name in names[:20])
    return f"{len(known)}: {listed}{', …' if len(names) > 20 else ''}"


def _column(column: dict[str, Any]) -> list[str]:
    shape = " × ".join(str(length) for length in column.get("shape", [])) or "one value"
    categories = column.get("categories") or []
    listed = ", ".join(str(name) for name in categories[:8])
    return [
        str(column.get("name")),
        str(column.get("dtype")),
        shape,
        f"{listed}{', …' if len(categories) > 8 else ''}",
    ]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(inner) for inner in value)
    return str(value)


def _joined(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _a(measure: str) -> str:
    return f"an {measure}" if measure[0] in "aeiouR" else f"a {measure}"

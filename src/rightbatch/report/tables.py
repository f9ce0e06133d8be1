"""The tables of a report: runs, timings, data, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rightbatch.advice.comparison import NOT_COMPARABLE, Spread, Summary
from rightbatch.advice.timing import Speed, row_texts, time_text
from rightbatch.report.curve_rows import by_label, metric_of
from rightbatch.report.findings import Origin, Study

Pairs = list[tuple[str, str]]

_COLUMNS = (
    "run",
    "validation accuracy",
    "validation R²",
    "validation loss",
    "training loss",
    "test accuracy",
    "test R²",
    "test loss",
    "epochs",
    "steps",
    "seconds",
    NOT_COMPARABLE,
    "learning rate",
    "diverged",
)
_MODELS_WITHOUT_HIDDEN_LAYERS = ("linear", "softmax", "logistic")
# Parameters of a transform that are longer are counted, not listed.
_LONGEST_LISTED = 4


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts under headings; with `swatches` each row wears its curve's colour."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    swatches: bool = False
    notes: list[str] = field(default_factory=list)


def study_table(study: Study) -> Table:
    """A row for each batch size or run: where it ended. The scores come first.

    A second line in a cell is the range over the seeds.
    """
    metric = metric_of(study.curves) or "accuracy"
    tested = {origin.name: origin.result for origin in study.origins}
    found = []
    for label, curves in by_label(study.curves).items():
        ended = Summary.of(curves, metric)
        texts = {"run": label}
        for name in (f"val_{metric}", "val_loss", "train_loss"):
            if name in ended.measures:
                texts[_heading(name)] = _spread(ended.measures[name])
        for name in (f"test_{metric}", "test_loss"):
            value = tested.get(label, {}).get(name)
            if value is not None:
                texts[_heading(name)] = f"{value:.4g}"
        texts["epochs"] = f"{max(len(curve.history) for curve in curves):,}"
        texts["steps"] = f"{ended.steps:,}"
        heading = "seconds" if study.has_seconds else NOT_COMPARABLE
        texts[heading] = "" if ended.seconds is None else f"{ended.seconds.mean:.3g}"
        texts["learning rate"] = f"{ended.learning_rate:.4g}"
        if ended.diverged:
            texts["diverged"] = f"{ended.diverged} of {ended.runs}"
        found.append(texts)
    columns = [name for name in _COLUMNS if any(name in texts for texts in found)]
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
            three = [time_text(p.seconds_per_batch) for p in (trio.below, trio.at, trio.above)]
            # Adding zero takes the sign from a rounded minus nothing.
            saving = "" if trio.saving is None else f"{round(trio.saving, 3) + 0.0:+.1%}"
            rows.append([f"{trio.at.batch_size:,}", *three, saving])
        tables.append(
            Table(
                title="Why powers of two? Each beside its neighbours, time a batch",
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
        sizes = {part: size for part, size in provenance.sizes.items() if size}
        total = sum(sizes.values())
        pairs: Pairs = [("samples", f"{total:,}")] if sizes else []
        if len(sizes) > 1:
            pairs += [(part, f"{size:,} ({size / total:.1%})") for part, size in sizes.items()]
        if origin.classes is not None:
            pairs.append(("classes", _classes(origin)))
        pairs += [
            (f"split: {name.replace('_', ' ')}", _value(value))
            for name, value in provenance.split.items()
            if value is not None
        ]
        duplicates = provenance.duplicate_samples
        if len(sizes) > 1:
            pairs.append(
                (
                    "equal samples across parts",
                    "not looked for" if duplicates is None else f"{duplicates:,}",
                )
            )
        if provenance.transforms:
            pairs.append(("transforms", transforms_text(provenance.transforms)))
        pairs.append(("fingerprint", provenance.fingerprint))
        block = {
            "name": provenance.data,
            "sizes": list(sizes.items()),
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
        provenance = origin.provenance
        environment = dict(provenance.environment)
        versions = environment.pop("versions", {})
        pairs: Pairs = [
            (str(name).replace("_", " "), _value(value))
            for name, value in origin.facts.items()
            if value is not None and not _is_idle(name, value, origin.facts.get("model"))
        ]
        if not {"seed", "seeds"} & set(origin.facts) and "seed" in provenance.split:
            pairs.append(("seed of the split", _value(provenance.split["seed"])))
        if provenance.transforms:
            pairs.append(("transforms", transforms_text(provenance.transforms)))
        pairs.append(("data", f"{provenance.data}, fingerprint {provenance.fingerprint}"))
        pairs += [
            (name.replace("_", " "), _value(value))
            for name, value in environment.items()
            if value is not None
        ]
        if versions:
            listed = ", ".join(f"{name} {text}" for name, text in versions.items())
            pairs.append(("versions", listed))
        blocks.append({"name": origin.name, "command": provenance.command, "pairs": pairs})
    return blocks


def transforms_text(transforms: Sequence[dict[str, Any]]) -> str:
    """Transforms in words: each with its parameters, of long lists their length.

    >>> transforms_text([{"kind": "scale", "column": None, "factor": 0.5},
    ...                  {"kind": "standardize", "mean": [1.0] * 30, "train_only": True}])
    'scale (factor 0.5), then standardize (mean of 30 values; in training only)'
    """
    told = []
    for transform in transforms:
        words = []
        for name, value in transform.items():
            if name in ("kind", "train_only") or value is None:
                continue
            known = name.replace("_", " ")
            is_long = isinstance(value, list | tuple) and len(value) > _LONGEST_LISTED
            words.append(f"{known} {f'of {len(value):,} values' if is_long else _value(value)}")
        if transform.get("train_only"):
            words.append("in training only")
        listed = f" ({'; '.join(words)})" if words else ""
        told.append(f"{transform.get('kind', '?')}{listed}")
    return ", then ".join(told)


def _is_idle(name: str, value: Any, model: Any) -> bool:
    """Whether an option says nothing: hidden layers' activation in a model that has none."""
    if str(model) not in _MODELS_WITHOUT_HIDDEN_LAYERS:
        return False
    return name == "activation" or (name == "init" and value == "default")


def _spread(spread: Spread | None) -> str:
    """Mean and, of several seeds, the range in a second line."""
    if spread is None:
        return ""
    if spread.low == spread.high:
        return f"{spread.mean:.4g}"
    return f"{spread.mean:.3g}\n{spread.low:.3g} to {spread.high:.3g}"


def _heading(name: str) -> str:
    words = name.replace("_", " ").replace("val ", "validation ").replace(" r2", " R²")
    return words.replace("train ", "training ")


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

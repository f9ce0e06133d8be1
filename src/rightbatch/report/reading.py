"""Reading what a report is made of: run folders, and what `--json` printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rightbatch.advice.comparison import Comparison
from rightbatch.advice.landscape_map import Landscape
from rightbatch.advice.timing import Speed
from rightbatch.errors import OptionError
from rightbatch.report.findings import Origin, RunCurve, Study, joined, of_comparison
from rightbatch.training.provenance import Provenance
from rightbatch.training.result import FitResult

Result = str | Path | Comparison | Speed | FitResult

_READABLE = (
    "a run folder (rightbatch train … --out RUN) or a JSON file that `rightbatch compare --json` "
    "or `rightbatch speed --json` printed"
)


def read_results(results: Sequence[Result]) -> tuple[list[Study], list[Speed]]:
    """Studies and speeds in the order given; all run folders together are one study.

    Raises OptionError where a path holds none of them, or a result has no run folder.
    """
    if not results:
        raise OptionError(f"a report needs a result to show: give {_READABLE}")
    runs: list[tuple[Path, dict[str, Any]]] = []
    studies: list[Study] = []
    speeds: list[Speed] = []
    for result in results:
        if isinstance(result, FitResult):
            if result.run is None:
                raise OptionError(
                    "this FitResult has no run folder, and a report needs what is kept there: "
                    "train with rb.fit(…, out=FOLDER)"
                )
            result = result.run
        if isinstance(result, str | Path) and Path(result).is_dir():
            runs.append((Path(result), _config(Path(result))))
            continue
        read = _read_json(Path(result)) if isinstance(result, str | Path) else result
        if isinstance(read, Speed):
            speeds.append(read)
        else:
            studies.append(of_comparison(read))
    if runs:
        names = _names([path for path, _ in runs])
        read_runs = [
            _read_run(path, config, name) for (path, config), name in zip(runs, names, strict=True)
        ]
        studies.insert(0, joined(read_runs))
    titles = _distinct([study.title for study in studies])
    return [
        replace(study, title=title) for study, title in zip(studies, titles, strict=True)
    ], speeds


def _read_json(path: Path) -> Comparison | Speed:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OptionError(f"{path} does not exist: give {_READABLE}") from error
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} can not be read as JSON: {error}. Give {_READABLE}") from error
    found = sorted(stored) if isinstance(stored, dict) else []
    kind = Comparison if "curves" in found else Speed if "points" in found else None
    if kind is None:
        what = f"an object with {', '.join(found[:6])}" if found else f"a {type(stored).__name__}"
        raise OptionError(
            f"{path} holds {what}, and neither `curves` nor `points`: give {_READABLE}"
        )
    try:
        return kind.from_json(stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f"{path} looks like a {kind.__name__.lower()} and can not be read as one "
            f"({type(error).__name__}: {error}). Make it anew with this version of rightbatch"
        ) from error


def _config(run: Path) -> dict[str, Any]:
    config = _stored(run / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("options"), dict):
        raise OptionError(
            f"{run} is no run folder: it has no config.json of a run. Give {_READABLE}"
        )
    return config


def _read_run(run: Path, config: dict[str, Any], name: str) -> Study:
    options = config["options"]
    sizes = {part: int(size) for part, size in config.get("sizes", {}).items()}
    train_samples = sizes.get("train", 0)
    asked = options.get("batch_size", "full")
    is_full = asked == "full" or 0 < train_samples <= int(asked)
    history = [row for row in _lines(run / "history.jsonl") if "epoch" in row]
    if not history:
        raise OptionError(
            f"{run} has no epoch in its history yet: report on it when the first one is done"
        )
    curve = RunCurve(
        name=name,
        batch_size=train_samples if is_full else int(asked),
        is_full=is_full,
        learning_rate=float(options.get("learning_rate", 0.0)),
        seed=int(options.get("seed", 0)),
        history=history,
        step_losses=[
            (int(row["step"]), float(row["loss"]))
            for row in _lines(run / "steps.jsonl")
            if row.get("loss") is not None
        ],
    )
    data = config.get("data", {})
    provenance = Provenance(
        command=config.get("command_line"),
        data=str(data.get("name", "data")),
        fingerprint=str(data.get("fingerprint", "")),
        sizes=sizes,
        split=config.get("split", {}),
        duplicate_samples=config.get("duplicate_samples"),
        environment=_stored(run / "environment.json") or {},
    )
    stored_landscape = _stored(run / "landscape.json")
    landscapes = [] if stored_landscape is None else [(name, _landscape(run, stored_landscape))]
    return Study(
        title=f"{config.get('model', 'model')} on {provenance.data}",
        curves=[curve],
        origins=[
            Origin(
                name=name,
                provenance=provenance,
                facts={"model": config.get("model"), "loss": config.get("loss"), **_told(options)},
                columns=config.get("columns", []),
                transforms=_stored(run / "transforms.json") or [],
                classes=config.get("classes"),
                result=_stored(run / "result.json") or {},
            )
        ],
        landscapes=landscapes,
    )


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """The options that say something: those left at nothing say nothing."""
    silent = ("loss", "checkpoint_seconds")
    return {
        name.replace("_", " "): value
        for name, value in options.items()
        if value is not None and name not in silent
    }


def _landscape(run: Path, stored: Any) -> Landscape:
    try:
        return Landscape.from_json(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(
            f"{run / 'landscape.json'} can not be read: {error}. Delete it, or run anew"
        ) from error


def _stored(path: Path) -> Any:
    """What a JSON file holds, None where there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} can not be read: {error}") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            # A run that is under way may be in the middle of its last line.
            if number == len(lines):
                break
            raise OptionError(f"{path}, line {number}, is no JSON: {error}") from error
    return rows


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, with the parents' before them where they would be the same."""
    resolved = [run.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(set(resolved)):
            break
    # The same folder twice is still two curves.
    return _distinct(names)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after each that was there before."""
    return [
        name if names[:place].count(name) == 0 else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]

"""Reading what a report is made of: run folders, and what `--json` printed."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rightbatch.advice.advice import Advice
from rightbatch.advice.comparison import Comparison
from rightbatch.advice.landscape_map import Landscape
from rightbatch.advice.timing import Speed
from rightbatch.errors import OptionError
from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.report.checking import Check, WrongFieldError, naming
from rightbatch.report.findings import Origin, RunCurve, Study, joined, of_comparison
from rightbatch.report.stored_advice import advice_fields, with_infinities
from rightbatch.report.stored_fields import (
    comparison_fields,
    config_fields,
    environment_fields,
    epoch_fields,
    landscape_fields,
    result_fields,
    speed_fields,
    step_fields,
    transforms_fields,
)
from rightbatch.report.stored_shuffle import shuffle_fields
from rightbatch.training.history import finite_json
from rightbatch.training.provenance import Provenance
from rightbatch.training.result import FitResult

Result = str | Path | Advice | Comparison | Speed | ShuffleQuality | FitResult

logger = logging.getLogger(__name__)

_READABLE = (
    "a run folder (rightbatch train … --out RUN) or a JSON file that `rightbatch advise --json`, "
    "`rightbatch compare --json`, `rightbatch speed --json` or `rightbatch inspect "
    "--shuffle-quality --json` printed"
)

_ANEW = "Make it anew with this version of rightbatch."


class Results(NamedTuple):
    """What was read: runs as studies, timings, advice on the batch size, and shuffles."""

    studies: list[Study]
    speeds: list[Speed]
    advices: list[Advice]
    shuffles: list[ShuffleQuality]


def read_results(results: Sequence[Result]) -> Results:
    """Everything by kind, in the order given; all run folders together are one study.

    What is given twice is drawn once. Raises OptionError where a path holds no result, a field of
    it holds what it may not, or a FitResult has no run folder.
    """
    if not results:
        raise OptionError(f"a report needs a result to show: give {_READABLE}")
    runs: list[tuple[Path, dict[str, Any]]] = []
    studies: list[Study] = []
    speeds: list[Speed] = []
    advices: list[Advice] = []
    shuffles: list[ShuffleQuality] = []
    seen: set[Path | int] = set()
    for result in results:
        if isinstance(result, FitResult):
            if result.run is None:
                raise OptionError(
                    "this FitResult has no run folder, and a report needs what is kept there: "
                    "train with rb.fit(…, out=FOLDER)"
                )
            result = result.run
        if isinstance(result, str | Path):
            result = Path(result)
        same = result.resolve() if isinstance(result, Path) else id(result)
        if same in seen:
            logger.warning("%s is given twice; the report shows it once", result)
            continue
        seen.add(same)
        if isinstance(result, Path) and result.is_dir():
            runs.append((result, _config(result)))
            continue
        read = _read_json(result) if isinstance(result, Path) else result
        if isinstance(read, Speed):
            speeds.append(read)
        elif isinstance(read, Advice):
            advices.append(read)
        elif isinstance(read, ShuffleQuality):
            shuffles.append(read)
        else:
            studies.append(of_comparison(read))
    if runs:
        names = _names([path for path, _ in runs])
        read_runs = []
        for (path, config), name in zip(runs, names, strict=True):
            with naming(str(path), advice=_ANEW):
                read_runs.append(_read_run(path, config, name))
            advices += _advice_of(path)
        studies.insert(0, joined(read_runs))
    titles = _distinct([study.title for study in studies])
    return Results(
        studies=[replace(study, title=title) for study, title in zip(studies, titles, strict=True)],
        speeds=speeds,
        # That of a run lies in its folder as well.
        advices=list({repr(finite_json(advice.to_json())): advice for advice in advices}.values()),
        shuffles=shuffles,
    )


def _read_json(path: Path) -> Advice | Comparison | Speed | ShuffleQuality:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OptionError(f"{path} does not exist: give {_READABLE}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path} can not be read as JSON: {error}. Give {_READABLE}") from error
    # What `inspect` printed has it beside the columns and splits.
    if isinstance(stored, dict) and isinstance(stored.get("shuffle_quality"), dict):
        stored = stored["shuffle_quality"]
    found = sorted(stored) if isinstance(stored, dict) else []
    if not {"reasons", "curves", "points", "travel"} & set(found):
        what = f"an object with {', '.join(found[:6])}" if found else f"a {type(stored).__name__}"
        raise OptionError(
            f"{path} holds {what}, and none of `reasons`, `curves`, `points` and "
            f"`travel`: give {_READABLE}"
        )
    with naming(str(path), advice=_ANEW):
        if "reasons" in found:
            advice_fields(stored, "")
            return Advice.from_json(with_infinities(stored))
        if "curves" in found:
            comparison_fields(stored, "")
            return Comparison.from_json(stored)
        if "travel" in found:
            shuffle_fields(stored, "")
            return ShuffleQuality.from_json(stored)
        speed_fields(stored, "")
        return Speed.from_json(stored)


def _config(run: Path) -> dict[str, Any]:
    config = _stored(run / "config.json", config_fields)
    if config is None:
        raise OptionError(
            f"{run} is no run folder: it has no config.json of a run. Give {_READABLE}"
        )
    return dict(config)


def _read_run(run: Path, config: dict[str, Any], name: str) -> Study:
    options = config["options"]
    sizes = config.get("sizes", {})
    train_samples = sizes.get("train", 0)
    asked = options.get("batch_size", "full")
    if asked != "full" and (not isinstance(asked, int) or asked < 1):
        raise WrongFieldError(
            "config.json: options.batch_size", asked, "a whole number from 1 on or 'full'"
        )
    is_full = asked == "full" or 0 < train_samples <= asked
    history = [
        row for row in _lines(run / "history.jsonl", epoch_fields) if row.get("epoch") is not None
    ]
    if not history:
        raise OptionError(
            f"{run} has no epoch in its history yet: report on it when the first one is done"
        )
    curve = RunCurve(
        name=name,
        batch_size=max(train_samples, 1) if is_full else asked,
        is_full=is_full,
        learning_rate=float(options.get("learning_rate", 0.0)),
        seed=int(options.get("seed", 0)),
        history=history,
        step_losses=[
            (row["step"], float(row["loss"]))
            for row in _lines(run / "steps.jsonl", step_fields)
            if row["loss"] is not None
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
        transforms=_stored(run / "transforms.json", transforms_fields) or [],
        environment=_stored(run / "environment.json", environment_fields) or {},
    )
    mapped = _stored(run / "landscape.json", landscape_fields)
    landscapes = [] if mapped is None else [(name, Landscape.from_json(mapped))]
    return Study(
        title=f"{config.get('model', 'model')} on {provenance.data}",
        curves=[curve],
        origins=[
            Origin(
                name=name,
                provenance=provenance,
                facts={"model": config.get("model"), "loss": config.get("loss"), **_told(options)},
                columns=config.get("columns", []),
                classes=config.get("classes"),
                result=_stored(run / "result.json", result_fields) or {},
            )
        ],
        landscapes=landscapes,
    )


def _advice_of(run: Path) -> list[Advice]:
    """The advice that the run was trained by, where there was one."""
    stored = _stored(run / "advice.json", advice_fields)
    return [] if stored is None else [Advice.from_json(with_infinities(stored))]


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """The options that say something: those left at nothing say nothing."""
    silent = ("loss", "checkpoint_seconds")
    return {
        name.replace("_", " "): value
        for name, value in options.items()
        if value is not None and name not in silent
    }


def _stored(path: Path, fields: Check) -> Any:
    """What a JSON file holds, None where there is no file."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path} can not be read: {error}") from error
    with naming(str(path), advice=_ANEW):
        fields(stored, "")
    return stored


def _lines(path: Path, fields: Check) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} can not be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # A run that is under way may be in the middle of its last line.
            if number == len(lines):
                break
            raise OptionError(f"{path}, line {number}, is no JSON: {error}") from error
        with naming(f"{path}, line {number},", advice=_ANEW):
            fields(row, "")
        rows.append(row)
    return rows


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, with the parents' before them where they would be the same."""
    resolved = [run.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return names


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after each that was there before."""
    return [
        name if names[:place].count(name) == 0 else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]

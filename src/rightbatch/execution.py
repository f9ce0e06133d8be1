"""A training whose options are all known: fit, test, keep the run, report."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn

from rightbatch.advice.advice import Advice
from rightbatch.advice.landscape import PathMap
from rightbatch.data.opening_files import names_a_set
from rightbatch.data.remote_url import shown_url
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.loading.quarantine import Quarantine
from rightbatch.loading.token_batches import parts_with_padding
from rightbatch.options import DataOptions, TrainOptions
from rightbatch.preparation import model_to_fit
from rightbatch.report.page import write_report
from rightbatch.run_report import RunReport
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE
from rightbatch.training.evaluate_part import evaluate
from rightbatch.training.fit import fit
from rightbatch.training.history import finite_json
from rightbatch.training.progress import Watcher
from rightbatch.training.rank_agreement import is_own
from rightbatch.training.ranks import Ranks
from rightbatch.training.run_folder import RunFolder


def fit_and_test(
    data: DataOptions,
    training: TrainOptions,
    parts: Parts,
    folder: RunFolder,
    *,
    network: nn.Module | None = None,
    config: dict[str, Any],
    advice: Advice | Path | None = None,
    report: str | Path | None = None,
    progress: Watcher | None = None,
    is_resumed: bool = False,
    allow_new_batch_size: bool = False,
) -> RunReport:
    """Train with options whose batch size is known, test, and write down how it went.

    `advice` is what the batch size is from, or for a resumed run the file that holds it.
    """
    options = replace(
        training.fit_options(seed=data.seed),
        on_bad_sample=data.on_bad_sample,
        max_bad=data.max_bad,
        weights=data.weights,
    )
    if options.batch_tokens is not None:
        parts = parts_with_padding(parts)
    to_fit = model_to_fit(str(training.model), seed=data.seed) if network is None else network
    ranks = Ranks.here()
    path = PathMap(to_fit, parts, options) if report is not None and ranks.is_first else None
    result = fit(
        to_fit,
        parts,
        **asdict(options),
        device=training.device,
        out=folder.path,
        resume=is_resumed,
        allow_new_batch_size=allow_new_batch_size,
        config=config,
        progress=progress,
        on_step=path,
    )
    # The test part's bad samples count with those of training and validation.
    quarantine = Quarantine.resolve(options.on_bad_sample, options.max_bad, len(parts.data))
    if quarantine is not None:
        quarantine.restore([asdict(sample) for sample in result.bad_samples])
    row = result.history[result.best_epoch - 1]
    metric = result.task.loss.metric
    made = RunReport(
        run=str(folder.path),
        data=parts.data.name,
        model=type(network).__name__ if network is not None else str(training.model),
        metric=metric,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        steps=result.steps,
        batch_size=result.batch_size,
        batch_tokens=result.batch_tokens,
        micro_batch_size=result.micro_batch_size,
        learning_rate=options.learning_rate,
        target_loss=options.target_loss,
        train_loss=row["train_loss"],
        val={name: row[f"val_{name}"] for name in ("loss", metric)} if parts.val else None,
        test=evaluate(
            result,
            parts.test,
            batch_size=options.evaluation_batch_size or EVALUATION_BATCH_SIZE,
            batch_tokens=options.batch_tokens,
            memory=options.memory,
            on_bad_sample="stop" if quarantine is None else quarantine,
        )
        if parts.test
        else None,
        seconds=result.seconds,
        loading_seconds=result.history[-1].get("loading_seconds", 0.0),
        samples_per_second=result.samples_per_second,
        leaked_samples=result.leaked_samples,
        bad_samples=0,
        duplicate_samples=parts.duplicate_samples,
        advice=None if isinstance(advice, Path) else advice,
    )
    if quarantine is not None and len(quarantine):
        made = replace(made, bad_samples=len(quarantine))
    if not ranks.is_first:
        return made
    if quarantine is not None and len(quarantine):
        folder.write_json(folder.bad_samples, quarantine.to_json())
    folder.write_json(folder.result, finite_json(made.result_json()))
    landscape = path.landscape() if path is not None else None
    if landscape is not None:
        folder.write_json(folder.landscape, landscape.to_json())
    if report is None:
        return made
    shown = [folder.path] if advice is None else [folder.path, advice]
    return replace(made, report=str(write_report(report, *shown)))


def stored_command(data: DataOptions, training: TrainOptions) -> dict[str, Any]:
    """The options as a run's config.json keeps them, to go on by."""
    return {"data": data.to_json(), "training": training.to_json()}


def absolute(data: str) -> str:
    """The data as they can be found from another folder: a path made absolute, a name as it is.

    Of a URL, what is secret in it is left out.
    """
    if names_a_set(data) or "://" in data:
        return shown_url(data)
    return str(Path(data).expanduser().absolute())


def refuse_taken(run: Path) -> None:
    """OptionError where `run` holds a run already: said before large data are read.

    A job that torchrun has started anew goes on with its own.
    """
    folder = RunFolder(run)
    if folder.config.exists() and not is_own(folder):
        raise OptionError(
            f"{run} holds a run already: go on with it (--resume {run}) or choose another folder"
        )


def new_folder(data: str, model: str) -> Path:
    """`runs/DATA-MODEL-TIME`, with a number where two runs begin within one second."""
    stems = [re.sub(r"[^\w.-]+", "-", Path(piece).stem).strip("-.") for piece in Path(data).parts]
    word = next((stem for stem in reversed(stems) if stem), "data")
    network = re.sub(r"[^\w.]+", "-", Path(model).name).strip("-")
    time = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"{word}-{network}-{time}"
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{word}-{network}-{time}-{number}")
        number += 1
    return folder

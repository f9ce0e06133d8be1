"""What reads the parts of a run: batches to train on, and the evaluation of the validation part."""

from __future__ import annotations

import torch

from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Part
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE, Evaluation, Reading
from rightbatch.training.options import FitOptions
from rightbatch.training.ranks import Ranks
from rightbatch.training.task import Task


def training_batches(
    part: Part,
    task: Task,
    options: FitOptions,
    reading: Reading,
    device: torch.device | None,
    ranks: Ranks,
) -> Batches:
    """The batches that a run trains on; of several ranks this one's share of each."""
    return Batches(
        task.prepare(part),
        options.batch_size if options.batch_tokens is None else None,
        batch_tokens=options.batch_tokens,
        seed=options.seed,
        shuffle=options.shuffle,
        window=options.window,
        block=options.block,
        weights=options.weights,
        epoch_samples=options.epoch_samples,
        **reading.options,
        with_rows=True,
        output="torch",
        device=device,
        device_memory=options.device_memory,
        threads=1,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


def validation_of(
    part: Part | None,
    task: Task,
    options: FitOptions,
    reading: Reading,
    device: torch.device | None,
    ranks: Ranks,
) -> Evaluation | None:
    """The evaluation of the validation part after each epoch; None where there is no such part."""
    if part is None:
        return None
    size = min(options.evaluation_batch_size or EVALUATION_BATCH_SIZE, len(part))
    return Evaluation(
        task.prepare(part),
        options.batch_tokens or size,
        by_tokens=options.batch_tokens is not None,
        device=device,
        threads=1,
        reading=reading,
        ranks=ranks,
    )

"""`predict`: a model over samples it has not seen, in batches, in their order."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Never

import torch
from torch import Tensor, nn

from rightbatch.data.dataset import Dataset
from rightbatch.errors import OptionError, is_out_of_memory
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.refused_options import refuse_options
from rightbatch.loading.tensors import find_device
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.training.building import beyond_vocabulary
from rightbatch.training.evaluate import (
    EVALUATION_BATCH_SIZE,
    Score,
    evaluation_mode,
)
from rightbatch.training.kept_inputs import refuse_inputs
from rightbatch.training.output_task import UnknownLoss
from rightbatch.training.prediction import Prediction
from rightbatch.training.prediction_files import Kept, Sink, open_sink
from rightbatch.training.prediction_passes import ONE_IS_TOO_MUCH, Passes
from rightbatch.training.rank_passes import RankPasses, agree_to_predict, together
from rightbatch.training.ranks import Ranks
from rightbatch.training.result import FitResult
from rightbatch.training.saved_model import load_saved

logger = logging.getLogger(__name__)

_ONCE = "every sample is predicted once: leave it out"
_NOT_TAKEN = {
    "weights": _ONCE,
    "epoch_samples": _ONCE,
    "batch_tokens": "samples are predicted in their order, and what is predicted does not depend "
    "on the batch: give batch_size",
    "precision": "predictions are made in float32: leave it out",
    "compile": "the model is run as it is: leave it out, or give torch.compile(model)",
}


def predict(
    model: FitResult | nn.Module | str | Path | Mapping[str, Any],
    part: Part | Dataset | Any,
    *,
    batch_size: int | str = EVALUATION_BATCH_SIZE,
    memory: str | int | float | None = None,
    activation: str | None = None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    network: nn.Module | None = None,
    out: str | Path | None = None,
    threads: int | None = None,
    device: str | torch.device | None = None,
    **not_taken: Never,
) -> Prediction:
    """What a model says of every sample of a part, in the order of the part.

    `model` is what `fit` gave, a `torch.nn.Module`, the folder of a run, or weights: a `.npz`,
    `.safetensors` or `.pkl` file or a mapping of the arrays W1 (inputs x outputs), b1 (outputs),
    W2, b2, …, which are a dense network with `activation` (`relu`, `sigmoid`, `tanh`) between its
    layers. No file of them can run code. `part` is a part of a split, or anything that `open`
    takes, all of whose samples are predicted.

    A run's folder and what `fit` gave bring the transforms of their held-out parts, which take the
    place of those of the part; their columns are found by name, and texts coded as in training. A
    folder has functions by name alone, and takes them from the part; a run of a `torch.nn.Module`
    needs `network`, a module of the same kind. For other models the transforms of the part stay.

    Outputs become class probabilities by a softmax, or by a sigmoid for `binary_cross_entropy`;
    with the loss `squared_error` they are quantities. The loss is that of the training; of modules
    and weights it follows from outputs and target, or is given as `loss`.

    The result does not depend on `batch_size`, a number or "full"; the last batch is smaller. A
    batch that memory has no room for is halved with a warning, and the rest follows in batches of
    that size. `memory="512MB"` bounds what reading takes of data in files that are larger (see
    `Batches`). `out` (`.npy`, `.csv`, `.parquet`) is written as it goes, so that memory does not
    grow with the data, and replaced only once it is whole; a file that model or data are read from
    is refused. `.npy` holds probabilities or values, the others a row a sample: `row` (its number
    in the source, from 0), `target` where there is one, `predicted`, and `probability_CLASS` each.
    `threads` are torch's CPU threads for the time of the call. The model and its mode are as
    before afterwards.

    In a process group of torch all ranks call `predict` alike. Whole batches are dealt to them in
    turn, so that each is worked out in the shape that it has in one process: files, arrays and
    scores are those of one process to the bit, at the same number of torch's threads (torchrun
    gives each process one). Every rank has the whole result; with `out` rank 0 writes the file. A
    rank holds the outputs of some batches of all ranks, never those of all data. An error of one
    rank is raised on all.

    Raises OptionError where model, data and options do not belong together, DataError where the
    data are not such as the model learned from, or a file of weights is refused, RankError where
    ranks differ in data, weights or options, or one of them has ended.

    >>> import numpy as np
    >>> import rightbatch as rb
    >>> weights = {"W1": np.array([[1.0, 0.0], [0.0, 1.0]]), "b1": np.zeros(2)}
    >>> prediction = rb.predict(weights, ([[3.0, 1.0], [0.0, 2.0]], [0, 0]))
    >>> prediction.predicted, prediction.accuracy
    (array([0, 1]), 0.5)
    >>> np.asarray(prediction).round(3)
    array([[0.881, 0.119],
           [0.119, 0.881]], dtype=float32)
    """
    refuse_options("predict", not_taken, _NOT_TAKEN)
    if isinstance(part, Parts):
        named = ", ".join(f"parts.{name}" for name in part.all)
        raise OptionError(f"predict takes one part, and was given all of them: {named}")
    began = time.perf_counter()
    ranks = Ranks.here()
    with together(ranks, model):
        saved = load_saved(model, activation=activation, loss=loss, network=network)
        if not isinstance(part, Part):
            part = saved.whole(part)
        output = None if out is None else Path(out).expanduser()
        if output is not None:
            refuse_inputs(output, model, part.data)
        try:
            prepared, task = saved.fit_to(part)
        except IndexError as error:
            raise beyond_vocabulary(part.data.name, error) from error
        except Exception as error:
            if is_out_of_memory(error):
                error.add_note(ONE_IS_TOO_MUCH)
            raise
        size = min(resolve_batch_size(batch_size, len(part)), len(part))
        if threads is not None:
            threads = whole_number("threads", threads, at_least=1)
        sink: Sink = Kept(len(part))
        if output is not None and ranks.is_first:
            sink = open_sink(output, len(part))
        kind: Callable[..., Passes] = Passes
        if not ranks.is_alone:
            kind = partial(RankPasses, ranks=ranks, to_all=output is None)
        passes = kind(
            network=saved.network,
            task=task,
            part=prepared,
            batch_size=size,
            memory=memory,
            takes_target=sink.takes_target,
        )
        score = Score(metric=task.loss.metric)
        asked = {"batch_size": size, "activation": activation, "out": str(output)}
        asked |= {"loss": task.loss.name, "target": part.data.target}
        with sink, _settings(saved.network, threads, device) as passes.network:
            agree_to_predict(ranks, saved.network, part, prepared, asked)
            for piece in passes.pieces(score):
                sink.add(piece)
            sink.finish()
        score = passes.settle(score)
    has_scores = prepared.data.target is not None
    if passes.not_finite:
        logger.warning(
            f"{saved.name}: the outputs of {passes.not_finite:,} of {len(part):,} samples are NaN "
            "or infinite; the model has diverged, or an input holds such a value"
        )
    scores = score.result() if has_scores else {}
    kept = sink.arrays if isinstance(sink, Kept) else {}
    return Prediction(
        samples=len(part),
        batch_size=passes.batch_size,
        seconds=time.perf_counter() - began,
        loss=None if isinstance(task.loss, UnknownLoss) else scores.get("loss"),
        correct=score.correct if "accuracy" in scores else None,
        tokens=score.samples if task.is_per_token and "accuracy" in scores else None,
        accuracy=scores.get("accuracy"),
        r2=scores.get("r2"),
        classes=passes.labels,
        out=output,
        **kept,
    )


@contextmanager
def _settings(
    network: nn.Module, threads: int | None, device: str | torch.device | None
) -> Iterator[nn.Module]:
    """The network in evaluation mode, on the device; modes and threads are put back."""
    first = next(network.parameters(), None)
    if device is not None:
        wanted = find_device(device)
        if first is not None and first.device != wanted:
            # The caller's model stays where it is.
            network = copy.deepcopy(network).to(wanted)
    threads_before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with evaluation_mode(network):
            yield network
    finally:
        torch.set_num_threads(threads_before)

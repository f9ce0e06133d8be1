"""`evaluate`: measure a model over a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Never

import torch
from torch import Tensor, nn

from rightbatch.errors import OptionError
from rightbatch.loading.parts import Part
from rightbatch.loading.quarantine import Quarantine
from rightbatch.loading.refused_options import refuse_options
from rightbatch.loading.token_batches import refuse_with_tokens, with_padding, with_padding_of
from rightbatch.training.building import task_of
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE, Evaluation, Reading
from rightbatch.training.matching import match
from rightbatch.training.rank_passes import agree_to_predict
from rightbatch.training.ranks import Ranks
from rightbatch.training.result import FitResult

_ONCE = "a model is measured on every sample once: leave it out"
_NOT_TAKEN = {"weights": _ONCE, "epoch_samples": _ONCE}


def evaluate(
    model: nn.Module | FitResult,
    part: Part,
    *,
    batch_size: int | str = EVALUATION_BATCH_SIZE,
    batch_tokens: int | None = None,
    memory: str | int | float | None = None,
    on_bad_sample: str | Quarantine = "stop",
    max_bad: int | float | None = None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    device: str | torch.device | None = None,
    **not_taken: Never,
) -> dict[str, float]:
    """Loss and accuracy (or R²) of a model over a part, exact whatever the batch size.

    For a `FitResult` the loss is that of its training, and so is the padding of samples that vary
    in length; `batch_tokens` takes those in batches of so many tokens. The mean is over samples, so
    a smaller last batch weighs what it holds. R² weighs several outputs by how much they vary.
    `memory`, `on_bad_sample` and `max_bad` are those of `Batches`: bad samples do not count.

    In a process group of torch all ranks call `evaluate` alike; each takes its share of the part,
    and all have the scores of the whole.

    Raises OptionError where model or part is none, or the model does not fit the data, DataError
    where a `FitResult` has not learned from such columns or texts, RankError where ranks differ in
    data or weights.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("iris"), test=0.2, stratify=True)
    >>> result = rb.fit("softmax", parts, epochs=20, learning_rate=0.1)
    >>> sorted(rb.evaluate(result, parts.test))
    ['accuracy', 'loss']
    """
    refuse_options("evaluate", not_taken, _NOT_TAKEN)
    if not isinstance(part, Part):
        raise OptionError(
            f"evaluate takes one part and was given {type(part).__name__}: parts.val, parts.test"
        )
    if not isinstance(model, (FitResult, nn.Module)):
        raise OptionError(
            f"evaluate takes what rb.fit gave or a torch.nn.Module, and was given {model!r}"
        )
    if batch_tokens is not None:
        if batch_size != EVALUATION_BATCH_SIZE:
            refuse_with_tokens({"batch_size": batch_size})
        refuse_with_tokens({"memory": memory, "on_bad_sample": on_bad_sample})
    if isinstance(model, FitResult):
        network, task = model.model, model.task
        # The columns by name, the texts by the codes that the model has learned.
        part = with_padding_of(match(part, model.inputs, model.target), model.transforms)
    else:
        if batch_tokens is not None:
            part = with_padding(part)
        network, task = model, task_of(model, part, loss)
    first = next(network.parameters(), None)
    if device is None and first is not None:
        device = first.device
    size = min(batch_size, len(part)) if isinstance(batch_size, int) else batch_size
    prepared = task.prepare(part, is_checked=True)
    quarantine = (
        on_bad_sample
        if isinstance(on_bad_sample, Quarantine)
        else Quarantine.resolve(on_bad_sample, max_bad, len(part))
    )
    reading = Reading(memory=memory, quarantine=quarantine)
    ranks = Ranks.here()
    options = {"the loss": task.loss.name, "batch_tokens": batch_tokens}
    agree_to_predict(ranks, network, part, prepared, options, aim="evaluate together")
    evaluation = Evaluation(
        prepared,
        size if batch_tokens is None else batch_tokens,
        by_tokens=batch_tokens is not None,
        device=device,
        reading=reading,
        ranks=ranks,
    )
    return evaluation.score(network, task.loss)

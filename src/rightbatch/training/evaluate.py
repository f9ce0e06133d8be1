"""Exact evaluation: loss and metric of a model over a part, whatever the batch size."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rightbatch.errors import DataError, MemoryLimitError, is_out_of_memory
from rightbatch.loading.batches import Batches
from rightbatch.loading.memory_budget import BudgetError
from rightbatch.loading.parts import Part
from rightbatch.loading.quarantine import Quarantine, refuse_too_many_of_all
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.ranks import rank_span
from rightbatch.plan.token_plan import TokenPlan
from rightbatch.training.losses import Loss, is_tokens, unmasked
from rightbatch.training.memory import release_memory
from rightbatch.training.ranks import Ranks
from rightbatch.training.sharded import is_sharded
from rightbatch.training.step import samples_at

logger = logging.getLogger(__name__)

# Only time depends on this: sums are over samples.
EVALUATION_BATCH_SIZE = 1024


@dataclass
class Score:
    """Sums over samples, or unmasked tokens, from which the exact means follow.

    `samples` is what the means are over: tokens, where the target has one a token.

    >>> score = Score(metric="accuracy")
    >>> score.add(torch.tensor([0.5, 0.1]), torch.tensor([[2.0, 0.0], [0.0, 1.0]]),
    ...           torch.tensor([0, 0]))
    >>> score.result()["accuracy"]
    0.5
    """

    metric: str
    samples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    squared_error: float = 0.0
    target_mean: Any = 0.0
    target_squares: Any = 0.0

    def add(self, losses: Tensor, outputs: Tensor, target: Tensor) -> None:
        """Count one batch: per-sample losses (B,), outputs (B, K), encoded target."""
        added = len(target)
        self.loss_sum += losses.double().sum().item()
        if is_tokens(target):
            added = unmasked(target)
            if self.metric == "accuracy":
                # Of a masked token nothing is right: no class is below zero.
                self.correct += int((outputs.argmax(-1) == target).sum())
        elif self.metric == "accuracy":
            self.correct += int((predicted_classes(outputs) == _true_classes(target)).sum())
        elif self.metric == "r2":
            values = target.reshape(added, -1).double().cpu().numpy()
            difference = outputs.reshape(added, -1).double().cpu().numpy() - values
            self.squared_error += float(np.square(difference).sum())
            mean = values.mean(axis=0)
            self._merge_target(mean, np.square(values - mean).sum(axis=0), added)
        self.samples += added

    def merge(self, other: Score) -> None:
        """Count what another score has counted, of other samples.

        >>> both = Score(metric="r2")
        >>> for values in ([0.0, 2.0], [1.0]):
        ...     part, target = Score(metric="r2"), torch.tensor(values)
        ...     part.add(torch.zeros(len(target)), torch.ones(len(target)), target)
        ...     both.merge(part)
        >>> both.result()["r2"], both.samples
        (0.0, 3)
        """
        self.loss_sum += other.loss_sum
        self.correct += other.correct
        self.squared_error += other.squared_error
        if self.metric == "r2" and other.samples:
            self._merge_target(
                np.asarray(other.target_mean), np.asarray(other.target_squares), other.samples
            )
        self.samples += other.samples

    def _merge_target(self, mean: Any, squares: Any, added: int) -> None:
        # Merged as in `standardize`: exact where the mean is large against the spread.
        delta = mean - self.target_mean
        total = self.samples + added
        self.target_squares = (
            self.target_squares + squares + np.square(delta) * (self.samples * added / total)
        )
        self.target_mean = self.target_mean + delta * (added / total)

    def to_json(self) -> dict[str, Any]:
        """The sums as JSON, to be merged by another process: `Score(**sums)`."""
        sums = asdict(self)
        for name in ("target_mean", "target_squares"):
            sums[name] = np.asarray(sums[name]).tolist()
        return sums

    def result(self) -> dict[str, float]:
        """`loss` and `accuracy` or `r2`, each over all samples seen.

        R² is 1 - Σ (ŷ - y)² / Σ (y - mean y)², both sums over all outputs, so that an output
        weighs as much as it varies.
        """
        if not self.samples:
            raise DataError(
                "no sample of the part could be read or counts, so there is nothing to score; look "
                "at the samples that were left out, and at targets that are masked"
            )
        result = {"loss": self.loss_sum / self.samples}
        if self.metric == "accuracy":
            result["accuracy"] = self.correct / self.samples
        elif self.metric == "r2":
            # R² is not defined where every target is the same.
            spread = float(np.sum(self.target_squares))
            result["r2"] = 1.0 - self.squared_error / spread if spread else float("nan")
        return result


def predicted_classes(outputs: Tensor) -> Tensor:
    """The class codes (B,) that logits stand for: the largest of K, or the sign of one.

    Of logits a token, (B, T, K), the codes are (B, T).

    >>> predicted_classes(torch.tensor([[0.3], [-2.0]])).tolist()
    [1, 0]
    """
    if outputs.dim() > 2:
        return outputs.argmax(-1)
    if outputs.dim() == 1 or outputs.shape[1] == 1:
        return (outputs.reshape(-1) > 0).long()
    return outputs.argmax(1)


def _true_classes(target: Tensor) -> Tensor:
    return target.argmax(1) if target.dim() == 2 else target.long()


def count(model: nn.Module, batches: Batches, loss: Loss) -> Score:
    """The sums of `model` over one epoch of `batches`, in evaluation mode.

    The model is left in the mode it was in.
    """
    total = Score(metric=loss.metric)
    with evaluation_mode(model), torch.inference_mode():
        for batch in batches.epoch(0):
            inputs, target = batch[:2] if len(batch) == 2 else without_fillers(*batch)
            if not len(target):
                continue
            outputs = model(inputs)
            total.add(loss.per_sample(outputs, target), outputs, target)
    return total


def score(model: nn.Module, batches: Batches, loss: Loss) -> dict[str, float]:
    """Loss and metric of `model` over one epoch of `batches`, in evaluation mode."""
    return count(model, batches, loss).result()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How batches are read: `memory` and `on_bad_sample` of `Batches`, None for a bad one to stop.

    Several parts of the data may share a quarantine, which counts their bad samples together.
    """

    memory: str | int | float | None = None
    quarantine: Quarantine | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, for `Batches`."""
        return {
            "memory": self.memory,
            "on_bad_sample": "stop" if self.quarantine is None else self.quarantine,
        }


def without_fillers(inputs: Any, target: Tensor, weights: Tensor) -> tuple[Any, Tensor]:
    """The samples of a batch that weigh something: bad ones and padding are left out.

    The mean over them is the weighted mean over all, so a step on them is the exact one.
    """
    counts = weights > 0
    if bool(counts.all()):
        return inputs, target
    if isinstance(inputs, dict):
        return {name: values[counts] for name, values in inputs.items()}, target[counts]
    return inputs[counts], target[counts]


class Evaluation:
    """Scores of models over a part, in batches that memory has room for.

    Where it runs out, the batch is halved with a warning, the part begun again, and later scores
    are taken at that size: they are a function of it alone, and training knows nothing of it.
    The size counts samples, or with `by_tokens` tokens, padding counted. `threads` and `reading`
    are options of `Batches`.

    Of several ranks each takes its share of the part, in batches of its own, and all have the score
    of the whole part.
    """

    def __init__(
        self,
        part: Part,
        size: int | str,
        *,
        by_tokens: bool = False,
        device: torch.device | str | None,
        threads: int | None = None,
        reading: Reading = Reading(),
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._part, self._counts = part, True
        if not self._ranks.is_alone:
            self._part, self._counts = _share(part, self._ranks)
        self._reading = reading
        self._device = device
        self._by_tokens = by_tokens
        self._batches = self._cut(size, threads)

    @property
    def size(self) -> int:
        """The samples, or tokens, that are evaluated at a time."""
        plan = self._batches.plan
        return plan.tokens if isinstance(plan, TokenPlan) else plan.batch_size

    @property
    def _least(self) -> int:
        """The size below which there is no batch: one sample, or the longest one alone."""
        plan = self._batches.plan
        return int(plan.buckets.longest.max()) if isinstance(plan, TokenPlan) else 1

    def shrink(self, size: int) -> None:
        """Go on in smaller batches."""
        # Batches that are read ahead take memory as well.
        self._batches = self._cut(size, threads=0)

    def score(self, model: nn.Module, loss: Loss) -> dict[str, float]:
        """What `score` says of the model over the part.

        Raises MemoryLimitError where memory does not hold even one sample.
        """
        total = Score(metric=loss.metric)
        own = self._count(model, loss)
        if self._ranks.is_alone:
            return own.result()
        if is_sharded(model):
            self._keep_up(model)
        if not self._counts:
            own = total
        quarantine = self._reading.quarantine
        bad = None if quarantine is None else quarantine.to_json()
        for told in self._ranks.gather_json({"sums": own.to_json(), "bad": bad}):
            total.merge(Score(**told["sums"]))
            if quarantine is not None:
                quarantine.restore(told["bad"])
        if quarantine is not None:
            refuse_too_many_of_all(quarantine)
        return total.result()

    def _keep_up(self, model: nn.Module) -> None:
        """Take as many passes as the rank that has most: each pass is one of all ranks."""
        own = len(self._batches)
        most = int(self._ranks.gather([own]).max())
        with evaluation_mode(model), torch.inference_mode():
            for _ in range(own, most):
                model(samples_at(next(iter(self._batches.epoch(0)))[0], slice(0, 1)))

    def _count(self, model: nn.Module, loss: Loss) -> Score:
        while True:
            size, least = self.size, self._least
            try:
                result = count(model, self._batches, loss)
                self._batches.release_memory()
                return result
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size <= least:
                    raise MemoryLimitError(
                        "memory ran out over the evaluation of even a single sample: take a "
                        "smaller model, or a machine with more memory, or end what else is running"
                    ) from error
            # Outside of the except clause, which keeps the tensors of the batch alive.
            smaller = max(least, -(-size // 2))
            what = "tokens" if self._by_tokens else "samples"
            logger.warning(
                f"evaluating batches of {size:,} {what} finds no room in memory; going on with "
                f"{smaller:,}"
            )
            del self._batches
            release_memory()
            self.shrink(smaller)

    def _cut(self, size: int | str, threads: int | None) -> Batches:
        if not self._by_tokens:
            size = min(resolve_batch_size(size, len(self._part)), len(self._part))
        assert isinstance(size, int)  # tokens are a number
        while True:
            try:
                return Batches(
                    self._part,
                    None if self._by_tokens else size,
                    batch_tokens=size if self._by_tokens else None,
                    shuffle=False,
                    output="torch",
                    device=self._device,
                    threads=threads,
                    **self._reading.options,
                )
            except BudgetError:
                # The scores do not depend on it.
                if size == 1:
                    raise
                size = -(-size // 2)


def _share(part: Part, ranks: Ranks) -> tuple[Part, bool]:
    """The samples of the part that this rank evaluates, and whether they count.

    One that has none evaluates the first sample for nothing: a sharded model's ranks go together.
    """
    start, stop = rank_span(0, len(part), ranks.rank, ranks.world_size)
    has_some = stop > start
    span = (start, stop) if has_some else (0, 1)
    return replace(part, rows=part.rows.between(*span)), has_some


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of the context; every layer's own mode is put back."""
    # A layer may be frozen in evaluation mode while the model around it is being trained.
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training

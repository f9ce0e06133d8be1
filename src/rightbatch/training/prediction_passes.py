"""The forward passes of `predict`: batch after batch, turned into results, halved where need be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rightbatch.errors import OptionError, is_out_of_memory
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Part
from rightbatch.loading.transform import Function
from rightbatch.loading.transforms import Cast
from rightbatch.training.building import beyond_vocabulary
from rightbatch.training.evaluate import Score, predicted_classes
from rightbatch.training.memory import release_memory
from rightbatch.training.prediction_files import Piece
from rightbatch.training.task import Task

logger = logging.getLogger(__name__)

ONE_IS_TOO_MUCH = (
    "Even one sample at a time finds no room: use a smaller model or a machine with more memory, "
    "or end what else is running."
)
# Outputs of small batches are turned into results together: of one sample at a time, results cost
# twice what the network does.
_FINISHED_TOGETHER = 512


def finished_together(batch_size: int) -> int:
    """Of how many batches the outputs are turned into results at once.

    >>> finished_together(1024), finished_together(100), finished_together(1)
    (1, 6, 512)
    """
    return -(-_FINISHED_TOGETHER // batch_size)


@dataclass(kw_only=True)
class Passes:
    """The forward passes over a part, batch after batch, halved where memory runs out."""

    network: nn.Module
    task: Task
    part: Part
    batch_size: int
    memory: str | int | float | None
    takes_target: bool
    labels: list[Any] | None = None
    not_finite: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def pieces(self, score: Score) -> Iterator[Piece]:
        """What the model says of each batch, in order; `score` counts what can be counted."""
        done, has_halved = 0, False
        while done < len(self.part):
            is_out = False
            try:
                for piece, scored, not_finite in self._batches(done, has_halved):
                    if scored is not None:
                        _add(score, *scored)
                    self.not_finite += not_finite
                    done += len(piece)
                    yield piece
            except Exception as error:
                self._refuse_halving(error)
                is_out = True
            if is_out:  # outside of the except clause, which keeps the tensors of the batch alive
                has_halved = True
                self._halve(len(self.part) - done)

    def settle(self, score: Score) -> Score:
        """What was counted of all samples, when the pieces have come to their end."""
        return score

    def _refuse_halving(self, error: Exception) -> None:
        """Raise the error unless memory may have room for a smaller batch."""
        if is_out_of_memory(error) and self.batch_size > 1:
            return
        if is_out_of_memory(error):
            error.add_note(ONE_IS_TOO_MUCH)
        raise error

    def _halve(self, left: int) -> None:
        before = min(self.batch_size, left)
        self.batch_size = max(1, before // 2)
        logger.warning(
            f"a batch of {before:,} samples finds no room in memory; going on with "
            f"{self.batch_size:,}"
        )
        release_memory()

    def _batches(
        self, done: int, is_short_of_memory: bool
    ) -> Iterator[tuple[Piece, tuple[Tensor, Tensor, Tensor] | None, int]]:
        part = (
            self.part
            if done == 0
            else replace(self.part, rows=self.part.rows.between(done, len(self.part)))
        )
        held: list[tuple[Tensor, ...]] = []
        # Batches that are read ahead take memory as well.
        threads = 0 if is_short_of_memory else None
        size = min(self.batch_size, len(part))
        for outputs in self.forward(part, size, threads=threads):
            held.append(outputs)
            if len(held) == finished_together(self.batch_size):
                yield self._finish(held)
                held = []
        if held:
            yield self._finish(held)

    def forward(
        self,
        part: Part,
        batch_size: int,
        *,
        threads: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[tuple[Tensor, ...]]:
        """Outputs, rows, and the target where there is one, batch by batch.

        Of several ranks each gets every `world_size`-th batch, from batch `rank` on, and nothing
        where the last ones of the others are its own no more.
        """
        batches = Batches(
            part,
            batch_size * world_size,
            shuffle=False,
            memory=self.memory,
            with_rows=True,
            output="torch",
            device=self.device,
            device_memory=0,  # every sample is taken once: it is copied when its turn comes
            threads=threads,
            rank=rank,
            world_size=world_size,
            _rank_samples=batch_size,
        )
        has_target = part.data.target is not None
        for batch in batches.epoch(0):
            inputs, rows = batch[0], batch[-1]
            if not len(rows):
                yield ()
                continue
            # The mode belongs to the thread: left on at a yield, it would reach the caller.
            with torch.inference_mode():
                outputs = self._run(inputs, len(rows))
            yield (outputs, rows, batch[1]) if has_target else (outputs, rows)

    @property
    def device(self) -> torch.device | None:
        """Where the network is; None for one without parameters."""
        first = next(self.network.parameters(), None)
        return None if first is None else first.device

    def _finish(
        self, held: list[tuple[Tensor, ...]]
    ) -> tuple[Piece, tuple[Tensor, Tensor, Tensor] | None, int]:
        """Results, what is to be scored and the number of outputs that are not finite."""
        with torch.inference_mode():
            self.shapes |= {tuple(outputs.shape[1:]) for outputs, *_ in held}
            self._refuse_shapes()
            joined = (
                held[0]
                if len(held) == 1
                else [torch.cat(each) for each in zip(*held, strict=False)]
            )
            outputs, rows = joined[0], joined[1]
            target = joined[2] if len(joined) > 2 else None
            scored = None
            if target is not None:
                scored = (self.task.loss.per_sample(outputs, target), outputs, target)
            finite = torch.isfinite(outputs).reshape(len(outputs), -1).all(1)
            piece = self._piece(outputs, rows, target)
        return piece, scored, len(finite) - int(finite.sum())

    def _refuse_shapes(self) -> None:
        if len(self.shapes) > 1:
            raise _no_common_shape(self.shapes)

    def _run(self, inputs: Any, samples: int) -> Tensor:
        try:
            outputs = self.network(inputs)
        except IndexError as error:
            raise beyond_vocabulary(self.part.data.name, error) from error
        except RuntimeError as error:
            if is_out_of_memory(error) or not _is_of_shapes(error):
                raise
            raise OptionError(
                f"the model can not take the inputs of {self.part.data.name}, shape "
                f"{tuple(getattr(inputs, 'shape', ()))}: {error}"
            ) from error
        if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != samples:
            found = (
                f"a tensor of shape {tuple(outputs.shape)}"
                if isinstance(outputs, Tensor)
                else type(outputs).__name__
            )
            raise OptionError(
                f"for {samples} samples the model gave {found}; predict takes a model that gives "
                "a tensor with one entry a sample"
            )
        # What elements become may depend, in the last bit, on how they lie in memory.
        return outputs.contiguous()

    def _piece(self, outputs: Tensor, rows: Tensor, target: Tensor | None) -> Piece:
        task, name = self.task, self.task.loss.name
        row_numbers = rows.cpu().numpy()
        source_rows = self.part.data.source_rows
        if not self.takes_target:
            target = None
        elif source_rows is not None:
            row_numbers = source_rows[row_numbers]
        if name not in ("cross_entropy", "binary_cross_entropy"):
            width = outputs.reshape(len(outputs), -1).shape[1]
            values = outputs.reshape(len(outputs)) if width == 1 else outputs
            known = None if target is None else self._quantities(target, rows.cpu().numpy())
            if known is not None and known.shape == (len(outputs), 1):
                known = known.reshape(-1)
            return Piece(rows=row_numbers, target=known, values=_float32(values))
        if name == "binary_cross_entropy":
            positive = torch.sigmoid(outputs.float().reshape(-1))
            # 1 - p loses the digits of a small probability; the sigmoid of -z keeps them.
            negative = torch.sigmoid(-outputs.float().reshape(-1))
            probabilities = torch.stack([negative, positive], 1)
        else:
            probabilities = torch.softmax(outputs.float(), -1)
        if self.labels is None:
            self.labels = _labels(task, probabilities.shape[-1])
        labels = np.asarray(self.labels)
        known = None
        if target is not None and not task.is_per_token:
            codes = target.argmax(1) if target.dim() == 2 else target.long()
            known = labels[codes.cpu().numpy()]
        return Piece(
            rows=row_numbers,
            target=known,
            predicted=labels[predicted_classes(outputs).cpu().numpy()],
            probabilities=_float32(probabilities),
            classes=self.labels,
        )

    def _quantities(self, target: Tensor, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The target as the data have it; as it was learned where a transform has changed it."""
        data, name = self.part.data, self.part.data.target
        assert name is not None  # there are no values of it otherwise
        if self._changes_target:
            return _float32(target)
        array = data.array(name)
        return data.rows(rows)[name] if array is None else array[rows]

    @cached_property
    def _changes_target(self) -> bool:
        return any(
            transform.takes_target
            if isinstance(transform, Function)
            else transform.column == self.part.data.target and not isinstance(transform, Cast)
            for transform in self.part.transforms
        )


def _add(score: Score, losses: Tensor, outputs: Tensor, target: Tensor) -> None:
    """Count a batch whole or not at all: where memory runs out, it is counted again."""
    standing = vars(score).copy()
    try:
        score.add(losses, outputs, target)
    except BaseException:
        vars(score).update(standing)
        raise


def _labels(task: Task, count: int) -> list[Any]:
    """The classes as the data name them, in the order of the outputs."""
    if task.labels is not None:
        return list(task.labels)
    return list(range(count)) if task.classes is None else list(task.classes.tolist())


def _float32(values: Tensor) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = values.float().cpu().numpy()
    return numbers


def _is_of_shapes(error: RuntimeError) -> bool:
    """Whether torch complains of shapes or types, rather than of the machine."""
    words = ("shape", "size", "dtype", "type", "dimension", "input")
    return any(word in str(error) for word in words)


def _no_common_shape(shapes: set[tuple[int, ...]]) -> OptionError:
    """What to say where a model's outputs are as long as the longest sample of each batch."""
    shown = " and ".join(str(shape) for shape in sorted(shapes)[:2])
    return OptionError(
        f"the outputs of a sample have the shapes {shown} from batch to batch, and predict puts "
        "those of all samples in one array. Pad all samples to one length, such as 128, by "
        "rb.pad(longest=128, multiple_of=128); for scores alone, rb.evaluate needs no such thing"
    )

"""A step of several ranks: each finds the gradient of its share, and all take the exact mean."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rightbatch.errors import (
    MemoryLimitError,
    OptionError,
    RightbatchError,
    is_out_of_memory,
    of_all_ranks,
)
from rightbatch.plan.hashing import derive_key
from rightbatch.training.agreement import Agreement
from rightbatch.training.coupling import MOST_LOOKED_AT, couples_samples
from rightbatch.training.losses import CustomLoss
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.settings import RandomState
from rightbatch.training.sharded import is_sharded
from rightbatch.training.step import AutogradGradient, Gradient, Step, samples_at

Sample = tuple[Any, Tensor]


class RankStep(Step):
    """A step on the share of a global batch that this rank holds; every rank takes it.

    The gradient is that of the mean over the whole batch: each rank divides the sum over its own
    samples by the weight of all, and the sums are added up. A named model's closed-form gradient is
    one flat tensor, which is added up as it is. A module goes through torch's
    DistributedDataParallel, which adds up gradients while others are still being found; one that
    was handed in sharded (`fully_shard`) does so by itself. Both give the mean over the ranks,
    hence the world size in the divisor.

    A rank without a sample of the batch takes part with one that `stand_in` gives, which weighs
    nothing; it gives as many as asked for, where there are so many. `micro_batch_size` is of each
    rank's own share.

    Raises RankError where another rank has ended, MemoryLimitError where memory has no room for a
    rank's share: it is not halved, since the others would wait.
    """

    def __init__(
        self,
        gradient: Gradient,
        optimizer: Optimizer,
        *,
        l1: float,
        l2: float,
        micro_batch_size: int | None,
        ranks: ProcessGroup,
        stand_in: Callable[[int], Sample],
        seed: int,
        allows_coupling: bool,
        agreement: Agreement,
    ) -> None:
        super().__init__(gradient, optimizer, l1=l1, l2=l2, micro_batch_size=micro_batch_size)
        self._ranks = ranks
        self._stand_in = stand_in
        self._agreement = agreement
        self._seed = seed
        # Those of the run so far, from which a rank's random state follows.
        self.steps = 0
        self._is_sharded = is_sharded(gradient.model)
        is_own = isinstance(gradient, AutogradGradient) or isinstance(gradient.loss, CustomLoss)
        self._is_checked = not is_own or allows_coupling or self._is_sharded
        # DistributedDataParallel; of a module, any attribute might be a tensor.
        self._around: Any = None
        if not self._is_sharded:
            ranks.take_over([*gradient.model.parameters(), *gradient.model.buffers()])
        if isinstance(gradient, AutogradGradient) and not self._is_sharded:
            self._around = _distributed(gradient.model)
            gradient.forward = self._around

    @override
    def __call__(self, inputs: Any, target: Tensor, total: int | None = None) -> float:
        """Learn from one batch, of which this rank holds `inputs` and `target`.

        `total` is the weight of the whole batch, in samples or unmasked tokens.
        """
        assert total is not None  # one rank does not know it
        if not total:
            return 0.0
        if not self._is_checked:
            self._refuse_coupling(inputs, target)
            self._is_checked = True
        # A rank draws for its own share; from the step's number, so that a resumed run goes on.
        torch.manual_seed(derive_key("ranks", self._seed, self.steps, self._ranks.rank) >> 1)
        self.steps += 1
        try:
            loss = self._exact_mean(inputs, target, total, self.micro_batch_size or len(target))
        except RightbatchError:
            raise
        except Exception as error:
            raise self._told(error, len(target)) from error
        if loss - loss != 0.0:
            return loss
        self._update()
        return loss

    def share_buffers(self) -> None:
        """Make buffers those of rank 0, so that all ranks evaluate one model."""
        if not self._is_sharded:
            self._ranks.take_over(list(self.gradient.model.buffers()))

    def _refuse_coupling(self, inputs: Any, target: Tensor) -> None:
        """OptionError on every rank where model or loss look at several samples at once."""
        model, loss = self.gradient.model, self.gradient.loss
        devices = {value.device for value in self.gradient.parameters}
        start = RandomState(device for device in devices if device.type == "cuda")
        found = None
        if not any(self._ranks.gather_json(len(target) > 1)):
            # One sample a rank tells nothing, and in a later batch there may be two.
            inputs, target = self._stand_in(MOST_LOOKED_AT)
        if len(target) > 1:
            found = couples_samples(model, loss, inputs, target, start)
            start.restore()
        said = next((what for what in self._ranks.gather_json(found) if what is not None), None)
        if said is not None:
            raise of_all_ranks(
                OptionError(
                    f"what {said} says of a sample depends on the samples beside it, so that "
                    "ranks, which hold a share of each batch, would change the mathematics: train "
                    "on one rank, let them look at single samples, or say that the shares may "
                    "stand for themselves: batch_statistics='rank' (--batch-statistics rank)"
                )
            )

    def _exact_mean(self, inputs: Any, target: Tensor, total: int, size: int) -> float:
        """Find the gradient of the mean over all ranks; gives the mean, and hears what they say."""
        if not isinstance(self.gradient, AutogradGradient):
            share = self._mean(inputs, target, total, size)
            return self._add_up_closed_form(share)
        world = self._ranks.world_size
        mean = torch.zeros((), dtype=torch.float64)
        passes = list(self._passes(inputs, target, size))
        for number, (some, of_some, weighs) in enumerate(passes):
            with self._adding_up(is_last=number == len(passes) - 1):
                piece = self.gradient.accumulate(
                    some, of_some, total=total / world if weighs else math.inf, is_first=number == 0
                )
            mean = mean + piece / world
        loss, *said = self._ranks.sum([mean.item(), *self._agreement.say()])
        self._agreement.hear(said)
        return loss

    def _add_up_closed_form(self, share: Tensor) -> float:
        # In one exchange: over loopback, one more costs as much as a small step.
        gradients = [value.grad for value in self.gradient.parameters if value.grad is not None]
        said = torch.tensor([share.item(), *self._agreement.say()])
        flat = [gradient.reshape(-1) for gradient in gradients]
        parcel = torch.cat([*flat, said.to(flat[0])])
        self._ranks.add_up(parcel)
        begin = 0
        for gradient in gradients:
            end = begin + gradient.numel()
            gradient.copy_(parcel[begin:end].view_as(gradient))
            begin = end
        loss, *heard = parcel[begin:].tolist()
        self._agreement.hear(heard)
        return float(loss)

    def _passes(self, inputs: Any, target: Tensor, size: int) -> Iterator[tuple[Any, Tensor, bool]]:
        """The micro-batches of this rank, and whether each weighs anything."""
        samples = len(target)
        for start in range(0, samples, max(1, size)):
            piece = slice(start, start + size)
            yield samples_at(inputs, piece), target[piece], True
        done = -(-samples // max(1, size))
        # Each pass of a sharded model is one of all ranks; else one is enough to take part.
        least = self._most_passes(samples, size) if self._is_sharded else 1
        for _ in range(done, least):
            yield (*self._stand_in(1), False)

    def _most_passes(self, samples: int, size: int) -> int:
        most = int(self._ranks.gather([-(-samples // max(1, size))]).max())
        return max(1, most)

    @contextlib.contextmanager
    def _adding_up(self, *, is_last: bool) -> Iterator[None]:
        """Let gradients be added up over the ranks in the last pass alone."""
        if self._is_sharded:
            for module in self.gradient.model.modules():
                set_sync: Any = getattr(module, "set_requires_gradient_sync", None)
                if set_sync is not None:
                    set_sync(is_last, recurse=False)
            yield
            return
        with contextlib.nullcontext() if is_last else self._around.no_sync():
            yield

    def _told(self, error: Exception, samples: int) -> Exception:
        if is_out_of_memory(error):
            pieces = self.micro_batch_size or samples
            return MemoryLimitError(
                f"rank {self._ranks.rank} has no room in memory for {pieces:,} samples at a time: "
                f"give micro_batch_size={max(1, pieces // 2)}, which changes no result, or more "
                "ranks. Several ranks do not halve it by themselves, since the others would wait"
            )
        if isinstance(error, RuntimeError) and _is_unused(error):
            return of_all_ranks(
                OptionError(
                    "some parameters of the model take no part in its outputs, and ranks would "
                    "wait for their gradients: freeze them (requires_grad_(False)) or remove "
                    f"them. {error}"
                )
            )
        if isinstance(error, RuntimeError) and _is_lost(error):
            return self._ranks.lost(error)
        return error


class _Passes(nn.Module):
    """The model, or without inputs nothing but a derivative of zero by each parameter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, inputs: Any) -> Any:
        if inputs is not None:
            return self.model(inputs)
        parameters = [value for value in self.model.parameters() if value.requires_grad]
        return torch.stack([value.reshape(-1)[:1].sum() * 0.0 for value in parameters]).sum()


def _distributed(model: nn.Module) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, DistributedDataParallel):
        raise OptionError(
            "fit puts DistributedDataParallel around the model by itself: give the module in it "
            "(model.module)"
        )
    first = next(model.parameters())
    around = DistributedDataParallel(
        _Passes(model), device_ids=[first.device] if first.device.type == "cuda" else None
    )
    # After the first pass the order in which gradients came settles how they are packed, and so in
    # which order the ranks' are added up. A pass for that alone, so that a run which is resumed
    # adds up as one that was not; it changes no buffer and draws nothing.
    around(None).backward()
    model.zero_grad()
    return around


def _is_unused(error: RuntimeError) -> bool:
    return "Expected to have finished reduction" in str(error)


def _is_lost(error: RuntimeError) -> bool:
    """Whether torch says that another process can not be reached."""
    words = ("Connection closed by peer", "Connection reset", "gloo", "NCCL", "Broken pipe")
    return any(word in str(error) for word in words)

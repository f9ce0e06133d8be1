"""Which step a run takes: one whose loss is read at once, one on a device, or one of ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rightbatch.errors import OptionError
from rightbatch.training.agreement import Agreement
from rightbatch.training.captured_step import Capture, CapturedStep
from rightbatch.training.device_step import DeviceStep
from rightbatch.training.losses import CustomLoss
from rightbatch.training.memory import HalvingStep
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.options import FitOptions
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.rank_step import RankStep
from rightbatch.training.step import DenseGradient, Gradient, Step

_DEVICES = ("cuda",)


def choose_step(
    gradient: Gradient, optimizer: Optimizer, options: FitOptions, *, batch_size: int
) -> HalvingStep:
    """The step of one process for this gradient, where its parameters are.

    Raises OptionError where `capture=True` and there is no GPU.
    """
    reason = why_not_launched(gradient)
    if reason is not None:
        if options.capture is True:
            raise OptionError(
                f"capture=True records steps for a GPU, and {reason}: leave capture at 'auto', "
                "which records where that can be done"
            )
        kind: type[HalvingStep] | partial[CapturedStep] = HalvingStep
    elif why_not_captured(options) is not None:
        kind = DeviceStep
    else:
        is_known = isinstance(gradient, DenseGradient) and not isinstance(gradient.loss, CustomLoss)
        kind = partial(
            CapturedStep,
            batch_size=batch_size,
            # What is compiled can not be looked at while it runs.
            is_watched=not is_known and not options.compile,
            is_asked=options.capture is True,
        )
    return kind(
        gradient,
        optimizer,
        l1=options.l1,
        l2=options.l2,
        micro_batch_size=options.micro_batch_size,
    )


def step_of_ranks(
    gradient: Gradient,
    optimizer: Optimizer,
    options: FitOptions,
    *,
    ranks: ProcessGroup,
    agreement: Agreement,
    stand_in: Callable[[int], tuple[Any, Tensor]],
) -> RankStep:
    """The step that several ranks take together.

    `stand_in` gives so many samples as a batch, for a rank that has no share of one. Raises
    OptionError where `capture=True`.
    """
    if options.capture is True:
        raise OptionError(
            "capture=True records steps of one rank, and here several exchange their gradients in "
            "each step: leave capture at 'auto'"
        )
    return RankStep(
        gradient,
        optimizer,
        l1=options.l1,
        l2=options.l2,
        micro_batch_size=options.micro_batch_size,
        ranks=ranks,
        stand_in=stand_in,
        seed=options.seed,
        allows_coupling=options.batch_statistics is not None,
        agreement=agreement,
    )


def why_not_launched(gradient: Gradient) -> str | None:
    """Why every loss is read at once; None where losses may stay on the device."""
    devices = {parameter.device for parameter in gradient.parameters}
    if len(devices) > 1:
        return "the model lies on several devices"
    (device,) = devices
    if device.type not in _DEVICES:
        return f"the model is on the {device.type}"
    distributed = torch.distributed
    is_group = distributed.is_available() and distributed.is_initialized()
    if is_group and distributed.get_world_size() > 1:
        return "ranks exchange their gradients in each step"
    if any(
        type(parameter) not in (nn.Parameter, torch.Tensor) for parameter in gradient.parameters
    ):
        return "its parameters are no plain tensors"
    return None


def why_not_captured(options: FitOptions) -> str | None:
    """Why the options leave steps as they are; None where they may be captured."""
    if options.capture is False:
        return "capture=False"
    if options.batch_tokens is not None:
        return "batches of so many tokens differ in shape"
    if options.compile and options.capture is not True:
        return (
            "the model is compiled, and what it does can not be looked at while it runs; "
            "capture=True records it all the same"
        )
    return None


def capture_of(step: Step, options: FitOptions) -> Capture:
    """Whether the steps of a run were captured, and why or why not."""
    if isinstance(step, CapturedStep):
        return step.capture
    reason = why_not_launched(step.gradient) or why_not_captured(options) or ""
    return Capture(is_captured=False, reason=reason)

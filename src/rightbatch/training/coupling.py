"""Layers and losses that look at several samples at once, whose batches can not be cut apart."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rightbatch.errors import OptionError, is_out_of_memory
from rightbatch.loading.batches import Batches
from rightbatch.plan.ranks import least_share
from rightbatch.plan.token_plan import TokenPlan
from rightbatch.training.losses import CustomLoss, Loss
from rightbatch.training.settings import RandomState
from rightbatch.training.step import samples_at

# A batch may begin with equal samples, which say nothing of one another.
MOST_LOOKED_AT = 16
# Dropout may drop the very values that couple two samples: attention over samples was taken for
# uncoupled in up to one of sixteen draws.
_MOST_DRAWS = 6
# Equal inputs give equal numbers, but for the order in which a GPU adds them up.
_ROUNDING = 1e-4
_REMEDY = (
    "Take a smaller batch_size, or layers and a loss that look at single samples (GroupNorm or "
    "LayerNorm, say, for BatchNorm)"
)


def refuse_coupling(model: nn.Module, micro_batch_size: int | None) -> None:
    """OptionError where micro-batches would silently change what the model computes."""
    layer = _normalisation(model)
    if micro_batch_size is not None and layer is not None:
        raise OptionError(
            f"micro_batch_size={micro_batch_size} with the layer {layer}: it normalises over the "
            "samples it sees together, so micro-batches would change the mathematics. Leave "
            "micro_batch_size out, or use a layer that looks at single samples, such as GroupNorm "
            "or LayerNorm"
        )


def refuse_single_samples(model: nn.Module, batches: Batches) -> None:
    """OptionError where a batch of one sample would meet a layer that normalises over samples."""
    layer = _normalisation(model)
    if layer is not None and isinstance(batches.plan, TokenPlan):
        if batches.plan.smallest_batch == 1:
            raise OptionError(
                f"the layer {layer} normalises over the samples of a batch, and some batches of "
                f"up to {batches.plan.tokens:,} tokens hold one sample: take more tokens, or a "
                "layer such as LayerNorm"
            )
        return
    length = batches.plan.length
    if layer is not None and 1 in (batches.batch_size, length % batches.batch_size):
        raise OptionError(
            f"the layer {layer} normalises over the samples of a batch, and {length:,} "
            f"samples at batch_size={batches.batch_size} make a batch of one: take another "
            "batch size, or a layer such as GroupNorm or LayerNorm"
        )


def refuse_coupled_ranks(model: nn.Module, batches: Batches, statistics: str | None) -> None:
    """OptionError where ranks would silently change what a layer computes of a batch."""
    layer = _normalisation(model)
    world = batches.world_size
    if world == 1 or layer is None:
        return
    if statistics is None:
        raise OptionError(
            f"the layer {layer} normalises over the samples of a batch, and {world} ranks hold a "
            "share of each: say what it is to do. batch_statistics='rank' normalises over a rank's "
            "own share, which changes the mathematics with the number of ranks; 'synchronised' "
            "over the whole batch, on GPUs (SyncBatchNorm). Or take a layer such as GroupNorm or "
            "LayerNorm. On the command line it is --batch-statistics"
        )
    last = batches.plan.length % batches.batch_size or batches.batch_size
    smallest = min(least_share(size, world) for size in (batches.batch_size, last))
    if statistics == "rank" and smallest < 2:
        raise OptionError(
            f"batch_statistics='rank' with the layer {layer}: of a batch of "
            f"{min(last, batches.batch_size):,} some of {world} ranks hold {smallest} samples, and "
            "it takes two to normalise: take another batch size, or fewer ranks"
        )


def couples_samples(
    model: nn.Module, loss: Loss, inputs: Any, target: Tensor, start: RandomState
) -> str | None:
    """What says of a sample something that depends on those beside it: model or loss, or None.

    As `why_not_cut` finds it out, but for passes that are counted, and a loss that gives one number
    for a batch: that is taken for a mean where it is one of the batch at hand.
    """
    other = next(
        (k for k in range(1, min(len(target), MOST_LOOKED_AT)) if _differ(inputs, target, k)), None
    )
    if other is None:
        return None
    pairs = [torch.tensor([0, place], device=target.device) for place in (other, 0)]
    for _ in range(_MOST_DRAWS):
        ones, others = (_first_values(model, loss, inputs, target, pair, start) for pair in pairs)
        gives_mean = isinstance(loss, CustomLoss) and loss.gives_mean
        if not _all_close(ones[gives_mean:], others[gives_mean:]):
            return "the model"
        if gives_mean and not _is_mean(model, loss, inputs, target, pairs[0], start):
            return "the loss"
        if not start.has_moved:
            break
        start = start.next()
    return None


def _is_mean(
    model: nn.Module, loss: Loss, inputs: Any, target: Tensor, pair: Tensor, start: RandomState
) -> bool:
    """Whether the loss of two samples is the mean of those of each."""
    start.restore()
    with torch.no_grad():
        outputs, truth = model(samples_at(inputs, pair)), target[pair]
        both = loss.per_sample(outputs, truth)[:1]
        single = [loss.per_sample(outputs[k : k + 1], truth[k : k + 1])[0] for k in (0, 1)]
        return _close(both, torch.stack(single).mean(0, keepdim=True))


def why_not_cut(
    model: nn.Module, loss: Loss, inputs: Any, target: Tensor, start: RandomState
) -> str | None:
    """Why this batch can not be learned from in micro-batches; None where nothing speaks against.

    Layers that normalise over a batch are known by their class. Of others the first sample is
    computed twice, beside another sample and beside itself: where that makes a difference, samples
    are coupled, and where it leaves other values in a buffer, passes are counted. Both are drawn
    from the same random state, so that dropout makes none: `start`, and those after it where the
    model draws.
    """
    layer = _normalisation(model)
    if layer is not None:
        return (
            f"the layer {layer} normalises over the batch, so it can not be cut into "
            f"micro-batches without changing the mathematics. {_REMEDY}"
        )
    other = next(
        (k for k in range(1, min(len(target), MOST_LOOKED_AT)) if _differ(inputs, target, k)), None
    )
    if other is None:
        return None
    versions = _buffer_versions(model)
    pairs = [torch.tensor([0, place], device=target.device) for place in (other, 0)]
    values = [_first_values(model, loss, inputs, target, pair, start) for pair in pairs]
    is_coupled = not _all_close(*values)
    for _ in range(_MOST_DRAWS - 1):
        if is_coupled or not start.has_moved:
            break
        start = start.next()
        is_coupled = not _all_close(
            *(_first_values(model, loss, inputs, target, pair, start) for pair in pairs)
        )
    changed = [
        name
        for name, (buffer, version) in _buffer_versions(model).items()
        if name not in versions or versions[name][0] is not buffer or versions[name][1] != version
    ]
    if isinstance(loss, CustomLoss) and loss.gives_mean:
        return (
            "its loss gives one number for the whole batch, of which it can not be told whether "
            "it is a mean of single samples (a contrastive loss is not): return one value a "
            "sample, or set micro_batch_size yourself"
        )
    if changed:
        return (
            f"each pass changes {changed[0]!r}, and several passes a step would leave other values "
            f"there than one. {_REMEDY}"
        )
    if is_coupled:
        return (
            "what the model or its loss says of a sample depends on the samples beside it, so the "
            f"batch can not be cut into micro-batches without changing the mathematics. {_REMEDY}"
        )
    return None


def _differ(inputs: Any, target: Tensor, place: int) -> bool:
    """Whether the sample at `place` is another one than the first."""
    one, two = samples_at(inputs, 0), samples_at(inputs, place)
    pairs = [(one[name], two[name]) for name in one] if isinstance(one, dict) else [(one, two)]
    pairs.append((target[0], target[place]))
    return any(not torch.equal(*pair) for pair in pairs)


def _first_values(
    model: nn.Module,
    loss: Loss,
    inputs: Any,
    target: Tensor,
    pair: Tensor,
    start: RandomState,
) -> list[Tensor]:
    """Loss and outputs of the first of two samples; nothing where memory has no room for two."""
    # A layer may behave otherwise where no gradient is asked for, which takes less memory.
    for mode in (torch.enable_grad, torch.no_grad):
        start.restore()
        try:
            with mode():
                outputs = model(samples_at(inputs, pair))
                values = [loss.per_sample(outputs, target[pair])[0].detach()]
                if isinstance(outputs, Tensor) and len(outputs) == len(pair):
                    values.append(outputs[0].detach())
                return values
        except Exception as error:
            if not is_out_of_memory(error):
                raise
    return []


def _all_close(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(_close(*both) for both in zip(ones, others, strict=False))


def _close(one: Tensor, two: Tensor) -> bool:
    scale = float(one.abs().max())
    if math.isnan(scale):
        return True  # of outputs that are no numbers nothing can be told
    return torch.allclose(one, two, rtol=_ROUNDING, atol=_ROUNDING * scale, equal_nan=True)


def _buffer_versions(model: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """The model's buffers, and how often each was changed in place."""
    return {
        name: (buffer, 0 if buffer.is_inference() else buffer._version)
        for name, buffer in model.named_buffers()
    }


def _normalisation(model: nn.Module) -> str | None:
    """The first layer that normalises over samples while training, by name."""
    for name, module in model.named_modules():
        # torch's own base of BatchNorm1d, 2d, 3d and SyncBatchNorm.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            return f"{name!r} ({type(module).__name__})"
    return None

"""Models whose tensors are divided among the ranks (`fully_shard`): told, gathered, given back."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether a part of the model was handed to torch's `fully_shard`."""
    # Where nobody has imported it, nothing is sharded, and importing it takes a second.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and any(
        isinstance(module, fsdp.FSDPModule) for module in model.modules()
    )


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or what the ranks hold of it together; all of them ask at once."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def divided_as(tensor: Tensor, like: Tensor) -> Tensor:
    """The whole tensor, or this rank's part of it where `like` is divided among the ranks."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    divided: Any = like
    return distribute_tensor(tensor.to(like.device), divided.device_mesh, divided.placements)

"""The optimizers by name, as torch has them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adam", "adamw")


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, learning_rate: float, momentum: float
) -> torch.optim.Optimizer:
    """SGD (with momentum), Adam or AdamW over `parameters`, torch's defaults otherwise.

    >>> build_optimizer("adam", [nn.Parameter(torch.zeros(3))], learning_rate=0.1, momentum=0.0)
    ... # doctest: +ELLIPSIS
    Adam (...
    """
    parameters = list(parameters)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate)
    return torch.optim.AdamW(parameters, lr=learning_rate)

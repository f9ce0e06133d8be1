"""The built-in models: linear, softmax, logistic and multi-layer networks, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.hashing import derive_key

Activation = Literal["relu", "sigmoid", "tanh"]
ACTIVATIONS = ("relu", "sigmoid", "tanh")
MODELS = ("linear", "softmax", "logistic", "mlp")


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A built-in model as its name says it: `mlp:50,50` has two hidden layers of 50 units.

    >>> ModelName.parse("mlp:50,50")
    ModelName(kind='mlp', hidden=(50, 50))
    """

    kind: str
    hidden: tuple[int, ...] = ()

    @classmethod
    def parse(cls, name: str) -> ModelName:
        """Read a name; OptionError says what is valid."""
        if not isinstance(name, str):
            raise OptionError(
                f"model={name!r} is neither a name such as 'mlp:100' nor a torch.nn.Module"
            )
        kind, _, sizes = name.partition(":")
        if kind not in MODELS:
            raise OptionError(
                f"no model is called {name!r}.{did_you_mean(kind, MODELS)} Valid are: linear, "
                "softmax, logistic, mlp:100, mlp:50,50, or on the command line module.py:factory"
            )
        if kind != "mlp":
            if sizes:
                raise OptionError(f"the model {kind} has no hidden layers: write {kind!r}")
            return cls(kind=kind)
        try:
            hidden = tuple(int(size) for size in sizes.split(",")) if sizes else ()
        except ValueError:
            hidden = ()
        if not hidden or min(hidden) < 1:
            raise OptionError(
                f"the model {name!r} needs the sizes of its hidden layers: mlp:100 or mlp:50,50"
            )
        return cls(kind=kind, hidden=hidden)


class DenseNetwork(nn.Module):
    """Fully connected layers with one activation between them; outputs are logits or values.

    Inputs (B, …) are flattened to (B, F). All parameters are views of one flat tensor, weights
    first and biases after them, so that an update or a penalty is one operation.
    """

    def __init__(self, sizes: tuple[int, ...], activation: Activation) -> None:
        super().__init__()
        self.sizes = sizes
        self.activation: Activation = activation
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)
        )
        self.weights_length = sum(layer.weight.numel() for layer in self._linear)
        self.flat: Tensor
        self.flat_gradient: Tensor
        self.share()

    @property
    def _linear(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.layers))

    def share(self) -> None:
        """Make every parameter a view of one new flat tensor, and its gradient of another.

        Values are kept, gradients start at zero. What replaces parameters or gradients one by
        one (a deep copy, `.to()`, `zero_grad()`) ends the sharing.
        """
        values = [
            cast("nn.Parameter", getattr(layer, attribute)).detach().reshape(-1)
            for attribute in ("weight", "bias")
            for layer in self._linear
        ]
        flat = torch.cat(values)
        gradient = torch.zeros_like(flat)
        position = 0
        for attribute in ("weight", "bias"):
            for layer in self._linear:
                parameter = cast("nn.Parameter", getattr(layer, attribute))
                end = position + parameter.numel()
                parameter.data = flat[position:end].view(parameter.shape)
                parameter.grad = gradient[position:end].view(parameter.shape)
                position = end
        self.flat, self.flat_gradient = flat, gradient

    def _apply(self, fn: object, recurse: bool = True) -> DenseNetwork:
        # .to(device) and .double() replace the parameters one by one.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.share()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copying and unpickling copy the parameters one by one.
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.share()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits or values (B, outputs) of inputs (B, …)."""
        values = inputs.reshape(len(inputs), -1)
        for position, layer in enumerate(self._linear):
            values = layer(values)
            if position < len(self.layers) - 1:
                values = getattr(torch, self.activation)(values)
        return values


def build_model(
    name: str,
    *,
    inputs: int,
    outputs: int,
    activation: Activation = "relu",
    init: str = "default",
    seed: int = 0,
) -> DenseNetwork:
    """A built-in model with `inputs` features and `outputs` outputs, initialised from `seed`.

    `init` is `default`, `zeros` or `normal:STD` (weights normal with mean 0, biases 0). The
    default is U(-r, r) with r = √(6 / inputs) before a ReLU (He et al. 2015, arXiv 1502.01852)
    and r = √(6 / (inputs + outputs)) elsewhere (Glorot and Bengio 2010), biases 0. torch's own
    random state is not touched.

    >>> build_model("mlp:100", inputs=784, outputs=10)(torch.zeros(2, 28, 28)).shape
    torch.Size([2, 10])
    """
    parsed = ModelName.parse(name)
    # torch's layers draw their own weights when they are made.
    with torch.random.fork_rng(()):
        network = DenseNetwork((inputs, *parsed.hidden, outputs), activation)
    generator = torch.Generator().manual_seed(derive_key("init", seed) >> 1)
    std = parse_init(init)
    with torch.no_grad():
        for position, layer in enumerate(network._linear):
            layer.bias.zero_()
            if std is None:
                feeds_relu = position < len(network.layers) - 1 and activation == "relu"
                fan = layer.in_features + (0 if feeds_relu else layer.out_features)
                bound = math.sqrt(6.0 / fan)
                layer.weight.uniform_(-bound, bound, generator=generator)
            elif std == 0.0:
                layer.weight.zero_()
            else:
                layer.weight.normal_(0.0, std, generator=generator)
    return network


def parse_init(init: str) -> float | None:
    """The standard deviation that `init` asks for: None for default, 0 for zeros.

    >>> parse_init("normal:0.5")
    0.5
    """
    if init == "default":
        return None
    if init == "zeros":
        return 0.0
    kind, _, text = str(init).partition(":")
    try:
        std = float(text) if kind == "normal" else math.nan
    except ValueError:
        std = math.nan
    if not (math.isfinite(std) and std > 0):
        if kind == "normal":
            why = ": normal needs a finite standard deviation above 0, such as normal:0.1."
        else:
            why = "." + did_you_mean(kind, ("default", "zeros", "normal"))
        raise OptionError(f"init={init!r} is not valid{why} Valid are: default, zeros, normal:1")
    return std

"""Weights W1, b1, W2, b2, … as a dense network, from a file or a mapping of arrays."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from rightbatch.data.numpy_files import npz_shapes, read_npz
from rightbatch.data.options import OpenOptions
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.training.array_pickle import read_array_pickle
from rightbatch.training.models import ACTIVATIONS, Activation, DenseNetwork

WEIGHT_ENDINGS = (".npz", ".safetensors", ".pkl", ".pickle")

_FLOATS_OF_NUMPY = (torch.float16, torch.float32, torch.float64)
_NAME = re.compile(r"[Wb][1-9][0-9]{0,3}")
_VALID = (
    "Valid are W1, b1, W2, b2, …: the weights (inputs x outputs) and the biases (outputs) of each "
    "layer"
)


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """The named arrays of a weights file: `.npz`, `.safetensors`, `.pkl` or `.pickle`.

    Nothing in the file can run: object arrays are refused, and a pickle is read by
    `read_array_pickle`. Raises DataError where the file is damaged or holds anything but arrays.
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        # From the headers, so that nothing large is unpacked in vain.
        _check_shapes(npz_shapes(path), str(path))
        return read_npz(path, OpenOptions())[0]
    if ending in (".pkl", ".pickle"):
        return read_array_pickle(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DataError(
            f"{path} is no safetensors file, or is damaged: {error}. Save it anew with safetensors"
        ) from error
    if any(name.startswith("model.") for name in tensors):
        raise DataError(
            f"{path} holds the weights of a run, which belong to its config.json: give the run's "
            f"folder, {path.parent}"
        )
    return {name: _as_numpy(name, tensor, path) for name, tensor in tensors.items()}


def _as_numpy(name: str, tensor: torch.Tensor, path: Path) -> NDArray[Any]:
    try:
        # NumPy has no bfloat16 and none of eight bits; the network is float32 in any case.
        narrow = tensor.is_floating_point() and tensor.dtype not in _FLOATS_OF_NUMPY
        return (tensor.float() if narrow else tensor).numpy()
    except (TypeError, RuntimeError) as error:
        raise DataError(
            f"{path}: {name} is {tensor.dtype}, which can not be read as numbers. Save it as "
            "float32"
        ) from error


def dense_network(
    arrays: Mapping[str, Any], activation: str | None, *, source: str = "the mapping of weights"
) -> DenseNetwork:
    """The dense network of the arrays W1 (inputs x outputs), b1 (outputs), W2, b2 and so on.

    Numbers of any kind become float32; a bias may have the shape (1, outputs). `activation`
    stands between the layers, so that it is needed from two layers on.

    Raises DataError where names or shapes do not chain or a number is not finite, OptionError
    where the activation is missing or unknown.

    >>> weights = {"W1": np.eye(2), "b1": np.array([0.0, 1.0])}
    >>> dense_network(weights, None)(torch.tensor([[2.0, 3.0]])).tolist()
    [[2.0, 4.0]]
    """
    layers = _layers(arrays, source)
    if activation is not None and activation not in ACTIVATIONS:
        raise OptionError(
            f"activation={activation!r} is not valid.{did_you_mean(str(activation), ACTIVATIONS)} "
            f"Valid are: {', '.join(ACTIVATIONS)}."
        )
    if activation is None and len(layers) > 1:
        raise OptionError(
            f"{source} has {len(layers)} layers, and weights do not say what stands between them: "
            f"give the activation, one of {', '.join(ACTIVATIONS)} (activation=…, --activation)"
        )
    sizes = (layers[0][0].shape[0], *(weights.shape[1] for weights, _ in layers))
    with torch.random.fork_rng(()):
        network = DenseNetwork(sizes, cast("Activation", activation or "relu"))
    with torch.no_grad():
        for layer, (weights, biases) in zip(network.layers, layers, strict=True):
            cast("torch.nn.Linear", layer).weight.copy_(torch.from_numpy(weights.T.copy()))
            cast("torch.nn.Linear", layer).bias.copy_(torch.from_numpy(biases))
    return network


def _layers(
    arrays: Mapping[Any, Any], source: str
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights and biases, layer by layer, checked."""
    count = _count_layers(arrays, source)
    numbers = {name: _numbers(name, arrays, source) for name in arrays}
    _check_shapes({name: values.shape for name, values in numbers.items()}, source)
    return [(numbers[f"W{k}"], numbers[f"b{k}"].reshape(-1)) for k in range(1, count + 1)]


def _count_layers(names: Collection[Any], source: str) -> int:
    """The number of layers; DataError where a name is none or one is missing."""
    if not names:
        raise DataError(f"{source} holds no arrays. {_VALID}.")
    for name in names:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            shown = repr(name)[:80] if isinstance(name, str) else f"a {type(name).__name__}"
            raise DataError(f"{source} holds an array called {shown}. {_VALID}.")
    count = max(int(name[1:]) for name in names)
    lacking = [
        f"{kind}{number}"
        for number in range(1, count + 1)
        for kind in "Wb"
        if f"{kind}{number}" not in names
    ]
    if lacking:
        raise DataError(
            f"{source} lacks {', '.join(lacking[:8])}{', …' if len(lacking) > 8 else ''}; it holds "
            f"{', '.join(list(names)[:8])}{', …' if len(names) > 8 else ''}. {_VALID}."
        )
    return count


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """DataError where the arrays of these shapes do not chain."""
    outputs: int | None = None
    for number in range(1, _count_layers(shapes, source) + 1):
        weights, biases = shapes[f"W{number}"], shapes[f"b{number}"]
        if len(weights) != 2 or 0 in weights:
            raise DataError(
                f"{source}: W{number} has the shape {weights}; it needs two axes, inputs x outputs"
            )
        if outputs is not None and outputs != weights[0]:
            raise DataError(
                f"{source}: W{number - 1} has {outputs} outputs and W{number} takes {weights[0]} "
                f"inputs (shape {weights}). Weights are inputs x outputs: transpose them if they "
                "were saved as outputs x inputs"
            )
        outputs = weights[1]
        if biases not in ((outputs,), (1, outputs)):
            raise DataError(
                f"{source}: b{number} has the shape {biases} and W{number} {weights}; the bias "
                f"needs the shape ({outputs},), one number an output"
            )


def _numbers(name: str, arrays: Mapping[str, Any], source: str) -> NDArray[np.float32]:
    given = arrays[name]
    try:
        values = np.asarray(given.detach().cpu() if isinstance(given, torch.Tensor) else given)
    except ValueError as error:
        raise DataError(f"{source}: {name} is no array: {error}") from error
    if values.dtype.kind not in "buif":
        raise DataError(f"{source}: {name} is {values.dtype}; weights are real numbers")
    with np.errstate(over="ignore"):
        # A copy in C order: the values may be mapped, big-endian or of another owner.
        numbers = np.array(values, dtype=np.float32, order="C")
    if not np.isfinite(numbers).all():
        place = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(numbers)))
        raise DataError(
            f"{source}: {name} holds {values[place]} at {place}, which is no finite float32 "
            "number; a network with it predicts nothing"
        )
    return numbers

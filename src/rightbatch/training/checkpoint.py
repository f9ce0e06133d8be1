"""Checkpoints: one safetensors file with its state as JSON in the header, replaced atomically."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rightbatch.durable_files import write_atomically
from rightbatch.errors import ResumeError
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.sharded import divided_as, whole

_VERSION = 1


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and state as one file."""
    # Views of one storage (as a DenseNetwork's parameters are) are stored apart.
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    head = {"version": _VERSION, "digest": digest(owned), **state}
    metadata = {"rightbatch": json.dumps(head)}
    write_atomically(path, save(owned, metadata))


def read_checkpoint(path: Path) -> bytes:
    """The bytes of a checkpoint; ResumeError where there is none."""
    if not path.is_file():
        raise ResumeError(
            f"{path.parent} holds no checkpoint to resume from ({path.name} is missing): "
            "start the run anew, without resume"
        )
    try:
        # Read in one piece: safe_open() opens the path twice, and between the two another process
        # may have put the next checkpoint in its place.
        return path.read_bytes()
    except OSError as error:
        raise ResumeError(f"{path} can not be read: {error}") from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of a checkpoint; ResumeError where it can not be read."""
    return parse_checkpoint(path, read_checkpoint(path))


def parse_checkpoint(path: Path, content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state that the bytes of `path` hold; ResumeError where they are none."""
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        state = json.loads(header["__metadata__"]["rightbatch"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ResumeError(
            f"{path} is no checkpoint of rightbatch, or is damaged: {error}"
        ) from error
    if state.get("version") != _VERSION:
        raise ResumeError(
            f"{path} has the checkpoint version {state.get('version')!r}; this rightbatch reads "
            f"{_VERSION}. Resume with the version that wrote it (environment.json names it)"
        )
    if state.pop("digest", None) != digest(tensors):
        raise ResumeError(
            f"{path} is damaged: its content does not match the digest written with it. Start the "
            "run anew, or put the file back from a copy"
        )
    return tensors, state


def digest(tensors: dict[str, Tensor]) -> str:
    """A short text that changes with the names, types and values of tensors in CPU memory."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            # As bytes, because NumPy knows no bfloat16.
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    return {
        f"optimizer.{name}.{index}": tensor
        for name, remembered in optimizer.state.items()
        for index, tensor in enumerate(remembered)
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; ResumeError where it was another optimizer."""
    present = optimizer_tensors(optimizer)
    saved = {name: value for name, value in tensors.items() if name.startswith("optimizer.")}
    if {name: value.shape for name, value in present.items()} != {
        name: value.shape for name, value in saved.items()
    }:
        raise ResumeError(
            "the checkpoint is of another optimizer or model: it remembers "
            f"{', '.join(sorted(saved)) or 'nothing'}, and here is needed "
            f"{', '.join(sorted(present)) or 'nothing'}"
        )
    with torch.no_grad():
        for name, tensor in present.items():
            tensor.copy_(divided_as(saved[name], tensor))


def model_tensors(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The model's parameters and buffers, named with a prefix, at their present values.

    Those that are divided among ranks come whole, on every rank.
    """
    return {
        f"{prefix}.{name}": whole(value.detach()).clone()
        for name, value in model.state_dict().items()
    }


def restore_model(model: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Put back what `model_tensors` gave; ResumeError where the model is another one.

    Without a prefix the names are the model's own.
    """
    start = f"{prefix}." if prefix else ""
    found = {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
    # In the order of the model: ranks divide one tensor after another, and a file has no order.
    divided = {
        name: divided_as(found[name], like)
        for name, like in model.state_dict().items()
        if name in found and found[name].shape == like.shape
    }
    try:
        model.load_state_dict({**found, **divided})
    except RuntimeError as error:
        raise ResumeError(
            f"the checkpoint is of another model: {error}. Pass the model that the run began with"
        ) from error

"""The seven workloads on which the advice is held against an exhaustive sweep."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import rightbatch as rb

DATA = Path(os.environ.get("RIGHTBATCH_DATA", "../shared/data"))

# The characters that the character model sees before the one it predicts.
_CONTEXT = 16


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model, its data and the validation loss to reach.

    `learning_rate` is what a user would begin with (at a batch size of 32): the advice and the
    sweep both start their searches there. The data are those of `parts()`; `largest` is the
    largest batch size of the sweep, where the full batch would be out of the question; `seeds` the
    repetitions of the sweep, so many that times are known within some per cent: more where runs
    stray far.
    """

    name: str
    model: str | Callable[[int], nn.Module]
    parts: Callable[[], rb.Parts]
    target_loss: float
    learning_rate: float
    optimizer: str = "sgd"
    largest: int = 4096
    seeds: int = 3
    l2: float = 0.0


class SmallConvolutions(nn.Module):
    """Two convolutions and a linear layer for images of 28 x 28: 5,314 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10) of images (B, 28, 28)."""
        return self.layers(images.unsqueeze(1))


class CharacterModel(nn.Module):
    """The next of 65 characters from the 16 before it: embedding, one hidden layer, logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(65, 16)
        self.hidden = nn.Linear(_CONTEXT * 16, 128)
        self.output = nn.Linear(128, 65)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """Logits (B, 65) of character codes (B, 16)."""
        embedded = self.embedding(characters).flatten(1)
        return self.output(torch.relu(self.hidden(embedded)))


def _seeded(kind: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng(()):
            torch.manual_seed(seed)
            return kind()

    return make


def breast_cancer() -> rb.Parts:
    """569 tumours, 30 measurements, 455 for training."""
    parts = rb.split(rb.open("breast_cancer"), val=0.2, stratify=True, seed=2)
    return parts.transform(rb.standardize())


def digits() -> rb.Parts:
    """1,797 images of 8 x 8, 1,438 for training."""
    parts = rb.split(rb.open("digits"), val=0.2, stratify=True, seed=0)
    return parts.transform(rb.scale(1 / 16))


def mnist() -> rb.Parts:
    """MNIST: 58,000 for training, 2,000 for validation."""
    parts = rb.split(rb.open(DATA / "mnist"), val=2000, seed=0)
    return parts.transform(rb.scale(1 / 255))


def fashion_mnist() -> rb.Parts:
    """Fashion-MNIST: 58,000 for training, 2,000 for validation."""
    parts = rb.split(rb.open(DATA / "fashion-mnist"), val=2000, seed=0)
    return parts.transform(rb.scale(1 / 255))


def adult() -> rb.Parts:
    """The Adult census, one-hot: 30,561 for training, 2,000 for validation."""
    data = rb.open(
        DATA / "adult" / "adult.data",
        header=False,
        target=14,
        missing="fill",
        categories="one-hot",
    )
    return rb.split(data, val=2000, seed=0).transform(rb.standardize())


def tinyshakespeare() -> rb.Parts:
    """Every 16 characters of the corpus and the one after them, the last tenth apart."""
    text = np.frombuffer((DATA / "tinyshakespeare" / "input.txt").read_bytes(), np.uint8)
    alphabet, codes = np.unique(text, return_inverse=True)
    windows = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int32), _CONTEXT + 1)
    assert len(alphabet) == 65
    contexts, following = np.ascontiguousarray(windows[:, :-1]), windows[:, -1].astype(np.int64)
    return rb.split(rb.open((contexts, following)), val=4000, seed=0)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="breast cancer, logistic",
            model="logistic",
            parts=breast_cancer,
            target_loss=0.064,
            l2=0.01,
            learning_rate=0.1,
            seeds=96,
        ),
        Workload(
            name="digits, 64-64-10",
            model="mlp:64",
            parts=digits,
            target_loss=0.15,
            learning_rate=0.1,
            seeds=12,
        ),
        Workload(
            name="MNIST, softmax",
            model="softmax",
            parts=mnist,
            target_loss=0.33,
            learning_rate=0.1,
            seeds=5,
        ),
        Workload(
            name="MNIST, 784-100-10",
            model="mlp:100",
            parts=mnist,
            target_loss=0.15,
            learning_rate=0.1,
            seeds=6,
        ),
        Workload(
            name="Fashion-MNIST, CNN",
            model=_seeded(SmallConvolutions),
            parts=fashion_mnist,
            target_loss=0.5,
            learning_rate=0.05,
            largest=1024,
            seeds=10,
        ),
        Workload(
            name="Adult, 108-32-1",
            model="mlp:32",
            parts=adult,
            target_loss=0.355,
            learning_rate=0.1,
            seeds=64,
        ),
        Workload(
            name="tinyshakespeare, characters",
            model=_seeded(CharacterModel),
            parts=tinyshakespeare,
            target_loss=2.1,
            learning_rate=0.002,
            optimizer="adam",
            seeds=6,
        ),
    )
}

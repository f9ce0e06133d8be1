"""Where a result comes from: the command, the data, the split, the versions, the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

import torch

from rightbatch.loading.parts import AnyTransform, Part, Parts
from rightbatch.loading.transform import Transform

_LIBRARIES = ("rightbatch", "torch", "numpy", "pyarrow", "scikit-learn", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What it takes to get a result again.

    `command` is the command line as it was typed, None where Python called. `sizes` are samples
    by part, `split` the arguments of the split, `transforms` what the training batches go through,
    `environment` versions and machine.
    """

    command: str | None = None
    data: str
    fingerprint: str
    sizes: dict[str, int]
    split: dict[str, Any] = field(default_factory=dict)
    duplicate_samples: int | None = None
    transforms: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Parts, *, command: str | None = None) -> Self:
        """Of a result that is being made now, from these parts."""
        return cls(
            command=command,
            data=parts.data.name,
            fingerprint=parts.fingerprint,
            sizes=parts.sizes,
            split=dict(parts.settings),
            duplicate_samples=parts.duplicate_samples,
            transforms=describe_transforms(parts.train, parts.held_out_transforms),
            environment=describe_environment(),
        )

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**stored)


def describe_transforms(
    part: Part, held_out: Sequence[AnyTransform] | None = None
) -> list[dict[str, Any]]:
    """The part's transforms as JSON; those that are not in `held_out` are marked `train_only`."""
    others = part.transforms if held_out is None else held_out
    kept = {id(transform) for transform in others}

    def is_kept(transform: AnyTransform) -> bool:
        # Of one that draws at random the others have what it makes of itself.
        return id(transform) in kept or (
            isinstance(transform, Transform) and transform.held_out() in others
        )

    return [
        {**transform.to_json(), **({} if is_kept(transform) else {"train_only": True})}
        for transform in part.transforms
    ]


def describe_environment() -> dict[str, Any]:
    """Versions, machine and threads as they are now."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "versions": versions,
    }

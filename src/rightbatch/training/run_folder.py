"""A run's folder: configuration, transforms, environment, history, checkpoint, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rightbatch.data.dataset import Dataset
from rightbatch.durable_files import write_atomically
from rightbatch.errors import OptionError, ResumeError
from rightbatch.training.history import JsonLines
from rightbatch.training.provenance import describe_environment


class RunFolder:
    """Where the files of a run lie.

    config.json (what was asked), transforms.json (what the batches went through), environment.json
    (versions, machine, threads), history.jsonl (a row an epoch), steps.jsonl (step losses),
    checkpoint.safetensors (where training stands), model.safetensors (weights of the end);
    from `run` and `train` result.json too (what they print as JSON), landscape.json where a report
    was asked for, and advice.json where the batch size was advised. bad_samples.json lists what
    could not be read and was left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.transforms = path / "transforms.json"
        self.environment = path / "environment.json"
        self.checkpoint = path / "checkpoint.safetensors"
        self.weights = path / "model.safetensors"
        self.result = path / "result.json"
        self.landscape = path / "landscape.json"
        self.advice = path / "advice.json"
        self.bad_samples = path / "bad_samples.json"
        self.history = JsonLines(path / "history.jsonl")
        self.steps = JsonLines(path / "steps.jsonl")

    def begin(self, config: dict[str, Any], transforms: list[dict[str, Any]]) -> None:
        """Make the folder and write what is known before the first step.

        Raises OptionError where the folder holds a run already.
        """
        if self.config.exists():
            raise OptionError(
                f"{self.path} holds a run already: go on with it (resume=True, --resume "
                f"{self.path}) or choose another folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"the run folder {self.path} can not be made: {error}") from error
        self.write_json(self.transforms, transforms)
        self.write_json(self.environment, describe_environment())
        self.write_json(self.config, config)

    def note_changes(self, changes: dict[str, Any]) -> None:
        """Write down what a resumed run goes on with."""
        config = self.read_config()
        if {**config, **changes} != config:
            self.write_json(self.config, {**config, **changes})

    def read_transforms(self) -> list[dict[str, Any]]:
        """What `begin` wrote of the transforms; ResumeError where it can not be read."""
        try:
            transforms = json.loads(self.transforms.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResumeError(f"{self.transforms} can not be read: {error}") from error
        if not isinstance(transforms, list):
            raise ResumeError(f"{self.transforms} holds no list of transforms")
        return transforms

    def read_config(self) -> dict[str, Any]:
        """The configuration that `begin` wrote; ResumeError where there is none."""
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ResumeError(
                f"{self.path} is no run folder: it has no config.json. Give the folder that the "
                "run was started with (--out)"
            ) from error
        except (OSError, ValueError) as error:
            raise ResumeError(f"{self.config} can not be read: {error}") from error
        if not isinstance(config, dict):
            raise ResumeError(f"{self.config} holds {type(config).__name__}; a run has an object")
        return config

    @staticmethod
    def write_json(path: Path, value: Any) -> None:
        """Replace `path` by `value` as JSON; a kill at any time leaves the old or the new whole."""
        write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def describe_columns(data: Dataset) -> list[dict[str, Any]]:
    """The columns as JSON: what a prediction compares its own data with."""
    return [
        {
            "name": column.name,
            "dtype": str(column.dtype),
            "shape": list(column.shape),
            "categories": None if column.categories is None else list(column.categories),
            # Of a ragged column, or of tokens, alone: what others say stays as it was.
            **({"is_ragged": True, "is_text": column.is_text} if column.is_ragged else {}),
            **({"is_token": True} if column.is_token else {}),
        }
        for column in data.columns
    ]

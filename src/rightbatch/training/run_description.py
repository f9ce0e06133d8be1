"""What the folder of a run says of it, read and checked: no file of it is trusted to be whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rightbatch.data.column import Column
from rightbatch.errors import OptionError, ResumeError
from rightbatch.loading.parts import AnyTransform
from rightbatch.loading.transform import Transform
from rightbatch.loading.transforms import transform_from_json
from rightbatch.training.models import ACTIVATIONS, Activation, DenseNetwork, ModelName
from rightbatch.training.run_folder import RunFolder

_MOST_SHOWN = 3


@dataclass(frozen=True)
class NamedFunction:
    """A function among the transforms of a run, by name: its code comes with the data."""

    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class RunDescription:
    """What config.json says.

    `columns` are all columns of the data, `inputs` those without target, group and weights. `split`
    are the arguments of `split`, `fingerprint` and `sizes` those of the parts that it gave,
    `command` the options of the command line, empty for a run from Python. `is_per_token` says
    whether the model tells a class a token.
    """

    path: Path
    model: str
    activation: str | None
    loss: str
    columns: tuple[Column, ...]
    target: Column | None
    classes: NDArray[Any] | None
    split: dict[str, Any]
    sizes: dict[str, int]
    fingerprint: str
    command: dict[str, Any]
    is_per_token: bool = False

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that the model learned from."""
        # One may have said which samples belong together, and one how much each weighs.
        hidden = (self.split.get("group"), self.split.get("weights"))
        others = (None if self.target is None else self.target.name, *hidden)
        return tuple(column for column in self.columns if column.name not in others)

    @property
    def is_named(self) -> bool:
        """Whether the model is a built-in one, rather than the name of a module's class."""
        return is_model_name(self.model)

    @classmethod
    def read(cls, folder: RunFolder) -> RunDescription:
        """The description in a run's folder; ResumeError where it is damaged or of another kind."""
        config = folder.read_config()
        try:
            columns = tuple(map(_column, config["columns"]))
            target = config["target"]
            named = {column.name: column for column in columns}
            classes = config["classes"]
            command = dict(config.get("command") or {})
            return cls(
                path=folder.path,
                model=str(config["model"]),
                activation=config["options"].get("activation"),
                loss=str(config["loss"]),
                columns=columns,
                target=None if target is None else named[target],
                classes=None if classes is None else _classes(classes),
                split=dict(config["split"]),
                sizes={str(name): int(size) for name, size in config["sizes"].items()},
                fingerprint=str(config["data"]["fingerprint"]),
                command={name: dict(options or {}) for name, options in command.items()},
                is_per_token=bool(config.get("is_per_token", False)),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}"
            raise ResumeError(
                f"{folder.config} is not what this version of rightbatch writes: {what}. Use the "
                "version that environment.json names, put the file back from a copy, or train anew"
            ) from error

    def build(self, tensors: dict[str, Tensor]) -> nn.Module:
        """The network of a built-in model, of the sizes that its weights have."""
        hidden = ModelName.parse(self.model).hidden
        try:
            shapes = [
                tensors[f"model.layers.{place}.weight"].shape for place in range(len(hidden) + 1)
            ]
            sizes = (shapes[0][1], *(shape[0] for shape in shapes))
        except (KeyError, IndexError) as error:
            raise ResumeError(
                f"the weights of {self.path} are not those of {self.model}, which its config.json "
                f"names: they are {', '.join(list(tensors)[:_MOST_SHOWN])}, …. Put the files of "
                "one run together, or train anew"
            ) from error
        if self.activation not in ACTIVATIONS:
            raise ResumeError(
                f"{self.path}: config.json names the activation {self.activation!r}; valid are "
                f"{', '.join(ACTIVATIONS)}"
            )
        self._check_classes(sizes[-1])
        return DenseNetwork(sizes, cast("Activation", self.activation))

    def read_transforms(self) -> tuple[AnyTransform | NamedFunction, ...]:
        """What held-out batches went through; ResumeError where that can not be read."""
        folder = RunFolder(self.path)
        try:
            return tuple(
                NamedFunction(str(described.get("name")))
                if described.get("kind") == "function"
                else _held_out(transform_from_json(described))
                for described in folder.read_transforms()
                if not described.get("train_only")
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ResumeError(f"{folder.transforms} can not be read: {error}") from error

    def refuse_other(self, network: nn.Module, tensors: dict[str, Tensor]) -> None:
        """ResumeError, in one sentence, where the weights are not those of the network."""
        here = {
            name: tuple(getattr(value, "shape", ())) for name, value in network.state_dict().items()
        }
        there = {
            name.removeprefix("model."): tuple(value.shape)
            for name, value in tensors.items()
            if name.startswith("model.")
        }
        different = [
            f"{name} is {_shape(here.get(name))} and was {_shape(there.get(name))}"
            for name in dict.fromkeys([*there, *here])
            if here.get(name) != there.get(name)
        ]
        if different:
            more = len(different) - _MOST_SHOWN
            raise ResumeError(
                f"{type(network).__name__} is another model than that of {self.path}: "
                f"{'; '.join(different[:_MOST_SHOWN])}{f'; {more} more' if more > 0 else ''}. Give "
                "the module that the run was trained with"
            )

    def _check_classes(self, outputs: int) -> None:
        if self.classes is None:
            return
        count = 2 if self.loss == "binary_cross_entropy" else outputs
        texts = None if self.target is None else self.target.categories
        if len(self.classes) != count or (texts is not None and len(texts) != count):
            raise ResumeError(
                f"{self.path}: config.json names {len(self.classes)} classes, and the model has "
                f"{outputs} output{'s' if outputs != 1 else ''} for {self.loss}. Put the files of "
                "one run together, or train anew"
            )


def is_model_name(model: object) -> bool:
    """Whether `model` is the name of a built-in model.

    >>> is_model_name("mlp:5"), is_model_name("Sequential")
    (True, False)
    """
    try:
        ModelName.parse(str(model))
    except OptionError:
        return False
    return True


def _column(described: dict[str, Any]) -> Column:
    categories = described["categories"]
    return Column(
        name=described["name"],
        dtype=np.dtype(described["dtype"]),
        shape=tuple(described["shape"]),
        categories=None if categories is None else tuple(categories),
        is_ragged=bool(described.get("is_ragged", False)),
        is_text=bool(described.get("is_text", False)),
        is_token=bool(described.get("is_token", False)),
    )


def _classes(classes: Any) -> NDArray[Any]:
    made = np.array(classes)
    if made.ndim != 1 or made.dtype.kind not in "buif":
        raise ValueError(f"its classes are {str(classes)[:60]}")
    return made


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(shape)


def _held_out(transform: AnyTransform) -> AnyTransform:
    """What samples that are held out get of a transform."""
    return transform.held_out() if isinstance(transform, Transform) else transform

"""A trained model from wherever it lies, with what it needs to take new data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.data.opening import open as open_data
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.loading.parts import AnyTransform, Part, whole
from rightbatch.loading.tokenize import Tokenize
from rightbatch.loading.transform import Function, Transform
from rightbatch.plan.row_set import RowSet
from rightbatch.training.building import find_output_shape
from rightbatch.training.checkpoint import load_checkpoint, restore_model
from rightbatch.training.losses import find_loss
from rightbatch.training.matching import match
from rightbatch.training.models import DenseNetwork
from rightbatch.training.output_task import UnknownLoss, task_of_outputs
from rightbatch.training.result import FitResult
from rightbatch.training.run_description import NamedFunction, RunDescription, is_model_name
from rightbatch.training.run_folder import RunFolder
from rightbatch.training.task import Task
from rightbatch.training.weights_file import WEIGHT_ENDINGS, dense_network, read_weights

AnyLoss = str | Callable[[Tensor, Tensor], Tensor] | None
AnyModel = FitResult | nn.Module | str | Path | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedModel:
    """A network and what is known of the data it learned from.

    Of a run and of what `fit` gave, all is known: the `task`, the columns `inputs` and `target` of
    the data, and the `transforms` that held-out batches went through, which take the place of those
    of a part. Of other models the task follows from the data, whose own transforms stay.
    """

    network: nn.Module
    name: str
    task: Task | None = None
    loss: AnyLoss = None
    inputs: tuple[Column, ...] | None = None
    target: Column | None = None
    transforms: tuple[AnyTransform | NamedFunction, ...] | None = None

    def prepare(self, part: Part) -> Part:
        """The part as the network takes it: columns, transforms, casts, and the target encoded.

        The target is encoded where the data have one, and dropped where the model has none.

        Raises DataError where the data are not such as the model learned from.
        """
        return self.fit_to(part)[0]

    def fit_to(self, part: Part) -> tuple[Part, Task]:
        """`prepare`, with the task that model and data have together."""
        if self.inputs is not None:
            part = match(part, self.inputs, self.target)
        if self.transforms is not None:
            part = replace(part, transforms=self._own_transforms(part))
        if self.inputs is None:
            self._check_width(part)
        task = self.task
        if task is None:
            # Whole numbers may be indices of an embedding; a dense network has none.
            keeps_integers = not isinstance(self.network, DenseNetwork)
            shape: tuple[int, ...] | None
            if isinstance(self.network, DenseNetwork):
                shape = (self.network.sizes[-1],)
            else:
                shape = find_output_shape(self.network, part, keeps_integers=keeps_integers)
            task = task_of_outputs(shape, part, self.loss, keeps_integers=keeps_integers)
        return task.prepare(part, is_checked=True), task

    def whole(self, data: Any) -> Part:
        """All samples of `data` as a part, with the transforms that are attached to the data.

        Raises OptionError where one of them would be fitted on the samples to be predicted.
        """
        data = data if isinstance(data, Dataset) else open_data(data)
        if self.transforms is None:
            for transform in data.transforms:
                if isinstance(transform, Transform) and transform.needs_fit:
                    raise OptionError(
                        f"{type(transform).__name__.lower()}() of {data.name} would be fitted on "
                        "the very samples that are predicted. Give a part of the split that the "
                        "model was trained on (parts.test), or the folder of a run, which keeps "
                        "what was fitted"
                    )
            return whole(data)
        # A trained model has its own transforms; of those of the data it takes the functions that
        # a folder has by name alone.
        functions = tuple(
            transform
            if isinstance(transform, (Function, Transform))
            else Function(cast("Callable[..., Any]", transform))
            for transform in data.transforms
            if (callable(transform) and not isinstance(transform, Transform))
            or (isinstance(transform, Tokenize) and callable(transform.how))
        )
        rows = RowSet.from_range(len(data), 0, len(data))
        return Part(data=data, rows=rows, name="all", transforms=functions)

    def _own_transforms(self, part: Part) -> tuple[AnyTransform, ...]:
        """The model's transforms; functions that it has by name alone are taken from the part."""
        assert self.transforms is not None  # the caller has asked
        target = None if self.target is None else self.target.name
        return tuple(
            _function(transform.name, part) if isinstance(transform, NamedFunction) else transform
            for transform in self.transforms
            if part.data.target is not None
            or target is None
            or getattr(transform, "column", None) != target
        )

    def _check_width(self, part: Part) -> None:
        """DataError where a dense network takes another number of inputs than a sample has."""
        if isinstance(self.network, DenseNetwork):
            width = prod(part.input_shape)
            if width != self.network.sizes[0]:
                raise DataError(
                    f"{self.name} takes {self.network.sizes[0]:,} inputs, and a sample of "
                    f"{part.data.name} has {width:,} (shape {part.input_shape}). Give the data "
                    "that belong to the model, or choose the input columns when opening them"
                )


def load_saved(
    source: AnyModel,
    *,
    activation: str | None = None,
    loss: AnyLoss = None,
    network: nn.Module | None = None,
) -> SavedModel:
    """The model that `source` names: a run's folder, a weights file, a mapping, or a model itself.

    The network of a run or of weights is new and in evaluation mode; a module or a `FitResult` is
    taken as it is. `activation` is for weights (see `dense_network`), `loss` for a model that does
    not know its own, `network` for a run of a `torch.nn.Module`: a module of the same kind, which
    is copied and given the run's weights.

    Raises OptionError where there is no such model or an argument contradicts it, DataError and
    ResumeError where its files are damaged.

    >>> saved = load_saved({"W1": [[1.0], [1.0]], "b1": [0.5]})
    >>> saved.network
    DenseNetwork(
      (layers): ModuleList(
        (0): Linear(in_features=2, out_features=1, bias=True)
      )
    )
    """
    is_weights = isinstance(source, Mapping)
    if isinstance(source, (FitResult, nn.Module)):
        _refuse(activation is not None, "activation", "weights; a module has its own")
        _refuse(network is not None, "network", "the folder of a run; a module is one already")
        if isinstance(source, nn.Module):
            return SavedModel(network=source, name=type(source).__name__, loss=loss)
        _refuse_other_loss(loss, source.task.loss.name, "the result of fit")
        return SavedModel(
            network=source.model,
            name=type(source.model).__name__,
            task=source.task,
            inputs=source.inputs,
            target=source.target,
            transforms=source.transforms,
        )
    if not is_weights and not isinstance(source, (str, Path)):
        raise OptionError(
            f"a {type(source).__name__} is no model; valid are what rb.fit gave, a "
            f"torch.nn.Module, the folder of a run, and weights ({', '.join(WEIGHT_ENDINGS)}, or a "
            "mapping of the arrays W1, b1, …)"
        )
    if isinstance(source, Mapping):
        name, arrays = "the mapping of weights", source
    else:
        path = Path(source).expanduser()
        name = str(path)
        if path.is_dir():
            return _load_run(path, activation=activation, loss=loss, network=network)
        _refuse_no_model(path, str(source))
        arrays = read_weights(path)
    _refuse(network is not None, "network", f"the folder of a run; {name} is a dense network")
    dense = dense_network(arrays, activation, source=name)
    return SavedModel(network=dense.eval(), name=name, loss=loss)


def _load_run(
    path: Path, *, activation: str | None, loss: AnyLoss, network: nn.Module | None
) -> SavedModel:
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise OptionError(
            f"{path} is no run folder: it has no config.json. Give the folder that a run was "
            "started with (--out), or a weights file"
        )
    run = RunDescription.read(folder)
    if not folder.weights.is_file():
        raise OptionError(
            f"{path} holds no weights yet: the run was not finished. Go on with it: rightbatch "
            f"train --resume {path}, or rb.fit(…, out=…, resume=True)"
        )
    _refuse_other_loss(loss, run.loss, str(path))
    if activation is not None and activation != run.activation:
        raise OptionError(
            f"activation={activation!r} contradicts {path}, whose model has "
            f"{run.activation!r}: leave it out"
        )
    tensors, _ = load_checkpoint(folder.weights)
    if network is None:
        _refuse_module(run)
        network = run.build(tensors)
    else:
        network = copy.deepcopy(network)
    run.refuse_other(network, tensors)
    restore_model(network, tensors, "model")
    # The function of a custom loss is not stored; without it, there is no loss to tell.
    known = loss if run.loss == "custom" else run.loss
    target, classes = run.target, run.classes
    task = Task(
        loss=UnknownLoss() if known is None else find_loss(known),
        outputs=network.sizes[-1] if isinstance(network, DenseNetwork) else 1,
        classes=classes,
        target="" if target is None else target.name,
        keeps_integers=not run.is_named,
        labels=None
        if target is None or (classes is None and not run.is_per_token)
        else target.categories,
        is_per_token=run.is_per_token,
    )
    return SavedModel(
        network=network.eval(),
        name=str(path),
        task=task,
        inputs=run.inputs,
        target=target,
        transforms=run.read_transforms(),
    )


def _function(name: str, part: Part) -> AnyTransform:
    """The function or tokenizer of that name in the part's transforms; OptionError without one."""
    described = [(transform.to_json(), transform) for transform in part.transforms]
    functions = {
        str(stored["name"]): transform
        for stored, transform in described
        if stored["kind"] == "function"
    }
    if name not in functions:
        raise OptionError(
            f"the run's batches went through the function {name!r}, and code is not stored with a "
            f"run.{did_you_mean(name, functions)} Give it with the data: "
            f"rb.open(…).transform({name.rpartition('.')[2]})"
        )
    return functions[name]


def _refuse_module(run: RunDescription) -> None:
    """OptionError where the model is code, which a folder does not hold."""
    if run.is_named:
        return
    given = (run.command.get("training") or {}).get("model")
    hint = f"--model {given}" if given else "--model FILE.py:FUNCTION"
    raise OptionError(
        f"the model of {run.path} is code, {given or run.model}, and code is not run because a "
        f"folder names it: give a module of the same kind, network=… ({hint})"
    )


def _refuse_no_model(path: Path, given: str) -> None:
    ending = path.suffix.lower()
    if not path.is_file():
        named = (
            ". Models by name are not trained yet: rightbatch train, or rb.fit, trains one"
            if is_model_name(given)
            else ""
        )
        raise OptionError(
            f"model={given!r}: there is no such file or folder (looked in {Path.cwd()}){named}"
        )
    if ending not in WEIGHT_ENDINGS:
        raise OptionError(
            f"{path} is of no kind that holds weights: its ending is {ending or 'absent'!r}. Valid "
            f"are {', '.join(WEIGHT_ENDINGS)}, and the folder of a run"
        )


def _refuse_other_loss(loss: AnyLoss, known: str, whose: str) -> None:
    if loss is not None and known != "custom" and loss != known:
        raise OptionError(
            f"loss={loss!r} contradicts {whose}, which was trained with {known}: leave it out"
        )


def _refuse(is_given: bool, name: str, what: str) -> None:
    if is_given:
        raise OptionError(f"{name} is for {what}; leave it out")

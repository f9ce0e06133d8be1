"""What each of several real processes does, over gloo: `program.py RANK FOLDER SCENARIO…`.

A scenario is a function of `Process`; every process runs all of them in the same order and writes
what it returns to FOLDER/SCENARIO-RANK.json. One start of torch serves many of them.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group, is_initialized

import rightbatch as rb
from rightbatch.errors import BadSampleError
from rightbatch.training.leakage import ReadRows
from rightbatch.training.losses import MASKED
from rightbatch.training.ranks import Ranks

PROCESSES = 4


@dataclass
class Process:
    """One of the processes; `group` is a process group of the first few of them."""

    rank: int
    folder: Path
    groups: int = 0

    @contextmanager
    def group(self, size: int) -> Iterator[bool]:
        """A group of `size` processes; gives whether this is one of them. Alone there is none."""
        self.groups += 1
        if self.rank >= size:
            yield False
            return
        if size == 1:
            yield True
            return
        store = f"file://{self.folder}/store-{self.groups}"
        init_process_group("gloo", init_method=store, rank=self.rank, world_size=size)
        try:
            yield True
        finally:
            if is_initialized():
                destroy_process_group()


def table() -> rb.Parts:
    return rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())


def numbers() -> rb.Parts:
    return rb.split(rb.open("diabetes"), val=0.2, seed=7).transform(rb.standardize())


def tokens() -> rb.Parts:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 7, (90, 6))
    target = np.where(generator.random(codes.shape) < 0.5, codes, MASKED)
    target[:, 0] = codes[:, 0]
    return rb.split(rb.open((codes, target)), val=0.2, seed=7)


def dense() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))


def seeded(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(30, 1)


def of_tokens() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7))


def mean_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs.reshape(-1), target.float())


CURVES: dict[str, tuple[Callable[[], Any], Callable[[], rb.Parts], dict[str, Any]]] = {
    "divides": (lambda: "mlp:16", table, {"batch_size": 65}),
    "does not divide": (lambda: "mlp:16", table, {"batch_size": 101}),
    "last smaller than ranks": (lambda: "mlp:16", table, {"batch_size": 151}),
    "smaller than ranks": (lambda: "mlp:16", table, {"batch_size": 3, "epochs": 1}),
    "full batch": (lambda: "mlp:16", table, {"batch_size": "full"}),
    "adam, penalties": (
        lambda: "mlp:16",
        table,
        {"batch_size": 50, "optimizer": "adam", "l1": 1e-3, "l2": 1e-2},
    ),
    "module": (dense, table, {"batch_size": 101}),
    "module, last smaller than ranks": (dense, table, {"batch_size": 151, "momentum": 0.9}),
    "module, micro-batches": (dense, table, {"batch_size": 101, "micro_batch_size": 13}),
    "named, micro-batches": (lambda: "mlp:16", table, {"batch_size": 151, "micro_batch_size": 7}),
    "mean loss": (dense, table, {"batch_size": 101, "loss": mean_loss}),
    "quantities": (lambda: "linear", numbers, {"batch_size": 60}),
    "masked tokens": (of_tokens, tokens, {"batch_size": 7}),
    "balanced": (lambda: "mlp:16", table, {"batch_size": 64, "weights": "balanced"}),
    "window": (lambda: "mlp:16", table, {"batch_size": 64, "window": 90, "block": 9}),
}


def curves(process: Process) -> dict[str, Any]:
    """Every curve at 1 to 4 ranks: what fit says, and the weights of the end."""
    found: dict[str, Any] = {}
    for size in range(1, PROCESSES + 1):
        with process.group(size) as is_member:
            for name, (model, parts, options) in CURVES.items() if is_member else ():
                result = rb.fit(model(), parts(), **{"epochs": 3, "learning_rate": 0.1, **options})
                found[f"{name}/{size}"] = described(result)
    return found


def described(result: rb.FitResult) -> dict[str, Any]:
    return {
        "history": [
            {name: value for name, value in row.items() if "seconds" not in name}
            for row in result.history
        ],
        "steps": [loss for _, loss in result.step_losses],
        "weights": weights_of(result),
        "leaked": result.leaked_samples,
    }


def weights_of(result: rb.FitResult) -> list[float]:
    return torch.cat([v.detach().reshape(-1) for v in result.model.parameters()]).tolist()


@contextmanager
def rows_read() -> Iterator[list[list[int]]]:
    """The rows that this process learns from, step by step."""
    found: list[list[int]] = []
    mark = ReadRows.mark

    def marked(self: ReadRows, rows: Any) -> None:
        found.append(rows.tolist())
        mark(self, rows)

    ReadRows.mark = marked  # type: ignore[method-assign]  # put back below
    try:
        yield found
    finally:
        ReadRows.mark = mark  # type: ignore[method-assign]  # see above


def elastic(process: Process) -> dict[str, Any]:
    """A run at 4 ranks, gone on with at 2 and at 3 inside epochs; and one in a single process."""
    found: dict[str, Any] = {}
    options: dict[str, Any] = {"batch_size": 50, "learning_rate": 0.1, "optimizer": "adam"}
    for kind, model in (("named", lambda: "mlp:16"), ("module", dense)):
        run = process.folder / f"run-{kind}"
        legs = []
        for size, length in ((4, {"steps": 7}), (2, {"steps": 16}), (3, {"epochs": 4})):
            with process.group(size) as is_member, rows_read() as rows:
                if is_member:
                    result = rb.fit(
                        model(), table(), **options, **length, out=run, resume=bool(legs)
                    )
                    found[kind] = described(result)
            legs.append(rows)
        found[f"{kind} rows"] = legs
        with process.group(1) as is_member, rows_read() as rows:
            if is_member:
                found[f"{kind} alone"] = described(rb.fit(model(), table(), **options, epochs=4))
                found[f"{kind} rows alone"] = rows
    return found


def refusals(process: Process) -> dict[str, Any]:
    """What differing ranks are told, and what else is refused, each before the first step."""
    found: dict[str, Any] = {}
    is_other = process.rank == 1
    other_table = rb.split(rb.open("breast_cancer"), val=0.2, seed=8).transform(rb.standardize())
    cases: dict[str, Callable[[], Any]] = {
        "seed": lambda: rb.fit("mlp:4", table(), seed=int(is_other)),
        "data": lambda: rb.fit("mlp:4", other_table if is_other else table()),
        "option": lambda: rb.fit("mlp:4", table(), learning_rate=0.2 if is_other else 0.1),
        "model": lambda: rb.fit("mlp:8" if is_other else "mlp:4", table()),
        "transforms": lambda: rb.fit(
            "mlp:4",
            rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(
                rb.scale(0.5) if is_other else rb.scale(0.25)
            ),
        ),
        "version": lambda: with_version("9.9" if is_other else None),
        "batch norm": lambda: rb.fit(normalised(), table()),
        "batch norm synchronised": lambda: rb.fit(
            normalised(), table(), batch_statistics="synchronised"
        ),
        "batch norm small": lambda: rb.fit(
            normalised(), table(), batch_size=3, batch_statistics="rank"
        ),
        "coupled": lambda: rb.fit(Coupled(), table()),
        "coupled, a sample a rank": lambda: rb.fit(Coupled(), table(), batch_size=2),
        "named, coupled loss": lambda: rb.fit("mlp:4", numbers(), loss=spread_loss),
        "contrastive": lambda: rb.fit(dense(), table(), loss=spread_loss),
        "loss": lambda: rb.fit(
            dense(),
            table(),
            loss=nn.BCEWithLogitsLoss(pos_weight=None, reduction="mean") if is_other else squared,
        ),
        "values of a loss": lambda: rb.fit(
            "softmax", table(), loss=nn.CrossEntropyLoss(torch.tensor([1.0, 1.0 + is_other]))
        ),
        "a layer of several": lambda: rb.fit(
            nn.Sequential(nn.Linear(30, 4), Tail() if is_other else Head()), table()
        ),
        "a function of a model": lambda: rb.fit(
            Activated(torch.tanh if is_other else torch.relu), table()
        ),
        "evaluate": lambda: rb.evaluate(
            seeded(process.rank), table().val, loss="binary_cross_entropy"
        ),
        "more is described": lambda: Ranks.here().agree(**{"note": 1} if is_other else {}),
        "less is described": lambda: Ranks.here().agree(**{} if is_other else {"note": 1}),
        "no number": lambda: Ranks.here().agree(note=math.nan),
        "setting of a loss": lambda: rb.fit(
            "softmax", table(), loss=nn.CrossEntropyLoss(label_smoothing=0.1 * is_other)
        ),
        "closure": lambda: rb.fit(dense(), table(), loss=scaled_loss(2.0 if is_other else 1.0)),
        "setting of a model": lambda: rb.fit(Scaled(2.0 if is_other else 1.0), table()),
        "unused": lambda: rb.fit(Unused(), table(), steps=3),
        "wrapped": lambda: rb.fit(wrapped(), table()),
        "no run": lambda: rb.fit("mlp:4", table(), out=process.folder / "none", resume=True),
    }
    with process.group(2) as is_member:
        for name, case in cases.items() if is_member else ():
            try:
                case()
                found[name] = None
            except rb.RightbatchError as error:
                found[name] = [type(error).__name__, str(error)]
    return found


def with_version(version: str | None) -> rb.FitResult:
    from rightbatch.training import rank_agreement

    describe = rank_agreement.describe_environment

    def described() -> dict[str, Any]:
        environment = describe()
        if version is not None:
            environment["versions"]["rightbatch"] = version
        return environment

    rank_agreement.describe_environment = described
    try:
        return rb.fit("mlp:4", table())
    finally:
        rank_agreement.describe_environment = describe


def normalised() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


class Coupled(nn.Module):
    """A sample's output depends on the mean of those beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(30, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs - inputs.mean(0))


class Scaled(nn.Module):
    """A model whose shapes say nothing of a number in it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear, self.factor = nn.Linear(30, 1), factor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs) * self.factor


class Head(nn.Module):
    """What it does with its layer is said by a method beside `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def made(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(inputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(self.made(inputs))


class Tail(Head):
    """The same but for what the method does."""

    def made(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.tanh(inputs)


# As if another version of the same file lay on another machine.
Tail.__qualname__ = Head.__qualname__


class Activated(nn.Module):
    """A model whose activation is a function."""

    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(30, 1), activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(self.activation(inputs))


def squared(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (outputs.reshape(-1) - target).square()


def scaled_loss(factor: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda outputs, target: factor * squared(outputs, target)


class Stumbling(nn.Module):
    """A model that fails on one rank alone."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.linear, self._fails, self.passes = nn.Linear(30, 1), fails, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.__dict__["passes"] += self.training
        if self._fails and self.passes > 8:
            raise ValueError("a layer that stumbles")
        return self.linear(inputs)


class Unused(nn.Module):
    """A parameter that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.idle = nn.Linear(30, 1), nn.Linear(30, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs)


def spread_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A loss of the batch and no mean over samples."""
    return outputs.std() + (outputs.reshape(-1) - target).square().mean()


def wrapped() -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(dense())


def together(process: Process) -> dict[str, Any]:
    """What ranks decide together, and what they hand on to one another."""
    found: dict[str, Any] = {}
    with process.group(3) as is_member:
        if is_member:
            parts = table()
            early = rb.fit(
                "mlp:16", parts, batch_size=50, epochs=60, learning_rate=2.0, early_stopping=2
            )
            found["early"] = {**described(early), "best": early.best_epoch}
            found["evaluated"] = rb.evaluate(early, parts.val)
            found["normalised"] = described(
                rb.fit(normalised(), parts, batch_size=64, epochs=2, batch_statistics="rank")
            )
            found["dropout"] = described(rb.fit(dropping(), parts, batch_size=50, epochs=2))
            stopped = process.folder / "dropped"
            rb.fit(dropping(), parts, batch_size=50, steps=13, out=stopped)
            resumed = rb.fit(dropping(), parts, batch_size=50, epochs=2, out=stopped, resume=True)
            found["dropout resumed"] = described(resumed)
            try:
                rb.fit("mlp:16", parts, batch_size=50, learning_rate=1e30)
            except rb.NonFiniteLossError as error:
                found["not finite"] = [error.step, sorted(error.rows)]
            features = np.arange(60.0).reshape(60, 1) / 60
            bad = rb.split(Failing(features, (features > 0.5).ravel().astype(int)), val=0.2)
            few = {"batch_size": 9, "epochs": 2, "on_bad_sample": "quarantine"}
            result = rb.fit("logistic", bad, **few, max_bad=9)
            found["bad"] = {**described(result), "rows": [s.row for s in result.bad_samples]}
            found["bad validation"] = bad_validation()
    with process.group(2) as is_member:
        if is_member:
            told = []
            for _ in range(2):  # the second time by a program that has caught the first error
                try:
                    rb.fit(Stumbling(process.rank == 1), table(), batch_size=50)
                except (ValueError, rb.RankError) as error:
                    told.append([type(error).__name__, str(error)])
            found["stumbled"] = told
    with process.group(2) as is_member:
        if is_member:
            told = []
            for _ in range(2):
                try:
                    rb.fit("mlp:4", table(), on_step=refusing if process.rank == 1 else None)
                except (rb.OptionError, rb.RankError) as error:
                    told.append([type(error).__name__, str(error)])
            found["refusing"] = told
    with process.group(3) as is_member:
        if is_member:
            try:
                rb.fit("logistic", bad, **few, max_bad=2)
            except (BadSampleError, rb.RankError) as error:
                found["too bad"] = [type(error).__name__, str(error)]
    return found


def bad_validation() -> dict[str, Any]:
    """What is said of bad samples of the validation part, of which each rank reads a share."""
    features = np.arange(60.0).reshape(60, 1) / 60
    data = Failing(features, (features > 0.5).ravel().astype(int))
    # Each rank reads fewer bad ones than may be left out, and all together more.
    data.own_parts = {"train": range(16, 34), "val": range(34, 54), "test": range(16)}
    parts = rb.split(data)
    options: dict[str, Any] = {"on_bad_sample": "quarantine"}
    result = rb.fit("logistic", parts, epochs=1, batch_size=9, max_bad=2, **options)
    found: dict[str, Any] = {"rows": [sample.row for sample in result.bad_samples]}
    for name, case in {
        "fit": lambda: rb.fit("logistic", parts, epochs=1, batch_size=9, max_bad=1, **options),
        "evaluate": lambda: rb.evaluate(result, parts.test, max_bad=2, **options),
    }.items():
        try:
            case()
            found[name] = None
        except BadSampleError as error:
            found[name] = str(error)
    return found


def refusing(step: int, loss: float, model: nn.Module) -> None:
    raise rb.OptionError(f"no step like number {step}")


class Failing(rb.data.array_dataset.ArrayDataset):
    """Some rows of it can not be read."""

    bad = (3, 14, 15, 40, 41)

    def __init__(self, features: Any, target: Any) -> None:
        super().__init__({"x": features, "y": target}, target="y")

    def array(self, name: str) -> None:
        del name

    def rows(self, indices: Any) -> Any:
        if set(np.asarray(indices).tolist()) & set(self.bad):
            raise OSError("the sector can not be read")
        return super().rows(indices)


def dropping() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(30, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))


def sharded(process: Process) -> dict[str, Any]:
    """A model that was handed in divided among the ranks, against the same one whole."""
    found: dict[str, Any] = {}
    options: dict[str, Any] = {
        "batch_size": 151,
        "learning_rate": 0.05,
        "optimizer": "adam",
        "l2": 1e-2,
        "micro_batch_size": 40,
    }
    with process.group(1) as is_member:
        if is_member:
            found["whole"] = described(rb.fit(dense(), table(), epochs=3, **options))
    with process.group(3) as is_member:
        if is_member:
            run = process.folder / "divided"
            rb.fit(divided(), table(), steps=6, out=run, **options)
            result = rb.fit(divided(), table(), epochs=3, out=run, resume=True, **options)
            found["divided"] = {**described_whole(result), "leaked": result.leaked_samples}
    return found


def divided() -> nn.Module:
    from torch.distributed import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    size = torch.distributed.get_world_size()
    model = dense()
    mesh = init_device_mesh("cpu", (size,))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def described_whole(result: rb.FitResult) -> dict[str, Any]:
    whole = [v.full_tensor().detach().reshape(-1) for v in result.model.parameters()]
    return {
        "history": [
            {name: value for name, value in row.items() if "seconds" not in name}
            for row in result.history
        ],
        "weights": torch.cat(whole).tolist(),
    }


SCENARIOS = {
    "curves": curves,
    "elastic": elastic,
    "refusals": refusals,
    "together": together,
    "sharded": sharded,
}


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    process = Process(rank, folder)
    for name in sys.argv[3:]:
        value = SCENARIOS[name](process)
        partial = folder / f"{name}-{rank}.partial"
        partial.write_text(json.dumps(value))
        os.replace(partial, folder / f"{name}-{rank}.json")  # noqa: PTH105  # as the line before


if __name__ == "__main__":
    main()

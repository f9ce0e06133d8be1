"""What each of two real processes asks of `advise`, over gloo: `rank_program.py RANK FOLDER`.

Each writes what it has found to FOLDER/RANK.json. One start of torch serves all scenarios.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_device_mesh, init_process_group
from torch.distributed.fsdp import fully_shard

import rightbatch as rb
from rightbatch.advice.ground import Ground
from rightbatch.advice.rank_noise import PairBranch
from rightbatch.training.losses import find_loss
from rightbatch.training.options import FitOptions
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.step import AutogradGradient

PROCESSES = 2
BRIEF: dict[str, Any] = {"probe_memory": False, "budget_seconds": 2.0, "learning_rate": 0.1}


def table() -> rb.Parts:
    return rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())


def module(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 1))


def normalised() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def sharded() -> nn.Module:
    return fully_shard(module(), mesh=init_device_mesh("cpu", (PROCESSES,)))


def quick() -> dict[str, Any]:
    """Advice on a named model; one of the sizes leaves a rank idle, another is shared unevenly."""
    sizes = [1, 32, 65, 128]
    return rb.advise("mlp:4", table(), grade="quick", batch_sizes=sizes, **BRIEF).to_json()


def of_a_module() -> dict[str, Any]:
    """Advice on a module, which like the random states is to be as before."""
    model = module()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(11)
    random.seed(11)
    np.random.seed(11)  # noqa: NPY002  # the caller's own state
    advice = rb.advise(model, table(), grade="quick", batch_sizes=[16, 64], **BRIEF)
    drawn = [torch.rand(1).item(), random.random(), float(np.random.rand())]  # noqa: NPY002, S311  # the same
    same = all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    return {
        "advice": advice.to_json(),
        "is same": same and all(value.grad is None for value in model.parameters()),
        "drawn": drawn,
    }


def idle() -> dict[str, Any]:
    """Advice where there is no choice but a batch of one sample."""
    return rb.advise("logistic", table(), grade="quick", batch_sizes=[1], **BRIEF).to_json()


def pilot() -> dict[str, Any]:
    """Advice with branches."""
    return rb.advise(
        "logistic", table(), target_loss=0.15, **{**BRIEF, "budget_seconds": 4.0}
    ).to_json()


def coupled() -> dict[str, Any]:
    """Advice on a model with BatchNorm, with statistics of each rank's own."""
    return rb.advise(
        normalised(),
        table(),
        grade="quick",
        batch_statistics="rank",
        batch_sizes=[2, 3, 30, 64],
        **BRIEF,
    ).to_json()


def pairs() -> dict[str, Any]:
    """What steps tell of their gradients, and what single gradients make of it."""
    ranks = ProcessGroup.default()
    found: dict[str, Any] = {}
    for name, model in (("named", "mlp:4"), ("module", module)):
        for size, together in ((33, None), (33, 5), (1, None)):
            ground = Ground(model, table(), FitOptions(learning_rate=0.5))
            ground.most_together = together
            branch = PairBranch(ground, batch_size=size, learning_rate=0.5, seed=0, ranks=ranks)
            expected = own_pairs(branch, size, ranks, steps=15)
            step: Any = branch._step
            found[f"{name}, {size}, {together}"] = {"told": step.pairs, "expected": expected}
            branch.close()
    return found


def own_pairs(
    branch: PairBranch, size: int, ranks: ProcessGroup, *, steps: int
) -> list[list[float]]:
    """Take steps; the squares of the gradients that autograd finds, of share and batch, by hand."""
    rows, found = [], []
    stream = branch._stream

    def watched() -> Any:
        for inputs, target, row_numbers in stream:
            rows.append((inputs.clone(), target.clone()))
            yield inputs, target, row_numbers

    branch._stream = watched()
    for _ in range(steps):
        network = branch.copy_network()
        branch.run(lambda taken, _: taken >= 1)
        inputs, target = rows.pop()
        gradient = AutogradGradient(network, find_loss("binary_cross_entropy"))
        share = torch.zeros(sum(value.numel() for value in network.parameters()))
        if len(target):
            gradient.accumulate(inputs, target, total=1.0, is_first=True)
            share = torch.cat([value.grad.reshape(-1) for value in gradient.parameters])
        whole = torch.from_numpy(ranks.gather(share.tolist())).sum(dim=0)
        own = share.double() / max(1, len(target))
        found.append([float(own @ own), len(target), float(whole @ whole)])
    return found


def refusals() -> dict[str, Any]:
    """What is refused, on every rank."""
    is_other = ProcessGroup.default().rank == 1
    cases: dict[str, Callable[[], Any]] = {
        "option": lambda: rb.advise("mlp:4", table(), learning_rate=0.2 if is_other else 0.1),
        "grade": lambda: rb.advise("mlp:4", table(), grade="quick" if is_other else "pilot"),
        "goal": lambda: rb.advise("mlp:4", table(), epochs=3 + is_other),
        "model": lambda: rb.advise("mlp:5" if is_other else "mlp:4", table()),
        "sharded": lambda: rb.advise(sharded(), table()),
        "executor": lambda: rb.advise("mlp:4", table(), executor=ThreadPoolExecutor(1)),
        "synchronised": lambda: rb.advise(normalised(), table(), batch_statistics="synchronised"),
        "reached": lambda: rb.advise("mlp:4", table(), target_loss=9.0, **BRIEF),
        "normalised": lambda: rb.advise(normalised(), table(), grade="quick", **BRIEF),
    }
    found: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            case()
            found[name] = None
        except rb.RightbatchError as error:
            found[name] = [type(error).__name__, str(error)]
    return found


def waiting() -> dict[str, Any]:
    """Rank 0 is at work for longer than the others would wait, and says so now and then."""
    ranks = ProcessGroup.default()
    told = 0

    def work() -> list[int]:
        nonlocal told
        for _ in range(3):
            time.sleep(0.05)
            ranks.keep_waiting()
            told += 1
        return [told, 7]

    return {"value": ranks.on_first(work), "told": told}


SCENARIOS = (quick, of_a_module, idle, pilot, coupled, pairs, refusals, waiting)


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES
    )
    found = {scenario.__name__: scenario() for scenario in SCENARIOS}
    destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

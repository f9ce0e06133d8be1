"""What users of batch-size finders complain about, point by point (complaint 12 of the peers).

Each test fails with the behaviour of the finder that is named in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.memory_limit import MARGIN
from rightbatch.advice.memory_probe import why_not_here
from rightbatch.loading.parts import Parts
from rightbatch.plan.ranks import rank_span

needs_probes = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))
BRIEF: dict[str, Any] = {"grade": "quick", "budget_seconds": 3.0, "threads": 1, "epochs": 2}
BYTES_A_SAMPLE = 2_000_000
LIMIT_BYTES = 900_000_000


@pytest.fixture(scope="module")
def parts() -> Parts:
    """1,500 samples of 20 numbers, two classes."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(1500, 20)).astype(np.float32)
    return rb.split(rb.open((inputs, (inputs[:, 0] > 0).astype(np.int64))), val=300, seed=0)


# A small layer beside two megabytes a sample, in a process of its own: what the process of the
# tests holds would count against the limit.
WIDE = f"""
import json, resource
import numpy as np
import torch
import rightbatch as rb
from torch import nn

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(20, 2)
    def forward(self, inputs):
        return self.layer(inputs) + torch.ones(len(inputs), {BYTES_A_SAMPLE // 4})[:, :1]

torch.set_num_threads(1)
generator = np.random.default_rng(0)
inputs = generator.normal(size=(1500, 20)).astype(np.float32)
parts = rb.split(rb.open((inputs, (inputs[:, 0] > 0).astype(np.int64))), val=300, seed=0)
"""

ADVISE = f"""
advice = rb.advise(
    Wide(), parts, loss="cross_entropy", memory_limit={LIMIT_BYTES}, batch_sizes=[8, 32, 1024],
    grade="quick", budget_seconds=3, threads=1, epochs=2,
)
print(json.dumps(advice.to_json()))
"""


def run(program: str) -> Any:
    """What a program prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def limited() -> rb.Advice:
    """Advice where memory is the limit: the candidates would take up to 2.4 GB."""
    return rb.Advice.from_json(run(WIDE + ADVISE))


@needs_probes
def test_the_size_that_is_returned_was_run(limited: rb.Advice) -> None:
    """Lightning #18426: a doubled size that it never tried."""
    assert limited.memory is not None
    assert limited.batch_size in limited.tested
    assert limited.memory.cap in {point.batch_size for point in limited.memory.measured}
    together = limited.micro_batch_size or limited.batch_size
    assert together <= limited.memory.cap


FIT = f"""
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT_BYTES}, resource.RLIM_INFINITY))
result = rb.fit(Wide(), parts, loss="cross_entropy", batch_size=%d, epochs=2, threads=1)
print(json.dumps([result.epochs, result.micro_batch_size]))
"""


@needs_probes
def test_training_at_the_cap_does_not_run_out_of_memory(limited: rb.Advice) -> None:
    """Lightning #8028, #20231: out of memory later, in `fit`."""
    assert limited.memory is not None
    # Two whole epochs, and nothing had to be halved.
    assert run(WIDE + FIT % limited.memory.cap) == [2, None]


@needs_probes
def test_without_a_limit_a_margin_is_left_and_named(parts: Parts) -> None:
    """Lightning #20447: no margin."""
    advice = rb.advise("softmax", parts, **BRIEF)
    assert advice.memory is not None
    assert MARGIN > 0.05
    assert f"less {MARGIN:.0%}" in advice.memory.limit_source.replace(" %", "%")


def test_the_advised_batch_is_the_global_one_whatever_the_ranks(parts: Parts) -> None:
    """Lightning #20994: a size that every rank multiplies."""
    advice = rb.advise("softmax", parts, probe_memory=False, **BRIEF)
    for world_size in (1, 2, 3, 8):
        spans = [rank_span(0, advice.batch_size, rank, world_size) for rank in range(world_size)]
        assert sum(stop - start for start, stop in spans) == advice.batch_size


def test_the_model_is_left_in_the_modes_it_was_in(parts: Parts) -> None:
    """Lightning #18813: the model is left in training mode."""
    model = nn.Sequential(nn.Linear(20, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    model.eval()
    model[1].train()
    rb.advise(model, parts, probe_memory=False, **BRIEF)
    assert [module.training for module in model] == [False, True, False]
    assert not model.training


class Short(nn.Module):
    """Has room for eight samples at a time while it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and torch.is_grad_enabled() and len(inputs) > 8:
            # What torch's own allocator says; the real thing is in tests/training.
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: no memory")
        return self.layer(inputs)


def test_a_batch_that_is_cut_keeps_its_steps_and_its_schedule(parts: Parts) -> None:
    """transformers #21521: the rate is zero before the first epoch ends once the batch shrank."""
    result = rb.fit(Short(), parts, batch_size=64, epochs=3, loss="cross_entropy", threads=1)
    steps = -(-len(parts.train) // 64)
    assert result.micro_batch_size == 8
    assert result.batch_size == 64
    assert result.steps == 3 * steps
    assert [row["steps"] for row in result.history] == [steps, 2 * steps, 3 * steps]


class ShortEvaluation(nn.Module):
    """Has room for 100 samples at a time while it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.training and len(inputs) > 100:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: no memory")
        return self.layer(inputs)


def test_the_memory_of_evaluation_leaves_the_training_batch_alone(parts: Parts) -> None:
    """transformers #32215: evaluation ran out, and the training batch was halved."""
    result = rb.fit(
        ShortEvaluation(), parts, batch_size=256, epochs=1, loss="cross_entropy", threads=1
    )
    assert (result.batch_size, result.micro_batch_size) == (256, None)
    assert "val_loss" in result.history[-1]


@needs_probes
def test_flat_memory_gives_no_absurd_size(parts: Parts) -> None:
    """yolov5 #9156: "batch-size 253731" from a flat fit."""
    advice = rb.advise("softmax", parts, **BRIEF)
    assert advice.memory is not None
    assert advice.memory.cap is not None
    largest = len(parts.train)
    assert advice.memory.cap <= largest
    assert max(advice.tested) <= largest
    assert advice.interval[1] <= largest
    assert advice.batch_size in advice.tested

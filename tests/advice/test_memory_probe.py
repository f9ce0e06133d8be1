"""Memory measured for real: probes that fit, run out, hang, crash, fail, and cannot be sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.memory_probe import confirm, measure_memory, why_not_here
from rightbatch.advice.probe_pages import memory_bytes
from rightbatch.errors import MemoryLimitError, OptionError
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions

pytestmark = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))
MB = 10**6


@pytest.fixture(scope="module")
def parts() -> Parts:
    """2,000 samples of 100 numbers, three classes."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((2000, 100)).astype(np.float32)
    return rb.split(rb.open((inputs, random.integers(0, 3, 2000))), val=0.1, seed=1)


class Wide(nn.Module):
    """Holds `bytes_per_sample` for each sample of a batch, beside a small layer."""

    def __init__(self, bytes_per_sample: int) -> None:
        super().__init__()
        self.layer = nn.Linear(100, 3)
        self.width = bytes_per_sample // 4

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        held = torch.ones(len(inputs), self.width)
        return self.layer(inputs) + held[:, :1]


class Act(nn.Module):
    """Does something unusual in training, once the batch is larger than one sample."""

    def __init__(self, act) -> None:
        super().__init__()
        self.layer = nn.Linear(100, 3)
        self.act = act

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 1:
            self.act()
        return self.layer(inputs)


def own() -> int:
    """What this process holds: a limit below it leaves nothing."""
    return max(memory_bytes("VmRSS"), 320 * MB)


def measure(model, parts, **keywords):
    keywords = {"batch_sizes": [64, 1024], "seconds": 3.0, **keywords}
    return measure_memory(model, parts, options=FitOptions(), **keywords)


def test_what_each_sample_holds_is_found_and_the_cap_respects_the_limit(parts) -> None:
    model = Wide(MB // 4)
    before = torch.random.get_rng_state()
    memory = measure(model, parts, memory_limit=own() + 200 * MB, seconds=60.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert memory.fit is not None
    largest = memory.measured[-1]
    assert 0 < largest.bytes - largest.batch_size * MB / 4 < 40 * MB
    assert memory.fit.bytes(largest.batch_size) == pytest.approx(largest.bytes, rel=0.25)
    assert len(memory.measured) >= 3
    # 1,024 samples would take 256 MB more than the 300 MB that are loaded.
    assert max(point.batch_size for point in memory.measured) < 1024
    assert memory.cap is not None
    assert memory.limit_bytes is not None
    room = memory.limit_bytes - memory.loaded_bytes
    # Peaks stray by some ten megabytes from run to run, and the cap keeps clear of them.
    assert memory.cap >= 32
    assert memory.cap * MB / 4 < room
    assert memory.fit.bytes(memory.cap) < room


def test_a_size_can_be_confirmed_and_one_that_does_not_fit_is_none(parts) -> None:
    model, options = Wide(MB // 4), FitOptions()
    point = confirm(model, parts, batch_size=200, options=options, memory_limit=own() + 600 * MB)
    assert point is not None
    assert point.batch_size == 200
    assert point.bytes > 50 * MB
    assert (
        confirm(model, parts, batch_size=1200, options=options, memory_limit=own() + 150 * MB)
        is None
    )


def test_where_not_even_one_sample_fits_it_is_a_memory_error_of_exit_code_4(parts) -> None:
    with pytest.raises(MemoryLimitError, match="even at batch size 1: libraries, model") as caught:
        measure(Wide(4000 * MB), parts, memory_limit=own() + 600 * MB)
    assert caught.value.exit_code == 4


def test_a_limit_below_the_loaded_process_is_refused_at_once_with_its_own_number(parts) -> None:
    with pytest.raises(MemoryLimitError, match=r"does not fit in 1\.00 MB \(given\)"):
        measure(Wide(1), parts, memory_limit="1MB")


def test_a_probe_that_hangs_is_stopped_and_said(parts) -> None:
    began = time.perf_counter()
    memory = measure(Act(lambda: time.sleep(1000)), parts, patience_seconds=3.0)
    assert memory.cap is None
    assert memory.declined is not None
    assert "did not end in 3 seconds and was stopped" in memory.declined
    assert time.perf_counter() - began < 120


def test_a_probe_that_crashes_is_said_with_its_signal(parts) -> None:
    memory = measure(Act(lambda: os.kill(os.getpid(), signal.SIGSEGV)), parts)
    assert memory.declined is not None
    assert "crashed with SIGSEGV" in memory.declined


def test_a_probe_that_the_system_kills_did_not_fit(parts) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    memory = measure(Act(die), replace(parts, val=None), batch_sizes=[4])
    assert memory.cap == 1
    assert "Batch size 2 (training) does not fit: it was ended by SIGKILL." in memory.notes


def test_validation_that_does_not_fit_does_not_cut_the_batch_of_training(parts) -> None:
    class Held(Wide):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) if not self.training else self.layer(inputs)

    # 200 validation samples at once take 200 MB.
    memory = measure(Held(MB), parts, batch_sizes=[64], memory_limit=own() + 150 * MB)
    assert memory.cap == 64
    assert any("validation in batches of" in note.lower() for note in memory.notes)


def test_a_module_that_can_not_be_sent_declines_the_advice_with_the_reason(parts) -> None:
    model = nn.Linear(100, 3)
    model.lock = threading.Lock()
    memory = measure(model, parts)
    assert memory.cap is None
    assert memory.declined is not None
    assert "Linear" in memory.declined
    assert "lock" in memory.declined
    assert "function of the seed" in memory.declined


def test_an_error_of_the_model_is_the_users_to_see(parts) -> None:
    def fail() -> None:
        raise ValueError("no such layer")

    with pytest.raises(OptionError, match="ValueError: no such layer"):
        measure(Act(fail), parts)


def test_a_factory_is_built_again_over_there(parts) -> None:
    here = os.getpid()

    def make(seed: int) -> nn.Module:
        assert os.getpid() != here
        return nn.Linear(100, 3)

    memory = measure(make, parts, batch_sizes=[8, 16, 256])
    assert memory.cap == 256
    assert [point.batch_size for point in memory.predicted] == [8, 16, 256]
    assert memory.evaluation_cap == 256


def test_what_is_no_model_or_no_parts_is_refused(parts) -> None:
    with pytest.raises(OptionError, match="model=3 is none"):
        measure(3, parts)
    with pytest.raises(OptionError, match="the parts of a split"):
        measure("softmax", parts.train)
    with pytest.raises(OptionError, match="seconds=-1"):
        measure("softmax", parts, seconds=-1)


SCRIPT = """
import numpy as np
import rightbatch as rb
from torch import nn
from rightbatch.advice.memory_probe import measure_memory
from rightbatch.training.options import FitOptions

print("the script runs")

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, inputs):
        return self.layer(inputs)

parts = rb.split(rb.open("iris"))
print(measure_memory(Mine(), parts, options=FitOptions(), seconds=3).cap)
"""


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=200
    )
    runs, cap = done.stdout.splitlines()
    assert runs == "the script runs"
    assert int(cap) >= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_the_context_is_part_of_what_is_loaded(parts) -> None:
    memory = measure("mlp:100", parts, device="cuda")
    assert memory.loaded_bytes > 100 * MB
    assert "GPU" in memory.limit_source
    assert memory.cap == 1024

"""Training on files within a budget of memory: what it needs, and what it goes on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    generator = np.random.default_rng(0)
    columns = {f"x{place}": generator.normal(size=60_000) for place in range(20)}
    columns["y"] = sum(columns.values()) / 4
    folder = tmp_path_factory.mktemp("table") / "pack"
    rb.pack(rb.open(columns, target="y"), folder)
    return folder


def parts(pack: Path) -> rb.Parts:
    return rb.split(rb.open(pack), val=0.1, seed=1)


OPTIONS = {"batch_size": 64, "epochs": 1, "learning_rate": 0.01, "threads": 1}


def test_validation_takes_smaller_batches_where_the_budget_is_small(pack) -> None:
    result = rb.fit("linear", parts(pack), memory="8MB", **OPTIONS)
    large = rb.fit("linear", parts(pack), memory="8MB", evaluation_batch_size=8, **OPTIONS)
    assert result.history[-1]["val_loss"] == pytest.approx(large.history[-1]["val_loss"], rel=1e-6)
    assert rb.evaluate(result, parts(pack).val, memory="8MB")["r2"] > 0.5


def test_a_module_is_looked_at_without_stacking_the_table(pack) -> None:
    split = parts(pack)
    rb.fit(torch.nn.Linear(20, 1), split, memory="8MB", loss="squared_error", **OPTIONS)
    assert split.data._blocks == {}


def test_a_resumed_run_keeps_its_order_and_its_budget(pack, tmp_path) -> None:
    options = {**OPTIONS, "steps": 300, "epochs": None}
    whole = rb.fit("linear", parts(pack), memory="8MB", out=tmp_path / "whole", **options)
    stopped = {**options, "steps": 100}
    rb.fit("linear", parts(pack), memory="8MB", out=tmp_path / "run", **stopped)
    resumed = rb.fit("linear", parts(pack), out=tmp_path / "run", resume=True, **options)
    assert resumed.step_losses == whole.step_losses
    assert RunFolder(tmp_path / "run").read_config()["options"]["memory"] == "8MB"

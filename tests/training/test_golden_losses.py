"""Losses pinned across versions: an upgrade must not change what somebody's run learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rightbatch as rb

PINNED = Path(__file__).with_name("golden_losses.json")
RUNS: dict[str, dict[str, Any]] = json.loads(PINNED.read_text())
CHANGED = (
    "The losses of {name} are no longer those that are pinned. If nothing about the split, the "
    "order of samples, the initialisation, the loss or the optimizer was meant to change, this is "
    "a bug: somebody's run would not be reproduced. If it was meant to, say so in CHANGELOG.md as "
    "a breaking change and put these values into {file}: {found}"
)


def run(described: dict[str, Any]) -> dict[str, list[float]]:
    parts = rb.split(rb.open(described["data"]), val=0.2, seed=11).transform(rb.standardize())
    result = rb.fit(described["model"], parts, threads=1, **described["options"])
    return {name: [row[name] for row in result.history] for name in ("train_loss", "val_loss")}


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_of_earlier_versions(name):
    described = RUNS[name]
    found = run(described)
    for kind, pinned in described["losses"].items():
        assert found[kind] == pytest.approx(pinned, rel=1e-5), CHANGED.format(
            name=name, file=PINNED.name, found=found
        )

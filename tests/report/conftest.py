"""Results to report on: real runs on breast cancer, and timings and a landscape of known shape."""

from __future__ import annotations

from pathlib import Path

import pytest

import rightbatch as rb
from rightbatch.advice.comparison import Comparison, Curve
from rightbatch.advice.landscape_map import DescentPath, Landscape
from rightbatch.advice.law import fit_step_time
from rightbatch.advice.timing import Neighbours, Speed, SpeedPoint
from rightbatch.training.provenance import Provenance


@pytest.fixture(scope="session")
def parts() -> rb.Parts:
    data = rb.open("breast_cancer")
    return rb.split(data, val=91, test=114, stratify=True, seed=1).transform(rb.standardize())


@pytest.fixture(scope="session")
def run(parts, tmp_path_factory) -> Path:
    """A run folder."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    rb.fit("mlp:4", parts, batch_size=64, epochs=3, learning_rate=0.1, seed=2, out=folder)
    return folder


@pytest.fixture(scope="session")
def curves(parts) -> list[Curve]:
    """Three batch sizes, two seeds each."""
    made = []
    for size in (16, 64, "full"):
        for seed in (0, 1):
            result = rb.fit("mlp:4", parts, batch_size=size, epochs=6, learning_rate=0.1, seed=seed)
            made.append(
                Curve(
                    batch_size=result.batch_size,
                    is_full=size == "full",
                    learning_rate=0.1,
                    seed=seed,
                    history=result.history,
                    step_losses=result.step_losses,
                    checked_losses=[(0, 1.0)]
                    + [(row["steps"], row["train_loss"]) for row in result.history],
                )
            )
    return made


@pytest.fixture(scope="session")
def bowl() -> Landscape:
    """The loss x² + y² + 0.1 with two straight ways to its bottom."""
    grid = [k / 5 - 2 for k in range(21)]
    paths = [
        DescentPath(
            label=label,
            batch_size=size,
            steps=[0, 1, 2],
            x=[-1.5, -0.7, end],
            y=[1.0, 0.5, end],
            losses=[3.35, 0.84, 0.1],
        )
        for label, size, end in (("batch 16", 16, 0.1), ("full batch (364)", 364, 0.0))
    ]
    return Landscape(
        x=grid,
        y=grid,
        losses=[[x * x + y * y + 0.1 for x in grid] for y in grid],
        explained=(0.7, 0.2),
        paths=paths,
        samples=364,
    )


@pytest.fixture(scope="session")
def comparison(curves, bowl, parts) -> Comparison:
    return Comparison(
        model="mlp:4",
        metric="accuracy",
        learning_rate_rule="same",
        learning_rate=0.1,
        reference_batch_size=None,
        curves=curves,
        landscape=bowl,
        provenance=Provenance.of(parts, command="rightbatch compare breast_cancer --model mlp:4"),
    )


@pytest.fixture(scope="session")
def speed(parts) -> Speed:
    """Timings that follow 100 µs + 3 µs a sample, within 5 %."""
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    seconds = [1e-4 + 3e-6 * size for size in sizes]
    points = [
        SpeedPoint(
            batch_size=size,
            seconds_per_batch=time,
            seconds_per_sample=time / size,
            low=0.95 * time / size,
            high=1.05 * time / size,
        )
        for size, time in zip(sizes, seconds, strict=True)
    ]
    return Speed(
        model="mlp:4",
        mode="predict",
        threads=1,
        device="cpu",
        points=points,
        fit=fit_step_time(sizes, seconds),
        neighbours=[Neighbours(below=points[3], at=points[4], above=points[5])],
        notes=["16 is as fast as its neighbours."],
        provenance=Provenance.of(parts),
    )

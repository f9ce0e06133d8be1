"""Results to report on: real runs on breast cancer, and timings and a landscape of known shape.

The advices have realistic numbers, put together by the functions that make real ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.advice.advice import Advice, Companions, Goal
from rightbatch.advice.choice import EpochsGoal, TargetGoal
from rightbatch.advice.comparison import Comparison, Curve
from rightbatch.advice.landscape_map import DescentPath, Landscape
from rightbatch.advice.law import fit_samples_to_target, fit_step_time
from rightbatch.advice.loss_points import LossPoint
from rightbatch.advice.memory import Memory, MemoryPoint, MemoryPrediction
from rightbatch.advice.memory_law import fit_memory
from rightbatch.advice.noise_scale import Noise, NoisePoint
from rightbatch.advice.pilot_result import LevelLaw, Pilot, PilotRun, PilotSize
from rightbatch.advice.pilot_summary import law_of
from rightbatch.advice.samples_posterior import Observation, infer_samples, prior_samples
from rightbatch.advice.timing import Neighbours, Speed, SpeedPoint
from rightbatch.training.provenance import Provenance

SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
STEP_SECONDS = {size: 2e-4 + 4e-6 * size for size in SIZES}
CRITICAL = 90.0
TARGET = 0.2


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


@pytest.fixture(scope="session")
def advice(parts) -> Advice:
    """With a pilot."""
    return example_advice(Provenance.of(parts))


@pytest.fixture(scope="session")
def quick_advice(parts) -> Advice:
    return example_advice(Provenance.of(parts), grade="quick")


@pytest.fixture(scope="session")
def epochs_advice(parts) -> Advice:
    return example_advice(Provenance.of(parts), goal=Goal(kind="epochs", epochs=10))


@pytest.fixture(scope="session")
def bare_advice(parts) -> Advice:
    """Neither memory nor statistics could be had."""
    return without_statistics(example_advice(Provenance.of(parts)))


def loop_speed(provenance: Provenance) -> Speed:
    """Steps of 200 µs and 4 µs a sample, within 4 %."""
    points = [
        SpeedPoint(
            batch_size=size,
            seconds_per_batch=seconds,
            seconds_per_sample=seconds / size,
            low=0.96 * seconds / size,
            high=1.05 * seconds / size,
        )
        for size, seconds in STEP_SECONDS.items()
    ]
    return Speed(
        model="mlp:64",
        mode="loop",
        threads=1,
        device="cpu",
        points=points,
        fit=fit_step_time(SIZES, list(STEP_SECONDS.values())),
        rounds=9,
        loading_seconds_per_sample=3e-7,
        notes=["beyond 1,024 a sample gets no cheaper: larger batches were not timed"],
        provenance=provenance,
    )


def measured_memory() -> Memory:
    """20 MB and 60 kB a sample, of a limit of 700 MB."""
    sizes = [1, 64, 256, 1024]
    taken = [20_400_000, 23_900_000, 35_000_000, 82_100_000]
    held = [bytes_ * 1.2 for bytes_ in taken]
    fit = fit_memory(sizes, taken, held_bytes=held)
    predicted = [
        MemoryPrediction(batch_size=size, bytes=fit.bytes(size), high=fit.high(size))
        for size in SIZES
    ]
    return Memory(
        cap=1024,
        limit_bytes=700_000_000,
        limit_source="given",
        loaded_bytes=310_000_000,
        measured=[
            MemoryPoint(batch_size=size, bytes=bytes_, held_bytes=round(most))
            for size, bytes_, most in zip(sizes, taken, held, strict=True)
        ],
        predicted=predicted,
        evaluation_cap=1024,
        evaluation_measured=[MemoryPoint(batch_size=1024, bytes=31_000_000, held_bytes=33_000_000)],
        fit=fit,
        notes=["the probes ran in a process of their own"],
    )


def measured_noise() -> Noise:
    """A scale that grows along the run; the last look is not resolved."""
    looks = [(0, 2.3, 31.0), (512, 1.4, 60.0), (1536, 0.8, 130.0), (4608, 0.4, 260.0)]
    trajectory = [
        NoisePoint(
            samples=samples,
            loss=loss,
            scale=scale,
            low=0.7 * scale,
            high=1.6 * scale,
            measured_on=1024,
        )
        for samples, loss, scale in looks
    ]
    open_end = NoisePoint(
        samples=13_824, loss=0.2, scale=None, low=240.0, high=None, measured_on=1430
    )
    return Noise(
        scale=210.0,
        low=150.0,
        high=330.0,
        method="per-sample",
        batch_size=32,
        learning_rate=0.1,
        trajectory=[*trajectory, open_end],
    )


def branch(size: int, rate: float, *, seed: int = 0, ended: str = "reached") -> PilotRun:
    """A run whose loss falls as the law lets expect, slower at other rates than the best."""
    best = 0.1 * math.sqrt(size / 32)
    slower = 1 + abs(math.log2(rate / best)) ** 1.2 / 2
    needed = 9000 * (1 + size / CRITICAL) * slower * (1 + 0.03 * seed)
    share = {"reached": 1.0, "hopeless": 0.6, "budget": 0.7, "diverged": 0.1}[ended]
    points = [LossPoint(samples=0, seconds=0.0, loss=2.35)]
    for place in np.geomspace(0.02, share, 30).tolist():
        loss = 2.35 * (TARGET / 2.35) ** (place**0.6)
        if ended == "diverged":
            loss = 2.35 + 4 * place / share
        samples = max(size, round(needed * place))
        seconds = samples / size * STEP_SECONDS[size]
        points.append(LossPoint(samples=samples, seconds=seconds, loss=loss))
    return PilotRun(
        batch_size=size,
        learning_rate=rate,
        seed=seed,
        samples=needed if ended == "reached" else None,
        ended=ended,
        points=points,
    )


def pilot_runs() -> list[PilotRun]:
    """Five sizes with their searches, a run that diverged and two that were given up."""
    runs = []
    for size in (16, 32, 64, 128, 256):
        best = 0.1 * math.sqrt(size / 32)
        runs += [branch(size, best), branch(size, best, seed=1)]
        runs.append(branch(size, best * math.sqrt(2)))
    runs.append(branch(32, 1.6, ended="diverged"))
    runs += [branch(256, 0.1, ended="hopeless"), branch(512, 0.4, ended="budget")]
    return runs


def example_advice(
    provenance: Provenance, *, grade: str = "pilot", goal: Goal | None = None
) -> Advice:
    """What `rb.advise` could give for an MLP on digits."""
    goal = goal or Goal(kind="target_loss", target_loss=TARGET)
    runs = pilot_runs()
    pilot, levels = None, []
    if grade == "pilot":
        reached = [run for run in runs if run.samples is not None]
        posterior = infer_samples(
            [
                Observation(batch_size=run.batch_size, seed=run.seed, samples=run.samples)
                for run in reached
            ],
            SIZES,
            prior_critical=70.0,
            prior_factor=8.0,
        )
        law = fit_samples_to_target(
            [run.batch_size for run in reached], [run.samples for run in reached]
        )
        levels = [LevelLaw(loss=TARGET, law=law)]
        low, high = np.exp(np.percentile(posterior.draws, [2.5, 97.5], axis=0))
        sizes = []
        for size in (16, 32, 64, 128, 256):
            place = SIZES.index(size)
            samples = float(np.exp(posterior.mean[place]))
            sizes.append(
                PilotSize(
                    batch_size=size,
                    learning_rate=0.1 * math.sqrt(size / 32),
                    runs=2,
                    samples=samples,
                    low=float(low[place]),
                    high=float(high[place]),
                    seconds=samples / size * STEP_SECONDS[size],
                )
            )
        pilot = Pilot(
            loss=TARGET,
            target_loss=goal.target_loss,
            sizes=sizes,
            levels=levels,
            runs=runs,
            seconds=21.4,
        )
    else:
        posterior = prior_samples(SIZES, prior_critical=70.0, prior_factor=4.0)
    candidates = SIZES if pilot is None else [size.batch_size for size in pilot.sizes]
    objective = (
        EpochsGoal(samples=(goal.epochs or 1) * 1438)
        if goal.target_loss is None
        else TargetGoal(loss=goal.target_loss)
    )
    choice = objective.choose(
        posterior, STEP_SECONDS, candidates=candidates, is_relative=pilot is None
    )
    return Advice(
        batch_size=choice.batch_size,
        interval=choice.interval,
        grade=grade,
        goal=goal,
        learning_rate=0.1414,
        companions=Companions(
            learning_rate_source="the best of the pilot's search at this size",
            schedule="an epoch is 23 steps at this size: count warm-up, decay and evaluations in "
            "samples or epochs, not in steps",
        ),
        micro_batch_size=None,
        accumulation_steps=1,
        evaluation_batch_size=1024,
        reasons=[
            "Fits up to 1,024 in 700 MB (given); the process takes 310 MB before the first batch",
            "A sample costs 4.20 µs at 1,024, the fastest; half of the throughput is reached at 50",
        ],
        alerts=[
            "The budget ended early: more time (budget_seconds, --budget) narrows the interval"
        ],
        memory=measured_memory(),
        speed=loop_speed(provenance),
        noise=measured_noise(),
        pilot=pilot,
        law=law_of(posterior, levels),
        costs=choice.costs,
        tested=SIZES,
        seconds_spent=34.2,
        model="mlp:64",
        training_samples=1438,
        settings={"optimizer": "sgd", "loss": "cross_entropy", "seed": 0},
        provenance=provenance,
    )


def without_statistics(advice: Advice) -> Advice:
    """The same for a model that couples samples, whose memory could not be measured."""
    why = "BatchNorm couples the samples of a batch"
    noise = Noise(
        scale=None,
        low=None,
        high=None,
        method="none",
        batch_size=32,
        learning_rate=0.1,
        refused=why,
    )
    memory = Memory(
        cap=None,
        limit_bytes=None,
        limit_source="",
        loaded_bytes=0,
        declined="the model can not be sent to another process",
    )
    return replace(
        advice, grade="quick", noise=noise, memory=memory, pilot=None, law=None, costs=[]
    )

"""The law of memory: exact where the numbers follow it, and a bound where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from rightbatch.advice.memory import Memory, MemoryPoint, MemoryPrediction
from rightbatch.advice.memory_law import Loader, MemoryFit, fit_memory
from rightbatch.errors import OptionError

SIZES = [256, 512, 1024, 2048]


def test_a_straight_line_is_found() -> None:
    fit = fit_memory(SIZES, [50e6 + 1e5 * size for size in SIZES])
    assert fit.bytes(700) == pytest.approx(120e6, rel=1e-6)
    assert fit.bends == ()


def test_what_the_loader_holds_is_known_and_bends_at_the_end_of_the_data() -> None:
    loader = Loader(sample_bytes=3000, samples=10_000, slabs=5, slab_bytes=3 << 20)
    assert loader.bytes(10_000) == loader.bytes(5_000) == 30e6
    assert loader.bytes(10) == pytest.approx(5 * (3 << 20), rel=0.01)
    sizes = [500, 1000, 2000, 4000, 10_000]
    fit = fit_memory(sizes, [20e6 + 1e3 * n + loader.bytes(n) for n in sizes], loader=loader)
    assert fit.bytes(3000) == pytest.approx(53e6, rel=1e-6)


def test_a_curve_that_is_no_line_is_followed_between_what_was_measured() -> None:
    measured = [100e6, 100e6, 100e6, 400e6]
    fit = fit_memory(SIZES, measured)
    assert [fit.bytes(size) for size in SIZES] == pytest.approx(measured, rel=0.01)


def test_the_bound_holds_for_nearly_all_runs_of_a_noisy_law() -> None:
    random = np.random.default_rng(7)
    above = 0
    for _ in range(400):
        noise = 1 + 0.02 * random.standard_normal(5)
        truth = [60e6 + 1e5 * size for size in (*SIZES, 700)]
        fit = fit_memory(SIZES, np.multiply(truth, noise)[:4])
        above += truth[4] * noise[4] > fit.high(700)
    assert above <= 40


def test_the_largest_that_fits_is_the_last_whose_bound_is_within_the_limit() -> None:
    fit = fit_memory(SIZES, [50e6 + 1e5 * size for size in SIZES])
    size = fit.largest(200_000_000, at_most=10_000)
    assert fit.high(size) <= 200_000_000 < fit.high(size + 1)
    assert fit.largest(1, at_most=10_000) == 0
    assert fit.largest(10**12, at_most=10_000) == 10_000


def test_the_bound_covers_what_processes_held_at_the_sizes_around() -> None:
    needed = [50e6 + 1e5 * size for size in SIZES]
    held = np.multiply(needed, [2.0, 1.2, 1.1, 1.0])
    fit = fit_memory(SIZES, needed, held_bytes=held)
    assert fit.bytes(700) == pytest.approx(120e6, rel=1e-6)
    assert 2.0 * 120e6 < fit.high(700) < 3.5 * 120e6
    quiet = fit_memory(SIZES, needed, held_bytes=needed)
    assert 1.1 * 120e6 < quiet.high(700) < 1.2 * 120e6
    assert all(fit.high(size) > most for size, most in zip(SIZES, held, strict=True))


def test_a_larger_batch_never_needs_less() -> None:
    fit = fit_memory([256, 1024], [101e6, 100e6])
    assert fit.bytes_per_sample == 0.0
    assert 100e6 < fit.bytes(512) < 101e6


def test_one_size_makes_no_law() -> None:
    with pytest.raises(OptionError, match="two different batch sizes"):
        fit_memory([8, 8], [1e6, 1e6])


def test_a_law_and_its_memory_survive_json() -> None:
    loader = Loader(sample_bytes=3000, samples=10_000, slabs=5, slab_bytes=3 << 20)
    needed = [100e6, 100e6, 100e6, 400e6]
    fit = fit_memory(SIZES, needed, held_bytes=np.multiply(needed, 1.5), loader=loader)
    assert MemoryFit.from_json(fit.to_json()) == fit
    memory = Memory(
        cap=512,
        limit_bytes=10**9,
        limit_source="given",
        loaded_bytes=3 * 10**8,
        measured=[MemoryPoint(batch_size=512, bytes=10**8, held_bytes=2 * 10**8)],
        predicted=[MemoryPrediction(batch_size=8, bytes=10, high=20)],
        fit=fit,
    )
    assert Memory.from_json(memory.to_json()) == memory
    assert "batch size 512 was run and fits in 1.00 GB (given)" in repr(memory)
    assert "<table" in memory._repr_html_()

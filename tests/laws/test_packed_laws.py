"""A pack stands for its source: the same plan gives the same batches, and what began goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rightbatch as rb

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 3, 97)
SOURCES = {
    "images": rb.open((GENERATOR.integers(0, 255, (97, 4, 5)).astype(np.uint8), LABELS)),
    "scalar columns": rb.open(
        {"a": GENERATOR.random(97), "b": np.arange(97, dtype=np.int16), "y": LABELS}, target="y"
    ),
    "a dict of fields": rb.open(
        {"a": GENERATOR.random((97, 3)), "b": GENERATOR.random((97, 2)), "y": LABELS}, target="y"
    ),
    "no target": rb.open(GENERATOR.random((97, 3)).astype(np.float32)),
    "a frame": rb.open(
        pd.DataFrame(
            {"a": GENERATOR.random(97), "t": [f"w{k % 5}" for k in range(97)], "y": LABELS}
        ),
        target="y",
    ),
}


def noisy(inputs, rng):
    """A function that draws at random for each sample."""
    if isinstance(inputs, dict):
        return {
            name: values + rng.normal(shape=values.shape[1:]) for name, values in inputs.items()
        }
    return inputs + rng.normal(shape=inputs.shape[1:])


TRANSFORMS = {
    "none": (),
    "scaled": (rb.scale(0.25),),
    "cast and function": (rb.cast("float64"), noisy),
    "standardized": (rb.standardize(),),
}


def frozen(batch):
    if isinstance(batch, dict):
        return {name: frozen(values) for name, values in batch.items()}
    if isinstance(batch, tuple):
        return tuple(frozen(values) for values in batch)
    return batch.dtype.str, batch.shape, batch.tobytes()


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    for name, source in SOURCES.items():
        rb.pack(source, folder / name)
    return {name: rb.open(folder / name) for name in SOURCES}


@settings(max_examples=60)
@given(drawn=st.data())
def test_the_same_plan_gives_the_same_batches_and_cursors(packs, drawn):
    name = drawn.draw(st.sampled_from(sorted(SOURCES)))
    attached = TRANSFORMS[drawn.draw(st.sampled_from(sorted(TRANSFORMS)))]
    if name == "a dict of fields" and any(getattr(t, "needs_fit", False) for t in attached):
        attached = (rb.standardize(column="a"),)
    options = {
        "seed": drawn.draw(st.integers(0, 3)),
        "shuffle": drawn.draw(st.booleans()),
        "remainder": drawn.draw(st.sampled_from(["keep", "drop", "pad"])),
        "with_rows": True,
    }
    if options["shuffle"]:
        options["window"] = drawn.draw(st.sampled_from([None, 1, 10]))
    size = drawn.draw(st.sampled_from([1, 7, 32, "full"]))
    loaders = []
    for data in (SOURCES[name], packs[name]):
        parts = rb.split(data, val=0.2, seed=options["seed"])
        parts = parts.transform(*attached) if attached else parts
        threads = drawn.draw(st.sampled_from([0, 1, 2]))
        loaders.append(rb.Batches(parts.train, size, threads=threads, **options))
    source, packed = loaders
    stop = drawn.draw(st.integers(0, 4))
    for of_source, of_pack, _ in zip(iter(source), iter(packed), range(stop), strict=False):
        assert frozen(of_source) == frozen(of_pack)
    # Each goes on where the other one stands, through this epoch and the next one.
    states = source.state_dict(), packed.state_dict()
    assert states[0] == states[1]
    source.load_state_dict(states[1])
    packed.load_state_dict(states[0])
    for _ in range(2):
        for of_source, of_pack in zip(source, packed, strict=True):
            assert frozen(of_source) == frozen(of_pack)


@pytest.mark.parametrize("name", ["images", "scalar columns", "a dict of fields"])
@pytest.mark.parametrize(
    "transforms", [(rb.scale(1 / 3),), (rb.cast("float64"), rb.scale(2.0)), (rb.flatten(),)]
)
def test_transforms_that_were_packed_in_give_the_same_batches(name, transforms, tmp_path):
    source = SOURCES[name].transform(*transforms)
    rb.pack(source, tmp_path / "pack", transforms="apply")
    packed = rb.open(tmp_path / "pack")
    assert packed.transforms == ()
    pairs = zip(rb.Batches(source, 10, seed=3), rb.Batches(packed, 10, seed=3), strict=True)
    assert all(frozen(of_source) == frozen(of_pack) for of_source, of_pack in pairs)


@pytest.mark.parametrize("on_duplicates", ["report", "together"])
def test_splits_are_the_same_whether_duplicates_are_known_or_looked_for(
    on_duplicates, packs, monkeypatch
):
    data = rb.open((np.arange(60) // 3 % 13, np.arange(60)))
    with tempfile.TemporaryDirectory() as folder:
        packed = rb.pack(data, Path(folder) / "pack")
        for seed in range(8):
            monkeypatch.undo()
            options = {"val": 10, "test": 15, "seed": seed, "on_duplicates": on_duplicates}
            looked_for = rb.split(data, **options)
            monkeypatch.setattr("rightbatch.loading.splitting.CONTENT_LIMIT_BYTES", 0)
            known = rb.split(packed, **options)
            assert known.duplicate_samples == looked_for.duplicate_samples
            assert known.fingerprint == looked_for.fingerprint


def test_known_duplicates_are_refused_without_a_look_at_the_data(tmp_path, monkeypatch):
    packed = rb.pack((np.arange(60) // 2, np.arange(60)), tmp_path / "pack")
    monkeypatch.setattr("rightbatch.loading.splitting.CONTENT_LIMIT_BYTES", 0)
    monkeypatch.setattr(
        "rightbatch.loading.split_codes.equal_content_groups", lambda data: pytest.fail("looked")
    )
    with pytest.raises(rb.DuplicateError, match="held-out samples have inputs equal"):
        rb.split(packed, val=20, on_duplicates="error")
    assert rb.split(packed, val=20, on_duplicates="together").duplicate_samples == 0


def test_a_run_of_arrays_goes_on_with_the_pack(tmp_path):
    source = rb.open((GENERATOR.random((97, 6)).astype(np.float32), LABELS))
    options = {"batch_size": 16, "learning_rate": 0.1, "seed": 5}

    def parts(data):
        return rb.split(data, val=0.2, seed=5).transform(rb.standardize())

    straight = rb.fit("mlp:8", parts(source), epochs=4, out=tmp_path / "straight", **options)
    rb.fit("mlp:8", parts(source), epochs=2, out=tmp_path / "run", **options)
    packed = rb.pack(source, tmp_path / "pack")
    resumed = rb.fit("mlp:8", parts(packed), epochs=4, out=tmp_path / "run", resume=True, **options)
    assert resumed.step_losses == straight.step_losses
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)

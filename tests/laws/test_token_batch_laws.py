"""The laws of batches that hold up to so many tokens, over lengths, budgets, orders and sources."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.testing import check_resume

GENERATOR = np.random.default_rng(0)
LENGTHS = GENERATOR.integers(0, 40, 203)
ENTRIES = [GENERATOR.integers(1, 200, length).astype(np.uint8) for length in LENGTHS]
COLUMNS = {
    "ids": rb.Ragged.from_list(ENTRIES),
    "x": np.arange(203.0),
    "y": rb.Ragged.from_list(ENTRIES),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, rb.Dataset]:
    memory = rb.open(COLUMNS, target="y")
    folder = tmp_path_factory.mktemp("packs")
    rb.pack(memory, folder / "pack")
    return {"memory": memory, "pack": rb.open(folder / "pack")}


@settings(max_examples=60)
@given(drawn=st.data())
def test_an_epoch_has_every_sample_once_as_it_is_and_no_batch_exceeds_its_tokens(sources, drawn):
    part = rb.split(sources[drawn.draw(st.sampled_from(["memory", "pack"]))], val=0.2, seed=1).train
    tokens = drawn.draw(st.integers(39, 600))
    batches = rb.Batches(
        part,
        batch_tokens=tokens,
        shuffle=drawn.draw(st.booleans()),
        seed=drawn.draw(st.integers(0, 5)),
        threads=drawn.draw(st.sampled_from([0, 1, 2])),
        with_rows=True,
    )
    seen = []
    for inputs, target, rows in batches.epoch(drawn.draw(st.integers(0, 3))):
        assert inputs["ids"].size <= tokens
        assert inputs["ids"].shape == inputs["mask"].shape == target.shape
        np.testing.assert_array_equal(inputs["x"], rows)
        for row, ids, mask, codes in zip(rows, inputs["ids"], inputs["mask"], target, strict=True):
            np.testing.assert_array_equal(ids[mask], ENTRIES[row])
            np.testing.assert_array_equal(codes[mask], ENTRIES[row])
            assert (codes[~mask] == -100).all()
        seen += rows.tolist()
    assert sorted(seen) == np.concatenate([*part.rows.chunks()]).tolist()


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("tokens", [40, 200, 10_000])
def test_any_batch_can_be_resumed_after(sources, tokens, shuffle):
    check_resume(
        lambda: rb.Batches(
            rb.split(sources["pack"], val=0.2, seed=1).train,
            batch_tokens=tokens,
            shuffle=shuffle,
            seed=3,
            with_rows=True,
        )
    )


@settings(max_examples=40)
@given(drawn=st.data())
def test_the_rest_of_a_run_is_the_same_with_other_threads_and_from_another_source(sources, drawn):
    def batches(source: str, threads: int) -> rb.Batches:
        part = rb.split(sources[source], val=0.2, seed=1).train
        return rb.Batches(part, batch_tokens=150, seed=5, threads=threads, with_rows=True)

    whole = batches("memory", 0)
    taken = drawn.draw(st.integers(0, len(whole)))
    expected = [rows.tolist() for _, _, rows in whole.epoch(0)][taken:]
    expected += [rows.tolist() for _, _, rows in whole.epoch(1)]
    first = batches("pack", 2)
    iterator = iter(first)
    for _ in range(taken):
        next(iterator)
    state = json.loads(json.dumps(first.state_dict()))
    iterator.close()
    second = batches("memory", drawn.draw(st.sampled_from([0, 1, 2])))
    second.load_state_dict(state)
    assert second.batches_left == len(second) - (taken % len(second))
    rest = [rows.tolist() for _, _, rows in second] if taken < len(whole) else []
    rest += [rows.tolist() for _, _, rows in second]
    assert rest == expected


@settings(max_examples=40)
@given(drawn=st.data())
def test_an_epoch_can_be_entered_at_any_batch(sources, drawn):
    part = rb.split(sources["memory"], val=0.2, seed=1).train
    batches = rb.Batches(part, batch_tokens=150, seed=5, with_rows=True)
    epoch = drawn.draw(st.integers(0, 3))
    first = drawn.draw(st.integers(0, len(batches) + 2))
    whole = [rows.tolist() for _, _, rows in batches.epoch(epoch)]
    entered = batches.epoch(epoch, first_batch=first)
    assert [rows.tolist() for _, _, rows in entered] == whole[first:]
    assert len(entered) == len(whole[first:])

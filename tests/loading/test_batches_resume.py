"""Resume is exact: a cursor, loaded anywhere, gives the batches that were still to come."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.testing import check_resume

X = np.arange(200.0).reshape(100, 2)
Y = np.arange(100) % 3


def made(batch_size: Any = 8, data: Any = (X, Y), **options: Any) -> rb.Batches:
    return rb.Batches(data, batch_size, **{"seed": 7, "with_rows": True, **options})


def rows_of(batches: Any) -> list[list[int]]:
    return [batch[2].tolist() for batch in batches]


def taken(batches: rb.Batches, count: int) -> list[list[int]]:
    return rows_of(islice(iter(batches), count))


@pytest.mark.parametrize("threads", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": False},
        {"window": 10},
        {"remainder": "drop"},
        {"remainder": "pad"},
        {"output": "torch"},
        {"batch_size": 1},
        {"batch_size": "full"},
        {"batch_size": 50},
    ],
    ids=str,
)
def test_any_stop_goes_on_as_if_there_had_been_none(threads: int, options) -> None:
    check_resume(lambda: made(threads=threads, **options))


def test_the_state_counts_what_was_taken_and_not_what_was_prefetched() -> None:
    batches = made(1, threads=3)
    assert batches.state_dict()["samples"] == 0
    for count, _ in enumerate(batches, start=1):
        state = batches.state_dict()
        assert (state["epoch"], state["samples"]) == ((0, count) if count < 100 else (1, 0))


def test_the_state_is_small_json() -> None:
    batches = made()
    taken(batches, 5)
    state = batches.state_dict()
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 400
    assert (state["epoch"], state["samples"], state["seed"], state["batch_size"]) == (0, 40, 7, 8)


def test_threads_may_change_between_the_stop_and_the_restart() -> None:
    expected = rows_of(made().epoch(0))
    for threads in (0, 1, 3):
        first = made(threads=3 - threads)
        taken(first, 4)
        second = made(threads=threads)
        second.load_state_dict(first.state_dict())
        assert rows_of(second) == expected[4:]


def test_after_the_rest_comes_the_next_epoch() -> None:
    first, second = made(), made()
    taken(first, 12)
    second.load_state_dict(first.state_dict())
    assert rows_of(second) == rows_of(made().epoch(0))[12:]
    assert rows_of(second) == rows_of(made().epoch(1))


def test_a_new_iteration_without_a_state_begins_the_next_epoch() -> None:
    batches = made()
    taken(batches, 3)
    assert rows_of(batches) == rows_of(made().epoch(1))


def test_loading_a_state_supersedes_the_iteration_that_is_under_way() -> None:
    batches = made()
    iterator = iter(batches)
    next(iterator)
    state = batches.state_dict()
    next(iterator)
    batches.load_state_dict(state)
    next(iterator)
    assert batches.state_dict() == state
    assert rows_of(batches) == rows_of(made().epoch(0))[1:]


def test_the_newest_iteration_moves_the_cursor() -> None:
    batches = made()
    old, new = iter(batches), iter(batches)
    first = next(old)[-1].tolist()
    next(new)
    state = batches.state_dict()
    assert [first, *rows_of(old)] == rows_of(made().epoch(0))
    assert batches.state_dict() == state
    assert (state["epoch"], state["samples"]) == (1, 8)


def test_an_iteration_of_which_no_batch_is_taken_costs_no_epoch() -> None:
    batches = made()
    iter(batches), iter(batches)
    assert rows_of(batches) == rows_of(made().epoch(0))
    iter(batches)
    state = batches.state_dict()
    assert (state["epoch"], state["samples"]) == (1, 0)
    assert rows_of(batches) == rows_of(made().epoch(1))


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
@pytest.mark.parametrize(("before", "after"), [(8, 20), (20, 8), (5, 30), (10, "full")])
def test_going_on_with_another_batch_size(remainder, before, after) -> None:
    if remainder == "drop" and after == "full":
        after = 60
    order = [row for rows in rows_of(made(1).epoch(0)) for row in rows]
    for stop in (1, 3):
        first, second = made(before, remainder=remainder), made(after, remainder=remainder)
        taken(first, stop)
        state = first.state_dict()
        with pytest.raises(rb.ResumeError, match=r"batch size.*allow_new_batch_size=True"):
            second.load_state_dict(state)
        second.load_state_dict(state, allow_new_batch_size=True)
        rest = [row for rows in rows_of(second) for row in rows if row >= 0]
        left = 100 - stop * before
        size = second.batch_size
        expected = left // size * size if remainder == "drop" else left
        assert rest == order[stop * before :][:expected]
        # Whatever was dropped, the epoch is over, and the state says so.
        assert second.at_epoch_start
        assert second.state_dict()["epoch"] == 1
        assert rows_of(second) == rows_of(made(after, remainder=remainder).epoch(1))


def test_a_rest_too_small_for_a_new_batch_size_ends_the_epoch() -> None:
    first, second = made(10, remainder="drop"), made(30, remainder="drop")
    taken(first, 9)
    second.load_state_dict(first.state_dict(), allow_new_batch_size=True)
    assert rows_of(second) == rows_of(made(30, remainder="drop").epoch(1))


DIFFERENT: list[tuple[str, dict[str, Any]]] = [
    ("data fingerprint", {"data": (X + 1, Y)}),
    ("seed: 7", {"seed": 8}),
    ("order: uniform", {"shuffle": False}),
    ("order: uniform", {"window": 10}),
    ("remainder: keep", {"remainder": "pad"}),
    ("samples in an epoch: 100", {"data": (X[:90], Y[:90])}),
]


@pytest.mark.parametrize(("word", "options"), DIFFERENT)
def test_a_state_of_other_data_or_another_plan_is_refused(word: str, options) -> None:
    first, other = made(), made(**options)
    taken(first, 2)
    before = other.state_dict()
    with pytest.raises(rb.ResumeError, match=rf"{word}.*in the cursor.*now.*Remedy"):
        other.load_state_dict(first.state_dict(), allow_new_batch_size=True)
    assert other.state_dict() == before


def test_a_state_of_another_part_of_the_same_data_is_refused() -> None:
    data = rb.open((X, Y))
    one, two = (rb.split(data, val=20, seed=seed).train for seed in (0, 1))
    first = rb.Batches(one, 8)
    with pytest.raises(rb.ResumeError, match="fingerprint"):
        rb.Batches(two, 8).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version"),
        ({"samples": "3"}, "samples"),
        ({"epoch": -1}, "epoch"),
        ({"samples": 101}, "samples"),
    ],
)
def test_a_damaged_state_is_refused_by_key(change, message: str) -> None:
    batches = made()
    with pytest.raises(rb.ResumeError, match=message):
        batches.load_state_dict({**batches.state_dict(), **change})

"""Functions of a batch: how they are called, what they may return, whose draws they get."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rightbatch as rb
from rightbatch.loading.row_random import RowRandom

X = np.arange(60.0).reshape(20, 3)
Y = np.arange(20) % 3


def batch_of(*transforms: Any, target: bool = True, **options: Any) -> Any:
    parts = rb.split(rb.open((X, Y) if target else X)).transform(*transforms)
    options = {"shuffle": False, "threads": 0, **options}
    return next(iter(rb.Batches(parts.train, 5, **options)))


def test_a_function_of_the_inputs() -> None:
    x, y = batch_of(lambda inputs: inputs + 1)
    assert x.tolist() == (X[:5] + 1).tolist()
    assert y.tolist() == Y[:5].tolist()


def test_a_function_of_inputs_and_target() -> None:
    x, y = batch_of(lambda inputs, target: (inputs[:, :2], target * 10))
    assert x.tolist() == X[:5, :2].tolist()
    assert y.tolist() == (Y[:5] * 10).tolist()


def test_defaults_partials_objects_and_decorators_are_functions_too() -> None:
    class Shift:
        def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
            return inputs + 1

    def shift(inputs: NDArray[Any], by: float = 1.0) -> NDArray[Any]:
        return inputs + by

    for function in (shift, functools.partial(shift, by=1.0), Shift()):
        assert batch_of(function)[0].tolist() == (X[:5] + 1).tolist()


def test_functions_and_transforms_run_in_the_order_given() -> None:
    seen = []

    def note(inputs: NDArray[Any]) -> NDArray[Any]:
        seen.append(inputs.copy())
        return inputs + 1

    x, _ = batch_of(rb.scale(2), note, rb.scale(10), note)
    assert seen[0].tolist() == (X[:5] * 2).tolist()
    assert seen[1].tolist() == ((X[:5] * 2 + 1) * 10).tolist()
    assert x.tolist() == ((X[:5] * 2 + 1) * 10 + 1).tolist()


def test_what_comes_after_a_function_is_fitted_on_its_results() -> None:
    parts = rb.split(rb.open((X, Y)), val=5).transform(lambda x: x * 100, rb.standardize())
    x, _ = next(iter(rb.Batches(parts.train, "full")))
    assert x.mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert x.std(axis=0) == pytest.approx(1, abs=1e-6)


def test_a_function_gets_every_batch_whole() -> None:
    lengths: list[int] = []

    def note(inputs: NDArray[Any]) -> NDArray[Any]:
        lengths.append(len(inputs))
        return inputs

    parts = rb.split(rb.open((X, Y))).transform(note)
    assert len(list(rb.Batches(parts.train, 6, threads=0))) == 4
    assert lengths == [6, 6, 6, 2]


def test_a_function_may_write_into_its_batch() -> None:
    def negate(inputs: NDArray[Any]) -> NDArray[Any]:
        inputs *= -1
        return inputs

    data = rb.open((X, Y))
    parts = rb.split(data).transform(negate)
    for _ in range(2):
        found = np.concatenate([x for x, _ in rb.Batches(parts.train, 7, shuffle=False)])
        assert found.tolist() == (-X).tolist()
    assert X[1, 0] == 3.0


def test_a_function_may_add_a_target() -> None:
    x, y = batch_of(lambda inputs, target: (inputs, inputs), target=False)
    assert x.tolist() == y.tolist() == X[:5].tolist()


def test_a_function_may_make_a_dict_of_the_inputs() -> None:
    x, _ = batch_of(lambda inputs: {"first": inputs[:, 0], "rest": inputs[:, 1:]}, output="torch")
    assert {name: tuple(values.shape) for name, values in x.items()} == {
        "first": (5,),
        "rest": (5, 2),
    }


RETURNS: dict[str, Callable[[Any], Any]] = {
    "a list": lambda x: x.tolist(),
    "a tensor": torch.from_numpy,
    "flipped": lambda x: x[:, ::-1][:, ::-1],
    "flipped both ways": lambda x: x[::-1][::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "Fortran order": np.asfortranarray,
    "read only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.parametrize("give", RETURNS.values(), ids=RETURNS)
def test_arrays_tensors_and_lists_come_out_as_asked_for(give: Callable[[Any], Any]) -> None:
    def function(inputs: Any) -> Any:
        return give(inputs)

    as_numpy, _ = batch_of(function)
    as_torch, _ = batch_of(function, output="torch")
    assert isinstance(as_numpy, np.ndarray)
    assert isinstance(as_torch, torch.Tensor)
    assert as_numpy.tolist() == as_torch.tolist() == X[:5].tolist()


def test_a_flip_can_become_a_tensor() -> None:
    x, _ = batch_of(lambda inputs: inputs[:, ::-1], output="torch")
    assert x.tolist() == X[:5, ::-1].tolist()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: None, "returned None as the inputs"),
        (lambda x: 3.0, r"returned 3\.0 as the inputs"),
        (lambda x: np.float64(3), "as the inputs; return an array"),
        (lambda x: x[:4], "given 5 samples and returned 4"),
        (lambda x: {"a": x, "b": x[1:]}, "given 5 samples and returned 4"),
        (lambda x, y: (x, None), "returned None as the target"),
        (lambda x, y: (x, y[:-1]), "returned 4 as the target"),
    ],
)
def test_wrong_returns_are_refused(function, message: str) -> None:
    with pytest.raises(rb.DataError, match=message):
        batch_of(function)


@pytest.mark.parametrize(
    "function", [lambda x, y: x, lambda x, y: (x, y, x), lambda x, y: [x, y], lambda x, y: None]
)
def test_a_function_of_two_returns_a_pair(function) -> None:
    with pytest.raises(rb.OptionError, match=r"return the pair \(inputs, target\)"):
        batch_of(function)


@pytest.mark.parametrize(
    ("function", "count"),
    [(lambda: 1, 0), (lambda x, y, z: x, 3), (lambda **options: 1, 0), (lambda rng: 1, 0)],
)
def test_functions_of_no_or_more_arguments_are_refused_at_once(function, count: int) -> None:
    with pytest.raises(rb.OptionError, match=f"takes {count} arguments"):
        rb.split(rb.open(X)).transform(function)


def test_json_names_the_function_and_stores_no_code() -> None:
    def flip(inputs: Any) -> Any:
        return inputs

    (function,) = rb.split(rb.open(X)).transform(flip).train.transforms
    described = function.to_json()
    assert described["kind"] == "function"
    assert described["name"].endswith("flip")
    assert set(described) == {"kind", "name"}


def jitter(inputs: NDArray[Any], rng: RowRandom) -> NDArray[Any]:
    return inputs + rng.normal(shape=inputs.shape[1:])


def samples_by_row(part: rb.Part, batch_size: int, epoch: int, **options: Any) -> NDArray[Any]:
    found = np.full((20, 3), np.nan)
    batches = rb.Batches(part, batch_size, with_rows=True, **{"seed": 7, **options})
    for x, _, rows, *_ in batches.epoch(epoch):
        real = rows >= 0
        found[rows[real]] = x[real]
    return found


def test_random_numbers_belong_to_the_sample() -> None:
    part = rb.split(rb.open((X, Y))).transform(jitter, jitter).train
    expected = samples_by_row(part, 20, epoch=0, threads=0)
    assert not np.isnan(expected).any()
    for batch_size in (1, 3, 7, 20):
        for threads in (0, 1, 3):
            found = samples_by_row(part, batch_size, epoch=0, threads=threads)
            np.testing.assert_array_equal(found, expected)
    for options in ({"shuffle": False}, {"window": 4}, {"remainder": "pad"}):
        np.testing.assert_array_equal(samples_by_row(part, 3, epoch=0, **options), expected)
    assert not np.any(samples_by_row(part, 3, epoch=1) == expected)
    assert not np.any(samples_by_row(part, 3, epoch=0, seed=8) == expected)


def test_two_functions_draw_different_numbers() -> None:
    draws: list[NDArray[Any]] = []

    def note(inputs: NDArray[Any], rng: RowRandom) -> NDArray[Any]:
        draws.append(rng.uniform(shape=(4,)))
        return inputs

    def note_again(inputs: NDArray[Any], rng: RowRandom) -> NDArray[Any]:
        return note(inputs, rng)

    batch_of(note, note_again)
    assert not np.any(draws[0] == draws[1])


def test_rng_names_the_rows_of_the_batch() -> None:
    seen: list[list[int]] = []

    def note(inputs: NDArray[Any], target: NDArray[Any], *, rng: RowRandom) -> Any:
        seen.append(rng.rows.tolist())
        return inputs, target

    parts = rb.split(rb.open((X, Y))).transform(note)
    batches = rb.Batches(parts.train, 8, seed=1, with_rows=True, remainder="pad", threads=0)
    rows = [taken.tolist() for _, _, taken, _ in batches]
    assert seen == rows
    assert rows[-1][-4:] == [-1] * 4

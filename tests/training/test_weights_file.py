"""Weights W1, b1, … from every kind of file, and what is refused."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from rightbatch.errors import DataError, OptionError
from rightbatch.training.weights_file import dense_network, read_weights

GENERATOR = np.random.default_rng(3)
WEIGHTS = {
    "W1": GENERATOR.normal(size=(4, 3)),
    "b1": GENERATOR.normal(size=3),
    "W2": GENERATOR.normal(size=(3, 2)),
    "b2": GENERATOR.normal(size=2),
}
X = GENERATOR.normal(size=(5, 4))
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}


def save(path: Path, arrays: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        path.write_bytes(pickle.dumps(arrays))
    return path


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pkl", ".PICKLE"])
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_every_kind_of_file_is_the_same_network(ending, activation, tmp_path: Path) -> None:
    path = save(tmp_path / f"weights{ending}", WEIGHTS)
    network = dense_network(read_weights(path), activation)
    hidden = FUNCTIONS[activation](X @ WEIGHTS["W1"] + WEIGHTS["b1"])
    expected = hidden @ WEIGHTS["W2"] + WEIGHTS["b2"]
    outputs = network(torch.from_numpy(X).float()).detach().numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["i1", "u8", "?", "f2", ">f8", "<f4"])
def test_numbers_of_any_kind_become_float32(dtype) -> None:
    weights = np.array([[0, 1], [1, 1]], dtype)
    network = dense_network({"W1": weights, "b1": np.zeros(2, dtype)}, None)
    assert network.flat.dtype == torch.float32
    assert network(torch.tensor([[2.0, 3.0]])).tolist() == [[3.0, 5.0]]


def test_bfloat16_is_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_tensors

    path = tmp_path / "weights.safetensors"
    save_tensors({"W1": torch.ones(2, 1, dtype=torch.bfloat16), "b1": torch.zeros(1)}, path)
    assert dense_network(read_weights(path), None)(torch.tensor([[2.0, 3.0]])).item() == 5.0


def test_tensors_lists_and_rows_of_biases_are_taken() -> None:
    arrays = {"W1": torch.ones(2, 2, requires_grad=True), "b1": [[1, 2]]}
    assert dense_network(arrays, None)(torch.zeros(1, 2)).tolist() == [[1.0, 2.0]]


def test_the_arrays_given_stay_the_callers() -> None:
    arrays = {"W1": np.eye(2, dtype=np.float32), "b1": np.zeros(2, np.float32)}
    network = dense_network(arrays, None)
    with torch.no_grad():
        network.flat.fill_(7.0)
    assert arrays["b1"].tolist() == [0.0, 0.0]
    assert arrays["W1"].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    dense_network(WEIGHTS, "relu")
    assert torch.equal(torch.rand(1), expected)


NAN = np.array([[1.0, np.nan]])
WRONG: dict[str, tuple[dict[Any, Any], str]] = {
    "empty": ({}, "holds no arrays"),
    "another name": ({"w1": np.eye(2), "b1": np.zeros(2)}, "called 'w1'. Valid are W1, b1"),
    "a name beyond": ({**WEIGHTS, "meta": np.zeros(1)}, "'meta'"),
    "no number": ({"W": np.eye(2), "b": np.zeros(2)}, "called 'W'"),
    "from 0": ({"W0": np.eye(2), "b0": np.zeros(2)}, "'W0'"),
    "a name that is none": ({1: np.eye(2)}, "called a int"),
    "a bias lacks": ({"W1": np.eye(2)}, "lacks b1"),
    "a layer lacks": ({"W1": np.eye(2), "b1": np.zeros(2), "W3": np.eye(2)}, "lacks W2, b2, b3"),
    "one axis": ({"W1": np.ones(2), "b1": np.zeros(2)}, "two axes, inputs x outputs"),
    "no values": ({"W1": np.ones((0, 2)), "b1": np.zeros(2)}, r"shape \(0, 2\)"),
    "transposed": (
        {**WEIGHTS, "W2": WEIGHTS["W2"].T},
        "W1 has 3 outputs and W2 takes 2 inputs.*transpose",
    ),
    "a long bias": ({"W1": np.eye(2), "b1": np.zeros(3)}, r"b1 has the shape \(3,\)"),
    "a column of biases": ({"W1": np.eye(2), "b1": np.zeros((2, 1))}, r"shape \(2, 1\)"),
    "not a number": ({"W1": NAN, "b1": np.zeros(2)}, r"W1 holds nan at \(0, 1\)"),
    "too large": ({"W1": np.array([[1e300]]), "b1": [0.0]}, "W1 holds 1e.300"),
    "complex": ({"W1": np.array([[1j]]), "b1": [0.0]}, "W1 is complex128"),
    "text": ({"W1": np.array([["a"]]), "b1": [0.0]}, "weights are real numbers"),
    "ragged": ({"W1": [[1.0], [1.0, 2.0]], "b1": [0.0]}, "W1 is no array"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_are_refused_by_name(case: str) -> None:
    arrays, told = WRONG[case]
    with pytest.raises(DataError, match=told):
        dense_network(arrays, "relu")


@pytest.mark.parametrize(
    ("activation", "told"),
    [(None, "give the activation, one of relu"), ("sigmod", "Did you mean 'sigmoid'")],
)
def test_the_activation_has_to_be_given(activation, told) -> None:
    with pytest.raises(OptionError, match=told):
        dense_network(WEIGHTS, activation)


def test_object_arrays_in_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, W1=np.array([[{}]], object), b1=np.zeros(1))
    with pytest.raises(DataError, match="Python objects"):
        read_weights(path)


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pkl"])
def test_damaged_files_are_refused_by_name(ending: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"weights{ending}", WEIGHTS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="weights"):
        read_weights(path)


def test_the_weights_of_a_run_lead_to_its_folder(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", {"model.layers.0.weight": np.eye(2)})
    with pytest.raises(DataError, match=f"give the run's folder, {tmp_path}"):
        read_weights(path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
def test_narrow_floats_are_read_as_the_numbers_they_are(dtype, tmp_path: Path) -> None:
    weights = {"W1": torch.eye(2).to(dtype), "b1": torch.zeros(2).to(dtype)}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(found["W1"], np.eye(2))


def test_an_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez_compressed(path, W1=np.zeros((3000, 3000)), b1=np.zeros(2))
    tracemalloc.start()
    with pytest.raises(DataError, match="b1 has the shape"):
        read_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e7, "W1 takes 72 MB"

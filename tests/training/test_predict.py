"""Predictions: the same whatever the batch size, and only of data that belong to the model."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

import rightbatch as rb
from rightbatch.errors import DataError, OptionError, RightbatchError
from rightbatch.training.predict import predict

# The two-layer network of the lesson on batches, and what it says of three samples.
TOY = {
    "W1": np.array(
        [[0, 0, 0, 0, 1], [-1, 0, 0, 0, 0], [0, -1, 0, 0, 0], [0, 0, -1, 0, 0], [0, 0, 0, -1, 0]]
    ),
    "b1": np.array([5, 4, 3, 2, 1]),
    "W2": np.array(
        [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    ),
    "b2": np.array([-1, -2, 0, 0, 0]),
}
TOY_X = np.array([[1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 4, 5, 6, 7]])
TOY_PROBABILITIES = [
    [0.26768323, 0.26768323, 0.26768323, 0.09847516, 0.09847516],
    [0.64878564, 0.08780359, 0.08780359, 0.08780359, 0.08780359],
    [0.85640133, 0.01568554, 0.04263771, 0.04263771, 0.04263771],
]


def save_toy(folder: Path, ending: str) -> Path:
    path = folder / f"toy{ending}"
    if ending == ".npz":
        np.savez(path, **TOY)
    elif ending == ".safetensors":
        save_file(TOY, path)
    else:
        path.write_bytes(pickle.dumps(TOY, 2))
    return path


@pytest.mark.parametrize("batch_size", [1, 2, 3, "full", 100])
@pytest.mark.parametrize("kind", ["mapping", ".npz", ".safetensors", ".pkl"])
def test_the_toy_network_says_what_the_lesson_says(kind, batch_size, tmp_path: Path) -> None:
    model: Any = TOY if kind == "mapping" else save_toy(tmp_path, kind)
    prediction = predict(model, TOY_X, activation="relu", batch_size=batch_size)
    np.testing.assert_allclose(prediction, TOY_PROBABILITIES, rtol=0, atol=1e-6)
    assert prediction.samples == len(prediction) == 3
    assert prediction.accuracy is None
    assert prediction.loss is None


def test_a_network_over_mnist_says_the_same_at_every_batch_size(real_data: Path) -> None:
    parts = rb.split(rb.open(real_data / "mnist")).transform(rb.scale(1 / 255))
    options: dict[str, Any] = {"activation": "sigmoid", "optimizer": "adam", "steps": 150}
    result = rb.fit("mlp:50,100", parts, batch_size=100, learning_rate=0.005, **options)
    weights = {}
    for number, layer in enumerate(result.model.layers, start=1):
        weights[f"W{number}"] = layer.weight.detach().numpy().T
        weights[f"b{number}"] = layer.bias.detach().numpy()
    first = predict(weights, parts.test, activation="sigmoid", batch_size=10_000)
    assert first.samples == 10_000
    assert first.accuracy == rb.evaluate(result, parts.test)["accuracy"] > 0.7
    for batch_size in (1, 7, 30, 100):
        other = predict(weights, parts.test, activation="sigmoid", batch_size=batch_size)
        np.testing.assert_array_equal(other.predicted, first.predicted)
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-5)
        assert other.correct == first.correct
        assert other.loss == pytest.approx(first.loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 64, "full"])
@pytest.mark.parametrize("model", ["softmax", "mlp:8"])
def test_scores_are_those_of_evaluate(model, batch_size, digits) -> None:
    result = rb.fit(model, digits, epochs=2, learning_rate=0.1)
    prediction = predict(result, digits.test, batch_size=batch_size)
    scores = rb.evaluate(result, digits.test)
    assert prediction.accuracy == scores["accuracy"] == prediction.correct / prediction.samples
    assert prediction.loss == pytest.approx(scores["loss"], rel=1e-6)
    target = digits.data.array("target")[digits.test.rows.take(np.arange(len(digits.test)))]
    assert (prediction.predicted == target).mean() == prediction.accuracy
    np.testing.assert_allclose(np.asarray(prediction).sum(1), 1, rtol=1e-6)


def test_two_classes_are_named_and_add_up_to_one(cancer) -> None:
    result = rb.fit("logistic", cancer, epochs=2)
    prediction = predict(result, cancer.val)
    assert prediction.classes == ["malignant", "benign"] or prediction.classes == [
        "benign",
        "malignant",
    ]
    assert set(prediction.predicted) <= set(prediction.classes)
    probabilities = np.asarray(prediction)
    assert probabilities.shape == (len(cancer.val), 2)
    chosen = np.asarray(prediction.classes)[(probabilities[:, 1] > 0.5).astype(int)]
    np.testing.assert_array_equal(prediction.predicted, chosen)
    assert prediction.accuracy == rb.evaluate(result, cancer.val)["accuracy"]


def test_quantities_are_values(diabetes) -> None:
    result = rb.fit("linear", diabetes, epochs=20)
    prediction = predict(result, diabetes.val, batch_size=9)
    assert prediction.values.shape == (len(diabetes.val),)
    assert prediction.predicted is None
    assert prediction.accuracy is None
    assert prediction.r2 == pytest.approx(rb.evaluate(result, diabetes.val)["r2"])


def test_the_model_is_left_as_it_was(cancer) -> None:
    model = nn.Sequential(nn.Linear(30, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first = predict(model, cancer.val, threads=1)
    assert [module.training for module in model] == [True, True, False]
    assert model.training
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(np.asarray(first), np.asarray(predict(model, cancer.val)))


def test_a_failing_model_leaves_no_inference_mode_behind(cancer, tmp_path: Path) -> None:
    class Fails(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError) as failed:
        predict(Fails(), cancer.val, loss="squared_error", out=tmp_path / "out.csv")
    assert not torch.is_inference_mode_enabled(), failed
    assert list(tmp_path.iterdir()) == []


class Probe(nn.Module):
    """A model that gives what a function gives."""

    def __init__(self, gives: Any) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.gives(inputs)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda x: (x, x), "the model gave tuple"),
        (lambda x: x.mean(), "a tensor of shape"),
        (lambda x: x[:1], "a tensor of shape"),
    ],
)
def test_outputs_that_are_none_are_refused(gives, told) -> None:
    with pytest.raises(OptionError, match=told):
        predict(Probe(gives), np.ones((5, 3), np.float32), batch_size=5)


def test_outputs_that_are_not_finite_are_told(caplog) -> None:
    inputs = np.array([[1.0, 2.0], [np.inf, 1.0], [3.0, 4.0]])
    with caplog.at_level(logging.WARNING):
        predict({"W1": np.ones((2, 2)), "b1": np.zeros(2)}, inputs, batch_size=2)
    assert "1 of 3 samples are NaN or infinite" in caplog.text


# What the outputs of weights mean ------------------------------------------------------------

TWO = {"W1": np.array([[1.0, -1.0]]), "b1": np.zeros(2)}
ONE = {"W1": np.array([[1.0]]), "b1": np.zeros(1)}
LINE = np.array([[-2.0], [1.0], [3.0]])


def test_one_output_is_a_quantity_unless_the_loss_or_the_target_says_otherwise() -> None:
    assert predict(ONE, LINE).values.tolist() == [-2.0, 1.0, 3.0]
    sigmoid = 1 / (1 + np.exp(-LINE[:, 0]))
    binary = predict(ONE, LINE, loss="binary_cross_entropy")
    np.testing.assert_allclose(np.asarray(binary)[:, 1], sigmoid, rtol=1e-6)
    assert binary.predicted.tolist() == [0, 1, 1]
    assert predict(ONE, (LINE, [0, 1, 0])).accuracy == pytest.approx(2 / 3)
    assert predict(ONE, (LINE, [-2.0, 1.0, 4.0])).loss == pytest.approx(1 / 3)
    assert predict(ONE, (LINE, [-2, 1, 4]), loss="squared_error").loss == pytest.approx(1 / 3)


def test_several_outputs_are_values_where_the_loss_says_so() -> None:
    prediction = predict(TWO, LINE, loss="squared_error")
    assert prediction.values.tolist() == [[-2.0, 2.0], [1.0, -1.0], [3.0, -3.0]]
    assert prediction.probabilities is None


@pytest.mark.parametrize(
    ("target", "accuracy"),
    [([1, 0, 0], 1.0), ([0, 0, 0], 2 / 3), ([1, 1, 1], 1 / 3), ([7, 5, 5], 1.0)],
)
def test_labels_need_not_all_be_there(target, accuracy) -> None:
    assert predict(TWO, (LINE, target)).accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize("target", [[0, 1, 2], [-1, 0, 1], [5, 5, 5]])
def test_labels_that_no_output_stands_for_are_refused(target) -> None:
    with pytest.raises(RightbatchError, match="2 outputs"):
        predict(TWO, (LINE, target))


def test_inputs_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="takes 5 inputs, and a sample of arrays has 2"):
        predict(TOY, np.ones((3, 2)), activation="relu")


# Files ---------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, list[Any]]:
    table = (
        pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
    )
    return table.to_pydict()


@pytest.mark.parametrize("batch_size", [1, 8, "full"])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".CSV"])
def test_tables_have_a_row_a_sample(ending, batch_size, cancer, tmp_path: Path) -> None:
    result = rb.fit("logistic", cancer, epochs=2)
    kept = predict(result, cancer.val)
    path = tmp_path / f"out{ending}"
    path.write_text("of before")
    written = predict(result, cancer.val, out=path, batch_size=batch_size)
    assert written.out == path
    assert (written.accuracy, written.predicted) == (kept.accuracy, None)
    table = read(path) if ending != ".CSV" else read(path.rename(tmp_path / "o.csv"))
    rows = cancer.val.rows.take(np.arange(len(cancer.val)))
    texts = cancer.data.column("target").categories
    assert table["row"] == rows.tolist()
    assert table["target"] == [texts[code] for code in cancer.data.array("target")[rows]]
    assert table["predicted"] == kept.predicted.tolist()
    for place, label in enumerate(kept.classes):
        np.testing.assert_allclose(
            table[f"probability_{label}"], kept.probabilities[:, place], atol=1e-6
        )
    assert [entry.name for entry in tmp_path.iterdir()] in (["out" + ending], ["o.csv"])
    with pytest.raises(OptionError, match="were written to"):
        np.asarray(written)


@pytest.mark.parametrize("batch_size", [1, 8, "full"])
def test_npy_is_what_numpy_loads(batch_size, digits, diabetes, tmp_path: Path) -> None:
    for model, parts in (("softmax", digits), ("linear", diabetes)):
        result = rb.fit(model, parts, epochs=1)
        path = tmp_path / "out.npy"
        predict(result, parts.val, out=path, batch_size=batch_size)
        found: NDArray[Any] = np.load(path)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, predict(result, parts.val), rtol=1e-5, atol=1e-6)


def test_quantities_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    predict(ONE, (LINE, [-2.0, 1.0, 4.0]), out=path)
    assert read(path) == {"row": [0, 1, 2], "target": [-2, 1, 4], "predicted": [-2, 1, 3]}
    predict(TWO, LINE, loss="squared_error", out=path)
    assert read(path) == {"row": [0, 1, 2], "predicted_0": [-2, 1, 3], "predicted_1": [2, -1, -3]}


def test_parquet_is_written_in_pieces_that_are_not_tiny(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    predict(ONE, np.zeros((70_000, 1), np.float32), batch_size=1000, out=path)
    groups = pyarrow.parquet.ParquetFile(path).metadata
    assert groups.num_rows == 70_000
    assert groups.num_row_groups == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("out.xlsx", "Valid are .npy, .csv, .parquet"),
        ("out", "absent"),
        ("out.parquets", "Did you mean '.parquet'"),
        ("no/such/out.csv", "there is no folder"),
        (".csv", "absent"),
    ],
)
def test_places_that_are_none_are_refused_before_anything_is_read(name, told, tmp_path) -> None:
    with pytest.raises(OptionError, match=told):
        predict(ONE, LINE, out=tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OptionError, match="is a folder"):
        predict(ONE, LINE, out=tmp_path / "folder.csv")


@pytest.mark.parametrize("ending", [".npy", ".csv", ".parquet"])
def test_what_fails_half_way_leaves_the_file_of_before(ending, tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    path.write_bytes(b"of before")
    calls: list[int] = []

    def fails(inputs: torch.Tensor) -> torch.Tensor:
        calls.append(len(inputs))
        if sum(calls) > 4:
            raise ZeroDivisionError("on purpose")
        return inputs

    with pytest.raises(ZeroDivisionError):
        predict(Probe(fails), np.ones((9, 2), np.float32), batch_size=2, out=path)
    assert path.read_bytes() == b"of before"
    assert list(tmp_path.iterdir()) == [path]


# Text forms ----------------------------------------------------------------------------------


def test_text_forms_say_what_was_found(tmp_path: Path) -> None:
    prediction = predict(TWO, (LINE, [1, 0, 0]))
    assert repr(prediction).startswith("<Prediction of 3 samples, 2 classes, loss ")
    assert "accuracy 1" in repr(prediction)
    assert "<th>accuracy</th>" in prediction._repr_html_()
    written = predict(TWO, LINE, out=tmp_path / "<b>.csv")
    assert "&lt;b&gt;.csv" in written._repr_html_()
    assert "2 classes; " in repr(written)


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        (3, LINE, "a int is no model"),
        ("no-such-folder", LINE, "there is no such file or folder"),
        ("softmax", LINE, "Models by name are not trained yet"),
        (ONE, "no-such-data", "No such file or folder"),
    ],
)
def test_what_is_no_model_or_no_data_is_told(model, data, told) -> None:
    with pytest.raises(RightbatchError, match=told):
        predict(model, data)


def test_all_parts_at_once_are_refused(cancer) -> None:
    with pytest.raises(OptionError, match=r"parts\.train, parts\.val"):
        predict(ONE, cancer)


def test_what_would_be_fitted_on_the_samples_themselves_is_refused(cancer) -> None:
    result = rb.fit("logistic", cancer, epochs=1)
    with pytest.raises(OptionError, match="would be fitted on the very samples"):
        predict(result.model, rb.open("breast_cancer").transform(rb.standardize()))


def test_what_fit_gave_takes_its_own_transforms_for_bare_data():
    data = rb.open("wine")
    parts = rb.split(data, test=0.2, seed=3).transform(rb.standardize(), lambda inputs: inputs * 2)
    result = rb.fit("softmax", parts, epochs=3, learning_rate=0.1)
    whole = rb.predict(result, data)
    held_out = rb.predict(result, parts.test)
    rows = parts.test.rows.take(np.arange(len(parts.test)))
    # Kernels for 178 samples and for 36 may add up in another order.
    np.testing.assert_allclose(whole.probabilities[rows], held_out.probabilities, rtol=1e-5)
    assert whole.accuracy > 0.8


def test_evaluate_refuses_a_label_that_was_not_learned():
    X = np.arange(40, dtype=np.float32).reshape(20, 2)
    result = rb.fit("softmax", rb.split(rb.open((X, np.arange(20) % 3))), epochs=1)
    others = rb.split(rb.open((X, np.arange(20) % 3 + 1))).train
    with pytest.raises(rb.DataError, match="3"):
        rb.evaluate(result, others)

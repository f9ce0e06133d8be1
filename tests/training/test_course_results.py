"""What the course and the book measured, measured again with this library."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

import rightbatch as rb
from rightbatch.loading.parts import Parts


@pytest.fixture(scope="module")
def mnist(real_data: Path) -> Parts:
    """55,000 images to train on, 5,000 held out, the test part of its own."""
    data = rb.open(str(real_data / "mnist"))
    return rb.split(data, val=5000).transform(rb.scale(1 / 255))


def softmax_accuracies(mnist: Parts, folder: Path, epochs: list[int], init: str) -> list[float]:
    """Test accuracy after each number of epochs of one run: SGD, rate 0.001, batches of 128."""
    accuracies = []
    for count in epochs:
        result = rb.fit(
            "softmax",
            mnist,
            epochs=count,
            batch_size=128,
            learning_rate=0.001,
            init=init,
            shuffle=False,
            out=folder,
            resume=folder.exists(),
        )
        assert result.leaked_samples == 0
        accuracies.append(rb.evaluate(result, mnist.test)["accuracy"])
    return accuracies


def test_softmax_regression_on_mnist_reaches_the_course_figures(mnist, tmp_path):
    accuracies = softmax_accuracies(mnist, tmp_path / "run", [1, 10], "zeros")
    assert accuracies == pytest.approx([0.753, 0.845], abs=0.01)


@pytest.mark.slow
def test_softmax_regression_on_mnist_reaches_the_course_figure_after_100_epochs(mnist, tmp_path):
    accuracies = softmax_accuracies(mnist, tmp_path / "run", [100], "zeros")
    assert accuracies == pytest.approx([0.899], abs=0.01)


def test_random_weights_start_far_lower_and_climb(mnist, tmp_path):
    accuracies = softmax_accuracies(mnist, tmp_path / "run", [1, 3, 10], "normal:1")
    assert accuracies[0] < 0.2
    assert accuracies[0] < accuracies[1]
    assert accuracies[1] + 0.05 < accuracies[2] < 0.5


def breast_cancer_accuracy(seed: int) -> float:
    data = rb.open("breast_cancer")
    parts = rb.split(data, val=0.16, test=0.2, stratify=True, seed=seed)
    assert parts.sizes == {"train": 364, "val": 91, "test": 114}
    result = rb.fit(
        "mlp:10",
        parts.transform(rb.standardize()),
        activation="sigmoid",
        epochs=500,
        batch_size=32,
        learning_rate=0.1,
        seed=seed,
    )
    assert result.leaked_samples == 0
    accuracy: float = result.history[-1]["val_accuracy"]
    return accuracy


def test_breast_cancer_reaches_the_books_figure():
    assert median(breast_cancer_accuracy(seed) for seed in range(3)) >= 88 / 91


@pytest.mark.slow
def test_breast_cancer_reaches_the_books_figure_over_ten_splits():
    assert median(breast_cancer_accuracy(seed) for seed in range(10)) >= 88 / 91


def test_two_hidden_layers_with_adam_on_mnist_reach_the_course_figure(real_data):
    data = rb.open(str(real_data / "mnist"))
    parts = rb.split(data, val=0.1).transform(rb.scale(1 / 255))
    assert parts.sizes["val"] == 6000
    result = rb.fit(
        "mlp:50,50", parts, epochs=5, batch_size=100, optimizer="adam", learning_rate=0.001
    )
    assert result.history[-1]["val_accuracy"] > 0.955
    assert result.leaked_samples == 0

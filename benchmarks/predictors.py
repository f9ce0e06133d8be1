"""The predictors of the third table: 784-50-100-10 with sigmoids, class probabilities out.

All have the same random weights and start from pixels that lie in memory as uint8. Libraries are
imported inside, so that one that is missing or slow to start burdens nobody else.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mnist
from measure import Work
from mnist import CLASSES, FEATURES, SAMPLES

BATCH_SIZE = 1024
SIZES = (FEATURES, 50, 100, CLASSES)


def random_weights() -> dict[str, NDArray[np.float32]]:
    """W1, b1, … (inputs × outputs), of the scale that training begins with."""
    generator = np.random.default_rng(0)
    weights = {}
    for number, (inputs, outputs) in enumerate(pairwise(SIZES), start=1):
        bound = (6 / (inputs + outputs)) ** 0.5
        weights[f"W{number}"] = generator.uniform(-bound, bound, (inputs, outputs))
        weights[f"b{number}"] = generator.uniform(-0.1, 0.1, outputs)
    return {name: values.astype(np.float32) for name, values in weights.items()}


class Prediction(Work):
    """A predictor that gives the probabilities (60,000, 10) whenever it is asked."""

    def __init__(self) -> None:
        self.pixels, _ = mnist.load()
        self.weights = random_weights()

    @abstractmethod
    def predict(self) -> Any:
        """The probabilities of all samples, in order."""

    def warm_up(self) -> None:
        """Predict once, and check the result against NumPy in float64."""
        found = np.asarray(self.predict())
        assert found.shape == (SAMPLES, CLASSES), found.shape
        rows = np.arange(0, SAMPLES, 997)
        wanted = by_numpy(self.pixels[rows].astype(np.float64) / 255, self.weights)
        np.testing.assert_allclose(found[rows], wanted, atol=1e-5)

    def run(self) -> None:
        """Predict once more."""
        self.predict()


def by_numpy(inputs: NDArray[Any], weights: dict[str, NDArray[np.float32]]) -> NDArray[Any]:
    """The forward pass, written out."""
    for number in (1, 2):
        inputs = 1 / (1 + np.exp(-(inputs @ weights[f"W{number}"] + weights[f"b{number}"])))
    logits = inputs @ weights["W3"] + weights["b3"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Rightbatch(Prediction):
    """`rb.predict`, the whole call."""

    def __init__(self) -> None:
        super().__init__()
        import rightbatch as rb

        self._predict: Any = rb.predict
        self._part = rb.split(rb.open(self.pixels)).transform(rb.scale(1 / 255)).train

    def predict(self) -> Any:
        """By weights in memory."""
        return self._predict(
            self.weights, self._part, batch_size=BATCH_SIZE, activation="sigmoid"
        ).probabilities


class NumpyByHand(Prediction):
    """The course's loop: slices, scaled, through the matrix products."""

    def predict(self) -> Any:
        """Batch after batch."""
        return np.concatenate(
            [
                by_numpy(
                    self.pixels[start : start + BATCH_SIZE].astype(np.float32) / np.float32(255),
                    self.weights,
                )
                for start in range(0, SAMPLES, BATCH_SIZE)
            ]
        )


class _Torch(Prediction):
    def __init__(self) -> None:
        super().__init__()
        import torch
        from torch import nn

        self.torch = torch
        layers: list[Any] = []
        for number in (1, 2, 3):
            weight = torch.from_numpy(self.weights[f"W{number}"])
            layer = nn.Linear(*weight.shape)
            with torch.no_grad():
                layer.weight.copy_(weight.t())
                layer.bias.copy_(torch.from_numpy(self.weights[f"b{number}"]))
            layers += [layer, nn.Sigmoid()]
        self.model = nn.Sequential(*layers[:-1], nn.Softmax(dim=1)).eval()


class TorchByHand(_Torch):
    """Torch's usual loop over slices of a tensor."""

    def predict(self) -> Any:
        """Batch after batch."""
        pixels = self.torch.from_numpy(self.pixels)
        with self.torch.inference_mode():
            return self.torch.cat(
                [
                    self.model(pixels[start : start + BATCH_SIZE].float().div_(255))
                    for start in range(0, SAMPLES, BATCH_SIZE)
                ]
            ).numpy()


class TorchDataLoader(_Torch):
    """The same with the ordinary DataLoader over single samples."""

    def predict(self) -> Any:
        """Batch after batch."""
        data = self.torch.utils.data
        loader = data.DataLoader(
            data.TensorDataset(self.torch.from_numpy(self.pixels)), batch_size=BATCH_SIZE
        )
        with self.torch.inference_mode():
            return self.torch.cat(
                [self.model(pixels.float().div_(255)) for (pixels,) in loader]
            ).numpy()


class NetworkAlone(_Torch):
    """What is left when converting and scaling cost nothing: the same batches, as floats."""

    def __init__(self) -> None:
        super().__init__()
        floats = self.torch.from_numpy(self.pixels).float().div_(255)
        self._batches = floats.split(BATCH_SIZE)

    def predict(self) -> Any:
        """Batch after batch."""
        with self.torch.inference_mode():
            return self.torch.cat([self.model(batch) for batch in self._batches]).numpy()


class ScikitLearn(Prediction):
    """`predict_proba` of an MLPClassifier that was handed these weights."""

    def __init__(self) -> None:
        super().__init__()
        from sklearn.neural_network import MLPClassifier

        self._model = MLPClassifier(SIZES[1:-1], activation="logistic", max_iter=1)
        few = np.zeros((CLASSES, FEATURES), np.float32)
        self._model.partial_fit(few, np.arange(CLASSES), classes=np.arange(CLASSES))
        self._model.coefs_ = [self.weights[f"W{number}"] for number in (1, 2, 3)]
        self._model.intercepts_ = [self.weights[f"b{number}"] for number in (1, 2, 3)]

    def predict(self) -> Any:
        """It takes floats, all at once."""
        return self._model.predict_proba(self.pixels.astype(np.float32) / np.float32(255))


class Keras(Prediction):
    """Keras `predict`, with a Rescaling layer."""

    def __init__(self) -> None:
        super().__init__()
        import keras

        activations = ("sigmoid", "sigmoid", "softmax")
        self._model = keras.Sequential(
            [
                keras.Input((FEATURES,), dtype="uint8"),
                keras.layers.Rescaling(1 / 255),
                *(
                    keras.layers.Dense(units, activation=activation)
                    for units, activation in zip(SIZES[1:], activations, strict=True)
                ),
            ]
        )
        self._model.set_weights(list(self.weights.values()))

    def predict(self) -> Any:
        """With its own batches."""
        return self._model.predict(self.pixels, batch_size=BATCH_SIZE, verbose=0)

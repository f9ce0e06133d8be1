"""The trainers of the second table: 784-100-10 with ReLU, plain SGD, batches of 128.

Each trains one more epoch whenever it is asked to, from pixels that lie in memory as uint8, in an
order shuffled anew, and tells its accuracy in the end: proof that it has learned. Libraries are
imported inside, so that one that is missing or slow to start burdens nobody else.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mnist
from measure import Work
from mnist import BATCH_SIZE, CLASSES, FEATURES, SAMPLES

HIDDEN = 100
LEARNING_RATE = 0.1
# A multiply and an addition for every weight: forward, the gradient by the weights, and for all
# layers but the first the gradient by what went in.
FLOPS_A_SAMPLE = 2 * (2 * (FEATURES * HIDDEN + HIDDEN * CLASSES) + HIDDEN * CLASSES)
_CHECKED = 10_000


class EpochWork(Work):
    """A trainer that is asked for one epoch at a time."""

    def __init__(self) -> None:
        self.pixels, self.labels = mnist.load()
        self._epochs = 0

    @abstractmethod
    def epoch(self, number: int) -> float | None:
        """Train one epoch; gives its seconds where the trainer measures itself."""

    @abstractmethod
    def logits(self, inputs: NDArray[np.float32]) -> Any:
        """The outputs (B, 10) for inputs (B, 784)."""

    def warm_up(self) -> None:
        """Train the first epoch: compilers compile, caches fill."""
        self.run()

    def run(self) -> float | None:
        """Train one more epoch."""
        self._epochs += 1
        return self.epoch(self._epochs)

    def outcome(self) -> str:
        """Accuracy on the first 10,000 training samples."""
        inputs = self.pixels[:_CHECKED].astype(np.float32) / np.float32(255)
        right = np.asarray(self.logits(inputs)).argmax(1) == self.labels[:_CHECKED]
        return f"accuracy {right.mean():.3f}, {self._epochs} epochs"


class Rightbatch(EpochWork):
    """`rb.fit`, the whole call: it prepares, trains one epoch and gives the result."""

    def __init__(self) -> None:
        super().__init__()
        import rightbatch as rb

        self._fit: Any = rb.fit
        self._parts = rb.split(rb.open((self.pixels, self.labels))).transform(rb.scale(1 / 255))
        self._model: Any = f"mlp:{HIDDEN}"

    def epoch(self, number: int) -> None:
        """Go on with the model of the epoch before."""
        result = self._fit(
            self._model,
            self._parts,
            batch_size=BATCH_SIZE,
            epochs=1,
            learning_rate=LEARNING_RATE,
            seed=number,
        )
        self._model = result.model

    def logits(self, inputs: NDArray[np.float32]) -> Any:
        """By the trained module."""
        return _torch_logits(self._model, inputs)


class _Torch(EpochWork):
    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch = torch
        self.model = _torch_model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        self.tensors = torch.from_numpy(self.pixels), torch.from_numpy(self.labels)

    def step(self, inputs: Any, target: Any) -> None:
        loss = self.torch.nn.functional.cross_entropy(self.model(inputs), target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def logits(self, inputs: NDArray[np.float32]) -> Any:
        return _torch_logits(self.model, inputs)


class TorchByHand(_Torch):
    """Torch's usual loop, tensors indexed by hand."""

    def epoch(self, _: int) -> None:
        """One epoch."""
        pixels, labels = self.tensors
        permutation = self.torch.randperm(SAMPLES)
        for start in range(0, SAMPLES, BATCH_SIZE):
            rows = permutation[start : start + BATCH_SIZE]
            self.step(pixels[rows].float().div_(255), labels[rows])


class TorchDataLoader(_Torch):
    """Torch's usual loop over a DataLoader."""

    def __init__(self) -> None:
        super().__init__()
        self._loader = _torch_loader(self.tensors)

    def epoch(self, _: int) -> None:
        """One epoch."""
        for inputs, target in self._loader:
            self.step(inputs.float().div_(255), target)


class Lightning(EpochWork):
    """Lightning's Trainer in its barebones mode; the epoch alone, without setting up `fit`."""

    def __init__(self) -> None:
        super().__init__()
        import logging
        import warnings

        import lightning
        import torch

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layers = _torch_model()
                self.began = self.seconds = 0.0

            def training_step(self, batch: Any, _: int) -> Any:
                inputs, target = batch
                outputs = self.layers(inputs.float().div_(255))
                return torch.nn.functional.cross_entropy(outputs, target)

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE)

            def on_train_epoch_start(self) -> None:
                self.began = time.perf_counter()

            def on_train_epoch_end(self) -> None:
                self.seconds = time.perf_counter() - self.began

        self._trainer: Any = lightning.Trainer
        self._module = Module()
        self._loader = _torch_loader((torch.from_numpy(self.pixels), torch.from_numpy(self.labels)))

    def epoch(self, _: int) -> float:
        """One epoch, by Lightning's own hooks."""
        trainer = self._trainer(max_epochs=1, accelerator="cpu", devices=1, barebones=True)
        trainer.fit(self._module, self._loader)
        return self._module.seconds

    def logits(self, inputs: NDArray[np.float32]) -> Any:
        """By the trained layers."""
        return _torch_logits(self._module.layers.eval(), inputs)


class Keras(EpochWork):
    """Keras 3 `fit` on the backend that KERAS_BACKEND names."""

    def __init__(self) -> None:
        super().__init__()
        import keras

        self._model = keras.Sequential(
            [
                keras.Input((FEATURES,), dtype="uint8"),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Dense(HIDDEN, activation="relu"),
                keras.layers.Dense(CLASSES),
            ]
        )
        self._model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def epoch(self, _: int) -> None:
        """One epoch."""
        self._model.fit(self.pixels, self.labels, batch_size=BATCH_SIZE, epochs=1, verbose=0)

    def logits(self, inputs: NDArray[np.float32]) -> Any:
        """By the trained model, which scales by itself."""
        return self._model.predict(self.pixels[: len(inputs)], batch_size=1000, verbose=0)


class Jax(EpochWork):
    """JAX: shuffle, gather, convert and learn in one jitted program, a scan over the batches."""

    def __init__(self) -> None:
        super().__init__()
        import jax
        import jax.numpy as jnp

        def forward(weights: Any, inputs: Any) -> Any:
            (first, first_bias), (second, second_bias) = weights
            return jax.nn.relu(inputs @ first + first_bias) @ second + second_bias

        def loss(weights: Any, inputs: Any, target: Any) -> Any:
            log_softmax = jax.nn.log_softmax(forward(weights, inputs))
            return -jnp.take_along_axis(log_softmax, target[:, None], axis=1).mean()

        def train(weights: Any, key: Any, pixels: Any, labels: Any) -> Any:
            def step(weights: Any, rows: Any) -> Any:
                inputs = pixels[rows].astype(jnp.float32) / 255
                slopes = jax.grad(loss)(weights, inputs, labels[rows])
                return jax.tree.map(lambda w, d: w - LEARNING_RATE * d, weights, slopes), None

            permutation = jax.random.permutation(key, SAMPLES)
            whole = SAMPLES // BATCH_SIZE * BATCH_SIZE
            weights, _ = jax.lax.scan(step, weights, permutation[:whole].reshape(-1, BATCH_SIZE))
            return step(weights, permutation[whole:])[0]

        self._jax = jax
        self._forward = forward
        self._train = jax.jit(train, donate_argnums=0)
        self._data = jnp.asarray(self.pixels), jnp.asarray(self.labels)
        self._weights: Any = [
            (
                jax.random.normal(jax.random.key(seed), (inputs, outputs)) * (2 / inputs) ** 0.5,
                jnp.zeros(outputs),
            )
            for seed, (inputs, outputs) in enumerate([(FEATURES, HIDDEN), (HIDDEN, CLASSES)])
        ]

    def epoch(self, number: int) -> None:
        """One epoch, waited for."""
        self._weights = self._train(self._weights, self._jax.random.key(number), *self._data)
        self._jax.block_until_ready(self._weights)

    def logits(self, inputs: NDArray[np.float32]) -> Any:
        """By the trained weights."""
        return self._forward(self._weights, inputs)


class ScikitLearn(EpochWork):
    """MLPClassifier, one `partial_fit` an epoch; it takes floats, so converting is a part of it."""

    def __init__(self) -> None:
        super().__init__()
        from sklearn.neural_network import MLPClassifier

        self._classes = np.arange(CLASSES)
        self._model = MLPClassifier(
            (HIDDEN,),
            solver="sgd",
            alpha=0.0,
            batch_size=BATCH_SIZE,
            learning_rate_init=LEARNING_RATE,
            momentum=0.0,
            nesterovs_momentum=False,
        )

    def epoch(self, _: int) -> None:
        """One pass over the samples."""
        inputs = self.pixels.astype(np.float32) / np.float32(255)
        self._model.partial_fit(inputs, self.labels, classes=self._classes)

    def logits(self, inputs: NDArray[np.float32]) -> Any:
        """Probabilities serve as well."""
        return self._model.predict_proba(inputs)


class Products(Work):
    """The matrix products of an epoch alone, at their own shapes, in torch."""

    def __init__(self) -> None:
        import torch

        random = torch.Generator().manual_seed(0)
        sizes = [(BATCH_SIZE, FEATURES), (BATCH_SIZE, HIDDEN), (BATCH_SIZE, CLASSES)]
        inputs, hidden, outputs = (torch.randn(size, generator=random) for size in sizes)
        first = torch.randn((HIDDEN, FEATURES), generator=random)
        second = torch.randn((CLASSES, HIDDEN), generator=random)
        self._mm = torch.mm
        self._products = [
            (inputs, first.t(), torch.empty_like(hidden)),
            (hidden, second.t(), torch.empty_like(outputs)),
            (outputs.t(), hidden, torch.empty_like(second)),
            (outputs, second, torch.empty_like(hidden)),
            (hidden.t(), inputs, torch.empty_like(first)),
        ]

    def warm_up(self) -> None:
        """Run once."""
        self.run()

    def run(self) -> None:
        """As many steps as an epoch has."""
        for _ in range(0, SAMPLES, BATCH_SIZE):
            for left, right, out in self._products:
                self._mm(left, right, out=out)


class Peak(Work):
    """The same arithmetic at the best rate this machine shows: one large square product."""

    _SIDE = 2048

    def __init__(self) -> None:
        import torch

        self._mm = torch.mm
        self._left = torch.ones((self._SIDE, self._SIDE))
        self._out = torch.empty_like(self._left)
        self._best = float("inf")

    def warm_up(self) -> None:
        """Run once."""
        self.run()

    def run(self) -> float:
        """The seconds that the epoch's arithmetic would take at the rate measured now."""
        began = time.perf_counter()
        self._mm(self._left, self._left, out=self._out)
        seconds = time.perf_counter() - began
        rate = 2 * self._SIDE**3 / seconds
        self._best = min(self._best, seconds)
        return FLOPS_A_SAMPLE * SAMPLES / rate

    def outcome(self) -> str:
        """The best rate seen."""
        return f"{2 * self._SIDE**3 / self._best / 1e9:,.0f} GFLOP/s"


def _torch_model() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def _torch_loader(tensors: tuple[Any, Any]) -> Any:
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(*tensors), batch_size=BATCH_SIZE, shuffle=True)


def _torch_logits(model: Callable[[Any], Any], inputs: NDArray[np.float32]) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(inputs)).numpy()

"""The contenders on a GPU: epochs of a small network, and steps of a large one with their data.

Each takes the device, so that `--device cpu` runs the same lines where there is no GPU, in less of
everything (`is_small`).
"""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

import mnist
import rightbatch as rb
from measure import Work
from resnet import resnet
from rightbatch.training import captured_step, step_choice
from rightbatch.training.device_step import DeviceStep
from rightbatch.training.forward import gradient_for
from rightbatch.training.losses import find_loss
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.options import FitOptions
from rightbatch.training.step_choice import capture_of, choose_step

HIDDEN, LEARNING_RATE = 100, 0.1
CIFAR_SHAPE, CIFAR_SAMPLES, CIFAR_BATCH = (3, 32, 32), 50_000, 256
_SMALL_SAMPLES, _SMALL_BATCH = 600, 16
# The first epochs set libraries up, record the step and fill caches.
_WARM_EPOCHS, _TIMED_EPOCHS = 3, 10


def wait_for(device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def try_on_cpu(device: str) -> None:
    """Have steps launched and recorded on the CPU, where a recording is replayed by taking it."""
    if device == "cpu":
        step_choice._DEVICES = ("cpu",)
        captured_step.record_graph = lambda step, _: step


class MnistEpoch(Work):
    """784-100-10 with ReLU, SGD, batches of 128, from uint8: seconds an epoch, runs under way."""

    def __init__(self, device: str, *, is_small: bool) -> None:
        try_on_cpu(device)
        self.device = device
        pixels, labels = mnist.load()
        samples = _SMALL_SAMPLES if is_small else mnist.SAMPLES
        self.pixels, self.labels = pixels[:samples], labels[:samples]
        self.epochs = 2 if is_small else _TIMED_EPOCHS

    def warm_up(self) -> None:
        """Run once; AssertionError where nothing was learned."""
        self.run()
        self.run()
        accuracy = self.accuracy()
        assert accuracy > 0.5, f"an accuracy of {accuracy:.3f}"

    def outcome(self) -> str:
        """Accuracy on the samples that it learned from."""
        return f"accuracy {self.accuracy():.3f}"

    @abstractmethod
    def network(self) -> Any:
        """The trained module."""

    def accuracy(self) -> float:
        """The share of the samples that the network tells right."""
        with torch.inference_mode():
            inputs = torch.from_numpy(self.pixels).to(self.device).float().div_(255)
            found = self.network()(inputs).argmax(1).cpu().numpy()
        return float((found == self.labels).mean())


class RightbatchEpoch(MnistEpoch):
    """`rb.fit`, by the seconds of its own history after the first epochs."""

    def __init__(self, device: str, *, is_small: bool, **options: Any) -> None:
        super().__init__(device, is_small=is_small)
        self._parts = rb.split(rb.open((self.pixels, self.labels))).transform(rb.scale(1 / 255))
        self._options = options
        self._result: Any = None

    def run(self) -> float:
        """The median of the epochs."""
        began = time.perf_counter()
        self._result = rb.fit(
            f"mlp:{HIDDEN}" if self._result is None else self._result.model,
            self._parts,
            batch_size=mnist.BATCH_SIZE,
            epochs=_WARM_EPOCHS + self.epochs,
            learning_rate=LEARNING_RATE,
            device=self.device,
            **self._options,
        )
        self._call_seconds = time.perf_counter() - began
        ends = [row["seconds"] for row in self._result.history][_WARM_EPOCHS - 1 :]
        return float(np.median(np.diff(ends)))

    def network(self) -> Any:
        """What `fit` gave."""
        return self._result.model

    def outcome(self) -> str:
        """Accuracy, and whether steps were captured."""
        return f"{super().outcome()}; captured: {self._result.capture.is_captured}"

    def details(self) -> dict[str, object]:
        """What was captured and where the samples lay, and the whole call."""
        return {
            "capture": repr(self._result.capture),
            "residency": repr(self._result.residency),
            "call_seconds": self._call_seconds,
            "call_epochs": _WARM_EPOCHS + self.epochs,
        }


class TorchEpoch(MnistEpoch):
    """torch's usual loop; `batches` says over what."""

    def __init__(self, device: str, *, is_small: bool) -> None:
        super().__init__(device, is_small=is_small)
        self._network = nn.Sequential(
            nn.Linear(mnist.FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, mnist.CLASSES)
        ).to(device)
        self._optimizer = torch.optim.SGD(self._network.parameters(), lr=LEARNING_RATE)
        self._taken = 0

    @abstractmethod
    def batches(self) -> Iterable[tuple[Any, Any]]:
        """An epoch of (bytes, labels) on the device."""

    def run(self) -> float:
        """The median of the epochs."""
        times = []
        for _ in range(_WARM_EPOCHS + 1 if self._taken == 0 else 2):
            self._taken += 1
            wait_for(self.device)
            began = time.perf_counter()
            for inputs, target in self.batches():
                outputs = self._network(inputs.float().div_(255))
                loss = nn.functional.cross_entropy(outputs, target)
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
            wait_for(self.device)
            times.append(time.perf_counter() - began)
        return float(np.median(times[-2:]))

    def network(self) -> Any:
        """The module."""
        return self._network


class TorchDataLoaderEpoch(TorchEpoch):
    """Over a DataLoader of single samples, pinned, copied without waiting."""

    def __init__(self, device: str, *, is_small: bool, workers: int) -> None:
        super().__init__(device, is_small=is_small)
        from torch.utils.data import DataLoader, TensorDataset

        samples = TensorDataset(torch.from_numpy(self.pixels), torch.from_numpy(self.labels))
        self._loader = DataLoader(
            samples,
            batch_size=mnist.BATCH_SIZE,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device != "cpu",
        )

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """From pinned memory."""
        for inputs, target in self._loader:
            yield (
                inputs.to(self.device, non_blocking=True),
                target.to(self.device, non_blocking=True),
            )


class TorchByHandEpoch(TorchEpoch):
    """Over tensors that lie on the device, indexed by a permutation made there."""

    def __init__(self, device: str, *, is_small: bool) -> None:
        super().__init__(device, is_small=is_small)
        self._tensors = [torch.from_numpy(array).to(device) for array in (self.pixels, self.labels)]

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """Gathered there."""
        pixels, labels = self._tensors
        order = torch.randperm(len(labels), device=self.device)
        for rows in order.split(mnist.BATCH_SIZE):
            yield pixels[rows], labels[rows]


class ResNetSteps(Work):
    """The same steps of one network over batches that come in different ways.

    `loading` is "none" (one batch that lies on the device, again and again), "resident", "copied"
    or "DataLoader".
    """

    def __init__(
        self, device: str, loading: str, *, is_small: bool, precision: str = "bfloat16"
    ) -> None:
        try_on_cpu(device)
        self.device, self.loading = device, loading
        samples, self.batch_size = CIFAR_SAMPLES, CIFAR_BATCH
        if is_small:
            samples, self.batch_size = 8 * _SMALL_BATCH, _SMALL_BATCH
        random = np.random.default_rng(0)
        self._pixels = random.integers(0, 256, (samples, *CIFAR_SHAPE), dtype=np.uint8)
        self._labels = random.integers(0, 10, samples)
        self.steps = samples // self.batch_size
        torch.manual_seed(0)
        model = resnet(width=0.1 if is_small else 1.0).to(device)
        self._options = FitOptions(
            batch_size=self.batch_size, learning_rate=0.01, momentum=0.9, precision=precision
        )
        gradient = gradient_for(model, find_loss("cross_entropy"), self._options)
        optimizer = build_optimizer("sgd", gradient.parameters, learning_rate=0.01, momentum=0.9)
        self.step = choose_step(gradient, optimizer, self._options, batch_size=self.batch_size)
        self._batches: Any = None
        self._source = self._make_source()

    def warm_up(self) -> None:
        """Some epochs, in which libraries choose their algorithms and the step is recorded."""
        for _ in range(2):
            self.run()

    def run(self) -> float:
        """Seconds of an epoch's full batches."""
        wait_for(self.device)
        began = time.perf_counter()
        self.take(self.steps)
        wait_for(self.device)
        return time.perf_counter() - began

    def take(self, steps: int) -> None:
        """Learn from so many batches, as training does: losses are read some at a time."""
        step = self.step
        for inputs, target in itertools.islice(self._source, steps):
            if not isinstance(step, DeviceStep):
                step(inputs, target)
                continue
            step.launch(inputs, target, len(target))
            if step.unread >= 64:
                step.read()
        if isinstance(step, DeviceStep) and step.unread:
            step.read()

    def outcome(self) -> str:
        """How the batches came."""
        captured = capture_of(self.step, self._options)
        where = "" if self._batches is None else f"; {self._batches.residency.reason}"
        return f"captured: {captured.is_captured} ({captured.reason}){where}"

    def _make_source(self) -> Iterator[tuple[Any, Any]]:
        if self.loading == "DataLoader":
            return self._torch_loader()
        parts = rb.split(rb.open((self._pixels, self._labels))).transform(rb.scale(1 / 255))
        self._batches = rb.Batches(
            parts.train,
            self.batch_size,
            remainder="keep",
            device=self.device,
            device_memory=0 if self.loading == "copied" else 0.5,
            threads=1,
        )
        if self.loading == "none":
            return itertools.repeat(next(iter(self._batches.epoch(0))))
        return self._endless()

    def _endless(self) -> Iterator[tuple[Any, Any]]:
        for epoch in itertools.count():
            yield from (
                batch for batch in self._batches.epoch(epoch) if len(batch[1]) == self.batch_size
            )

    def _torch_loader(self) -> Iterator[tuple[Any, Any]]:
        from torch.utils.data import DataLoader, TensorDataset

        loader = DataLoader(
            TensorDataset(torch.from_numpy(self._pixels), torch.from_numpy(self._labels)),
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
            pin_memory=self.device != "cpu",
        )
        while True:
            for inputs, target in loader:
                yield (
                    inputs.to(self.device, non_blocking=True).float().div_(255),
                    target.to(self.device, non_blocking=True),
                )

"""One training epoch of 784-100-10 on MNIST, from uint8 in memory to updated weights."""

from __future__ import annotations

import os

import mnist
import trainers
from measure import Contender
from report import Benchmark, Goal, command

_REFERENCE = "torch loop, tensors indexed by hand"
_OURS = "rightbatch fit"
_LIGHTNING = "Lightning Trainer + DataLoader"
_LIMIT = "its arithmetic at the peak of matrix products"
_TORCH = ("torch",)
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}

BENCHMARK = Benchmark(
    title=f"MNIST, 784-100-10 ReLU, SGD, batches of {mnist.BATCH_SIZE}: one epoch with its data",
    samples=mnist.SAMPLES,
    reference=_REFERENCE,
    limit=_LIMIT,
    contenders=(
        *(
            Contender(
                name=name,
                work=work,
                modules=modules,
                environment={**_QUIET, **environment},
                repeats_short_runs=False,
            )
            for name, work, modules, environment in (
                (_REFERENCE, trainers.TorchByHand, _TORCH, {}),
                (
                    f"{_REFERENCE}, 1 thread",
                    trainers.TorchByHand,
                    _TORCH,
                    {"OMP_NUM_THREADS": "1"},
                ),
                (_OURS, trainers.Rightbatch, _TORCH, {}),
                ("JAX, whole epoch jitted with lax.scan", trainers.Jax, ("jax",), {}),
                (
                    "Keras fit on JAX",
                    trainers.Keras,
                    ("keras", "jax"),
                    {"KERAS_BACKEND": "jax"},
                ),
                (
                    "Keras fit on TensorFlow",
                    trainers.Keras,
                    ("keras", "tensorflow"),
                    {"KERAS_BACKEND": "tensorflow"},
                ),
                ("torch loop + DataLoader", trainers.TorchDataLoader, _TORCH, {}),
                (_LIGHTNING, trainers.Lightning, ("lightning",), {}),
                ("scikit-learn MLPClassifier", trainers.ScikitLearn, ("sklearn",), {}),
            )
        ),
        Contender(name=_LIMIT, work=trainers.Peak, modules=_TORCH, is_limit=True),
        Contender(
            name="its matrix products alone", work=trainers.Products, modules=_TORCH, is_limit=True
        ),
    ),
    goals=(
        Goal(
            says="rightbatch: at most 0.85 of the time of the torch loop indexed by hand",
            ours=_OURS,
            theirs=(_REFERENCE,),
            factor=1 / 0.85,
        ),
        Goal(
            says="rightbatch: at most 0.40 of the time of Lightning with DataLoader",
            ours=_OURS,
            theirs=(_LIGHTNING,),
            factor=1 / 0.4,
        ),
    ),
    notes=(
        mnist.describe(),
        f"Threads of torch: {os.environ.get('OMP_NUM_THREADS', 'its default, one a core')}; "
        "rightbatch fit: as it chooses below that.",
    ),
)

if __name__ == "__main__":
    command(BENCHMARK, repeats=5)()

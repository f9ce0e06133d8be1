"""Class probabilities of 60,000 MNIST images by a 784-50-100-10 network, in batches of 1,024."""

from __future__ import annotations

import mnist
import predictors
from measure import Contender
from report import Benchmark, Goal, command

_REFERENCE = "torch loop, slices by hand"
_OURS = "rightbatch predict"
_LIMIT = "the network alone, floats at hand"
_LOADER = "torch loop + DataLoader"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

BENCHMARK = Benchmark(
    title=f"784-50-100-10 sigmoid over MNIST from uint8, batches of {predictors.BATCH_SIZE}",
    samples=mnist.SAMPLES,
    reference=_REFERENCE,
    limit=_LIMIT,
    contenders=(
        *(
            Contender(name=name, work=work, modules=modules, environment={**_ONE_THREAD, **more})
            for name, work, modules, more in (
                (_REFERENCE, predictors.TorchByHand, ("torch",), {}),
                (_OURS, predictors.Rightbatch, ("torch",), {}),
                (_LOADER, predictors.TorchDataLoader, ("torch",), {}),
                ("NumPy by hand, as in the course", predictors.NumpyByHand, (), {}),
                ("scikit-learn MLPClassifier", predictors.ScikitLearn, ("sklearn",), {}),
                (
                    "Keras predict on TensorFlow",
                    predictors.Keras,
                    ("keras", "tensorflow"),
                    {"KERAS_BACKEND": "tensorflow"},
                ),
            )
        ),
        Contender(
            name=_LIMIT,
            work=predictors.NetworkAlone,
            modules=("torch",),
            environment=_ONE_THREAD,
            is_limit=True,
        ),
    ),
    goals=(
        Goal(
            says="rightbatch: as fast as the torch loop indexed by hand",
            ours=_OURS,
            theirs=(_REFERENCE,),
            factor=1.0,
        ),
        Goal(
            says="rightbatch: at least three times the torch loop with DataLoader",
            ours=_OURS,
            theirs=(_LOADER,),
            factor=3.0,
        ),
    ),
    notes=(mnist.describe(), "One thread of arithmetic for everybody."),
)

if __name__ == "__main__":
    command(BENCHMARK, repeats=7)()

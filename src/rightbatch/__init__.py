"""The right mini-batches of any data, measured.

>>> import rightbatch as rb
>>> parts = rb.split(rb.open("breast_cancer"), val=0.1, stratify=True, seed=7)
>>> parts = parts.transform(rb.standardize())
>>> result = rb.fit("mlp:10", parts, batch_size=32, epochs=20, learning_rate=0.1)
>>> rb.evaluate(result, parts.val)["accuracy"] > 0.9
True

Names load when they are first used: `import rightbatch` alone imports neither torch, pyarrow
nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rightbatch.advice.advice import Advice
    from rightbatch.advice.advise import advise
    from rightbatch.advice.compare import compare
    from rightbatch.advice.comparison import Comparison
    from rightbatch.advice.speed import speed
    from rightbatch.advice.timing import Speed
    from rightbatch.data.dataset import Dataset
    from rightbatch.data.opening import open
    from rightbatch.data.pack_verification import PackFault, verify_pack
    from rightbatch.data.packing import PackProgress
    from rightbatch.data.ragged import Ragged
    from rightbatch.errors import (
        DataError,
        DiskSpaceError,
        DownloadError,
        DuplicateError,
        MemoryLimitError,
        MissingDependencyError,
        NonFiniteLossError,
        OptionError,
        RankError,
        ResumeError,
        RightbatchError,
        TrainingError,
        WorkerError,
    )
    from rightbatch.fetching.fetch import FetchedSet, FetchProgress, fetch
    from rightbatch.integrations.scikit_learn import MiniBatchClassifier, MiniBatchRegressor
    from rightbatch.loading.batches import Batches
    from rightbatch.loading.decode_images import decode_images
    from rightbatch.loading.mixing import mix
    from rightbatch.loading.packing import pack
    from rightbatch.loading.pad import pad
    from rightbatch.loading.parts import Part, Parts
    from rightbatch.loading.shuffle_quality import shuffle_quality
    from rightbatch.loading.shuffle_result import ShuffleQuality
    from rightbatch.loading.slices import batches
    from rightbatch.loading.splitting import split
    from rightbatch.loading.tokenize import tokenize
    from rightbatch.loading.transforms import cast, flatten, one_hot, scale, standardize
    from rightbatch.report.page import write_report
    from rightbatch.run_report import RunReport
    from rightbatch.training.evaluate_part import evaluate
    from rightbatch.training.fit import fit
    from rightbatch.training.predict import predict
    from rightbatch.training.prediction import Prediction
    from rightbatch.training.result import FitResult
    from rightbatch.training.torchrun import process_group
    from rightbatch.workflow import run

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "data.dataset",
    "open": "data.opening",
    "PackFault": "data.pack_verification",
    "verify_pack": "data.pack_verification",
    "PackProgress": "data.packing",
    "Ragged": "data.ragged",
    "DataError": "errors",
    "DiskSpaceError": "errors",
    "DownloadError": "errors",
    "DuplicateError": "errors",
    "MemoryLimitError": "errors",
    "MissingDependencyError": "errors",
    "NonFiniteLossError": "errors",
    "RankError": "errors",
    "OptionError": "errors",
    "ResumeError": "errors",
    "RightbatchError": "errors",
    "TrainingError": "errors",
    "WorkerError": "errors",
    "FetchProgress": "fetching.fetch",
    "FetchedSet": "fetching.fetch",
    "fetch": "fetching.fetch",
    "Batches": "loading.batches",
    "batches": "loading.slices",
    "decode_images": "loading.decode_images",
    "mix": "loading.mixing",
    "pack": "loading.packing",
    "pad": "loading.pad",
    "Part": "loading.parts",
    "Parts": "loading.parts",
    "split": "loading.splitting",
    "ShuffleQuality": "loading.shuffle_result",
    "shuffle_quality": "loading.shuffle_quality",
    "tokenize": "loading.tokenize",
    "cast": "loading.transforms",
    "flatten": "loading.transforms",
    "one_hot": "loading.transforms",
    "scale": "loading.transforms",
    "standardize": "loading.transforms",
    "evaluate": "training.evaluate_part",
    "Prediction": "training.prediction",
    "predict": "training.predict",
    "process_group": "training.torchrun",
    "Advice": "advice.advice",
    "advise": "advice.advise",
    "Comparison": "advice.comparison",
    "compare": "advice.compare",
    "Speed": "advice.timing",
    "speed": "advice.speed",
    "write_report": "report.page",
    "MiniBatchClassifier": "integrations.scikit_learn",
    "MiniBatchRegressor": "integrations.scikit_learn",
    "FitResult": "training.result",
    "fit": "training.fit",
    "RunReport": "run_report",
    "run": "workflow",
}

__all__ = [
    "Advice",
    "Batches",
    "Comparison",
    "DataError",
    "Dataset",
    "DiskSpaceError",
    "DownloadError",
    "DuplicateError",
    "FetchProgress",
    "FetchedSet",
    "FitResult",
    "MemoryLimitError",
    "MiniBatchClassifier",
    "MiniBatchRegressor",
    "MissingDependencyError",
    "NonFiniteLossError",
    "OptionError",
    "PackFault",
    "PackProgress",
    "Part",
    "Parts",
    "Prediction",
    "Ragged",
    "RankError",
    "ResumeError",
    "RightbatchError",
    "RunReport",
    "ShuffleQuality",
    "Speed",
    "TrainingError",
    "WorkerError",
    "__version__",
    "advise",
    "batches",
    "cast",
    "compare",
    "decode_images",
    "evaluate",
    "fetch",
    "fit",
    "flatten",
    "mix",
    "one_hot",
    "open",
    "pack",
    "pad",
    "predict",
    "process_group",
    "run",
    "scale",
    "shuffle_quality",
    "speed",
    "split",
    "standardize",
    "tokenize",
    "verify_pack",
    "write_report",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rightbatch' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"rightbatch.{home}"), name)
    globals()[name] = value  # the next look-up does not come here again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

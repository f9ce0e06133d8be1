"""The public surface is pinned: a name comes or goes on purpose, with this file."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import rightbatch

PUBLIC_NAMES = {
    # data
    "Dataset",
    "open",
    "PackFault",
    "PackProgress",
    "Ragged",
    "verify_pack",
    # loading
    "Batches",
    "Part",
    "Parts",
    "batches",
    "cast",
    "decode_images",
    "flatten",
    "mix",
    "one_hot",
    "pack",
    "pad",
    "scale",
    "ShuffleQuality",
    "shuffle_quality",
    "split",
    "standardize",
    "tokenize",
    # fetching
    "FetchProgress",
    "FetchedSet",
    "fetch",
    # training
    "FitResult",
    "Prediction",
    "evaluate",
    "fit",
    "predict",
    "process_group",
    # advice
    "Advice",
    "advise",
    "Comparison",
    "Speed",
    "compare",
    "speed",
    # report
    "write_report",
    # the main job
    "RunReport",
    "run",
    # scikit-learn
    "MiniBatchClassifier",
    "MiniBatchRegressor",
    # errors
    "DataError",
    "DiskSpaceError",
    "DownloadError",
    "DuplicateError",
    "MemoryLimitError",
    "MissingDependencyError",
    "NonFiniteLossError",
    "RankError",
    "OptionError",
    "ResumeError",
    "RightbatchError",
    "TrainingError",
    "WorkerError",
    # the release
    "__version__",
}


def test_all_is_exactly_the_public_names() -> None:
    assert set(rightbatch.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_every_public_name_loads_and_says_what_it_is(name: str) -> None:
    value = getattr(rightbatch, name)
    assert value is not None
    if name != "__version__":
        assert (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_dir_shows_the_names_before_they_are_loaded() -> None:
    assert set(dir(rightbatch)) >= PUBLIC_NAMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = rightbatch.opne


def test_the_installed_version_is_the_one_in_the_source() -> None:
    try:
        installed = metadata.version("rightbatch")
    except metadata.PackageNotFoundError:
        pytest.skip("rightbatch runs from its source tree here; it is not installed")
    assert installed == rightbatch.__version__


def test_importing_rightbatch_imports_nothing_heavy() -> None:
    script = "import sys, rightbatch; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "rightbatch" in loaded
    assert not loaded & {
        "torch",
        "numpy",
        "pyarrow",
        "sklearn",
        "click",
        "rich",
        "safetensors",
        "altair",
    }

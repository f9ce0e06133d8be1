"""What the whole suite shares: real data, made-up pictures, processes, open files, profiles."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Examples run on shared cores where one slow draw says nothing, hence no deadline.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.register_profile(
    "proof", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=1000
)
settings.register_profile(
    "reduced", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that asks for it skips where it is absent."""
    folder = Path(os.environ.get("RIGHTBATCH_DATA", REPOSITORY / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set RIGHTBATCH_DATA to the folder of mnist/")
    return folder.resolve()


@pytest.fixture(autouse=True, scope="module")
def lasting_objects() -> None:
    """Keeps what earlier modules have left out of the garbage collector's way.

    Training and ranks collect garbage, which takes half a second over all that a process has
    imported which has run some hundred modules of tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def files_open() -> Callable[[Path], list[Path]]:
    """What gives the files that this process holds open: one by its path, or all in a folder.

    Asked for by name, since files that earlier tests left open may be closed meanwhile.
    """
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip(f"{handles} is Linux's")

    def found(place: Path) -> list[Path]:
        opened = [path.resolve() for path in handles.iterdir()]
        return [path for path in opened if path.is_relative_to(place.resolve())]

    return found


class Pictures:
    """Pictures made up for tests: smooth colours, so that JPEG keeps them, each of its own."""

    classes = ("cat", "dog", "newt")

    def make(self, number: int, width: int = 40, height: int = 30) -> Any:
        """A Pillow image whose colours run from corner to corner, others for each number."""
        from PIL import Image

        down, across = np.mgrid[0:height, 0:width]
        generator = np.random.default_rng(number)
        channels = [
            generator.uniform(0, 90)
            + across * generator.uniform(0, 80 / width)
            + down * generator.uniform(0, 80 / height)
            for _ in range(3)
        ]
        return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))

    def encoded(self, image: Any, kind: str = "JPEG", **options: Any) -> bytes:
        """The image as a file holds it."""
        file = io.BytesIO()
        image.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}), **options)
        return file.getvalue()

    def folder(self, folder: Path, count: int = 30) -> Path:
        """JPEG files of different sizes, and a PNG now and then, in a folder for each class."""
        generator = np.random.default_rng(7)
        for number in range(count):
            home = folder / self.classes[number % len(self.classes)]
            home.mkdir(parents=True, exist_ok=True)
            width, height = (int(side) for side in generator.integers(20, 60, 2))
            image = self.make(number, width, height)
            kind, ending = ("PNG", "png") if number % 7 == 3 else ("JPEG", "jpg")
            (home / f"{number:03}.{ending}").write_bytes(self.encoded(image, kind))
        return folder


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    """Makes pictures, encodes them, and fills folders with them."""
    return Pictures()


RunRanks = Callable[..., None]


@pytest.fixture(scope="session")
def run_ranks() -> RunRanks:
    """Runs a program as several processes, `program.py RANK FOLDER …`, until all have ended.

    It fails with what they have said where one fails, or time runs out.
    """

    def run(program: Path, folder: Path, *arguments: str, processes: int, seconds: float) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(program.parents[2]), *sys.path]),
        }
        python = [sys.executable, "-W", "error::DeprecationWarning"]
        started = []
        for rank in range(processes):
            with (folder / f"errors-{rank}").open("w") as errors:
                command = [*python, str(program), str(rank), str(folder), *arguments]
                started.append(
                    subprocess.Popen(command, env=environment, stderr=errors, cwd=folder)
                )
        try:
            end = time.monotonic() + seconds
            # Where one has failed, the others may wait for it.
            while any(process.poll() is None for process in started) and time.monotonic() < end:
                if any(process.returncode for process in started):
                    break
                time.sleep(0.1)
        finally:
            for process in started:
                process.kill()
                process.wait()
        said = "\n".join((folder / f"errors-{rank}").read_text() for rank in range(processes))
        assert not any(process.returncode for process in started), said

    return run

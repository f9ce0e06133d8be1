"""The loaders of the image table, and what does only a part of their job.

A loader prepares once and gives a function of the epoch's number that iterates over (images uint8
(B, 3, 224, 224), classes (B,)): a random piece of each photograph, resized, mirrored half the time,
in an order shuffled anew.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import flowers
from flowers import BATCH_SIZE, RATIO, SCALE, SIDE
from measure import Work

_rng = np.random.default_rng(0)

Epoch = Callable[[int], Iterable[tuple[Any, Any]]]


class ImageWork(Work):
    """One epoch of batches, each of which is taken and let go."""

    def __init__(self, loader: Callable[[], Epoch]) -> None:
        self._epoch = loader()
        self._number = 0

    def warm_up(self) -> None:
        """Check an epoch: every photograph once, of the right size and class, no two alike."""
        seen: list[int] = []
        means = set()
        for images, target in self._epoch(0):
            assert images.shape[1:] == (3, SIDE, SIDE), f"images have shape {images.shape}"
            assert str(images.dtype).endswith(("uint8", "float32")), f"images are {images.dtype}"
            seen += np.asarray(target).tolist()
            means.update(np.asarray(images, np.float64).mean(axis=(1, 2, 3)).tolist())
        assert sorted(seen) == sorted(flowers.classes()), "not every photograph came once"
        assert seen != sorted(seen), "not shuffled"
        assert len(means) > 0.95 * len(seen), "images repeat"

    def run(self) -> None:
        """Go through one epoch."""
        self._number += 1
        samples = sum(len(images) for images, _ in self._epoch(self._number))
        assert samples == len(flowers.files()), f"{samples:,} samples came out"


class ThreadWork(Work):
    """`of_file` for every file by so many threads: no batches, no order, nothing kept."""

    def __init__(self, make: Callable[[], Callable[[bytes], Any]], threads: int) -> None:
        self._of_file = make()
        self._threads = threads
        self._files = [str(path) for path in flowers.files()]

    def warm_up(self) -> None:
        """Run once."""
        self.run()

    def run(self) -> None:
        """Every file once."""
        waiting = iter(self._files)
        lock = threading.Lock()
        errors: list[BaseException] = []
        done: list[int] = []

        def work() -> None:
            try:
                while True:
                    # A few at a time, so that the lock costs nothing.
                    with lock:
                        some = list(islice(waiting, 8))
                    if not some:
                        return
                    for path in some:
                        self._of_file(Path(path).read_bytes())
                    done.append(len(some))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors[0]
        assert sum(done) == len(self._files), f"{sum(done):,} files were read"


def decode_alone() -> Callable[[bytes], Any]:
    import simplejpeg

    return partial(simplejpeg.decode_jpeg, colorspace="RGB")


def decode_with_pillow() -> Callable[[bytes], Any]:
    import io

    from PIL import Image

    return lambda content: Image.open(io.BytesIO(content)).convert("RGB").load()


def decode_and_resize() -> Callable[[bytes], Any]:
    """The same piece of every photograph as the loader takes, each into the same memory."""
    import rightbatch as rb
    from rightbatch.loading.row_random import RowRandom

    decoder = rb.decode_images(SIDE, crop="random", flip=True)
    count = len(flowers.files())
    draws = decoder.draws(RowRandom(seed=0, epoch=0, rows=np.arange(count)))
    places = iter(range(1 << 60))
    memory = threading.local()

    def of_file(content: bytes) -> None:
        if not hasattr(memory, "image"):
            memory.image = np.empty((SIDE, SIDE, 3), np.uint8)
        entry = np.frombuffer(content, np.uint8)
        # As in any epoch but the first, which finds out what is damaged.
        decoder.decode(entry, next(places) % count, draws, memory.image, is_whole=True)

    return of_file


def rightbatch(
    *, packed: bool = False, scaled: bool = False, size: int = BATCH_SIZE, **options: Any
) -> Epoch:
    import rightbatch as rb

    data = rb.open(flowers.folder())
    if packed:
        data = rb.pack(data, Path(tempfile.mkdtemp()) / "flowers")
    parts = rb.split(data).transform(rb.decode_images(SIDE, crop="random", flip=True))
    if scaled:
        parts = parts.transform(rb.scale(1 / 255))
    return rb.Batches(parts.train, size, **options).epoch


class _Photographs:
    """A map-style data set that decodes, crops and resizes with Pillow, as torchvision does."""

    def __init__(self, *, drafts: bool) -> None:
        self._files = [str(path) for path in flowers.files()]
        self._classes = flowers.classes()
        self._drafts = drafts

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        import torch
        from PIL import Image

        with Image.open(self._files[row]) as image:
            if self._drafts:
                image.draft("RGB", (SIDE, SIDE))
            pixels = image.convert("RGB")
        box = _random_box(*pixels.size)
        resized = pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
        if _rng.random() < 0.5:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1), self._classes[row]


def _random_box(width: int, height: int) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = width * height * _rng.uniform(*SCALE)
        ratio = math.exp(_rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(_rng.integers(0, width - wide, endpoint=True))
            top = int(_rng.integers(0, height - high, endpoint=True))
            return left, top, left + wide, top + high
    return 0, 0, width, height


def torch_with_pillow(workers: int, *, drafts: bool = False) -> Epoch:
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    rows: Any = _Photographs(drafts=drafts)
    loader: Any = DataLoader(
        rows,
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda _: loader

"""Photographs: random pieces at 224 x 224 of 736 JPEG files, in shuffled batches of 32."""

from __future__ import annotations

from functools import partial

import flowers
import image_loaders
from image_loaders import ImageWork, ThreadWork
from measure import Contender
from report import Benchmark, Goal, command

_OURS = "rightbatch, threads=1 and the consumer"
_REFERENCE = "torch DataLoader with Pillow, 2 workers"
_LIMIT = "2 threads decode the same files and do nothing else"
_PIECES = "2 threads decode, crop, resize and mirror, and do nothing else"
_TORCH = ("torch", "PIL")
_JPEG = ("simplejpeg",)


def _ours(name: str, **options: object) -> Contender:
    return Contender(
        name=name,
        work=partial(ImageWork, partial(image_loaders.rightbatch, threads=1, **options)),
        modules=_JPEG,
    )


BENCHMARK = Benchmark(
    title=f"{len(flowers.files())} JPEG files → random pieces, uint8 (32, 3, 224, 224), one epoch",
    samples=len(flowers.files()),
    reference=_REFERENCE,
    limit=_LIMIT,
    contenders=(
        _ours(_OURS),
        _ours(f"{_OURS}, from a pack", packed=True),
        _ours(f"{_OURS}, float32/255", scaled=True),
        Contender(
            name=_REFERENCE,
            work=partial(ImageWork, partial(image_loaders.torch_with_pillow, 2)),
            modules=_TORCH,
        ),
        Contender(
            name="torch DataLoader with Pillow's draft, 2 workers",
            work=partial(ImageWork, partial(image_loaders.torch_with_pillow, 2, drafts=True)),
            modules=_TORCH,
        ),
        Contender(
            name=_LIMIT,
            work=partial(ThreadWork, image_loaders.decode_alone, 2),
            modules=_JPEG,
            is_limit=True,
        ),
        Contender(
            name=_PIECES,
            work=partial(ThreadWork, image_loaders.decode_and_resize, 2),
            modules=_JPEG,
            is_limit=True,
        ),
        Contender(
            name="2 threads decode with Pillow and do nothing else",
            work=partial(ThreadWork, image_loaders.decode_with_pillow, 2),
            modules=("PIL",),
            is_limit=True,
        ),
    ),
    goals=(
        Goal(
            says="rightbatch against 2 threads that decode and do nothing else",
            ours=_OURS,
            theirs=(_LIMIT,),
            factor=0.9,
        ),
        Goal(
            says="rightbatch against 2 threads that make the same pieces and do nothing else",
            ours=_OURS,
            theirs=(_PIECES,),
            factor=0.9,
        ),
        Goal(
            says="rightbatch against the torch DataLoader with Pillow and 2 workers",
            ours=_OURS,
            theirs=(_REFERENCE,),
            factor=1.6,
        ),
    ),
    notes=("Data: photographs of flowers, 145 to 640 pixels wide, 45 MB.",),
)

if __name__ == "__main__":
    command(BENCHMARK, repeats=9)()

"""`decode_images`: encoded images become arrays of one size, cropped and flipped on the way."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.column import Column
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.loading.crops import Box, CropDraws, center_box
from rightbatch.loading.encoded_image import EncodedImage
from rightbatch.loading.row_random import RowRandom
from rightbatch.loading.transform import Transform, Values

Crop = Literal["center", "random", "none"]
Channels = Literal["first", "last"]

_MOST_SIDE = 1 << 14
_CHANNELS = 3
_SCRATCH_BYTES = 2 << 20


@dataclass(frozen=True)
class DecodeImages(Transform):
    """See `decode_images`. `size` is (height, width)."""

    size: tuple[int, int]
    crop: Crop = "center"
    flip: bool = False
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    channels: Channels = "first"
    column: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether it draws for each sample anew in every epoch."""
        return self.crop == "random" or self.flip

    @property
    def memory_shape(self) -> tuple[int, int, int]:
        """How a sample lies in memory, whichever way its axes are handed out."""
        return (*self.size, _CHANNELS)

    @override
    def held_out(self) -> DecodeImages:
        """The piece in the centre, never flipped."""
        return replace(self, crop="center" if self.crop == "random" else self.crop, flip=False)

    @staticmethod
    def takes(column: Column) -> bool:
        """Whether a column can hold encoded images."""
        is_bytes = column.dtype == np.uint8 and column.shape == ()
        return column.is_ragged and is_bytes and not column.is_text

    @override
    def describe(self, column: Column) -> Column:
        if not self.takes(column):
            raise DataError(
                f"decode_images() takes a column of encoded images, bytes that vary in length "
                f"(uint8[…]); {column.name!r} is {'text' if column.is_text else column.kind}. Name "
                "the column of images (column=…); without images leave it out (--image-size)"
            )
        shape = self.memory_shape
        if self.channels == "first":
            shape = (shape[2], *shape[:2])
        return Column(name=column.name, dtype=np.dtype(np.uint8), shape=shape)

    def arranged(self, memory: Values) -> Values:
        """A batch that lies as (B, height, width, 3) with its axes as `channels` says; a view."""
        return memory.transpose(0, 3, 1, 2) if self.channels == "first" else memory

    @override
    def apply(self, values: Values) -> Values:
        """The images of a `Ragged`; of a random one those of seed and epoch 0, rows from 0 on."""
        entries: Any = values
        out = np.empty((len(entries), *self.memory_shape), np.uint8)
        draws = self.draws(RowRandom(seed=0, epoch=0, rows=np.arange(len(entries))))
        for place, entry in enumerate(entries):
            self.decode(entry, place, draws, out[place])
        return self.arranged(out)

    def draws(self, rng: RowRandom) -> CropDraws | None:
        """What is drawn for the samples of a batch; None where nothing is."""
        return CropDraws(rng) if self.is_random else None

    def decode(
        self,
        entry: NDArray[np.uint8],
        place: int,
        draws: CropDraws | None,
        out: NDArray[np.uint8],
        *,
        is_whole: bool = False,
    ) -> None:
        """Decode one image into `out`, (height, width, 3), uint8, RGB.

        `place` is that of the sample among the draws. Raises DataError, saying what is wrong, where
        it is no image or not whole; `out` holds anything then. `is_whole` says that it is known to
        be, since it was decoded before: what is not needed of it is not looked at again.
        """
        image = EncodedImage(entry)
        box = self._box(image, place, draws)
        is_flipped = self.flip and draws is not None and draws.is_flipped(place)
        piece = image.piece(
            box, *self.size, is_mirrored=is_flipped, is_whole=is_whole, memory=_scratch.memory
        )
        _resize(piece, out)

    def _box(self, image: EncodedImage, place: int, draws: CropDraws | None) -> Box:
        if self.crop == "none":
            return Box(0, 0, image.height, image.width)
        if self.crop == "random" and draws is not None:
            return draws.box(place, image.height, image.width, self.scale, self.ratio)
        return center_box(image.height, image.width, self.size[1] / self.size[0])

    @override
    def to_json(self) -> dict[str, Any]:
        described = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {"kind": "decode_images", **described}

    @classmethod
    def from_json(cls, described: dict[str, Any]) -> DecodeImages:
        """What `to_json` described; OptionError where a value is not valid."""
        options = {name: value for name, value in described.items() if name != "kind"}
        return decode_images(options.pop("size"), **options)


def decode_images(
    size: int | Sequence[int],
    *,
    crop: Crop = "center",
    flip: bool = False,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    channels: Channels = "first",
    column: str | None = None,
) -> DecodeImages:
    """Decode encoded images (JPEG, PNG, WebP, …) to RGB and resize them to one size.

    `size` is one number for a square, or (height, width). uint8 (B, 3, height, width) comes out,
    as a view of memory whose channels come last (torch's `channels_last`); `channels="last"` gives
    (B, height, width, 3). It takes any column of bytes that vary in length: a folder of images, a
    pack of it, a `Ragged` in a dict. `column` names it where the inputs have several; without it
    all of them are decoded, and cropped alike.

    `crop="center"` takes the largest piece of the output's shape from the middle, `"none"` squeezes
    the whole image. `crop="random"` takes a piece whose area is a share of the image's, uniform in
    `scale`, and whose width by its height is uniform in the logarithm of `ratio`, and `flip=True`
    mirrors every other sample on average. Both are drawn for each sample from (seed, epoch, row),
    whatever threads or batches there are, and for the train part alone: other parts get the centre,
    and no flip. Resizing is bilinear with antialiasing, as torch's `interpolate(antialias=True)`.

    Images are turned as their EXIF orientation says. Grey, palette, CMYK and 16-bit images become
    RGB of 8 bits; transparency is dropped; of an animation it is the first image. A JPEG is decoded
    at a half, a quarter or an eighth where the piece stays as large as what comes out.

    Raises OptionError where an option is not valid. While batches are made, DataError with file and
    row where an image is damaged, cut off, of another kind or of more than 178,956,970 pixels;
    `rb.Batches(…, on_bad_sample="quarantine")` leaves it out.

    >>> import io
    >>> from PIL import Image
    >>> from rightbatch.data.ragged import Ragged
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (40, 20), "red").save(file, "PNG")
    >>> decode_images(8).apply(Ragged.from_list([file.getvalue()]))[0, :, 0, 0].tolist()
    [255, 0, 0]
    """
    sides = _sides(size)
    for name, value, valid in (
        ("crop", crop, get_args(Crop)),
        ("channels", channels, get_args(Channels)),
    ):
        if value not in valid:
            raise OptionError(
                f"decode_images({name}={value!r}) is not valid; valid are {', '.join(valid)}."
                f"{did_you_mean(str(value), valid)}"
            )
    areas, shapes = _range("scale", scale), _range("ratio", ratio)
    if areas[1] > 1:
        raise OptionError(
            f"decode_images(scale={scale!r}): the area is a share of the image's, at most 1"
        )
    if (areas, shapes) != ((0.08, 1.0), (3 / 4, 4 / 3)) and crop != "random":
        raise OptionError(
            f"decode_images(crop={crop!r}): scale and ratio are for crop='random'; leave them out"
        )
    return DecodeImages(
        size=sides,
        crop=crop,
        flip=bool(flip),
        scale=areas,
        ratio=shapes,
        channels=channels,
        column=column,
    )


def _sides(size: Any) -> tuple[int, int]:
    is_pair = isinstance(size, Sequence) and not isinstance(size, str)
    sides = tuple(size) if is_pair else (size, size)
    for side in sides:
        if len(sides) != 2 or type(side) is not int or not 1 <= side <= _MOST_SIDE:
            raise OptionError(
                f"decode_images(size={size!r}): give a number of pixels from 1 to {_MOST_SIDE:,}, "
                "or (height, width)"
            )
    return sides


def _range(name: str, value: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0 < low <= high < math.inf:
        raise OptionError(
            f"decode_images({name}={value!r}): give two numbers above 0, the smaller one first"
        )
    return low, high


class _Scratch(threading.local):
    """Memory of a thread, for an image before it is resized.

    The same memory for each image stays in the processor's cache: 2 % of the time. What is larger
    gets memory of its own, so that a thread keeps little.
    """

    def __init__(self) -> None:
        self.memory = np.empty(_SCRATCH_BYTES, np.uint8)


_scratch = _Scratch()


def _resize(piece: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize a piece into `out`, both (height, width, 3)."""
    if piece.shape == out.shape:
        out[...] = piece
        return
    from_numpy, resize = _torch_functions()
    size = list(out.shape[:2])
    resize(from_numpy(_as_images(piece)), size, False, None, None, out=from_numpy(_as_images(out)))


@cache
def _torch_functions() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What makes a tensor of an array, and what resizes it."""
    import torch

    # torch's public `interpolate` is this function without `out`: writing straight into the batch
    # takes 80 us for 224 x 224, making a new image and copying it 280. OpenCV takes 75 without
    # antialiasing and 145 with it, Pillow 430.
    return torch.from_numpy, torch.ops.aten._upsample_bilinear2d_aa.out


def _as_images(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(1, 3, height, width) on the memory of (height, width, 3)."""
    # By NumPy, which takes a tenth of the time that torch does.
    return image.transpose(2, 0, 1)[None]

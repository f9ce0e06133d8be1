"""One image as a file holds it: its size, how it is to be turned, and its pixels as RGB."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError
from rightbatch.loading.crops import Box
from rightbatch.loading.jpeg import JPEG, ORIENTATION, Jpeg, turned, valid_orientation

# As Pillow: what is larger than this is taken for an attack on the memory.
MOST_PIXELS = 178_956_970
# All that Pillow opens but for those that run other programs or have no use here.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
# Reduced scales for which the decoder has fast code.
_DIVISORS = (8, 4, 2)
# The orientation of an image that is mirrored after it has been turned.
_MIRRORED = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 8, 8: 7}


class EncodedImage:
    """An image whose header has been read; `height` and `width` are those of the upright image.

    Raises DataError, saying what is wrong, where it is no image of a known kind, damaged, or so
    large that decoding it would fill the memory.
    """

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content = content
        self._opened: Any = None
        self._jpeg: Jpeg | None = None
        self.orientation = 1
        start = content[:3].tobytes()
        if start == JPEG:
            height, width = self._read_jpeg_header()
        else:
            height, width = self._open_with_pillow(start)
        if height * width > MOST_PIXELS:
            raise DataError(
                f"the image has {height:,} x {width:,} pixels, more than {MOST_PIXELS:,}: it would "
                "fill the memory. Make it smaller"
            )
        is_turned = self.orientation >= 5
        self.height, self.width = (width, height) if is_turned else (height, width)

    @property
    def is_jpeg(self) -> bool:
        """Whether it is a JPEG that is decoded at a reduced scale and in pieces."""
        return self._jpeg is not None

    def piece(
        self,
        box: Box,
        height: int,
        width: int,
        *,
        is_mirrored: bool = False,
        is_whole: bool = False,
        memory: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """A box of the upright image, (height, width, 3) uint8 RGB, which is to be resized.

        A JPEG is decoded at a half, a quarter or an eighth where that leaves the piece as large as
        the `height` and `width` that it will have in the end: fewer coefficients are read, which
        takes less time. It may be in `memory`, where it is there and fits. `is_mirrored`: left to
        right, when it has been cut out. `is_whole`: it is known not to be damaged.
        """
        orientation = _MIRRORED[self.orientation] if is_mirrored else self.orientation
        if self._jpeg is None:
            top, left, high, wide = _stored(box, self.height, self.width, self.orientation)
            return turned(_to_rgb(self._opened)[top : top + high, left : left + wide], orientation)
        least_height = min(self.height, height * self.height / box.height)
        least_width = min(self.width, width * self.width / box.width)
        divisor = 1
        for one in _DIVISORS if self._jpeg.has_scales else ():
            if self.height >= least_height * one and self.width >= least_width * one:
                divisor = one
                break
        high, wide = -(-self.height // divisor), -(-self.width // divisor)
        scaled = _scaled(box, high / self.height, wide / self.width, high, wide)
        stored = _stored(scaled, high, wide, self.orientation)
        return self._jpeg.decode(divisor, stored, orientation, memory, is_whole=is_whole)

    def _read_jpeg_header(self) -> tuple[int, int]:
        jpeg = Jpeg(self._content)
        if jpeg.is_ink:
            # The colours of ink, which Adobe writes inverted: Pillow knows.
            self._open_with_pillow(JPEG)
        else:
            self._jpeg = jpeg
        self.orientation = jpeg.orientation
        return jpeg.height, jpeg.width

    def _open_with_pillow(self, start: bytes) -> tuple[int, int]:
        from PIL import Image, UnidentifiedImageError

        try:
            self._opened = Image.open(io.BytesIO(self._content.tobytes()), formats=_FORMATS)
        except UnidentifiedImageError as error:
            what = f"it begins with {start!r}" if start else "it is empty"
            raise DataError(
                f"this is no image of a known kind ({', '.join(_FORMATS)}): {what}"
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(f"the image would fill the memory: {error}. Make it smaller") from error
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(f"the image can not be read: {error}") from error
        width, height = self._opened.size
        if height * width <= MOST_PIXELS:
            self._load()
            width, height = self._opened.size  # of a TIFF, Pillow turns it when it loads
        return height, width

    def _load(self) -> None:
        image = self._opened
        try:
            if image.format == "PNG":
                _check_png(self._content.tobytes())
            image.load()
            self.orientation = valid_orientation(image.getexif().get(ORIENTATION))
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(f"the {image.format} is damaged or cut off: {error}") from error


def _check_png(content: bytes) -> None:
    """Raise ValueError where a chunk does not fit its checksum: Pillow skips those of pixels."""
    place = 8
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        end = place + 8 + length
        if end + 4 > len(content):
            raise ValueError("it ends before its last chunk")
        if zlib.crc32(content[place + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError(f"the checksum of the chunk {kind.decode('latin-1')!r} is wrong")
        place = end + 4


def _to_rgb(image: Any) -> NDArray[np.uint8]:
    """The pixels of an image that Pillow has read; DataError for a kind without a known range."""
    mode = image.mode
    if mode in ("I", "F"):
        raise DataError(
            f"the {image.format} holds {'whole numbers of 32 bits' if mode == 'I' else 'floats'} a "
            "pixel, whose range is not known; write it as 8 or 16 bits"
        )
    if mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode in ("P", "PA") or "transparency" in image.info:
        # The palette's own colours, where some are transparent as well.
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _scaled(box: Box, down: float, across: float, height: int, width: int) -> Box:
    """Where a box is at a reduced scale, at which the image has `height` and `width`."""
    if down == 1 and across == 1:
        return box
    top, left = round(box.top * down), round(box.left * across)
    high = max(1, min(height - top, round(box.height * down)))
    wide = max(1, min(width - left, round(box.width * across)))
    return Box(top, left, high, wide)


def _stored(box: Box, height: int, width: int, orientation: int) -> Box:
    """Where a box of the upright image, of `height` and `width`, is before it is turned."""
    top, left, high, wide = box
    if orientation in (3, 4, 7, 8):
        top = height - top - high
    if orientation in (2, 3, 6, 7):
        left = width - left - wide
    return Box(left, top, wide, high) if orientation >= 5 else Box(top, left, high, wide)

"""One image as a file holds it: its size, how it is to be turned, and its pixels as RGB."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError

# As Pillow: what is larger than this is taken for an attack on the memory.
MOST_PIXELS = 178_956_970
# All that Pillow opens but for those that run other programs or have no use here.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112
_APP1 = 0xE1
_PIXELS_BEGIN = 0xDA
# Most of what stands before the pixels is in as many bytes; where it is not, more are looked at.
_HEAD_BYTES = 1 << 11
_MOST_SEGMENT_BYTES = 1 << 16
# Reduced scales for which the decoder has fast code.
_DIVISORS = (8, 4, 2)
_HARMLESS = "extraneous bytes before marker 0xd9"


class EncodedImage:
    """An image whose header has been read; `height` and `width` are those of the upright image.

    Raises DataError, saying what is wrong, where it is no image of a known kind, damaged, or so
    large that decoding it would fill the memory.
    """

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content = content
        self._opened: Any = None
        self.orientation = 1
        start = content[:3].tobytes()
        if start == _JPEG:
            height, width = self._read_jpeg_header()
        else:
            height, width = self._open_with_pillow(start)
        if height * width > MOST_PIXELS:
            raise DataError(
                f"the image has {height:,} x {width:,} pixels, more than {MOST_PIXELS:,}: it would "
                "fill the memory. Make it smaller"
            )
        self._is_turned = self.orientation >= 5
        self.height, self.width = (width, height) if self._is_turned else (height, width)

    def pixels(
        self, least_height: float, least_width: float, memory: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """The upright image, (height, width, 3) uint8 RGB, in `memory` where it is there and fits.

        A JPEG is decoded at a half, a quarter or an eighth where that leaves `least_height` and
        `least_width` pixels: fewer coefficients are read, which takes less time.
        """
        if self._opened is not None:
            pixels = _to_rgb(self._opened)
        else:
            if self._is_turned:
                least_height, least_width = least_width, least_height
            pixels = self._decode_jpeg(least_height, least_width, memory)
        return _upright(pixels, self.orientation)

    def _read_jpeg_header(self) -> tuple[int, int]:
        import simplejpeg

        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(self._content)
        except ValueError as error:
            raise DataError(f"the JPEG is damaged or cut off: {error}") from error
        self.orientation = _jpeg_orientation(self._content)
        if colours in ("CMYK", "YCCK"):
            # The colours of ink, which Adobe writes inverted: Pillow knows.
            orientation = self.orientation
            self._open_with_pillow(_JPEG)
            self.orientation = orientation
        return int(height), int(width)

    def _decode_jpeg(
        self, least_height: float, least_width: float, memory: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8]:
        import simplejpeg

        height, width = (self.width, self.height) if self._is_turned else (self.height, self.width)
        options: dict[str, Any] = {}
        for divisor in _DIVISORS:
            if height >= least_height * divisor and width >= least_width * divisor:
                height, width = -(-height // divisor), -(-width // divisor)
                options = {"min_height": height, "min_width": width}
                break
        if memory is not None and height * width * 3 <= memory.size:
            options["buffer"] = memory
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(self._content, "RGB", **options)
        except ValueError as error:
            if _HARMLESS not in str(error):
                raise DataError(f"the JPEG is damaged or cut off: {error}") from error
            # Bytes after the last pixel, which some cameras write: the image is whole.
            pixels = simplejpeg.decode_jpeg(self._content, "RGB", strict=False, **options)
        return pixels

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
            self.orientation = _valid_orientation(image.getexif().get(_ORIENTATION))
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


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The image turned as EXIF's orientation (1 to 8) says."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _jpeg_orientation(content: NDArray[np.uint8]) -> int:
    """What the EXIF segment of a JPEG says of its orientation; 1 where there is none."""
    # From segment to segment: looking for the word in all of the head takes ten times as long.
    head = content[:_HEAD_BYTES].tobytes()
    place = 2
    while True:
        if place + 10 > len(head) and len(head) < len(content):
            head = content[: place + _MOST_SEGMENT_BYTES].tobytes()
        if place + 10 > len(head) or head[place] != 0xFF or head[place + 1] == _PIXELS_BEGIN:
            return 1
        length = int.from_bytes(head[place + 2 : place + 4], "big")
        if head[place + 1] == _APP1 and head.startswith(_EXIF, place + 4):
            return _exif_orientation(content[place + 4 : place + 2 + length].tobytes())
        place += 2 + max(2, length)


def _exif_orientation(segment: bytes) -> int:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(segment)
        return _valid_orientation(exif.get(_ORIENTATION))
    except Exception:
        return 1  # what can not be read says nothing, and the pixels are whole


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

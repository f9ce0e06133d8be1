"""A JPEG as it lies in its file: its header, and its pixels or a piece of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError
from rightbatch.loading.crops import Box

JPEG = b"\xff\xd8\xff"
ORIENTATION = 0x0112
_EXIF = b"Exif\x00\x00"
_MARKER = 0xFF
_APP1 = 0xE1
# Baseline, extended and progressive, with Huffman or arithmetic coding: images made of frequencies.
_LOSSY = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_PIXELS_BEGIN = 0xDA
_BLOCK = 8
# Most of what stands before the pixels is in as many bytes; where it is not, more are looked at.
_HEAD_BYTES = 1 << 11
_MOST_SEGMENT_BYTES = 1 << 16
_HARMLESS = "extraneous bytes before marker 0xd9"


def _built() -> ModuleType | None:
    try:
        from rightbatch.loading import _jpeg_pieces
    except ImportError:  # there was no compiler, or no libjpeg-turbo, where it was installed
        return None
    return _jpeg_pieces


_pieces = _built()


def decodes_pieces() -> bool:
    """Whether a piece is decoded without what lies around it: rightbatch was built to do so."""
    return _pieces is not None


class Jpeg:
    """A JPEG whose header has been read; `height` and `width` are those before it is turned.

    `is_ink` says that its colours are those of ink (CMYK), which `decode` knows nothing of, and
    `has_scales` that it can be decoded at a reduced scale. Raises DataError, saying what is wrong,
    where the header is damaged.
    """

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content = content
        found = None if _pieces is None else _pieces.header(content)
        self._is_usual = found is not None
        if found is None:
            self._read_header()
            return
        self.height, self.width, exif = found
        self.is_ink, self.has_scales = False, True
        self.orientation = _orientation(exif) if exif else 1

    def _read_header(self) -> None:
        import simplejpeg

        try:
            self.height, self.width, colours, _ = simplejpeg.decode_jpeg_header(self._content)
        except ValueError as error:
            raise _damaged(error) from error
        self.is_ink = colours in ("CMYK", "YCCK")
        self.has_scales, self.orientation = False, 1
        has_exif = False
        for marker, start, end in _segments(self._content):
            # simplejpeg writes past the end of its memory when it scales a lossless image.
            self.has_scales |= marker in _LOSSY
            if marker == _APP1 and not has_exif:
                segment = self._content[start:end].tobytes()
                has_exif = segment.startswith(_EXIF)
                self.orientation = _orientation(segment) if has_exif else 1

    def decode(
        self,
        divisor: int,
        box: Box,
        orientation: int = 1,
        memory: NDArray[np.uint8] | None = None,
        *,
        is_whole: bool = False,
    ) -> NDArray[np.uint8]:
        """A box of the image at one `divisor`-th of its size, (height, width, 3) uint8 RGB.

        The box is that of the image as it is stored; it is turned as `orientation` (EXIF's, 1 to 8)
        says when it has been cut out. It is in `memory` where it is there and fits. Raises
        DataError where the JPEG is damaged or cut off, in the box or elsewhere; `is_whole` says
        that it is known not to be, and what lies below the box need not be looked at.
        """
        if _pieces is not None and self._is_for_pieces(divisor, box):
            piece = _room(memory, box.height, box.width)
            # Mirrored row by row, while it is in the processor's cache.
            is_mirrored = orientation == 2
            if _pieces.decode(self._content, divisor, box, is_mirrored, not is_whole, piece):
                return piece if is_mirrored else turned(piece, orientation)
        pixels = self._whole(divisor, memory)
        piece = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        return turned(piece, orientation)

    def _is_for_pieces(self, divisor: int, box: Box) -> bool:
        # Of a few pixels several scales make the same size, and simplejpeg takes any.
        is_tiny = max(self.height, self.width) <= _BLOCK
        return self._is_usual and not is_tiny and box != (0, 0, *self._size(divisor))

    def _size(self, divisor: int) -> tuple[int, int]:
        return -(-self.height // divisor), -(-self.width // divisor)

    def _whole(self, divisor: int, memory: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        import simplejpeg

        height, width = self._size(divisor)
        options: dict[str, Any] = {"buffer": _room(memory, height, width)}
        if divisor > 1:
            options |= {"min_height": height, "min_width": width}
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(self._content, "RGB", **options)
        except ValueError as error:
            if _HARMLESS not in str(error):
                raise _damaged(error) from error
            # Bytes after the last pixel, which some cameras write: the image is whole.
            pixels = simplejpeg.decode_jpeg(self._content, "RGB", strict=False, **options)
        return pixels


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """An image (height, width, 3) upright, if EXIF says `orientation` (1 to 8) of it."""
    if orientation == 1:
        return pixels
    # As pixels, not as bytes: a fifth of the time.
    image = pixels.view("V3")[..., 0]
    if orientation >= 5:
        image = image.T
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image).view(np.uint8).reshape(*image.shape, 3)


def _room(memory: NDArray[np.uint8] | None, height: int, width: int) -> NDArray[np.uint8]:
    size = height * width * 3
    if memory is None or memory.size < size:
        return np.empty((height, width, 3), np.uint8)
    return memory[:size].reshape(height, width, 3)


def _damaged(error: ValueError) -> DataError:
    return DataError(f"the JPEG is damaged or cut off: {error}")


def _segments(content: NDArray[np.uint8]) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of what each segment holds, up to the pixels; of a whole header."""
    # From segment to segment: looking for words in all of the head takes ten times as long.
    head = content[:_HEAD_BYTES].tobytes()
    place = 2
    while True:
        if place + 4 > len(head) and len(head) < len(content):
            head = content[: place + _MOST_SEGMENT_BYTES].tobytes()
        if place + 4 > len(head) or head[place] != _MARKER or head[place + 1] == _PIXELS_BEGIN:
            return
        marker = head[place + 1]
        if marker == _MARKER:
            place += 1  # any number of them may stand before a marker
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            length = int.from_bytes(head[place + 2 : place + 4], "big")
            end = place + 2 + max(2, length)
            yield marker, place + 4, end
            place = end


def _orientation(segment: bytes) -> int:
    """What an EXIF segment says of the image's orientation; 1 where it says nothing."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(segment)
        return valid_orientation(exif.get(ORIENTATION))
    except Exception:
        return 1  # what can not be read says nothing, and the pixels are whole


def valid_orientation(value: object) -> int:
    """An orientation that EXIF knows (1 to 8); 1, upright, of anything else."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

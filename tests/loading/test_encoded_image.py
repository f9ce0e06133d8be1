"""Single images: every kind comes out as upright RGB, or is refused by what is wrong with it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from rightbatch.errors import DataError
from rightbatch.loading.crops import Box
from rightbatch.loading.encoded_image import EncodedImage

WIDTH, HEIGHT = 40, 30


def decoded(content: bytes, least: int = 10**9) -> np.ndarray:
    image = EncodedImage(np.frombuffer(content, np.uint8))
    return image.piece(Box(0, 0, image.height, image.width), least, least)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_kinds_of_files_come_out_as_pillow_reads_them(pictures, kind, mode):
    image = pictures.make(3).convert(mode)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = pictures.encoded(image, kind, **lossless)
    expected = np.asarray(image.convert("RGB"))
    found = decoded(content)
    assert (found.dtype, found.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    near = {"JPEG": 4, "GIF": 24 if mode == "RGB" else 0}.get(kind, 0)
    assert np.abs(found.astype(int) - expected).max() <= near


def test_a_progressive_jpeg_and_pillows_own_decoder_agree(pictures):
    content = pictures.encoded(pictures.make(5, 300, 200), progressive=True)
    import io

    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(decoded(content) - expected).max() <= 2


def test_cmyk_comes_out_in_the_colours_of_pillow(pictures):
    image = pictures.make(1).convert("CMYK")
    found = decoded(pictures.encoded(image)).astype(int)
    assert np.abs(found - np.asarray(image.convert("RGB"))).max() <= 5


def test_palettes_and_transparency_become_their_own_colours(pictures):
    red = Image.new("RGBA", (WIDTH, HEIGHT), (250, 10, 20, 0))
    assert decoded(pictures.encoded(red, "PNG"))[0, 0].tolist() == [250, 10, 20]
    palette = pictures.make(2).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decoded(pictures.encoded(palette, "PNG")), expected)
    content = pictures.encoded(palette, "PNG", transparency=bytes(range(16)))
    np.testing.assert_array_equal(decoded(content), expected)
    bilevel = Image.fromarray((np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % 2) == 0)
    np.testing.assert_array_equal(
        decoded(pictures.encoded(bilevel, "PNG")), np.asarray(bilevel.convert("RGB"))
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_become_8_without_being_cut(pictures, kind):
    values = np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    found = decoded(pictures.encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(found, np.repeat((values >> 8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(("dtype", "what"), [(np.int32, "32 bits"), (np.float32, "floats")])
def test_numbers_without_a_known_range_are_refused(pictures, dtype, what):
    content = pictures.encoded(Image.fromarray(np.ones((4, 5), dtype)), "TIFF")
    with pytest.raises(DataError, match=rf"the TIFF holds .*{what}.*write it as 8 or 16 bits"):
        decoded(content)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_are_turned_as_exif_says(pictures, orientation, kind):
    image = pictures.make(4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = pictures.encoded(image, kind, exif=exif.tobytes())
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    found = EncodedImage(np.frombuffer(content, np.uint8))
    assert (found.height, found.width) == expected.shape[:2]
    assert np.abs(decoded(content) - expected).max() <= 4


def test_exif_is_found_behind_other_segments_and_one_that_is_damaged_says_nothing(pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = pictures.encoded(pictures.make(4), exif=exif.tobytes())
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + b"c" * 60_000
    assert EncodedImage(np.frombuffer(content[:2] + comment + content[2:], np.uint8)).height == 40
    damaged = content.replace(b"Exif\x00\x00MM", b"Exif\x00\x00??")
    assert damaged != content
    assert EncodedImage(np.frombuffer(damaged, np.uint8)).height == 30


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("least", "divisor"), [(51, 1), (50, 2), (25, 4), (12, 8), (1, 8)])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_large_enough(
    pictures, least, divisor, orientation
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = pictures.make(6, 200, 100)
    found = decoded(pictures.encoded(image, exif=exif.tobytes()), least)
    down, across = -(-100 // divisor), 200 // divisor
    assert found.shape == ((down, across, 3) if orientation == 1 else (across, down, 3))
    small = np.asarray(image.resize((across, down), Image.Resampling.BOX)).astype(int)
    upright = small if orientation == 1 else np.rot90(small, -1)
    assert np.abs(found - upright).mean() < 2


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_what_is_cut_off_is_refused_and_never_half_grey(pictures, kind, share):
    content = pictures.encoded(pictures.make(7, 120, 90), kind)
    with pytest.raises(DataError, match=r"cut off|empty|known kind|can not be read"):
        decoded(content[: int(share * len(content))])


def test_a_jpeg_whose_last_marker_is_missing_is_cut_off(pictures):
    content = pictures.encoded(pictures.make(7))
    with pytest.raises(DataError, match="the JPEG is damaged or cut off: Premature end"):
        decoded(content[:-2])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damage_in_the_middle_is_found(pictures, kind):
    content = bytearray(pictures.encoded(pictures.make(8, 200, 150), kind))
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xaa" * 40
    with pytest.raises(DataError, match=f"the {kind} is damaged or cut off"):
        decoded(bytes(content))


def test_bytes_after_the_last_pixel_are_harmless(pictures):
    content = pictures.encoded(pictures.make(9))
    whole = decoded(content)
    np.testing.assert_array_equal(decoded(content[:-2] + b"\x11\x22" + content[-2:]), whole)
    np.testing.assert_array_equal(decoded(content + b"junk" * 100), whole)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",  # Pillow would run ghostscript
        b"<svg/>",
    ],
)
def test_what_is_no_image_is_refused(content):
    with pytest.raises(DataError, match=r"no image of a known kind.*it (begins with|is empty)"):
        decoded(content)


def test_decompression_bombs_are_refused_before_they_are_decoded(pictures):
    content = bytearray(pictures.encoded(pictures.make(1)))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(DataError, match=r"65,000 x 65,000 pixels.*fill the memory"):
        decoded(bytes(content))
    png = bytearray(pictures.encoded(pictures.make(1), "PNG"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    with pytest.raises(DataError, match="fill the memory"):
        decoded(bytes(png))


def test_of_an_animation_it_is_the_first_image(pictures):
    frames = [pictures.make(number).quantize(64) for number in range(3)]
    content = pictures.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    first = np.asarray(frames[0].convert("RGB")).astype(int)
    assert np.abs(decoded(content) - first).mean() < 1

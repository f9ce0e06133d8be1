"""JPEGs: a piece that is decoded alone has the pixels that it has in the whole image."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import rightbatch as rb
from rightbatch.errors import DataError
from rightbatch.loading import jpeg
from rightbatch.loading.crops import Box
from rightbatch.loading.image_sizes import image_notes
from rightbatch.loading.jpeg import Jpeg, decodes_pieces

needs_pieces = pytest.mark.skipif(
    not decodes_pieces(),
    reason="rightbatch was installed without a C compiler or the headers of libjpeg-turbo",
)


def array_of(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def header_of(content: bytes) -> tuple[int, int, bool, int]:
    image = Jpeg(array_of(content))
    return image.height, image.width, image.is_ink, image.orientation


def noise(height: int, width: int, seed: int) -> np.ndarray:
    """Noise over a slope: neighbouring blocks differ in every frequency and in colour."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    return (slope + rng.integers(0, 56, (height, width, 3))).astype(np.uint8)


@st.composite
def jpegs(draw) -> bytes:
    """JPEGs of all samplings: progressive, grey, with restarts, some turned by EXIF."""
    size = st.one_of(st.integers(1, 70), st.sampled_from([8, 16, 17, 48, 64]))
    pixels = noise(draw(size), draw(size), draw(st.integers(0, 5)))
    quality = draw(st.sampled_from([20, 80, 98]))
    sampling = draw(st.sampled_from(["444", "422", "420", "440", "411", "Gray", "pillow"]))
    if sampling != "pillow":
        return simplejpeg.encode_jpeg(pixels, quality, colorsubsampling=sampling)
    image = Image.fromarray(pixels)
    options = {
        "quality": quality,
        "subsampling": draw(st.integers(0, 2)),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
        "restart_marker_blocks": draw(st.integers(0, 5)),
    }
    if draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        options["exif"] = exif.tobytes()
    file = io.BytesIO()
    (image.convert("L") if draw(st.booleans()) else image).save(file, "JPEG", **options)
    return file.getvalue()


@contextmanager
def as_if_not_built():
    with mock.patch.object(jpeg, "_pieces", None):
        yield


def boxes(draw, image: Jpeg, divisor: int) -> Box:
    height, width = -(-image.height // divisor), -(-image.width // divisor)
    high, wide = draw(st.integers(1, height)), draw(st.integers(1, width))
    top, left = draw(st.integers(0, height - high)), draw(st.integers(0, width - wide))
    return Box(top, left, high, wide)


@needs_pieces
@settings(max_examples=300)
@given(content=jpegs(), drawn=st.data())
def test_a_piece_has_the_pixels_of_the_whole(content, drawn):
    divisor = drawn.draw(st.sampled_from([1, 2, 4, 8]))
    image = Jpeg(array_of(content))
    box = boxes(drawn.draw, image, divisor)
    memory = drawn.draw(st.sampled_from([None, np.empty(5, np.uint8), np.empty(30_000, np.uint8)]))
    orientation = drawn.draw(st.integers(1, 8))
    found = image.decode(divisor, box, orientation, memory)
    with as_if_not_built():
        expected = image.decode(divisor, box, orientation)
    shape = (box.height, box.width) if orientation < 5 else (box.width, box.height)
    assert found.shape == (*shape, 3)
    np.testing.assert_array_equal(found, expected)


@needs_pieces
def test_usual_jpegs_are_decoded_in_pieces_and_unusual_ones_whole():
    pixels, box = noise(64, 64, 0), Box(20, 20, 10, 10)
    out = np.empty((10, 10, 3), np.uint8)
    for sampling in ("444", "422", "420", "440", "Gray"):
        content = simplejpeg.encode_jpeg(pixels, colorsubsampling=sampling)
        assert jpeg._pieces.decode(content, 1, box, False, out), sampling
    unusual = simplejpeg.encode_jpeg(pixels, colorsubsampling="411")
    assert not jpeg._pieces.decode(unusual, 1, box, False, out)
    progressive = io.BytesIO()
    Image.fromarray(pixels).save(progressive, "JPEG", progressive=True)
    content = progressive.getvalue()
    assert jpeg._pieces.decode(content, 1, box, False, out)
    # Without its last scan it is a whole image of less detail, which is smoothed.
    less = content[: content.rindex(b"\xff\xda")] + b"\xff\xd9"
    assert not jpeg._pieces.decode(less, 1, box, False, out)
    np.testing.assert_array_equal(
        Jpeg(array_of(less)).decode(1, box), simplejpeg.decode_jpeg(less)[20:30, 20:30]
    )


@needs_pieces
@settings(max_examples=300)
@given(content=jpegs(), drawn=st.data())
def test_of_a_damaged_jpeg_a_piece_comes_out_as_it_is_or_is_refused(content, drawn):
    damaged = bytearray(content)
    for _ in range(drawn.draw(st.integers(1, 4))):
        place = drawn.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = drawn.draw(st.integers(0, 255))
    damaged = damaged[: drawn.draw(st.sampled_from([None, None, -2, len(damaged) // 2]))]
    try:
        image = Jpeg(array_of(bytes(damaged)))
        if image.is_ink or image.height * image.width > 10**6:
            return
        box = boxes(drawn.draw, image, 1)
        found = image.decode(1, box)
    except DataError:
        return
    # What is below the piece may be damaged.
    whole = simplejpeg.decode_jpeg(bytes(damaged), "RGB", strict=False)
    expected = whole[box.top : box.top + box.height, box.left : box.left + box.width]
    np.testing.assert_array_equal(found, expected)


@needs_pieces
@given(content=jpegs(), comment=st.integers(0, 3000), drawn=st.data())
def test_both_readers_of_a_header_find_the_same(content, comment, drawn):
    segment = b"\xff\xfe" + struct.pack(">H", comment + 2) + b"c" * comment
    content = content[:2] + segment * drawn.draw(st.integers(0, 2)) + content[2:]
    found = header_of(content)
    with as_if_not_built():
        assert found == header_of(content)


def test_a_jpeg_that_is_cut_off_below_the_piece_is_refused():
    content = simplejpeg.encode_jpeg(noise(200, 64, 0))
    with pytest.raises(DataError, match="cut off"):
        Jpeg(array_of(content[: len(content) // 2])).decode(1, Box(0, 0, 8, 8))


@needs_pieces
def test_what_fits_no_image_is_refused_before_memory_is_written():
    content = simplejpeg.encode_jpeg(noise(20, 30, 0))
    decode = jpeg._pieces.decode
    out = np.zeros((5, 5, 3), np.uint8)
    for box in [(16, 0, 5, 5), (0, 26, 5, 5), (2**32 - 1, 0, 5, 5), (0, 2**32 - 5, 5, 5)]:
        assert not decode(content, 1, box, False, out)
    for divisor, box in [(0, (0, 0, 5, 5)), (9, (0, 0, 5, 5)), (1, (0, 0, 5, 6))]:
        with pytest.raises(ValueError, match="divisor is not 1 to 8, or out not"):
            decode(content, divisor, box, False, out)
    with pytest.raises((TypeError, BufferError)):
        decode(content, 1, (0, 0, 5, 5), False, bytes(75))
    assert not out.any()


@needs_pieces
def test_threads_decode_at_once():
    contents = [simplejpeg.encode_jpeg(noise(90, 70, seed)) for seed in range(8)] * 20
    box = Box(11, 13, 50, 40)
    expected = [simplejpeg.decode_jpeg(content)[11:61, 13:53] for content in contents[:8]] * 20
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda content: Jpeg(array_of(content)).decode(1, box), contents)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@needs_pieces
def test_batches_and_their_bad_samples_are_those_of_whole_images(pictures, tmp_path):
    folder = pictures.folder(tmp_path / "pets", 40)
    damaged = folder / "cat" / "000.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-60])
    parts = rb.split(rb.open(folder), seed=1).transform(
        rb.decode_images(12, crop="random", flip=True)
    )

    def epoch() -> tuple[list[np.ndarray], list]:
        batches = rb.Batches(parts.train, 8, seed=3, on_bad_sample="quarantine", max_bad=1)
        return [np.array(images) for images, *_ in batches.epoch(0)], batches.bad_samples

    found, bad = epoch()
    with as_if_not_built():
        expected, bad_of_whole = epoch()
    assert bad == bad_of_whole
    assert len(bad) == 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_inspect_says_where_pieces_are_not_decoded_alone(pictures, tmp_path):
    data = rb.open(pictures.folder(tmp_path / "pets", 9))
    with as_if_not_built():
        assert any("JPEGs are decoded whole" in note for note in image_notes(data))
    if decodes_pieces():
        assert not any("JPEGs are decoded whole" in note for note in image_notes(data))

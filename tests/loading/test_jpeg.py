"""JPEGs: a piece that is decoded alone has the pixels that it has in the whole image."""

from __future__ import annotations

import io
import shutil
import struct
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.ragged import Ragged
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
        assert jpeg._pieces.decode(content, 1, box, False, True, out), sampling
    unusual = simplejpeg.encode_jpeg(pixels, colorsubsampling="411")
    assert not jpeg._pieces.decode(unusual, 1, box, False, True, out)
    progressive = io.BytesIO()
    Image.fromarray(pixels).save(progressive, "JPEG", progressive=True)
    content = progressive.getvalue()
    assert jpeg._pieces.decode(content, 1, box, False, True, out)
    # Without its last scan it is a whole image of less detail, which is smoothed.
    less = content[: content.rindex(b"\xff\xda")] + b"\xff\xd9"
    assert not jpeg._pieces.decode(less, 1, box, False, True, out)
    np.testing.assert_array_equal(
        Jpeg(array_of(less)).decode(1, box), simplejpeg.decode_jpeg(less)[20:30, 20:30]
    )


def outcome(content: bytes, box: Box, **options) -> np.ndarray | str:
    try:
        return Jpeg(array_of(content)).decode(1, box, **options).copy()
    except DataError as error:
        return str(error)


@needs_pieces
@settings(max_examples=300)
@given(content=jpegs(), drawn=st.data())
def test_damage_is_found_wherever_it_is_and_what_is_made_of_it_is_the_same(content, drawn):
    damaged = bytearray(content)
    for _ in range(drawn.draw(st.integers(1, 4))):
        place = drawn.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = drawn.draw(st.integers(0, 255))
    damaged = bytes(damaged[: drawn.draw(st.sampled_from([None, None, -2, len(damaged) // 2]))])
    try:
        image = Jpeg(array_of(damaged))
    except DataError:
        return
    if image.is_ink or image.height * image.width > 10**6:
        return
    box = boxes(drawn.draw, image, 1)
    found, unchecked = outcome(damaged, box), outcome(damaged, box, is_whole=True)
    with as_if_not_built():
        np.testing.assert_array_equal(found, outcome(damaged, box))
    if isinstance(unchecked, str):
        return
    # Below the piece nobody has looked.
    try:
        whole = simplejpeg.decode_jpeg(damaged, "RGB", strict=False)
    except ValueError:
        return  # such damage there that nothing can be made of the whole
    np.testing.assert_array_equal(
        unchecked, whole[box.top : box.top + box.height, box.left : box.left + box.width]
    )


SEGMENTS = st.one_of(
    st.binary(max_size=3000).map(lambda held: segment(0xFE, held)),
    st.sampled_from([b"", b"\xff", b"\xff\xff", b"\xff\xd0", b"\xff\x01"]),
    st.sampled_from([b"http://ns.adobe.com/xap/1.0/\x00", b"exif\x00\x00", b"Exif\x00\x00?"]).map(
        lambda held: segment(0xE1, held)
    ),
)


def segment(marker: int, held: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(held) + 2) + held


@needs_pieces
@given(content=jpegs(), before=st.lists(SEGMENTS, max_size=3))
def test_both_readers_of_a_header_find_the_same(content, before):
    content = content[:2] + b"".join(before) + content[2:]
    found = header_of(content)
    with as_if_not_built():
        assert found == header_of(content)


# As much as this takes where segments are looked through for each of them is many minutes.
@pytest.mark.timeout(60)
def test_many_segments_take_no_longer_each():
    content = simplejpeg.encode_jpeg(noise(20, 30, 0))
    content = content[:2] + segment(0xE1, b"") * 300_000 + content[2:]
    assert header_of(content) == (20, 30, False, 1)
    with as_if_not_built():
        assert header_of(content) == (20, 30, False, 1)


@pytest.mark.parametrize("factors", [(1, 1, 2), (1, 2, 2), (3, 1, 1), (2, 1, 2)])
def test_samplings_without_a_name_are_refused_alike(factors):
    content = bytearray(simplejpeg.encode_jpeg(noise(20, 30, 0)))
    place = content.index(b"\xff\xc0") + 11
    content[place : place + 9 : 3] = bytes(factor << 4 | factor for factor in factors)
    with pytest.raises(DataError, match="damaged or cut off") as built:
        header_of(bytes(content))
    with as_if_not_built(), pytest.raises(DataError) as not_built:
        header_of(bytes(content))
    assert str(built.value) == str(not_built.value)


def lossless(pixels: np.ndarray) -> bytes:
    """A lossless JPEG (process 14, predictor 1), whose differences have codes of four bits."""
    bits = []
    values = pixels.astype(int)
    for y, x, channel in np.ndindex(values.shape):
        before = values[y, x - 1, channel] if x else values[y - 1, 0, channel] if y else 128
        difference = int(values[y, x, channel] - before)
        size = abs(difference).bit_length()
        bits.append(f"{size:04b}")
        if size:
            number = difference if difference > 0 else difference + (1 << size) - 1
            bits.append(f"{number:0{size}b}")
    coded = "".join(bits)
    coded += "1" * (-len(coded) % 8)
    stuffed = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\x00")
    height, width, count = pixels.shape
    components = b"".join(bytes([number, 0x11, 0]) for number in range(1, count + 1))
    frame = struct.pack(">BHHB", 8, height, width, count) + components
    table = bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)])
    scan = bytes([count, *(byte for number in range(count) for byte in (number + 1, 0)), 1, 0, 0])
    return (
        b"\xff\xd8"
        + segment(0xC3, frame)
        + segment(0xC4, table)
        + segment(0xDA, scan)
        + stuffed
        + b"\xff\xd9"
    )


@pytest.mark.parametrize("is_built", [True, False])
@pytest.mark.parametrize("crop", ["none", "center"])
def test_a_lossless_jpeg_is_decoded_at_its_own_size(crop, is_built):
    # Left alone, simplejpeg writes all of it into the memory of a reduced image.
    down, across = np.mgrid[:96, :80]
    pixels = np.stack([down + across, 255 - down - across, (down * 2) % 256], -1).astype(np.uint8)
    content = lossless(pixels)
    np.testing.assert_array_equal(simplejpeg.decode_jpeg(content), pixels)
    image = Jpeg(array_of(content))
    assert (image.height, image.width, image.has_scales) == (96, 80, False)
    with nullcontext() if is_built else as_if_not_built():
        made = rb.decode_images(9, crop=crop).apply(Ragged.from_list([content]))
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    expected = rb.decode_images(9, crop=crop).apply(Ragged.from_list([png.getvalue()]))
    np.testing.assert_array_equal(made, expected)


def test_it_was_built_where_it_can_be():
    headers = Path(sysconfig.get_path("include")) / "Python.h", Path("/usr/include/jpeglib.h")
    if shutil.which("cc") is None or not all(header.exists() for header in headers):
        pytest.skip("here are no C compiler, no Python.h or no jpeglib.h")
    assert decodes_pieces()


@needs_pieces
def test_what_fits_no_image_is_refused_before_memory_is_written():
    content = simplejpeg.encode_jpeg(noise(20, 30, 0))
    decode = jpeg._pieces.decode
    out = np.zeros((5, 5, 3), np.uint8)
    for box in [(16, 0, 5, 5), (0, 26, 5, 5), (2**32 - 1, 0, 5, 5), (0, 2**32 - 5, 5, 5)]:
        assert not decode(content, 1, box, False, True, out)
    for divisor, box in [(0, (0, 0, 5, 5)), (9, (0, 0, 5, 5)), (1, (0, 0, 5, 6))]:
        with pytest.raises(ValueError, match="divisor is not 1 to 8, the piece is"):
            decode(content, divisor, box, False, True, out)
    for empty in [(3, 3, 0, 5), (3, 3, 5, 0), (0, 0, 0, 0)]:
        with pytest.raises(ValueError, match="the piece is empty"):
            decode(content, 1, empty, True, True, out[:0])
    with pytest.raises((TypeError, BufferError)):
        decode(content, 1, (0, 0, 5, 5), False, True, bytes(75))
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
def test_batches_and_their_bad_samples_are_those_of_whole_images(tmp_path):
    for number in range(40):
        content = bytearray(simplejpeg.encode_jpeg(noise(96, 96, number)))
        if number % 5 == 0:
            # Below most random pieces.
            place = len(content) * 9 // 10
            content[place : place + 20] = b"\xff\xd9" * 10
        home = tmp_path / "ab"[number % 2]
        home.mkdir(exist_ok=True)
        (home / f"{number:02}.jpg").write_bytes(content)
    parts = rb.split(rb.open(tmp_path), seed=1).transform(rb.decode_images(12, crop="random"))

    def epochs() -> list:
        batches = rb.Batches(parts.train, 8, seed=3, on_bad_sample="quarantine", max_bad=8)
        told = []
        for epoch in range(3):
            for images, _, weights in batches.epoch(epoch):
                told += [np.array(images)[np.array(weights) > 0], batches.bad_samples]
        return told

    found = epochs()
    with as_if_not_built():
        expected = epochs()
    assert len(found[-1]) == 8
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_inspect_says_where_pieces_are_not_decoded_alone(pictures, tmp_path):
    data = rb.open(pictures.folder(tmp_path / "pets", 9))
    with as_if_not_built():
        assert any("JPEGs are decoded whole" in note for note in image_notes(data))
    if decodes_pieces():
        assert not any("JPEGs are decoded whole" in note for note in image_notes(data))


class Changing(ArrayDataset):
    """Samples that are whole when they are read first, and damaged below their middle after."""

    def __init__(self, *, runs_others_code: bool) -> None:
        whole = simplejpeg.encode_jpeg(noise(96, 96, 0))
        half = len(whole) // 2
        self.contents = [whole, whole[:half] + b"\xff\xd9" * 20 + whole[half + 40 :]]
        super().__init__({"image": Ragged.from_list([whole] * 4), "y": np.arange(4)}, target="y")
        self.runs_others_code = runs_others_code
        self.reads = 0

    def ragged(self, name: str) -> None:
        return None

    def array(self, name: str) -> None:
        return None

    def rows(self, indices: Any) -> Any:
        found = super().rows(indices)
        content = self.contents[self.reads > 0]
        return {**found, "image": Ragged.from_list([content] * len(found["y"]))}


def finds_damage(seed: int, *, runs_others_code: bool) -> bool:
    data = Changing(runs_others_code=runs_others_code)
    top = rb.decode_images(8, crop="random", scale=(0.01, 0.02))
    batches = rb.Batches(rb.split(data, seed=0).transform(top).train, 4, seed=seed, threads=0)
    list(batches.epoch(0))
    data.reads = 1
    try:
        list(batches.epoch(1))
    except DataError:
        return True
    return False


@needs_pieces
def test_what_was_whole_is_looked_at_again_where_it_may_be_another():
    # A seed whose pieces all lie above the damage.
    above = [seed for seed in range(60) if not finds_damage(seed, runs_others_code=False)]
    assert above
    assert finds_damage(above[0], runs_others_code=True)

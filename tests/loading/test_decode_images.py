"""`decode_images` in batches: sizes, layouts, later transforms, bad images, parts, packs."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

import rightbatch as rb
from rightbatch.loading.transforms import transform_from_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    return pictures.folder(tmp_path_factory.mktemp("pets"))


@pytest.fixture(scope="module")
def data(folder):
    return rb.open(folder)


def by_row(part, **options):
    """Every image of an epoch by its row, however many come in a batch."""
    options = {"seed": 1, **options}
    found = {}
    for inputs, _, rows, *_ in rb.Batches(part, 7, with_rows=True, **options).epoch(0):
        for image, row in zip(inputs, rows.tolist(), strict=True):
            found[row] = np.array(image)
    return found


def reference(data, row, size):
    """The largest piece in the centre, decoded by Pillow and resized by torch's public function."""
    import io

    from PIL import Image

    content = data.rows([row])["image"][0].tobytes()
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    high, wide = pixels.shape[:2]
    ratio = size[1] / size[0]
    height, width = min(high, round(wide / ratio)), min(wide, round(high * ratio))
    top, left = (high - height) // 2, (wide - width) // 2
    piece = torch.from_numpy(pixels[top : top + height, left : left + width].copy())
    resized = interpolate(
        piece.permute(2, 0, 1)[None].float(), size, mode="bilinear", antialias=True
    )
    return resized[0].numpy()


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (50, 20)])
def test_images_are_the_centre_resized_with_antialiasing(data, size):
    parts = rb.split(data).transform(rb.decode_images(size))
    for row, image in by_row(parts.train).items():
        assert image.shape == (3, *size)
        assert np.abs(image - reference(data, row, size)).max() < 8


def test_crop_none_squeezes_the_whole_image(tmp_path, pictures):
    image = pictures.make(1, 60, 20)
    columns = {"image": rb.Ragged.from_list([pictures.encoded(image, "PNG")])}
    parts = rb.split(rb.open(columns)).transform(rb.decode_images(20, crop="none"))
    found = next(iter(rb.Batches(parts.train, 1)))[0].astype(int)
    expected = np.asarray(image).reshape(20, 20, 3, 3).mean(axis=2).transpose(2, 0, 1)
    assert np.abs(found - expected).max() <= 3


def test_the_layout_is_channels_last_in_memory_either_way(data):
    first, last = (
        next(iter(rb.Batches(part, 8, shuffle=False)))[0]
        for part in (
            rb.split(data).transform(rb.decode_images((12, 16), channels=channels)).train
            for channels in ("first", "last")
        )
    )
    assert (first.shape, last.shape) == ((8, 3, 12, 16), (8, 12, 16, 3))
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)
    assert last.flags.c_contiguous
    assert first.base is not None
    tensor = next(
        iter(rb.Batches(rb.split(data).transform(rb.decode_images(12)).train, 8, output="torch"))
    )[0]
    assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_later_transforms_are_those_of_the_decoded_arrays(data, channels):
    decode = rb.decode_images((12, 16), channels=channels)
    plain = by_row(rb.split(data).transform(decode).train)
    values = np.stack([plain[row] for row in sorted(plain)]).astype(np.float64)
    axis = 0 if channels == "first" else 2
    others = tuple(k for k in range(4) if k != axis + 1)
    mean, std = values.mean(axis=others, keepdims=True), values.std(axis=others, keepdims=True)
    cases = {
        "scale": ([rb.scale(1 / 255)], values / 255),
        "by channel": ([rb.standardize(channel_axis=axis)], (values - mean) / std),
        "twice": (
            [rb.scale(1 / 255), rb.standardize(channel_axis=axis), rb.scale(2.0)],
            2 * (values - mean) / std,
        ),
        "by pixel": (
            [rb.standardize()],
            (values - values.mean(0)) / values.std(0),
        ),
        "cast": ([rb.cast("float16")], values),
        "flatten": ([rb.flatten(), rb.scale(0.5)], values.reshape(len(values), -1) / 2),
        "function": ([lambda inputs: inputs[..., ::2] + 1.5], values[..., ::2] + 1.5),
    }
    for name, (transforms, expected) in cases.items():
        parts = rb.split(data).transform(decode, *transforms)
        for threads in (0, 2):
            found = by_row(parts.train, threads=threads)
            stacked = np.stack([found[row] for row in sorted(found)])
            np.testing.assert_allclose(
                stacked, expected, rtol=1e-3, atol=1e-3, err_msg=f"{name}, {threads} threads"
            )


def test_standardize_by_channel_is_saved_and_refuses_an_axis_that_is_not_there(data):
    parts = rb.split(data).transform(rb.decode_images(8), rb.standardize(channel_axis=-3))
    fitted = parts.train.transforms[1]
    assert fitted.mean.shape == (3, 1, 1)
    again = transform_from_json(json.loads(json.dumps(fitted.to_json())))
    np.testing.assert_array_equal(again.mean, fitted.mean)
    with pytest.raises(rb.DataError, match=r"channel_axis=3.*valid axes are 0 to 2"):
        rb.split(data).transform(rb.decode_images(8), rb.standardize(channel_axis=3))


def test_random_crops_and_flips_are_for_train_alone(data):
    random = rb.decode_images(16, crop="random", flip=True, scale=(0.2, 0.5))
    parts = rb.split(data, val=6, seed=1).transform(random)
    assert parts.train.transforms == (random,)
    assert parts.val.transforms == parts.held_out_transforms != (random,)
    centre = rb.split(data, val=6, seed=1).transform(rb.decode_images(16))
    for row, image in by_row(parts.val).items():
        np.testing.assert_array_equal(image, by_row(centre.val)[row])
    train = rb.Batches(parts.train, 24, seed=1, with_rows=True)
    (one, _, rows), (other, _, others) = next(iter(train.epoch(0))), next(iter(train.epoch(1)))
    order, other_order = np.argsort(rows), np.argsort(others)
    assert (one[order] != other[other_order]).any(axis=(1, 2, 3)).all()


def test_flips_mirror_and_leave_the_rest_alone(data, pictures):
    straight = by_row(rb.split(data).transform(rb.decode_images((12, 20))).train)
    flipped = by_row(rb.split(data).transform(rb.decode_images((12, 20), flip=True)).train)
    kinds = [
        (np.array_equal(image, straight[row]), np.array_equal(image[..., ::-1], straight[row]))
        for row, image in flipped.items()
    ]
    assert set(kinds) == {(True, False), (False, True)}
    # Also where the piece has the size already and nothing is resized.
    content = pictures.encoded(pictures.make(1, 20, 20))
    same = {"image": rb.Ragged.from_list([content] * 30)}
    parts = rb.split(rb.open(same)).transform(rb.decode_images(20, flip=True))
    assert len({image.tobytes() for image in next(iter(rb.Batches(parts.train, 30)))}) == 2


def test_columns_that_one_transform_decodes_are_cropped_alike(data, pictures):
    entries = data.span(0, 30)["image"]
    both = rb.open({"left": entries, "right": entries, "meta": np.arange(30.0)})
    parts = rb.split(both).transform(rb.decode_images(16, crop="random", flip=True))
    for inputs in rb.Batches(parts.train, 8):
        np.testing.assert_array_equal(inputs["left"], inputs["right"])
    apart = rb.split(both).transform(
        rb.decode_images(16, crop="random", column="left"),
        rb.decode_images(16, crop="random", column="right"),
    )
    for inputs in rb.Batches(apart.train, 8):
        assert (inputs["left"] != inputs["right"]).any(axis=(1, 2, 3)).all()


def test_what_is_no_column_of_images_is_refused():
    for columns in ({"x": np.zeros((3, 4))}, {"x": rb.Ragged.from_list(["a", "b", "c"])}):
        with pytest.raises(rb.DataError, match=r"decode_images\(\) takes a column of encoded"):
            rb.split(rb.open(columns)).transform(rb.decode_images(8))


def test_it_is_refused_after_a_function_and_a_second_time(data):
    with pytest.raises(rb.OptionError, match="comes after a function of a batch"):
        rb.split(data).transform(lambda inputs: inputs, rb.decode_images(8))
    with pytest.raises(rb.DataError, match="takes a column of encoded images"):
        rb.split(data).transform(rb.decode_images(8), rb.decode_images(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": (3, 4, 5)}, "size"),
        ({"size": 2.5}, "size"),
        ({"size": 8, "crop": "centre"}, "Did you mean 'center'"),
        ({"size": 8, "channels": "middle"}, "valid are first, last"),
        ({"size": 8, "crop": "random", "scale": (0.5, 2)}, "at most 1"),
        ({"size": 8, "crop": "random", "ratio": (2, 1)}, "the smaller one first"),
        ({"size": 8, "crop": "random", "ratio": 1.0}, "give two numbers"),
        ({"size": 8, "scale": (0.5, 1)}, "are for crop='random'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(rb.OptionError, match=message):
        rb.decode_images(**options)


def test_json_brings_it_back():
    for transform in (
        rb.decode_images(8),
        rb.decode_images((8, 9), crop="random", flip=True, ratio=(0.5, 2), column="image"),
        rb.decode_images(8, crop="none", channels="last"),
    ):
        assert transform_from_json(json.loads(json.dumps(transform.to_json()))) == transform


@pytest.fixture
def damaged(tmp_path, pictures):
    folder = pictures.folder(tmp_path / "pets")
    for name, share in (("cat/006.jpg", 0.6), ("dog/013.jpg", 0.8), ("newt/014.jpg", 0)):
        path = folder / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return folder


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("from_pack", [False, True])
def test_a_damaged_image_stops_with_its_row_and_file(damaged, tmp_path, threads, from_pack):
    data = rb.open(damaged)
    bad = {
        data.locate(row)
        for row in range(30)
        if data.file_name(row).endswith(("6.jpg", "13.jpg", "14.jpg"))
    }
    if from_pack:
        data = rb.pack(data, tmp_path / "pack")
    parts = rb.split(data).transform(rb.decode_images(8))
    places = "|".join(re.escape(place) for place in bad)
    expected = r"row \d+ \(counting from 0\)" if from_pack else places
    for size in (4, "full"):
        with pytest.raises(rb.DataError, match=rf"column 'image', ({expected}): .*quarantine"):
            list(rb.Batches(parts.train, size, threads=threads))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("options", [{}, {"remainder": "pad"}, {"window": 10}, {"shuffle": False}])
def test_quarantine_leaves_damaged_images_out_by_name(damaged, caplog, threads, options):
    data = rb.open(damaged)
    parts = rb.split(data).transform(rb.decode_images(8, crop="random"), rb.scale(1 / 255))
    batches = rb.Batches(
        parts.train,
        4,
        threads=threads,
        on_bad_sample="quarantine",
        max_bad=3,
        with_rows=True,
        **options,
    )
    with caplog.at_level(logging.WARNING):
        seen = [row for *_, rows, weights in batches for row in rows[weights > 0].tolist()]
    files = sorted(data.file_name(sample.row) for sample in batches.bad_samples)
    assert files == ["cat/006.jpg", "dog/013.jpg", "newt/014.jpg"]
    assert sorted([*seen, *(sample.row for sample in batches.bad_samples)]) == list(range(30))
    assert any("newt/014.jpg" in sample.reason for sample in batches.bad_samples)
    assert "dog/013.jpg" in caplog.text
    few = rb.Batches(parts.train, 4, threads=threads, on_bad_sample="quarantine", max_bad=2)
    with pytest.raises(rb.DataError, match="3 samples can not be read"):
        list(few)


def test_a_batch_of_damaged_images_alone_is_black(damaged, monkeypatch):
    monkeypatch.setattr("rightbatch.loading.decoded_slab._MOST_SAMPLES", 5)
    for path in damaged.glob("cat/*"):
        path.write_bytes(b"?")
    parts = rb.split(rb.open(damaged)).transform(rb.decode_images(8))
    batches = rb.Batches(
        parts.train, 5, shuffle=False, on_bad_sample="quarantine", max_bad=30, with_rows=True
    )
    for _ in range(2):
        images, _, rows, weights = next(iter(batches.epoch(0)))
        assert rows.tolist() == [-1] * 5
        assert not weights.any()
        assert not images.any()


@pytest.mark.parametrize("threads", [0, 2])
def test_resume_after_damage_gives_the_batches_of_a_run_without_a_stop(damaged, threads):
    parts = rb.split(rb.open(damaged)).transform(rb.decode_images(8, crop="random", flip=True))

    def make():
        return rb.Batches(
            parts.train,
            4,
            seed=3,
            threads=threads,
            on_bad_sample="quarantine",
            max_bad=5,
            with_rows=True,
        )

    whole = list(make())
    for stop in (1, 3, 6):
        first, second = make(), make()
        batches = iter(first)
        for _ in range(stop):
            next(batches)
        second.load_state_dict(first.state_dict())
        rest = list(second)
        assert len(rest) == len(whole) - stop
        for mine, its in zip(rest, whole[stop:], strict=True):
            # What stands in for a sample that is left out is of no weight.
            real = mine[-1] > 0
            assert np.array_equal(real, its[-1] > 0)
            for one, other in zip(mine, its, strict=True):
                np.testing.assert_array_equal(one[real], other[real])


def test_a_batch_is_the_callers_for_as_long_as_it_is_held(data):
    parts = rb.split(data).transform(rb.decode_images(16), rb.scale(1 / 255))
    for threads in (0, 2):
        batches = rb.Batches(parts.train, 4, seed=1, threads=threads, with_rows=True)
        held = [(images, rows, images.copy()) for images, _, rows in batches]
        assert all(np.array_equal(images, copy) for images, _, copy in held)


def test_memory_is_used_again_once_a_batch_is_let_go(data):
    parts = rb.split(data).transform(rb.decode_images(16))
    batches = rb.Batches(parts.train, 30, threads=0)
    places = {batch[0].__array_interface__["data"][0] for _ in range(8) for batch in batches}
    assert len(places) <= 2


def test_a_pack_of_decoded_images_holds_the_arrays(data, tmp_path):
    decoded = rb.pack(
        data.transform(rb.decode_images((8, 12))), tmp_path / "pack", transforms="apply"
    )
    assert decoded.column("image").shape == (3, 8, 12)
    found = by_row(rb.split(decoded).train)
    expected = by_row(rb.split(data).transform(rb.decode_images((8, 12))).train)
    assert all(np.array_equal(found[row], expected[row]) for row in expected)
    random = data.transform(rb.decode_images(8, crop="random"))
    with pytest.raises(rb.OptionError, match=r"decode_images\(\) draws at random and is not"):
        rb.pack(random, tmp_path / "random", transforms="apply")


def test_decoding_threads_are_more_where_there_are_cores(data, monkeypatch):
    parts = rb.split(data)
    decoding = parts.transform(rb.decode_images(8))
    for cores, plain, threads in ((1, 1, 1), (2, 1, 1), (4, 2, 3), (64, 2, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert rb.Batches(parts.train, 4).threads == plain
        assert rb.Batches(decoding.train, 4).threads == threads


def test_nobody_waits_for_a_whole_large_batch_by_one_thread(data):
    from rightbatch.loading.decoded_slab import pieces_ahead

    # A batch of 1,000 is decoded in pieces of 16, two batches of them ahead.
    assert pieces_ahead(1000, 16, 4) == 130


def test_reduced_scales_keep_the_picture(tmp_path, pictures):
    image = pictures.make(3, 800, 600)
    columns = {"image": rb.Ragged.from_list([pictures.encoded(image)])}
    parts = rb.split(rb.open(columns)).transform(rb.decode_images((60, 80)))
    found = next(iter(rb.Batches(parts.train, 1)))[0].astype(int)
    expected = np.asarray(image).reshape(60, 10, 80, 10, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(found - expected).max() < 4

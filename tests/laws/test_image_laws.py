"""The laws of batches on decoded images: the same samples and crops whatever reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.testing import check_resume

COUNT = 45
SOURCES = ("folder", "pack", "memory")
DECODE = rb.decode_images((10, 12), crop="random", flip=True)


@pytest.fixture(scope="module")
def parts(tmp_path_factory, pictures):
    """The train and validation parts of the same images: files, a pack, and bytes in memory."""
    data = rb.open(pictures.folder(tmp_path_factory.mktemp("pets"), COUNT))
    columns = data.span(0, COUNT)
    sources = {
        "folder": data,
        "pack": rb.pack(data, tmp_path_factory.mktemp("pack") / "pets"),
        "memory": rb.open(columns, target="class"),
    }
    return {
        name: rb.split(source, val=5, seed=1).transform(DECODE, rb.scale(1 / 255))
        for name, source in sources.items()
    }


@pytest.fixture(scope="module")
def expected(parts):
    """Each image of two epochs, by row: decoded one by one in the caller's thread."""
    return [images_of(parts["memory"].train, epoch, batch_size=1, threads=0) for epoch in range(2)]


def images_of(part, epoch, *, batch_size, **options):
    found = {}
    for images, _, rows, *_ in rb.Batches(
        part, batch_size, seed=5, with_rows=True, **options
    ).epoch(epoch):
        for image, row in zip(np.asarray(images), np.asarray(rows).tolist(), strict=True):
            if row >= 0:
                assert row not in found
                found[row] = np.array(image)
    return found


@settings(max_examples=60)
@given(drawn=st.data())
def test_every_sample_comes_once_with_the_crop_of_its_row(parts, expected, drawn):
    window, block = drawn.draw(st.sampled_from([(None, None), (12, None), (12, 3)]))
    options = {
        "shuffle": window is not None or drawn.draw(st.booleans()),
        "window": window,
        "block": block,
        "threads": drawn.draw(st.integers(0, 4)),
        "batch_size": drawn.draw(st.sampled_from([1, 7, 16, "full"])),
        "remainder": drawn.draw(st.sampled_from(["keep", "pad", "drop"])),
        "output": drawn.draw(st.sampled_from(["numpy", "torch"])),
    }
    if drawn.draw(st.booleans()):
        options.update(on_bad_sample="quarantine", max_bad=1)
    epoch = drawn.draw(st.integers(0, 1))
    part = parts[drawn.draw(st.sampled_from(SOURCES))].train
    found = images_of(part, epoch, **options)
    if options["remainder"] != "drop":
        assert found.keys() == expected[epoch].keys()
    for row, image in found.items():
        np.testing.assert_array_equal(image, expected[epoch][row])


def test_epochs_and_seeds_draw_anew(parts, expected):
    first, second = expected
    other = {
        row: image
        for images, _, rows in rb.Batches(parts["folder"].train, 8, seed=6, with_rows=True).epoch(0)
        for row, image in zip(rows.tolist(), images, strict=True)
    }
    assert all((first[row] != second[row]).any() for row in first)
    assert all((first[row] != other[row]).any() for row in first)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_resume_is_exact(parts, name, threads):
    for options in ({}, {"window": 12, "block": 3}, {"remainder": "pad"}):
        check_resume(
            lambda options=options: rb.Batches(
                parts[name].train, 7, seed=2, threads=threads, **options
            )
        )


@pytest.mark.parametrize(("one", "other"), [("folder", "pack"), ("pack", "folder")])
def test_a_pack_goes_on_where_the_folder_stopped(parts, one, other):
    first = rb.Batches(parts[one].train, 7, seed=2)
    second = rb.Batches(parts[other].train, 7, seed=2, threads=3)
    batches = iter(first)
    next(batches), next(batches)
    second.load_state_dict(first.state_dict())
    for mine, its in zip(batches, second, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))


def test_a_budget_of_memory_reads_a_pack_in_windows_with_the_same_crops(parts, expected):
    batches = rb.Batches(parts["pack"].train, 4, seed=5, memory="7MB", with_rows=True)
    batches.order  # noqa: B018  # whatever order it chose, the images are those of their rows
    for images, _, rows in batches.epoch(1):
        for image, row in zip(images, rows.tolist(), strict=True):
            np.testing.assert_array_equal(image, expected[1][row])

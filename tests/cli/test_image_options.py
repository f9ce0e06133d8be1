"""Folders of images on the command line: inspected, trained on, resumed, predicted and packed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rightbatch as rb

NETWORK = """
from torch import nn


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(16, 3))
"""


@pytest.fixture
def pets(tmp_path, pictures):
    return pictures.folder(tmp_path / "pets")


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return f"{path}:small"


def report_of(done) -> dict:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_inspect_tells_sizes_classes_and_what_to_do(rightbatch, pets):
    report = report_of(rightbatch("inspect", pets, "--json", "--quiet"))
    assert (report["samples"], report["target"], report["classes"]) == (30, "class", 3)
    assert report["columns"][0] == {"name": "image", "dtype": "uint8", "shape": [None]}
    assert sum(report["class_counts"]["train"].values()) == report["splits"]["train"]
    notes = " ".join(report["notes"])
    assert "'image' holds encoded images, of 30 looked at: 22 to 59 pixels wide" in notes
    assert "--image-size 224" in notes


def test_inspect_counts_images_that_can_not_be_opened(rightbatch, pets):
    (pets / "dog" / "001.jpg").write_bytes(b"?")
    notes = " ".join(report_of(rightbatch("inspect", pets, "--json", "--quiet"))["notes"])
    assert "1 of them can not be opened; the first is row 10 (dog/001.jpg): this is no" in notes


def test_a_run_is_trained_resumed_and_predicts_from_the_folder_and_a_pack(
    rightbatch, pets, network, tmp_path
):
    run = tmp_path / "run"
    options = ["--image-size", "16x20", "--random-crop", "--random-flip", "--standardize"]
    report_of(
        rightbatch(
            *("train", pets, *options, "--model", network, "--epochs", 2, "--out", run),
            *("--json", "--quiet"),
        )
    )
    transforms = json.loads((run / "transforms.json").read_text())
    assert [each["kind"] for each in transforms] == ["decode_images", "scale", "standardize"]
    assert transforms[0]["size"] == [16, 20]
    assert transforms[0]["crop"] == "random"
    assert np.shape(transforms[2]["mean"]) == (3, 1, 1)
    resumed = report_of(
        rightbatch("train", "--resume", run, "--model", network, "--epochs", 3, "--json", "--quiet")
    )
    assert resumed["epochs"] == 3
    report_of(rightbatch("pack", pets, tmp_path / "pack", "--json", "--quiet"))
    for data in (pets, tmp_path / "pack"):
        out = tmp_path / "out.csv"
        predicted = report_of(
            rightbatch(
                *("predict", run, data, "--model", network, "--out", out),
                *("--json", "--quiet"),
            )
        )
        assert predicted["part"] == "test"
        assert predicted["accuracy"] == pytest.approx(resumed["test_accuracy"])
        assert predicted["loss"] == pytest.approx(resumed["test_loss"], rel=1e-5)
    refused = rightbatch("predict", run, pets, "--model", network, "--image-size", 32)
    assert refused.code == 2
    assert "image_size=32: the split and the transforms of" in refused.err


def test_a_pack_may_hold_the_decoded_images(rightbatch, pets, network, tmp_path):
    report_of(rightbatch("pack", pets, tmp_path / "pack", "--image-size", 16, "--json", "--quiet"))
    assert rb.open(tmp_path / "pack").column("image").shape == (3, 16, 16)
    trained = report_of(
        rightbatch(
            *("train", tmp_path / "pack", "--model", network, "--epochs", 1),
            *("--out", tmp_path / "run", "--json", "--quiet"),
        )
    )
    direct = report_of(
        rightbatch(
            *("train", pets, "--image-size", 16, "--model", network, "--epochs", 1),
            *("--out", tmp_path / "direct", "--json", "--quiet"),
        )
    )
    assert trained["test_loss"] == pytest.approx(direct["test_loss"], rel=1e-5)


def test_damaged_images_stop_or_are_quarantined(rightbatch, pets, network, tmp_path):
    (pets / "dog" / "001.jpg").write_bytes(b"?")
    command = ("train", pets, "--image-size", 16, "--model", network, "--epochs", 1)
    stopped = rightbatch(*command, "--out", tmp_path / "stopped")
    assert stopped.code == 3
    assert "row 10 (dog/001.jpg): this is no image of a known kind" in stopped.err
    quarantine = ("--on-bad-sample", "quarantine", "--max-bad", 2)
    report = report_of(
        rightbatch(*command, *quarantine, "--out", tmp_path / "run", "--json", "--quiet")
    )
    assert report["bad_samples"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--random-crop"], "random_crop is for encoded images that are decoded"),
        (["--image-size", "0"], "is no size in pixels"),
        (["--image-size", "3x4x5"], "is no size in pixels"),
        (["--image-size", "99999"], "from 1 to 16,384"),
    ],
)
def test_wrong_options_are_refused(rightbatch, pets, options, message):
    done = rightbatch("train", pets, *options)
    assert done.code == 2
    assert message in " ".join(done.err.split())


def test_an_image_size_for_a_table_is_refused(rightbatch):
    done = rightbatch("train", "iris", "--image-size", 16)
    assert done.code == 3
    assert "decode_images() takes a column of encoded images" in done.err


def test_without_a_size_it_says_what_to_do(rightbatch, pets, network):
    done = rightbatch("train", pets, "--model", network)
    assert done.code == 3
    assert "--image-size 224" in done.err


def test_a_prediction_leaves_no_damaged_image_out(rightbatch, pets, network, tmp_path):
    options = ("--image-size", 16, "--model", network, "--epochs", 1, "--val", 0, "--test", 0)
    assert rightbatch("train", pets, *options, "--out", tmp_path / "run").code == 0
    image = next(path for path in sorted(pets.rglob("*")) if path.is_file())
    image.write_bytes(b"\xff\xd8\xff" + bytes(40))
    quarantine = ("--on-bad-sample", "quarantine", "--max-bad", 2)
    command = ("predict", tmp_path / "run", pets, "--model", network)
    done = rightbatch(*command, *quarantine)
    assert done.code == 2
    assert "every sample is predicted. Repair or remove those" in done.err
    done = rightbatch(*command)
    assert done.code == 3
    assert "Repair or remove it, or train without such samples" in done.err

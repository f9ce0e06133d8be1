"""`rightbatch inspect`: figures, options and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 samples: a number, a word, a patient (five samples each), and a price."""
    words = ["red", "green", "blue", "green"]
    lines = ["size,colour,patient,price"]
    lines += [f"{k / 10},{words[k % 4]},{k // 5},{k * 1.5}" for k in range(100)]
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def report_of(done) -> dict:
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    return json.loads(done.out)


def test_json_is_one_object_with_the_promised_keys(rightbatch) -> None:
    done = rightbatch("inspect", "breast_cancer", "--json")
    report = report_of(done)
    assert report["samples"] == 569
    assert report["columns"][0] == {"name": "mean radius", "dtype": "float64", "shape": []}
    assert report["splits"] == {"train": 455, "val": 57, "test": 57}
    assert report["duplicate_samples"] == 0
    assert report["batches"] == {"count": 15, "last": 7}
    assert set(report["bytes"]) == {"full_batch", "one_batch", "parameters"}
    assert "breast_cancer: 569 samples" in done.err


def test_tables_are_the_result_where_no_json_is_asked_for(rightbatch) -> None:
    done = rightbatch("inspect", "breast_cancer")
    assert done.code == 0
    assert "569 samples" in done.out
    assert "malignant" in done.out
    assert done.err == ""


def test_quiet_is_silent_on_stderr(rightbatch) -> None:
    done = rightbatch("inspect", "breast_cancer", "--json", "--quiet")
    assert report_of(done)["samples"] == 569
    assert done.err == ""


def test_mnist_figures(rightbatch, real_data: Path) -> None:
    arguments = ["--val", 5000, "--model", "softmax", "--batch-size", 128, "--json", "--quiet"]
    report = report_of(rightbatch("inspect", real_data / "mnist", *arguments))
    assert report["samples"] == 70_000
    assert report["splits"] == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert report["batches"] == {"count": 430, "last": 88}
    assert report["bytes"]["parameters"] == 7850 * 4 == 31_400
    assert report["bytes"]["full_batch"] == 55_000 * (784 + 10) * 4 + 31_400 == 174_711_400
    assert report["bytes"]["one_batch"] == 128 * (784 + 10) * 4 + 31_400
    assert report["columns"][0] == {"name": "image", "dtype": "uint8", "shape": [28, 28]}


def test_bytes_of_a_regression_count_one_float_a_target(rightbatch) -> None:
    report = report_of(rightbatch("inspect", "diabetes", "--json", "--batch-size", 100))
    train = report["splits"]["train"]
    assert report["model"] == "linear"
    assert report["bytes"] == {
        "full_batch": (train * (10 + 1) + 11) * 4,
        "one_batch": (100 * (10 + 1) + 11) * 4,
        "parameters": 11 * 4,
    }


@pytest.mark.parametrize(
    ("data", "model", "parameters"),
    [
        ("breast_cancer", "logistic", 31),
        ("wine", "softmax", 14 * 3),
        ("diabetes", "linear", 11),
    ],
)
def test_the_default_model_is_the_simplest_for_the_target(
    rightbatch, data: str, model: str, parameters: int
) -> None:
    report = report_of(rightbatch("inspect", data, "--json"))
    assert (report["model"], report["bytes"]["parameters"]) == (model, parameters * 4)


def test_a_batch_larger_than_the_training_part_is_one_batch(rightbatch) -> None:
    full = report_of(rightbatch("inspect", "iris", "--json", "--batch-size", "full"))
    large = report_of(rightbatch("inspect", "iris", "--json", "--batch-size", 9999))
    assert full["batches"] == large["batches"] == {"count": 1, "last": 120}
    assert full["bytes"]["one_batch"] == full["bytes"]["full_batch"] == large["bytes"]["one_batch"]


def test_data_without_a_target_have_no_model(rightbatch, table: Path) -> None:
    report = report_of(rightbatch("inspect", table, "--json"))
    assert (report["target"], report["model"], report["classes"]) == (None, None, None)
    assert report["bytes"]["parameters"] == 0
    assert report["bytes"]["full_batch"] == 80 * 4 * 4


@pytest.mark.parametrize("target", ["price", "3", "-1"])
def test_the_target_by_name_or_position(rightbatch, table: Path, target: str) -> None:
    report = report_of(rightbatch("inspect", table, "--target", target, "--json"))
    assert (report["target"], report["model"]) == ("price", "linear")


def test_an_unknown_target_is_refused_with_the_nearest_column(rightbatch, table: Path) -> None:
    done = rightbatch("inspect", table, "--target", "prize", "--json")
    assert (done.code, done.out) == (3, "")
    assert "Did you mean 'price'?" in done.err


def test_columns_keep_these_and_the_target(rightbatch, table: Path) -> None:
    report = report_of(
        rightbatch("inspect", table, "--columns", "size,colour", "--target", "price", "--json")
    )
    assert [column["name"] for column in report["columns"]] == ["size", "colour", "price"]


def test_categories_become_codes_or_one_hot(rightbatch, table: Path) -> None:
    codes = report_of(rightbatch("inspect", table, "--json"))
    one_hot = report_of(rightbatch("inspect", table, "--categories", "one-hot", "--json"))
    assert len(codes["columns"]) == 4
    assert len(one_hot["columns"]) == 6


def test_a_group_stays_together_and_is_no_input(rightbatch, table: Path) -> None:
    arguments = ["--target", "price", "--columns", "size", "--group", "patient", "--json"]
    report = report_of(rightbatch("inspect", table, *arguments))
    assert all(size % 5 == 0 for size in report["splits"].values())
    assert report["bytes"]["parameters"] == 2 * 4  # a weight for the size, and a bias


def test_a_group_that_one_hot_has_spread_is_refused(rightbatch, table: Path) -> None:
    done = rightbatch("inspect", table, "--group", "colour", "--categories", "one-hot")
    assert done.code == 2
    assert "categories=codes" in done.err


def test_no_header_names_the_columns_itself(rightbatch, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("".join(f"{k},{k * 2}\n" for k in range(50)))
    report = report_of(rightbatch("inspect", path, "--no-header", "--json"))
    assert report["samples"] == 50
    path.write_text("a,b\n" + path.read_text())
    assert report_of(rightbatch("inspect", path, "--header", "--json"))["samples"] == 50


def test_missing_values_by_policy(rightbatch, tmp_path: Path) -> None:
    path = tmp_path / "holes.csv"
    path.write_text("a,b\n" + "".join(f"{k},{'' if k % 10 == 0 else k}\n" for k in range(50)))
    refused = rightbatch("inspect", path)
    assert refused.code == 3
    assert "--missing drop" in refused.err
    dropped = report_of(rightbatch("inspect", path, "--missing", "drop", "--json"))
    assert dropped["samples"] == 45
    assert "Dropped 5 of 50 rows" in dropped["notes"][0]
    for policy in ("fill", "fill:7"):
        filled = report_of(rightbatch("inspect", path, "--missing", policy, "--json"))
        assert filled["samples"] == 50
        assert len(filled["notes"]) == 1
    wrong = rightbatch("inspect", path, "--missing", "dorp")
    assert wrong.code == 2
    assert "drop" in wrong.err


def test_nothing_held_out(rightbatch) -> None:
    report = report_of(rightbatch("inspect", "iris", "--val", 0, "--test", 0, "--json"))
    assert report["splits"] == {"train": 150, "val": 0, "test": 0}


def test_counts_and_shares(rightbatch) -> None:
    report = report_of(rightbatch("inspect", "iris", "--val", 10, "--test", 0.2, "--json"))
    assert report["splits"] == {"train": 110, "val": 10, "test": 30}


def test_stratify_keeps_the_shares_of_the_classes(rightbatch) -> None:
    report = report_of(
        rightbatch("inspect", "iris", "--stratify", "--val", 0.1, "--test", 0.1, "--json")
    )
    assert set(report["class_counts"]["val"].values()) == {5}
    assert set(report["class_counts"]["test"].values()) == {5}


def test_stratify_needs_a_target(rightbatch, table: Path) -> None:
    done = rightbatch("inspect", table, "--stratify")
    assert done.code == 2
    assert "stratify" in done.err


def test_seeds_give_other_splits(rightbatch) -> None:
    first, again, other = (
        report_of(rightbatch("inspect", "iris", "--seed", seed, "--json"))["class_counts"]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_data_with_their_own_test_part_refuse_another(rightbatch, real_data: Path) -> None:
    done = rightbatch("inspect", real_data / "mnist", "--test", 0.2)
    assert done.code == 2
    assert "own test part" in done.err


def test_scaling_is_for_bytes(rightbatch, tmp_path: Path) -> None:
    done = rightbatch("inspect", "digits", "--scale")
    assert done.code == 2
    assert "has none: its inputs are float64" in done.err
    path = tmp_path / "images.npz"
    np.savez(path, x=np.zeros((40, 4), np.uint8), y=np.arange(40) % 2)
    for option in ([], ["--scale"], ["--no-scale"]):
        assert report_of(rightbatch("inspect", path, "--target", "y", "--json", *option))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--val", "1.5"], "neither a share between 0 and 1"),
        (["--val", "0.6", "--test", "0.5"], "stay below 1"),
        (["--val", "9999"], "9999"),
        (["--batch-size", "ful"], "Did you mean 'full'?"),
        (["--batch-size", "0"], "is not a whole number from 1"),
        (["--categories", "one_hot"], "Did you mean 'one-hot'?"),
        (["--model", "softmx"], "Did you mean 'softmax'?"),
        (["--model", "mlp"], "mlp:100"),
        (["--missing", "fill"], "has no meaning for the built-in set"),
        (["--columns", "a,,b"], "empty name"),
        (["--seed", "one"], "not a valid integer"),
        (["--group", "target"], "group"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_valid(
    rightbatch, arguments: list[str], message: str
) -> None:
    done = rightbatch("inspect", "iris", "--target", "target", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_data_that_are_not_there_are_refused(rightbatch) -> None:
    done = rightbatch("inspect", "breast_cancr")
    assert (done.code, done.out) == (3, "")
    assert "'breast_cancer'" in done.err


def test_data_must_be_named(rightbatch) -> None:
    done = rightbatch("inspect")
    assert done.code == 2
    assert "DATA" in done.err


def test_duplicates_across_the_split_are_counted_and_warned_of(rightbatch, tmp_path: Path) -> None:
    path = tmp_path / "twice.npz"
    np.savez(path, x=np.repeat(np.arange(50.0), 2), y=np.tile([0, 1], 50))
    done = rightbatch("inspect", path, "--target", "y", "--json")
    assert report_of(done)["duplicate_samples"] > 0
    assert "Warning: " in done.err
    quiet = rightbatch("inspect", path, "--target", "y", "--json", "--quiet")
    assert quiet.err == ""


def test_the_quality_of_a_shuffle_is_told_where_it_is_asked_for(rightbatch, tmp_path: Path) -> None:
    path = tmp_path / "sorted.npz"
    np.savez(path, x=np.arange(4000.0), y=np.repeat(np.arange(4), 1000))
    order = ["--target", "y", "--batch-size", 32, "--window", 64, "--block", 16]
    done = rightbatch("inspect", path, *order, "--shuffle-quality", "--json")
    quality = report_of(done)["shuffle_quality"]
    assert quality["order"] == {"kind": "block-window", "window": 64, "block": 16}
    assert (quality["part"], quality["batch_size"]) == ("train", 32)
    assert quality["label_imbalance"]["ratio"] > 1.5
    assert f"window={quality['window_that_would_do']}, block=16" in done.err
    told = rightbatch("inspect", path, "--target", "y", "--shuffle-quality", "--no-shuffle")
    assert "label imbalance of a batch" in told.out
    assert "Shuffle: order sequential, batches of 32" in told.out
    assert report_of(rightbatch("inspect", path, "--json"))["shuffle_quality"] is None


@pytest.mark.parametrize("option", [["--window", 8], ["--block", 8], ["--no-shuffle"]])
def test_an_order_without_its_quality_is_refused(rightbatch, option: list) -> None:
    done = rightbatch("inspect", "iris", *option)
    assert done.code == 2
    assert "--shuffle-quality" in done.err


def test_rows_of_the_wrong_length_are_left_out_within_a_budget(rightbatch, table: Path) -> None:
    table.write_text(table.read_text() + "1.0,red\n")
    refused = rightbatch("inspect", table, "--json", "--quiet")
    assert refused.code == 3
    assert "line 102" in refused.err
    budget = ["--on-bad-sample", "quarantine", "--max-bad", 1]
    report = report_of(rightbatch("inspect", table, *budget, "--json", "--quiet"))
    assert report["samples"] == 100
    wrong = rightbatch("inspect", table, "--on-bad-sample", "quarantine", "--max-bad", "none")
    assert wrong.code == 2
    assert "neither a count from 1" in wrong.err

"""Hugging Face data sets as sources: what is read without a copy, and what is refused."""

from __future__ import annotations

import datetime
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.testing import check_dataset, check_resume

datasets = pytest.importorskip("datasets", reason="the group `integrations` is not installed")

X = np.random.default_rng(0).random((40, 3)).astype(np.float32)
LABELS = [k % 3 for k in range(40)]
TEXTS = ["né " + "o" * (k % 7) for k in range(40)]
FEATURES = datasets.Features(
    {
        "x": datasets.List(datasets.Value("float32"), length=3),
        "count": datasets.Value("int16"),
        "text": datasets.Value("string"),
        "tokens": datasets.List(datasets.Value("int32")),
        "label": datasets.ClassLabel(names=["a", "b", "c"]),
    }
)


def made(rows: int = 40, **columns: Any) -> Any:
    values = {
        "x": X[:rows],
        "count": list(range(rows)),
        "text": TEXTS[:rows],
        "tokens": [list(range(k % 4)) for k in range(rows)],
        "label": LABELS[:rows],
    }
    return datasets.Dataset.from_dict({**values, **columns}, features=FEATURES)


def columns(data: rb.Dataset) -> dict[str, str]:
    return {column.name: column.kind for column in data.columns}


def buffer_addresses(dataset: Any, column: str) -> list[tuple[int, int]]:
    found = []
    for chunk in dataset.data.column(column).chunks:
        for buffer in chunk.buffers():
            if buffer is not None:
                found.append((buffer.address, buffer.address + buffer.size))
    return found


def is_inside(array: np.ndarray, addresses: list[tuple[int, int]]) -> bool:
    begin = array.__array_interface__["data"][0]
    return any(first <= begin < last for first, last in addresses)


def test_columns_target_and_categories() -> None:
    data = rb.open(made(), name="mine")
    assert columns(data) == {
        "x": "float32[3]",
        "count": "int16",
        "text": "uint8[…]",
        "tokens": "int32[…]",
        "label": "int64",
    }
    assert (data.name, data.target) == ("mine", "label")
    assert data.column("label").categories == ("a", "b", "c")
    assert data.column("text").is_text
    np.testing.assert_array_equal(data.array("x"), X)
    assert data.ragged("text").texts() == TEXTS
    assert data.ragged("tokens")[3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("on_disk", [False, True])
def test_numbers_texts_and_lists_are_read_where_they_lie(on_disk, tmp_path) -> None:
    dataset = made()
    if on_disk:
        dataset.save_to_disk(tmp_path / "saved")
        dataset = datasets.load_from_disk(tmp_path / "saved")
    data = rb.open(dataset)
    for column in ("x", "count", "label"):
        assert is_inside(data.array(column), buffer_addresses(dataset, column)), column
    assert is_inside(data.ragged("text").values, buffer_addresses(dataset, "text"))
    assert is_inside(data.ragged("tokens").values, buffer_addresses(dataset, "tokens"))
    assert all(Path(file).is_relative_to(tmp_path) for file in data.files)
    assert bool(data.files) == on_disk


VIEWS: dict[str, Any] = {
    "as it is": lambda dataset: dataset,
    "shuffled": lambda dataset: dataset.shuffle(seed=1),
    "chosen": lambda dataset: dataset.select([30, 2, 2, 17]),
    "a stretch": lambda dataset: dataset.select(range(5, 25)),
    "filtered": lambda dataset: dataset.filter(lambda row: row["label"] > 0),
    "split off": lambda dataset: dataset.train_test_split(9, seed=4)["train"],
    "a shard of a shuffle": lambda dataset: dataset.shuffle(seed=2).shard(3, 1),
    "joined": lambda dataset: datasets.concatenate_datasets([dataset, made(7), dataset]),
    "joined and shuffled": lambda dataset: datasets.concatenate_datasets(
        [dataset, made(7)]
    ).shuffle(seed=3),
    "for torch": lambda dataset: dataset.with_format("torch"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_rows_are_those_that_the_library_gives(view) -> None:
    dataset = VIEWS[view](made())
    data = rb.open(dataset)
    assert len(data) == len(dataset)
    check_dataset(data)
    plain = dataset.with_format(None)
    for row in range(0, len(data), 3):
        sample = data.rows([row])
        np.testing.assert_array_equal(sample["x"][0], np.float32(plain[row]["x"]))
        assert sample["text"].texts() == [plain[row]["text"]]
        assert sample["tokens"][0].tolist() == plain[row]["tokens"]
        assert sample["label"][0] == plain[row]["label"]


def test_batches_resume_exactly() -> None:
    data = rb.open(made().shuffle(seed=5))
    check_resume(lambda: rb.Batches(data, 7, seed=3))


def test_lists_of_one_length_are_arrays_and_that_is_told() -> None:
    data = rb.open(datasets.Dataset.from_dict({"x": X, "label": LABELS}))
    assert columns(data)["x"] == "float32[3]"
    assert "all lists have one length, 3" in data.notes[0]
    np.testing.assert_array_equal(data.array("x"), X)


@pytest.mark.parametrize(
    ("values", "feature", "kind"),
    [
        ([True, False], datasets.Value("bool"), "bool"),
        ([1.5, 2.5], datasets.Value("float16"), "float16"),
        ([1, 2], datasets.Value("uint64"), "uint64"),
        ([b"ab", b"c"], datasets.Value("binary"), "uint8[…]"),
        # Bytes of one length stay entries: the next image has another one.
        ([b"ab", b"cd"], datasets.Value("large_binary"), "uint8[…]"),
        (["ab", "cd"], datasets.Value("large_string"), "uint8[…]"),
        ([datetime.date(2020, 1, 2)] * 2, datasets.Value("date32"), "float64"),
        ([[[1, 2]], [[3, 4]]], datasets.Array2D((1, 2), "int8"), "int8[1, 2]"),
        ([[[1, 2]], [[3, 4], [5, 6]]], datasets.Array2D((None, 2), "int8"), "int8[…, 2]"),
        (
            [[[1], [2]], [[3], [4]]],
            datasets.List(datasets.List(datasets.Value("int8"))),
            "int8[2, 1]",
        ),
        ([[1, 2], []], datasets.LargeList(datasets.Value("int8")), "int8[…]"),
        ([[True], [False, True]], datasets.List(datasets.Value("bool")), "bool[…]"),
        ([{"bytes": b"PNG", "path": None}] * 2, datasets.Image(decode=False), "uint8[…]"),
    ],
)
def test_every_layout(values, feature, kind) -> None:
    if isinstance(feature, datasets.Image):
        pytest.importorskip("PIL", reason="Pillow is not installed: the library encodes with it")
    features = datasets.Features({"x": feature})
    dataset = datasets.Dataset.from_dict({"x": values}, features=features)
    data = rb.open(dataset)
    assert columns(data) == {"x": kind}
    check_dataset(data)
    check_dataset(rb.open(dataset.select([1, 0, 1])))
    first = data.rows([0])["x"][0]
    if kind == "uint8[…]":
        stored = values[0]["bytes"] if isinstance(values[0], dict) else values[0]
        assert first.tobytes() == (stored.encode() if isinstance(stored, str) else stored)
    elif kind != "float64":
        np.testing.assert_array_equal(first, np.asarray(values[0]))


def test_the_own_parts_of_a_dict_are_those_of_a_split() -> None:
    parts = datasets.DatasetDict(
        {"test": made(6), "unsupervised": made(3), "train": made(), "validation": made(5)}
    )
    data = rb.open(parts)
    assert dict(data.own_parts) == {
        "train": range(40),
        "val": range(40, 45),
        "test": range(45, 51),
    }
    assert data.notes == (
        "Left out, as no train, validation or test part: unsupervised (3 samples).",
    )
    check_dataset(data)
    split = rb.split(data)
    assert split.sizes == {"train": 40, "val": 5, "test": 6}
    with pytest.raises(rb.OptionError, match=r"its own validation part of 5 samples, and val=0\.1"):
        rb.split(data, val=0.1)
    report = rb.run(parts, model="mlp:4", columns=["x"], batch_size=8, epochs=1, standardize=True)
    assert report.val["loss"] > 0
    assert report.test["loss"] > 0


def test_a_dict_of_shuffled_parts_is_read_part_by_part() -> None:
    parts = made().train_test_split(10, seed=3)
    data = rb.open(parts)
    assert rb.split(data, val=5).sizes == {"train": 25, "val": 5, "test": 10}
    expected = [*parts["train"]["count"], *parts["test"]["count"]]
    assert data.array("count").tolist() == expected


def test_a_dict_of_one_part_is_that_part() -> None:
    data = rb.open(datasets.DatasetDict({"train": made()}))
    assert data.own_parts == {}
    assert data.fingerprint == rb.open(made()).fingerprint


def test_missing_values_of_rows_that_were_left_out_do_not_matter() -> None:
    dataset = datasets.Dataset.from_dict({"x": [1, None, 3], "y": [0, 1, 0]})
    with pytest.raises(rb.DataError, match=r"'x' has 1 missing values, the first in row 1 "):
        rb.open(dataset)
    kept = rb.open(dataset.filter(lambda row: row["x"] is not None))
    assert kept.array("x").tolist() == [1, 3]
    with pytest.raises(rb.DataError, match="first in row 1 "):
        rb.open(dataset.select([2, 1]))


def test_a_label_without_a_name_is_refused_and_can_be_filtered() -> None:
    dataset = made(label=[-1, *LABELS[1:]])
    with pytest.raises(rb.DataError, match=r"label' is -1 in row 0 .*classes are 0 to 2"):
        rb.open(dataset)
    assert len(rb.open(dataset.filter(lambda row: row["label"] >= 0))) == 39


def test_a_target_is_found_by_name_where_no_column_has_classes() -> None:
    found = {
        name: rb.open(datasets.Dataset.from_dict({"x": [1, 2], name: [0, 1]})).target
        for name in ("label", "labels", "target", "z")
    }
    assert found == {"label": "label", "labels": "labels", "target": "target", "z": None}
    with pytest.raises(rb.DataError, match=r"target 'label' is nan in row 1"):
        rb.open(datasets.Dataset.from_dict({"x": [1, 2], "label": [0.5, np.nan]}))


def test_a_format_of_columns_chooses_them() -> None:
    data = rb.open(made().with_format("numpy", columns=["x", "label"]))
    assert list(columns(data)) == ["x", "label"]
    assert list(columns(rb.open(made(), columns=["count"]))) == ["count", "label"]


def encoded_paths() -> Any:
    pytest.importorskip("PIL", reason="Pillow is not installed: the library encodes with it")
    features = datasets.Features({"x": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"x": ["a.png", "b.png"]}, features=features)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made().to_iterable_dataset(), r"IterableDataset is a stream: .*streaming=True"),
        (
            lambda: datasets.IterableDatasetDict({"train": made().to_iterable_dataset()}),
            "IterableDatasetDict is a stream",
        ),
        (lambda: made().with_transform(lambda batch: batch), r"a transform on access"),
        (lambda: made(0), "zero samples"),
        (lambda: datasets.Dataset.from_dict({"x": [{"a": 1}]}), "has the type struct<a: int64>"),
        (lambda: datasets.Dataset.from_dict({"x": [["a"]]}), "holds lists of texts"),
        (lambda: datasets.Dataset.from_dict({"x": [[[1], [2, 3]]]}), "lists of lists"),
        (lambda: datasets.Dataset.from_dict({"x": [[1, None], []]}), "1 missing values"),
        (encoded_paths, r"row 0 .* holds no bytes but the path 'a\.png'"),
        (
            lambda: datasets.DatasetDict({"a": made(), "b": made()}),
            r"no part 'train', but a \(40\)",
        ),
        (
            lambda: datasets.DatasetDict({"train": made(), "test": made().remove_columns("x")}),
            "have different columns",
        ),
    ],
)
def test_what_can_not_be_read_is_refused_with_the_remedy(make, message) -> None:
    with pytest.raises(rb.DataError, match=message):
        rb.open(make())


def test_options_without_a_meaning_are_refused() -> None:
    with pytest.raises(rb.OptionError, match="missing='drop' has no meaning"):
        rb.open(made(), missing="drop")


def test_the_fingerprint_is_the_librarys_own_and_the_columns() -> None:
    base = rb.open(made()).fingerprint
    assert base == rb.open(made()).fingerprint
    others = {
        rb.open(made().shuffle(seed=1)).fingerprint,
        rb.open(made().shuffle(seed=2)).fingerprint,
        rb.open(made(count=[1] * 40)).fingerprint,
        rb.open(made(), columns=["x"]).fingerprint,
    }
    assert len(others | {base}) == 5


def test_the_fingerprint_is_the_same_in_another_process(tmp_path) -> None:
    made().shuffle(seed=1).save_to_disk(tmp_path / "saved")
    script = (
        "import sys, datasets, rightbatch as rb;"
        "print(rb.open(datasets.load_from_disk(sys.argv[1])).fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script, tmp_path / "saved"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert found == {rb.open(datasets.load_from_disk(tmp_path / "saved")).fingerprint + "\n"}


def test_an_opened_data_set_can_be_sent_to_another_process() -> None:
    data = rb.open(made().shuffle(seed=1))
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own object
    assert copy.fingerprint == data.fingerprint
    assert copy.rows([3])["text"] == data.rows([3])["text"]


def test_a_real_table_of_many_chunks(real_data, tmp_path) -> None:
    names = [f"column_{place}" for place in range(15)]
    rows = datasets.Dataset.from_csv(
        str(real_data / "adult" / "adult.data"), column_names=names, cache_dir=str(tmp_path)
    )
    assert rows.data.column("column_0").num_chunks > 1
    data = rb.open(rows, target="column_14")
    check_dataset(data)
    ours = rb.open(real_data / "adult", header=False, columns=[0])
    np.testing.assert_array_equal(data.array("column_0"), ours.array("column_0"))
    picked = rb.open(rows.shuffle(seed=1).select(range(100)), target="column_14")
    check_dataset(picked)

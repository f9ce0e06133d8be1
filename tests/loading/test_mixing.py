"""`mix`: proportions, held-out parts, transforms, and what can not be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.errors import DataError, OptionError, ResumeError
from rightbatch.plan.row_set import RowSet


def source(length: int, offset: float = 0.0, name: str | None = None) -> rb.Dataset:
    x = offset + np.arange(2.0 * length).reshape(length, 2)
    data = rb.open((x, np.arange(length) % 3))
    if name is not None:
        data.name = name
    return data


def two(**options) -> rb.Parts:
    many = rb.split(source(80), val=20, test=10, seed=3)
    few = rb.split(source(12, 1000.0), val=2, seed=1)
    return rb.mix({"many": (many, 0.75), "few": (few, 0.25)}, **options)


def test_held_out_parts_are_those_of_the_sources_every_sample_once() -> None:
    parts = two()
    assert parts.sizes == {"train": 60, "val": 22, "test": 10}
    assert parts.train.mixture is not None
    assert parts.val is not None
    assert parts.val.mixture is None
    seen = np.concatenate([rows for _, _, rows in rb.Batches(parts.val, 5, with_rows=True)])
    assert len(np.unique(seen)) == 22
    assert not parts.train.rows.contains(seen).any()


def test_an_epoch_is_as_long_as_the_train_parts_or_as_it_is_asked_to_be() -> None:
    assert [len(rb.Batches(two().train, 10)), len(two().train)] == [6, 60]
    assert len(rb.Batches(two(epoch_samples=200).train, 10)) == 20
    assert len(rb.Batches(two(epoch_samples=200).train, 10, epoch_samples=50)) == 5


def test_rows_say_which_source_a_sample_is_of() -> None:
    parts = two()
    for x, _, rows in rb.Batches(parts.train, 8, with_rows=True):
        assert np.array_equal(x[:, 0] >= 1000, rows >= 80)
        assert np.count_nonzero(rows >= 80) == len(rows) / 4


def test_without_shuffling_every_sample_comes_once() -> None:
    rows = np.concatenate(
        [rows for _, _, rows in rb.Batches(two().train, 7, shuffle=False, with_rows=True)]
    )
    assert np.array_equal(rows, two().train.rows.take(np.arange(60)))


def test_the_text_forms_show_the_mixture() -> None:
    parts = two(epoch_samples=100)
    shown = "0.75 of many (50 samples), 0.25 of few (10 samples)"
    assert shown in repr(parts)
    assert shown in repr(parts.train)
    assert f"100 draws, {shown}" in repr(rb.Batches(parts.train, 10))


def test_transforms_learn_from_the_training_samples_of_all_sources() -> None:
    parts = two().transform(rb.standardize())
    [(inputs, _)] = rb.Batches(parts.train, "full", shuffle=False)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-6)


def test_equal_transforms_of_the_sources_stay_and_others_are_refused() -> None:
    made = [rb.split(source(30, offset), val=5).transform(rb.scale(0.5)) for offset in (0, 100)]
    parts = rb.mix({"a": (made[0], 1), "b": (made[1], 1)})
    [(inputs, _, rows)] = rb.Batches(parts.val, "full", shuffle=False, with_rows=True)
    assert np.array_equal(inputs[rows < 30][:, 0], rows[rows < 30])
    fitted = [rb.split(source(30, offset)).transform(rb.standardize()) for offset in (0, 100)]
    with pytest.raises(OptionError, match=r"attach transforms to the mixture"):
        rb.mix({"a": (fitted[0], 1), "b": (fitted[1], 1)})


def test_a_given_part_is_held_out_in_the_place_of_the_sources_own() -> None:
    many = rb.split(source(80), val=20, seed=3)
    few = rb.split(source(12, 1000.0), val=2, seed=1)
    of_few = rb.mix({"many": (many, 1), "few": (few, 1)}, val=few.val)
    assert of_few.sizes == {"train": 70, "val": 2, "test": 0}
    other = rb.split(source(9, 5000.0)).train
    of_other = rb.mix({"many": (many, 1), "few": (few, 1)}, val=other)
    [(inputs, _)] = rb.Batches(of_other.val, "full", shuffle=False)
    assert np.array_equal(inputs[:, 0], 5000 + 2 * np.arange(9))
    assert len(of_other.train) == 70
    scaled = rb.split(source(9, 5000.0)).transform(rb.scale(2)).train
    with pytest.raises(OptionError, match="other transforms"):
        rb.mix({"many": (many, 1)}, val=scaled)


def test_parts_of_one_data_set_mix_where_they_are_disjoint() -> None:
    data = source(60)
    parts = rb.split(data, val=10, seed=1)
    rows = parts.train.rows.take(np.arange(50))
    halves = [
        rb.Part(data=data, rows=RowSet.from_rows(60, half), name="train")
        for half in (rows[:25], rows[25:])
    ]
    mixed = rb.mix({"old": (halves[0], 1), "new": (halves[1], 3)}, val=parts.val)
    assert mixed.sizes == {"train": 50, "val": 10, "test": 0}
    with pytest.raises(DataError, match="50 samples of arrays are trained on in 'a' and trained"):
        rb.mix({"a": (parts, 1), "b": (parts.train, 1)})


def test_law_5_a_sample_held_out_in_one_source_is_not_trained_on_in_another() -> None:
    one, other = (rb.split(source(60), val=20, seed=seed) for seed in (1, 2))
    assert one.data is not other.data
    with pytest.raises(DataError, match=r"are trained on in 'a' and held out \(val\) in 'b'"):
        rb.mix({"a": (one, 1), "b": (other, 1)})
    with pytest.raises(DataError, match="held out"):
        rb.mix({"a": (one, 1)}, val=other.val)


def test_law_5_windows_of_a_stream_that_share_tokens_are_not_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be, that is the question " * 20)
    data = rb.open(str(tmp_path / "a.txt"), sequence_length=8, stride=2)
    parts = rb.split(data, val=40, contiguous=True)
    assert rb.mix({"text": (parts, 1)}).sizes["val"] == 40
    near = rb.Part(data=data, rows=RowSet.from_range(len(data), 0, len(data) - 40), name="train")
    assert parts.val is not None
    with pytest.raises(DataError, match="are trained on in 'text' and held out"):
        rb.mix({"text": (near, 1)}, val=parts.val)


def test_samples_of_equal_inputs_across_sources_are_counted(caplog) -> None:
    one = rb.split(source(30), val=10, seed=1)
    copied = one.val.rows.take(np.arange(3))
    twin = rb.open((one.data.rows(copied)["x"], np.zeros(3, np.int64)))
    parts = rb.mix({"one": (one, 1), "twin": (twin, 1)})
    assert parts.duplicate_samples == 3
    assert "3 held-out samples have inputs equal" in caplog.text


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ({}, OptionError, "give pairs of a source and its proportion"),
        ("digits", OptionError, "give pairs"),
        ({"a": source(5)}, OptionError, "the source 'a' is"),
        ([(source(5), 1), (source(6), 1)], OptionError, "two sources are called 'arrays'"),
        ({"a": (source(5), 0)}, OptionError, "the proportion 0 is not valid"),
        ({"a": (source(5), float("nan"))}, OptionError, "the proportion nan"),
        ({"a": (two(), 1)}, OptionError, "'a' is a mixture itself"),
        ({"a": (two().val, 1)}, OptionError, "is the val part"),
        ({"a": (source(5), 1), "b": ("iris", 1)}, DataError, "do not have the same columns"),
    ],
)
def test_what_is_no_mixture_is_refused(sources, error, message) -> None:
    with pytest.raises(error, match=message):
        rb.mix(sources)


def test_what_contradicts_a_mixture_is_refused() -> None:
    train = two().train
    for options, message in [
        ({"weights": "balanced"}, "weights and a mixture both say"),
        ({"window": 5}, "leave window=5 out"),
        ({"shuffle": False, "epoch_samples": 5}, "has every sample once"),
        ({"epoch_samples": -1}, "epoch_samples=-1"),
    ]:
        with pytest.raises(OptionError, match=message):
            rb.Batches(train, 8, **options)
    with pytest.raises(OptionError, match="these are a mixture"):
        rb.advise("softmax", two())
    with pytest.raises(OptionError, match="every sample comes once"):
        rb.shuffle_quality(train)


def test_a_state_of_other_proportions_is_refused() -> None:
    many, few = rb.split(source(80)), rb.split(source(12, 1000.0))
    made = [rb.mix({"m": (many, share), "f": (few, 1)}).train for share in (2, 3)]
    with pytest.raises(ResumeError, match="order: mixture"):
        rb.Batches(made[1], 8).load_state_dict(rb.Batches(made[0], 8).state_dict())


def test_sources_may_be_files_and_memory(tmp_path: Path) -> None:
    rb.pack(source(40, 500.0), tmp_path / "pack")
    packed = rb.split(rb.open(str(tmp_path / "pack")), val=10)
    parts = rb.mix({"memory": (rb.split(source(40)), 1), "packed": (packed, 1)})
    for x, y, rows in rb.Batches(parts.train, 16, with_rows=True):
        own = np.where(rows < 40, rows, rows - 40)
        assert np.array_equal(x[:, 0], 2.0 * own + np.where(rows < 40, 0, 500))
        assert np.array_equal(y, own % 3)


def test_a_mixture_is_trained_on_and_measured_by_what_is_held_out(tmp_path: Path) -> None:
    data = rb.open("digits")
    parts = rb.split(data, val=0.2, seed=1)
    turned = data.array("image").transpose(0, 2, 1).copy()
    rotated = rb.open({"image": turned, "target": data.array("target")}, target="target")
    other = rb.split(rotated, val=0.2, seed=1)
    mixed = rb.mix({"upright": (parts, 0.8), "rotated": (other, 0.2)}, epoch_samples=500)
    mixed = mixed.transform(rb.scale(1 / 16))
    options = {"batch_size": 50, "learning_rate": 0.2, "seed": 3}
    whole = rb.fit("mlp:16", mixed, epochs=4, out=tmp_path / "whole", **options)
    assert whole.history[-1]["samples"] == 2000
    assert whole.leaked_samples == 0
    rb.fit("mlp:16", mixed, steps=13, out=tmp_path / "cut", **options)
    resumed = rb.fit("mlp:16", mixed, steps=40, out=tmp_path / "cut", resume=True, **options)
    assert resumed.step_losses == whole.step_losses


def test_tokenizers_of_one_name_are_the_same_only_if_they_are_one() -> None:
    def tokenizer(step: int) -> Any:
        def encode(text: str) -> list[int]:
            return [step * len(text)]

        return encode

    def lines(encode: Any, first: str) -> rb.Parts:
        texts = rb.Ragged.from_list([first + "a" * n for n in range(10)])
        return rb.split(rb.open({"line": texts}), val=2).transform(rb.tokenize(encode))

    one = tokenizer(1)
    rb.mix({"one": (lines(one, "x"), 0.5), "two": (lines(one, "y"), 0.5)})
    with pytest.raises(OptionError, match="other transforms"):
        rb.mix({"one": (lines(one, "x"), 0.5), "two": (lines(tokenizer(2), "y"), 0.5)})


def test_two_cuts_of_one_stream_are_no_two_sources_where_anything_is_held_out() -> None:
    stream = np.random.default_rng(3).integers(0, 50, 4000)
    cuts = [rb.open(stream, sequence_length=16, stride=stride) for stride in (16, 17)]
    held_out = [rb.split(data, val=0.2, seed=1) for data in cuts]
    with pytest.raises(DataError, match=r"one stream of tokens.*every 16 and every 17"):
        rb.mix({"a": (held_out[0], 1), "b": (held_out[1], 1)})
    assert len(rb.mix({"a": (rb.split(cuts[0]), 1), "b": (rb.split(cuts[1]), 1)}).train)
    other = rb.open(stream[::-1].copy(), sequence_length=16, stride=17)
    assert rb.mix({"a": (held_out[0], 1), "b": (rb.split(other, val=0.2), 1)}).val is not None

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import rightbatch as rb

TEXTS = ["to be or not to be", "that", "is the question", "", "whether"]
DATA = {"line": rb.Ragged.from_list(TEXTS), "y": np.arange(5)}


def part_of(*transforms, columns=DATA, target="y") -> rb.Part:
    parts = rb.split(rb.open(columns, target=target))
    return (parts.transform(*transforms) if transforms else parts).train


def test_texts_are_bytes_where_nothing_makes_ids_of_them():
    batches = rb.Batches(part_of(), batch_tokens=20, shuffle=False, with_rows=True)
    assert repr(batches) == "<Batches of arrays, all: 5 samples, 4 batches of up to 20 tokens>" or (
        repr(batches) == "<Batches of arrays, train: 5 samples, 4 batches of up to 20 tokens>"
    )
    found = {
        int(row): bytes(ids[mask].astype(np.uint8)).decode()
        for inputs, _, rows in batches
        for row, ids, mask in zip(rows, inputs["line"], inputs["mask"], strict=True)
    }
    assert found == dict(enumerate(TEXTS))


def test_golden_batches():
    lengths = [7, 1, 3, 9, 4, 2, 8, 8, 5, 6, 1, 2, 9, 3]
    ids = rb.Ragged.from_list([np.arange(length) for length in lengths])
    batches = rb.Batches({"ids": ids}, batch_tokens=20, seed=42, with_rows=True)
    assert [rows.tolist() for _, rows in batches.epoch(0)] == [
        *([12, 3], [8, 9, 4], [10, 13, 1, 5, 11, 2], [0, 7], [6])
    ]


def test_lengths_are_measured_after_what_changes_them():
    words = rb.tokenize(lambda text: [len(word) for word in text.split()])
    batches = rb.Batches(part_of(words), batch_tokens=6, shuffle=False, with_rows=True)
    sizes = {tuple(rows.tolist()): inputs["line"].shape for inputs, _, rows in batches}
    assert sizes == {(0,): (1, 6), (1, 3, 4): (3, 1), (2,): (1, 3)}

    def first_two(ids: rb.Ragged) -> rb.Ragged:
        return rb.Ragged.from_list([entry[:2] for entry in ids], dtype=np.int32)

    cut = rb.Batches(part_of(words, first_two), batch_tokens=6, with_rows=True)
    assert max(inputs["line"].shape[1] for inputs, _, _ in cut) == 2


def test_measuring_reads_a_few_samples_at_a_time(monkeypatch):
    read = []
    gather = rb.loading.pipeline.Pipeline.gather
    monkeypatch.setattr(
        rb.loading.pipeline.Pipeline,
        "gather",
        lambda self, rows: read.append(len(rows)) or gather(self, rows),
    )
    texts = rb.Ragged.from_list(["a" * 10_000] * 2_000)
    data = rb.open({"line": texts}).transform(rb.tokenize("bytes"))
    rb.Batches(data, batch_tokens=20_000)
    assert sum(read) > 2_000
    assert max(read) * 10_000 <= 4 << 20


def test_a_sample_longer_than_a_batch_is_named():
    with pytest.raises(
        rb.DataError, match=r"row 0 of arrays has 18 tokens, and a batch holds 10, and 1 more have"
    ) as raised:
        rb.Batches(part_of(), batch_tokens=10)
    assert "batch_tokens=18" in str(raised.value)
    assert "rb.pad(longest=10)" in str(raised.value)
    with pytest.raises(rb.DataError, match=r"18 tokens .24 with its padding., .*longest=16"):
        rb.Batches(part_of(rb.pad(multiple_of=8)), batch_tokens=20)


def test_samples_that_are_cut_on_the_users_word_are_counted(caplog):
    with caplog.at_level(logging.WARNING):
        batches = rb.Batches(part_of(rb.pad(longest=10)), batch_tokens=20)
    assert batches.truncated_samples == 2
    assert "2 of 5 samples are longer than 10 and are cut" in caplog.text
    assert max(inputs["line"].shape[1] for inputs, _ in batches) == 10


def test_shapes_are_few_where_lengths_are_rounded_up():
    batches = rb.Batches(part_of(rb.pad(multiple_of=16)), batch_tokens=64)
    shapes = {inputs["line"].shape for inputs, _ in batches}
    assert {length for _, length in shapes} == {16, 32}
    assert all(count * length <= 64 for count, length in shapes)


def test_lengths_that_a_function_draws_are_refused_when_a_batch_exceeds_its_tokens():
    calls = []

    def longer_every_time(ids: rb.Ragged) -> rb.Ragged:
        calls.append(1)
        return rb.Ragged.from_list([np.ones(5 * len(calls)) for _ in ids])

    batches = rb.Batches(part_of(longer_every_time), batch_tokens=100, threads=0)
    calls += [1] * 100
    with pytest.raises(rb.DataError, match="sequences of other lengths than it gave"):
        list(batches)


def test_given_edges_are_the_buckets():
    batches = rb.Batches(part_of(), batch_tokens=40, bucket_edges=[8, 20], shuffle=False)
    assert [inputs["line"].shape for inputs, _ in batches] == [(2, 18), (3, 7)]


def test_the_target_counts_where_no_input_varies():
    part = part_of(columns={"x": np.eye(5), "y": DATA["line"]})
    shapes = [target.shape for _, target in rb.Batches(part, batch_tokens=36)]
    assert sum(count for count, _ in shapes) == 5
    assert all(count * length <= 36 for count, length in shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 32}, "batch_size=32 contradict each other: how many samples"),
        ({"window": 8}, "leave window out"),
        ({"window": 8, "block": 4}, "leave window out"),
        ({"memory": "64MB"}, "leave memory out"),
        ({"remainder": "drop"}, "every bucket ends with a batch of what is left"),
        ({"on_bad_sample": "quarantine", "max_bad": 1}, "or take batch_size"),
        ({"weights": np.ones(5)}, "every sample is taken once; give batch_size"),
        ({"weights": "balanced"}, "every sample is taken once; give batch_size"),
        ({"bucket_edges": [4]}, "bucket_edges end at 4"),
        ({"batch_tokens": 0}, "batch_tokens=0 is not valid"),
        ({"batch_tokens": 2.5}, "batch_tokens=2.5 is not valid"),
    ],
)
def test_what_can_not_go_with_it_is_refused(options, message):
    with pytest.raises(rb.OptionError, match=message):
        rb.Batches(part_of(), **{"batch_tokens": 100, **options})


def test_neither_size_nor_tokens_is_refused():
    with pytest.raises(rb.OptionError, match="say how large a batch is"):
        rb.Batches(part_of())
    with pytest.raises(rb.OptionError, match="give batch_tokens too"):
        rb.Batches(part_of(), 2, bucket_edges=[4])


def test_samples_of_one_shape_are_refused():
    with pytest.raises(rb.OptionError, match="a batch of arrays holds none: give batch_size"):
        rb.Batches((np.eye(3), np.arange(3)), batch_tokens=8)

    def arrays(ids: rb.Ragged):
        return ids.padded()[0]

    with pytest.raises(rb.OptionError, match=r"rb.pad\(\) in its place"):
        rb.Batches(part_of(arrays), batch_tokens=100)
    with pytest.raises(rb.OptionError, match=r"put pad\(\) before the function"):
        rb.Batches(part_of(arrays, rb.pad()), batch_tokens=100)


def test_a_state_belongs_to_its_tokens_edges_and_lengths():
    state = rb.Batches(part_of(), batch_tokens=40, seed=1).state_dict()
    assert state["token_batches"]["tokens"] == 40
    others = [
        (part_of(), {"batch_tokens": 41}, "tokens of a batch: 40 in the cursor, 41 now"),
        (part_of(), {"batch_tokens": 40, "bucket_edges": [20]}, "bucket edges"),
        (part_of(rb.pad(longest=9)), {"batch_tokens": 40}, "lengths of the samples"),
        (part_of(rb.pad()), {"batch_size": 2}, "of up to 40 tokens in the cursor, of 2 samples"),
    ]
    for part, options, message in others:
        other = rb.Batches(part, **options, seed=1)
        with pytest.raises(rb.ResumeError, match=message) as raised:
            other.load_state_dict(state, allow_new_batch_size=True)
        assert "would repeat some samples and miss others" in str(raised.value)
    plain = rb.Batches(part_of(rb.pad()), 2, seed=1).state_dict()
    with pytest.raises(rb.ResumeError, match="of 2 samples in the cursor, of up to 40 tokens now"):
        rb.Batches(part_of(), batch_tokens=40, seed=1).load_state_dict(plain)


def test_a_state_between_batches_is_refused():
    batches = rb.Batches(part_of(), batch_tokens=40, seed=1)
    starts = {0, *(stop for _, stop in batches.plan.spans())}
    inside = next(samples for samples in range(5) if samples not in starts)
    with pytest.raises(rb.ResumeError, match="the samples of some whole batches"):
        batches.load_state_dict({**batches.state_dict(), "samples": inside})


def test_shuffle_quality_takes_batches_of_one_size():
    with pytest.raises(rb.OptionError, match="hold up to 40 tokens: hand over the part"):
        rb.shuffle_quality(rb.Batches(part_of(), batch_tokens=40))


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_from_one_of_its_batches_on_is_the_rest_of_it(shuffle) -> None:
    generator = np.random.default_rng(5)
    entries = rb.Ragged.from_list(
        [generator.integers(9, size=n) for n in generator.integers(1, 40, 200)]
    )
    batches = rb.Batches(rb.open({"x": entries}), batch_tokens=100, shuffle=shuffle, with_rows=True)
    whole = [rows.tolist() for _, rows in batches.epoch(3)]
    for first in (0, 1, len(whole) // 2, len(whole), len(whole) + 3):
        rest = batches.epoch(3, first_batch=first)
        assert [rows.tolist() for _, rows in rest] == whole[first:]
        assert len(rest) == max(0, len(whole) - first)


def test_the_bytes_of_an_image_are_no_tokens(pictures: Any) -> None:
    files = [np.frombuffer(pictures.encoded(pictures.make(n)), np.uint8) for n in range(6)]
    data = rb.open({"image": rb.Ragged.from_list(files), "y": [0, 1] * 3}, target="y")
    with pytest.raises(rb.OptionError, match=r"'image' .* encoded images.*decode_images\(224\)"):
        rb.Batches(data, batch_tokens=1 << 20)
    of_bytes = rb.Ragged.from_list([np.arange(n + 3, dtype=np.uint8) for n in range(6)])
    assert len(rb.Batches({"ids": of_bytes}, batch_tokens=64)) > 0

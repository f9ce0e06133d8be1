"""The laws of batches on entries that vary in length: those of a list gathered by hand."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data import ragged_region
from rightbatch.data.file_region import FileRegion
from rightbatch.testing import check_resume

LENGTH = 97
GENERATOR = np.random.default_rng(0)
LENGTHS = GENERATOR.integers(0, 12, LENGTH)
TEXTS = [f"{row}:" + "é" * length for row, length in enumerate(LENGTHS)]
STEPS = [GENERATOR.random((length, 2)).astype(np.float32) for length in LENGTHS]
X = GENERATOR.random((LENGTH, 3)).astype(np.float32)
Y = GENERATOR.integers(0, 3, LENGTH)

COLUMNS = {
    "one field": {"text": rb.Ragged.from_list(TEXTS), "y": Y},
    "fields of all kinds": {
        "text": rb.Ragged.from_list(TEXTS),
        "steps": rb.Ragged.from_list(STEPS),
        "x": X,
        "y": Y,
    },
    "ragged target": {"x": X, "y": rb.Ragged.from_list(STEPS)},
    "scalars beside it": {"a": X[:, 0], "b": Y, "text": rb.Ragged.from_list(TEXTS), "y": Y},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, dict[str, rb.Dataset]]:
    folder = tmp_path_factory.mktemp("packs")
    found = {}
    for name, columns in COLUMNS.items():
        memory = rb.open(columns, target="y")
        rb.pack(memory, folder / name)
        found[name] = {"memory": memory, "pack": rb.open(folder / name)}
    return found


def check_field(found, rows, entries) -> None:
    """A field of a batch against the list; padding (-1) holds any entry."""
    assert isinstance(found, rb.Ragged)
    assert len(found) == len(rows)
    assert found.offsets[0] == 0
    assert found.offsets[-1] == len(found.values)
    for entry, row in zip(found, rows.tolist(), strict=True):
        if row >= 0:
            np.testing.assert_array_equal(entry, entries[row])


def as_list(values):
    return values.to_list() if isinstance(values, rb.Ragged) else values


@settings(max_examples=80)
@given(drawn=st.data())
def test_batches_hold_the_entries_of_their_rows_in_every_order(sources, drawn):
    name = drawn.draw(st.sampled_from(sorted(COLUMNS)))
    where = drawn.draw(st.sampled_from(["memory", "pack"]))
    window, block = drawn.draw(st.sampled_from([(None, None), (20, None), (24, 6), (1, None)]))
    options = {
        "seed": drawn.draw(st.integers(0, 5)),
        "shuffle": window is not None or drawn.draw(st.booleans()),
        "window": window,
        "block": block,
        "remainder": drawn.draw(st.sampled_from(["keep", "drop", "pad"])),
        "threads": drawn.draw(st.sampled_from([0, 1, 2])),
    }
    if drawn.draw(st.booleans()):
        options.update(on_bad_sample="quarantine", max_bad=1)
    parts = rb.split(sources[name][where], val=0.2, seed=1)
    size = drawn.draw(st.sampled_from([1, 7, 32, "full"]))
    batches = rb.Batches(parts.train, size, with_rows=True, **options)
    seen = []
    for inputs, target, rows, *_ in batches:
        fields = dict(inputs) if isinstance(inputs, dict) else {"only": inputs}
        if "only" in fields:
            only = "x" if name == "ragged target" else "text"
            fields = {only: fields["only"]}
        for field, values in {**fields, "y": target}.items():
            entries = as_list(COLUMNS[name][field])
            if isinstance(COLUMNS[name][field], rb.Ragged):
                check_field(values, rows, entries)
            else:
                real = rows >= 0
                np.testing.assert_array_equal(values[real], entries[rows[real]])
        seen += rows[rows >= 0].tolist()
    assert len(seen) == len(set(seen)) == len(parts.train) - batches.dropped_samples


@pytest.mark.parametrize("name", sorted(COLUMNS))
@pytest.mark.parametrize("options", [{"window": 20}, {"window": 24, "block": 6}, {}])
def test_a_pack_gives_the_batches_of_memory_and_either_goes_on_with_the_other(
    sources, name, options
):
    one, other = (
        rb.Batches(sources[name][where], 10, seed=3, with_rows=True, **options)
        for where in ("memory", "pack")
    )
    assert sources[name]["memory"].fingerprint == sources[name]["pack"].fingerprint
    for number, (mine, its) in enumerate(zip(one, other, strict=True)):
        assert equal(mine, its)
        if number == 4:
            break
    other.load_state_dict(one.state_dict())
    one.load_state_dict(one.state_dict())
    assert all(equal(mine, its) for mine, its in zip(one, other, strict=True))


def equal(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return all(equal(mine, its) for mine, its in zip(one, other, strict=True))
    return one == other if isinstance(one, rb.Ragged) else np.array_equal(one, other)


@pytest.mark.parametrize("where", ["memory", "pack"])
@pytest.mark.parametrize("threads", [0, 2])
def test_resume_is_exact(sources, where, threads):
    data = sources["fields of all kinds"][where]
    for options in ({}, {"window": 24, "block": 6}, {"remainder": "pad"}):
        check_resume(lambda options=options: rb.Batches(data, 10, threads=threads, **options))


def padded(inputs):
    return {**inputs, "text": inputs["text"].padded(length=8)[0], "steps": inputs["steps"].lengths}


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_a_function_makes_arrays_and_later_transforms_take_them(sources, output):
    parts = rb.split(sources["fields of all kinds"]["pack"], val=0.2, seed=1)
    parts = parts.transform(padded, rb.scale(1 / 255, column="text"))
    seen = 0
    for inputs, _, rows in rb.Batches(parts.train, 10, output=output, with_rows=True):
        expected = rb.Ragged.from_list([TEXTS[row] for row in rows.tolist()]).padded(length=8)[0]
        np.testing.assert_array_equal(
            np.asarray(inputs["text"]), expected * np.float32(1 / 255), strict=False
        )
        assert np.asarray(inputs["steps"]).tolist() == LENGTHS[np.asarray(rows)].tolist()
        assert isinstance(inputs["x"], torch.Tensor if output == "torch" else np.ndarray)
        seen += len(rows)
    assert seen == len(parts.train)


class Streamed(rb.Dataset):
    """Samples that no array holds: what a source that reads files one by one gives."""

    def __init__(self, data):
        super().__init__(name=data.name, columns=data.columns, target=data.target)
        self._data = data

    @property
    def fingerprint(self):
        return self._data.fingerprint

    def __len__(self):
        return len(self._data)

    def rows(self, indices):
        return self._data.rows(indices)

    def span(self, start, stop):
        return self._data.span(start, stop)


@pytest.mark.parametrize("name", sorted(COLUMNS))
@pytest.mark.parametrize("options", [{}, {"memory": "8MB"}, {"window": 24, "block": 6}])
def test_a_source_without_whole_columns_gives_the_same_batches(sources, name, options):
    whole = sources[name]["memory"]
    one, other = (
        rb.Batches(data, 10, seed=3, with_rows=True, **options) for data in (whole, Streamed(whole))
    )
    assert all(equal(mine, its) for mine, its in zip(one, other, strict=True))


@pytest.mark.parametrize("memory", ["10MB", "8MB"])
def test_a_budget_of_memory_changes_the_order_and_nothing_else(tmp_path, memory):
    lengths = np.random.default_rng(1).integers(0, 9000, 4000)
    entries = rb.Ragged(
        np.random.default_rng(2).integers(0, 255, lengths.sum()).astype(np.uint8),
        np.concatenate([[0], np.cumsum(lengths)]),
    )
    images = np.random.default_rng(3).random((4000, 5))
    data = rb.pack(
        rb.open({"jpeg": entries, "x": images, "y": lengths}, target="y"), tmp_path / "p"
    )
    batches = rb.Batches(data, 16, memory=memory, with_rows=True, seed=2)
    assert batches.order.kind == "block-window"
    seen = []
    for inputs, y, rows in batches:
        assert inputs["jpeg"] == entries[rows]
        np.testing.assert_array_equal(inputs["x"], images[rows])
        np.testing.assert_array_equal(y, lengths[rows])
        seen += rows.tolist()
    assert sorted(seen) == list(range(4000))


@pytest.mark.parametrize("options", [{}, {"window": 24, "block": 6}, {"shuffle": False}])
@pytest.mark.parametrize("cut", ["values", "offsets"])
def test_entries_that_were_cut_off_are_left_out_or_stop_the_run(
    sources, tmp_path, options, cut, monkeypatch
):
    # Files that are really cut end a process that reads behind their end: here they only say so.
    data = rb.pack(sources["one field"]["memory"], tmp_path / "pack")
    whole = FileRegion.whole_rows.fget
    ends = np.cumsum([len(text.encode()) for text in TEXTS])
    kept = int(ends[49]) + 1 if cut == "values" else 51

    def shorter(region):
        return kept if f".{cut}." in region.path.name else whole(region)

    monkeypatch.setattr(FileRegion, "whole_rows", property(shorter))
    with pytest.raises(rb.DataError, match=rf"text\.{cut}\.npy ends before row [5-9]\d"):
        list(rb.Batches(data, 10, **options))
    batches = rb.Batches(
        data, 10, on_bad_sample="quarantine", max_bad=60, with_rows=True, **options
    )
    seen = []
    for text, _, rows, weights in batches:
        check_field(text, rows, rb.Ragged.from_list(TEXTS).to_list())
        np.testing.assert_array_equal(weights > 0, rows >= 0)
        seen += rows[rows >= 0].tolist()
    assert sorted(seen) == list(range(50))
    assert [sample.row for sample in batches.bad_samples] == list(range(50, LENGTH))


def test_a_file_that_is_really_cut_off_does_not_end_the_process(sources, tmp_path):
    data = rb.pack(
        rb.open({"b": rb.Ragged(np.zeros(50 * 8192, np.uint8), np.arange(51) * 8192)}),
        tmp_path / "pack",
    )
    file = tmp_path / "pack" / "b.values.npy"
    os.truncate(file, 128 + 20 * 8192 + 5)
    for options in ({}, {"window": 8, "block": 2}):
        batches = rb.Batches(
            data, 4, on_bad_sample="quarantine", max_bad=30, with_rows=True, **options
        )
        rows = np.concatenate([rows for _, rows, _ in batches])
        assert sorted(rows[rows >= 0].tolist()) == list(range(20))


def test_a_value_that_can_not_be_read_ahead_is_left_out_or_stops_the_run(tmp_path, monkeypatch):
    data = rb.pack({"text": rb.Ragged.from_list(TEXTS)}, tmp_path / "pack")
    bad = int(data.ragged("text").offsets[30])
    whole = os.preadv

    def failing(descriptor, buffers, offset):
        if offset <= 128 + bad < offset + sum(len(buffer) for buffer in buffers):
            raise OSError(5, "Input/output error")
        return whole(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    options = {"window": 24, "block": 6, "with_rows": True}
    with pytest.raises(rb.DataError, match=r"text\.values\.npy: reading value .* failed"):
        list(rb.Batches(data, 10, **options))
    batches = rb.Batches(data, 10, on_bad_sample="quarantine", max_bad=1, **options)
    rows = np.concatenate([rows for *_, rows, _ in batches])
    assert sorted(rows[rows >= 0].tolist()) == [row for row in range(LENGTH) if row != 30]
    assert [sample.row for sample in batches.bad_samples] == [30]


def test_what_is_read_ahead_is_read_in_pieces(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(ragged_region, "_PIECE_BYTES", 7)
    packed = rb.pack(sources["fields of all kinds"]["memory"], tmp_path / "pack")
    one, other = (
        rb.Batches(data, 10, window=24, block=6, seed=1)
        for data in (packed, sources["fields of all kinds"]["memory"])
    )
    assert all(equal(mine, its) for mine, its in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "transform",
    [
        rb.scale(2.0),
        rb.standardize(),
        rb.flatten(),
        rb.cast("float32"),
        rb.one_hot(3, column="text"),
    ],
)
def test_transforms_of_samples_refuse_it_and_say_what_to_do(sources, transform):
    parts = rb.split(sources["one field"]["memory"], val=0.2)
    with pytest.raises(rb.DataError, match=r"'text' vary in length .*attach rb.pad"):
        parts.transform(transform)


def test_tensors_are_refused_before_and_after_a_function(sources):
    data = sources["one field"]["memory"]
    with pytest.raises(rb.OptionError, match=r"entries of 'text' vary in length.*padded"):
        rb.Batches(data, 10, output="torch")
    kept = data.transform(lambda inputs: inputs)
    with pytest.raises(rb.OptionError, match="entries of 'text' vary in length"):
        list(rb.Batches(kept, 10, output="torch"))
    assert isinstance(next(iter(rb.Batches(kept, 10)))[0], rb.Ragged)


def test_a_function_may_give_nested_tensors(sources):
    def nested(text):
        values, offsets = torch.tensor(text.values), torch.tensor(text.offsets)
        return torch.nested.nested_tensor_from_jagged(values, offsets)

    data = sources["one field"]["memory"].transform(nested)
    text, _, rows = next(iter(rb.Batches(data, 10, output="torch", with_rows=True)))
    assert [bytes(entry.tolist()).decode() for entry in text.unbind()] == [
        TEXTS[row] for row in rows.tolist()
    ]


def test_fitting_needs_arrays_and_says_so(sources):
    for name, model in (("one field", "softmax"), ("fields of all kinds", torch.nn.Linear(3, 3))):
        parts = rb.split(sources[name]["memory"], val=0.2)
        with pytest.raises(rb.DataError, match=r"entries of 'text' vary in length: .*attach"):
            rb.fit(model, parts, epochs=1, learning_rate=0.1)
    target = rb.split(sources["ragged target"]["memory"], val=0.2)
    with pytest.raises(rb.DataError, match="target 'y' vary in length"):
        rb.fit("linear", target, epochs=1, learning_rate=0.1)


def test_a_model_learns_from_what_a_function_makes_and_predicts_from_a_pack(sources, tmp_path):
    def counts(text):
        return np.stack([np.bincount(entry % 16, minlength=16) for entry in text]).astype("f4")

    data = sources["one field"]
    parts = rb.split(data["memory"], val=0.2, seed=1).transform(counts)
    result = rb.fit("softmax", parts, epochs=2, learning_rate=0.1, out=tmp_path / "run")
    scores = rb.evaluate(result, parts.val)
    packed = rb.split(data["pack"], val=0.2, seed=1).transform(counts)
    assert rb.evaluate(result, packed.val) == scores
    assert len(rb.predict(result, packed.val)) == len(packed.val)


def test_text_is_no_group_and_no_stratum(sources):
    for option in ({"group": "text"}, {"stratify": "text"}):
        with pytest.raises(rb.DataError, match="entries that vary in length"):
            rb.split(sources["one field"]["memory"], val=0.2, **option)


@given(drawn=st.data())
def test_equal_entries_are_duplicates_and_neighbouring_bytes_are_not(drawn):
    words = st.lists(st.sampled_from([b"", b"a", b"ab", b"b", b"bc", b"c"]), min_size=6, max_size=6)
    one, other = drawn.draw(words), drawn.draw(words)
    numbers = drawn.draw(st.lists(st.integers(0, 1), min_size=6, max_size=6))
    data = rb.open({"a": rb.Ragged.from_list(one), "n": numbers, "b": rb.Ragged.from_list(other)})
    from rightbatch.data import duplicates

    expected, seen = [], {}
    for sample in zip(one, numbers, other, strict=True):
        expected.append(seen.setdefault(sample, len(seen)))
    assert duplicates.equal_content_groups(data).tolist() == expected
    colliding = duplicates.content_keys(data) % np.uint64(2)
    groups = duplicates._group(data, colliding)
    same = np.array(expected)
    np.testing.assert_array_equal(groups[:, None] == groups[None], same[:, None] == same[None])


@pytest.mark.parametrize("options", [{}, {"window": 24, "block": 6}])
def test_offsets_damaged_under_the_map_cost_their_rows_and_nothing_else(tmp_path, options):
    data = rb.pack({"text": rb.Ragged.from_list(TEXTS)}, tmp_path / "pack")
    with (tmp_path / "pack" / "text.offsets.npy").open("r+b") as file:
        file.seek(136 + 8 * 30)  # where entry 30 ends and entry 31 begins
        file.write((2**61).to_bytes(8, "little"))
    with pytest.raises(rb.DataError, match="offsets of a ragged column point outside"):
        list(rb.Batches(data, 10, **options))
    batches = rb.Batches(data, 10, on_bad_sample="quarantine", max_bad=2, with_rows=True, **options)
    seen = []
    for text, rows, _ in batches:
        check_field(text, rows, rb.Ragged.from_list(TEXTS).to_list())
        seen += rows[rows >= 0].tolist()
    assert sorted(seen) == [row for row in range(LENGTH) if row not in (30, 31)]


def test_slices_take_them_as_they_take_arrays():
    text = rb.Ragged.from_list(TEXTS)
    pieces = rb.batches(10, text, Y, shuffle=True, seed=2)
    assert sorted(entry for part, _ in pieces for entry in part.texts()) == sorted(TEXTS)
    assert rb.batches(10, text)[1].texts() == TEXTS[10:20]

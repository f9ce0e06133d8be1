from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.loading.transforms import transform_from_json

TEXTS = ["to be", "", "nöt", "日本"]


def parts_of(texts, how, val=None, **options):
    data = rb.open({"line": rb.Ragged.from_list(texts), "y": np.arange(len(texts))}, target="y")
    return rb.split(data, val=val, seed=1).transform(rb.tokenize(how, **options))


def ids_of(part) -> list[list[int]]:
    inputs, _ = next(iter(rb.Batches(part, "full", shuffle=False)))
    assert inputs.dtype == np.int32
    return [entry.tolist() for entry in inputs]


def test_bytes_are_their_own_ids():
    assert ids_of(parts_of(TEXTS, "bytes").train) == [list(text.encode()) for text in TEXTS]


@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=12))
def test_characters_can_be_read_back(texts):
    part = parts_of(texts or [""], "characters").train
    alphabet = part.transforms[0].alphabet
    assert list(alphabet) == sorted(set("".join(texts)))
    found = ["".join(alphabet[code - 2] for code in ids) for ids in ids_of(part)]
    assert found == texts


def test_the_alphabet_is_that_of_the_training_texts_alone():
    texts = [chr(ord("a") + row) for row in range(20)]
    parts = parts_of(texts, "characters", val=5)
    in_train = "".join(texts[row] for row in np.concatenate([*parts.train.rows.chunks()]))
    assert parts.val.transforms[0].alphabet == in_train
    assert ids_of(parts.val) == [[1]] * 5


def test_a_given_alphabet_says_the_ids_in_its_order():
    part = parts_of(["cab", "d"], "characters", alphabet="cba").train
    assert ids_of(part) == [[2, 4, 3], [1]]
    assert part.transforms[0].vocabulary_size == 5


def test_a_function_runs_text_by_text():
    part = parts_of(["to be", "", "not to be"], lambda text: [len(w) for w in text.split()]).train
    assert ids_of(part) == [[2, 2], [], [3, 2, 2]]


@pytest.mark.parametrize(
    "given_ids", [None, "ab", [0.5], [[1], [2]], [[1], [2, 3]], [-1], [2**31], [True], 3]
)
def test_a_function_that_gives_no_ids_is_named(given_ids):
    def broken(text: str):
        return given_ids

    with pytest.raises(rb.DataError, match=r"tokenizer .*broken gave .* for the text 'to'"):
        ids_of(parts_of(["to"], broken).train)


def test_columns_that_hold_no_texts_are_refused():
    numbers = rb.open({"x": np.ones((3, 2)), "y": np.arange(3)}, target="y")
    with pytest.raises(rb.DataError, match="takes texts, and column 'x' is float64"):
        rb.split(numbers).transform(rb.tokenize("bytes"))


def test_bytes_that_are_no_text_are_named():
    broken = rb.Ragged(np.frombuffer("aé".encode(), np.uint8), np.array([0, 2, 3]), is_text=True)
    part = (
        rb.split(rb.open({"line": broken}))
        .transform(rb.tokenize("characters", alphabet="aé"))
        .train
    )
    with pytest.raises(rb.DataError, match=r"entry 0 .* is no text of UTF-8"):
        list(rb.Batches(part, 2, shuffle=False))


@pytest.mark.parametrize(
    ("how", "options", "message"),
    [
        ("charakters", {}, "Did you mean 'characters'"),
        ("bytes", {"alphabet": "ab"}, "is for tokenize.'characters'."),
        ("characters", {"alphabet": "aba"}, "has 'a' more than once"),
    ],
)
def test_options_that_are_not_valid_are_refused(how, options, message):
    with pytest.raises(rb.OptionError, match=message):
        rb.tokenize(how, **options)


def test_it_is_kept_as_json():
    made = rb.tokenize("characters", alphabet="ab", column="line")
    assert transform_from_json(made.to_json()).to_json() == made.to_json()

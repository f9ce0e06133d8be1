from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.plan.hashing import derive_key, key_stream, mix

words = st.lists(st.one_of(st.integers(), st.text("ab12:", max_size=4)), max_size=4)


def test_the_first_words_of_splitmix64_are_the_published_ones():
    # State 1234567, the example that implementations of splitmix64 are checked against.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert key_stream(1234567, np.arange(3)).tolist() == published


def test_mix_equals_the_formula_in_python_integers():
    def formula(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    values = [0, 1, 2**32, 2**63, 2**64 - 1, 0x0123456789ABCDEF]
    assert mix(np.array(values, np.uint64)).tolist() == [formula(value) for value in values]


@given(words, words)
def test_keys_differ_when_words_differ(some, others):
    assert (derive_key(*some) == derive_key(*others)) == (
        [(type(word), word) for word in some] == [(type(word), word) for word in others]
    )


def test_a_key_is_64_bits_of_blake2b_over_tagged_words():
    encoded = b"text:5:order" + b"integer:2:42"
    expected = hashlib.blake2b(encoded, digest_size=8).digest()
    assert derive_key("order", 42) == int.from_bytes(expected, "little")


def test_numpy_integers_give_the_key_of_the_number():
    assert derive_key("order", int(np.int64(7))) == derive_key("order", 7)
    assert derive_key("order", np.int64(7)) == derive_key("order", 7)  # type: ignore[arg-type]  # callers may pass what NumPy gave them

"""Keys and hashes: the one source of randomness of splits and orders."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
"""The odd step of splitmix64: 2^64 divided by the golden ratio."""


def derive_key(*words: int | str) -> int:
    """A 64-bit key from `words`, by BLAKE2b over an encoding that no two lists of words share.

    Seed, epoch and purpose are hashed together and never added, so seed 42 in epoch 1 has
    nothing in common with seed 43 in epoch 0.

    >>> derive_key("order", 42, 1) == derive_key("order", 43, 0)
    False
    >>> derive_key("a", "bc") == derive_key("ab", "c")
    False
    >>> derive_key(1) == derive_key("1")
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for word in words:
        text = str(word).encode()
        kind = "text" if isinstance(word, str) else "integer"
        digest.update(f"{kind}:{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "little")


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: a bijection of 64-bit words that avalanches every bit.

    Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014), variant 13 of
    Stafford: z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9, z = (z ^ z >> 27) * 0x94d049bb133111eb,
    z ^ z >> 31, all modulo 2^64.

    >>> [hex(word) for word in mix(np.array([0, 1, 2**64 - 1], np.uint64))]
    ['0x0', '0x5692161d100b05e5', '0xb4d055fcf2cbbd7b']
    """
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def key_stream(key: int, counters: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The splitmix64 generator of state `key` at any `counters` c: mix(key + (c + 1) * gamma).

    Distinct counters give distinct words, because the step is odd and `mix` is a bijection.

    >>> [hex(word) for word in key_stream(0, np.arange(2))]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    states = counters.astype(np.uint64)
    states += np.uint64(1)
    states *= np.uint64(GOLDEN_GAMMA)
    states += np.uint64(key)
    return mix(states)

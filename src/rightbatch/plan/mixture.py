"""The mixture order: samples of several sources in fixed proportions, by arithmetic alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.checks import is_integer, whole_number
from rightbatch.plan.hashing import derive_key, key_stream
from rightbatch.plan.permutation import permute_span

# Products of a place in a stretch and a denominator stay below 2^62.
_STRETCH = 2**16
_MOST_DENOMINATOR = 2**44
# A number that was written as a third, or as 0.123456789, is taken for just that.
_WRITTEN_DENOMINATOR = 10**9
# Passes over sources up to this length are sorted together, one row of a matrix each.
_MATRIX_LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class MixtureOrder:
    """Which sample of which source stands at each position of a run, as a pure function.

    The samples of the sources are numbered one source after another: `lengths` are how many each
    has, `proportions` how often each comes, with a sum of one. Epochs have any length and follow
    one another in one stream, so that what follows holds across their ends:

    - of the first p samples a source has its share of p to within two, and to within a half where
      there are two sources; so of any samples in a row, such as a batch, to within four (or one);
    - within a source samples come without replacement, pass after pass, every pass in a keyed
      permutation of its own: each exactly once a pass.

    Sources are paired off in a tree. A fork that sends the share x one way has sent
    floor(p x + 1/2) of its first p samples there, which is off by a half at most, and a fork below
    it passes on no more of that than its own share. In the tree no fork but a source itself has
    more than two thirds of the one above, so that 1/2 + 2/3 (1/2 + 2/3 (...)) = 3/2 comes down to
    a source at most, and 1/2 is added there. Nothing is stored, and a position costs the same
    wherever it is.

    Raises OptionError where there is no source, or one is empty or has no share.

    >>> order = MixtureOrder.of([1000, 10], [0.75, 0.25])
    >>> order.positions(8, seed=7, epoch=0, start=0, stop=8)
    array([ 269,  101, 1005,  387,  695,  378, 1007,  643])
    """

    lengths: tuple[int, ...]
    proportions: tuple[Fraction, ...]

    kind = "mixture"
    window = None
    block = None

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.proportions) or not self.lengths:
            raise OptionError("a mixture has one length and one proportion a source, and a source")
        for length in self.lengths:
            whole_number("length", length, at_least=1)
        if min(self.proportions) <= 0 or sum(self.proportions) != 1:
            raise OptionError("the proportions of a mixture are above 0 and add up to 1")

    @classmethod
    def of(cls, lengths: Sequence[int], proportions: Sequence[object]) -> MixtureOrder:
        """Of proportions in any unit: 0.7 and 0.3 are 7 and 3. Each counts as it is written."""
        given = [_as_written(proportion) for proportion in proportions]
        return cls(
            lengths=tuple(map(int, lengths)),
            proportions=tuple(one / sum(given) for one in given),
        )

    @property
    def population(self) -> int:
        """The number of samples of all sources."""
        return sum(self.lengths)

    def positions(
        self, length: int, seed: int, epoch: int, start: int, stop: int
    ) -> NDArray[np.int64]:
        """The samples at positions `start` up to `stop` of an epoch of `length` samples.

        Returns int64 (stop - start,). Raises IndexError unless 0 <= start <= stop <= length.
        """
        if not 0 <= start <= stop <= length:
            raise IndexError(f"span({start}, {stop}) lies outside 0 <= start <= stop <= {length}")
        found = np.empty(stop - start, np.int64)
        for at in range(0, stop - start, _STRETCH):
            part = found[at : at + _STRETCH]
            begin = epoch * length + start + at
            self._fill(self._tree, begin, np.arange(len(part)), part, seed)
        return found

    def counts(self, position: int) -> list[int]:
        """How many samples of each source stand before `position` of the whole run.

        >>> MixtureOrder.of([1000, 10], [0.75, 0.25]).counts(10**12)
        [750000000000, 250000000000]
        """
        counts = [0] * len(self.lengths)
        waiting: list[tuple[_Fork | int, int]] = [(self._tree, position)]
        while waiting:
            node, before = waiting.pop()
            if isinstance(node, int):
                counts[node] = before
                continue
            taken = node.taken(before)[0]
            waiting += [(node.left, taken), (node.right, before - taken)]
        return counts

    def to_json(self) -> dict[str, Any]:
        """The order as a dict for JSON."""
        return {
            "kind": self.kind,
            "lengths": list(self.lengths),
            "proportions": [str(proportion) for proportion in self.proportions],
        }

    def __str__(self) -> str:
        return f"mixture of {', '.join(f'{float(share):.4g}' for share in self.proportions)}"

    def _fill(
        self,
        node: _Fork | int,
        begin: int,
        places: NDArray[np.int64],
        found: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Write samples `begin` and following of what comes to this node to `places` of `found`."""
        if not len(places):
            return
        if isinstance(node, int):
            found[places] = self._ordinals(node, begin, begin + len(places), seed)
            return
        taken, rest = node.taken(begin)
        steps = np.arange(len(places), dtype=np.int64)
        steps *= node.numerator
        steps += rest
        steps %= node.denominator
        # A sample goes to the left where the count of the left grows with it.
        is_left = steps >= node.denominator - node.numerator
        self._fill(node.left, taken, places[is_left], found, seed)
        self._fill(node.right, begin - taken, places[~is_left], found, seed)

    def _ordinals(self, source: int, start: int, stop: int, seed: int) -> NDArray[np.int64]:
        """Samples number `start` up to `stop` that the source gives in the whole run."""
        length = self.lengths[source]
        key = derive_key("order", "mixture", source, length, seed)
        first, last = start // length, -(-stop // length)
        if length <= _MATRIX_LENGTH:
            ordinals = np.arange(first * length, last * length, dtype=np.int64)
            hashes = key_stream(key, ordinals).reshape(-1, length)
            samples = np.argsort(hashes, axis=1, kind="stable").reshape(-1)
            samples = samples[start - first * length : stop - first * length]
        else:
            samples = np.concatenate(
                [
                    permute_span(
                        length,
                        derive_key(key, number),
                        max(start - number * length, 0),
                        min(stop - number * length, length),
                    )
                    for number in range(first, last)
                ]
            )
        samples += sum(self.lengths[:source])
        return samples

    @cached_property
    def _tree(self) -> _Fork | int:
        return _tree(sorted(range(len(self.lengths)), key=self._by_share), self.proportions)

    def _by_share(self, source: int) -> tuple[Fraction, int]:
        return -self.proportions[source], source


@dataclass(frozen=True)
class _Fork:
    """Where `numerator` of `denominator` samples go to the left and the others to the right."""

    numerator: int
    denominator: int
    left: _Fork | int
    right: _Fork | int

    def taken(self, count: int) -> tuple[int, int]:
        """How many of the first `count` went to the left, floor(count x + 1/2), and what is over.

        What is over counts in parts of the denominator.
        """
        return divmod(count * self.numerator + self.denominator // 2, self.denominator)


def _tree(sources: list[int], shares: Sequence[Fraction]) -> _Fork | int:
    """The tree of sources in falling order of their shares.

    A source that has a third or more stands by itself. Else the first of them, taken together
    until they have a third, have less than two thirds.
    """
    if len(sources) == 1:
        return sources[0]
    total = sum((shares[source] for source in sources), Fraction(0))
    count, share = 0, Fraction(0)
    while share * 3 < total:
        share += shares[sources[count]]
        count += 1
    fraction = (share / total).limit_denominator(_MOST_DENOMINATOR)
    return _Fork(
        fraction.numerator,
        fraction.denominator,
        _tree(sources[:count], shares),
        _tree(sources[count:], shares),
    )


def _as_written(proportion: object) -> Fraction:
    if is_integer(proportion):
        number = Fraction(int(proportion))
    elif isinstance(proportion, float | np.floating) and np.isfinite(proportion):
        number = Fraction(repr(float(proportion))).limit_denominator(_WRITTEN_DENOMINATOR)
    elif isinstance(proportion, Fraction):
        number = proportion
    else:
        number = Fraction(0)
    if number <= 0:
        raise OptionError(
            f"the proportion {proportion!r} is not valid; give a number above 0, such as 0.7, and "
            "leave a source out that shall not come"
        )
    return number

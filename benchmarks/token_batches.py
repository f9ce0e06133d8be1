"""Batches of lines of a play: of up to 4,096 tokens, padded, with inputs, mask and next tokens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measure import Contender, Work
from report import Benchmark, Goal, command

_DATA = Path(os.environ.get("RIGHTBATCH_DATA", "../shared/data")) / "tinyshakespeare/input.txt"
_TOKENS = 4_096
# So many samples a batch of one size holds that it has about as many tokens as the others.
_BATCH_SIZE = 128
# How many batches' worth of samples peers sort by length: transformers has 50, and so have most
# samplers that one finds.
_POOL = 50
_MASKED = -100

Batch = tuple[Any, Any, Any]
"""Ids (B, L), mask (B, L), next ids (B, L) with -100 where there is none."""
Epoch = Callable[[int], Iterable[Batch]]


@cache
def lines() -> list[NDArray[np.uint8]]:
    """Every line that is not empty as bytes with its end; random ones where the play is missing."""
    if _DATA.is_file():
        texts = [line + "\n" for line in _DATA.read_text().splitlines() if line]
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]
    generator = np.random.default_rng(0)
    lengths = generator.lognormal(3.3, 0.6, 32_777).astype(int).clip(2, 256)
    return [generator.integers(32, 123, length).astype(np.uint8) for length in lengths]


class TokenWork(Work):
    """One epoch of batches, each of which is taken and let go."""

    def __init__(self, loader: Callable[[], Epoch]) -> None:
        self._epoch = loader()
        self._number = 0
        self._outcome = ""

    def warm_up(self) -> None:
        """Check an epoch: every token once, followed by its next one; and count its padding."""
        wanted = np.bincount(np.concatenate([line[:-1] for line in lines()]), minlength=256)
        found, places, batches = np.zeros(256, np.int64), 0, 0
        for ids, mask, following in self._epoch(0):
            ids, mask, following = (np.asarray(each) for each in (ids, mask, following))
            assert ids.dtype == following.dtype == np.int64
            assert ids.shape == mask.shape == following.shape
            assert ((following == _MASKED) == ~mask).all()
            inside = mask[:, :-1] & mask[:, 1:]
            assert (ids[:, 1:][inside] == following[:, :-1][inside]).all()
            found += np.bincount(ids[mask], minlength=256)
            places += ids.size
            batches += 1
        assert (found == wanted).all(), "the tokens are not those that went in"
        self._outcome = f"{1 - wanted.sum() / places:.1%} padding, {batches} batches"

    def run(self) -> None:
        """Go through one epoch."""
        self._number += 1
        samples = sum(len(ids) for ids, _, _ in self._epoch(self._number))
        assert samples == len(lines()), f"{samples:,} samples came out"

    def outcome(self) -> str:
        """How much of an epoch is padding."""
        return self._outcome


def rightbatch(**options: Any) -> Epoch:
    """`Batches` with `batch_tokens`, or a batch size and `pad`."""
    import rightbatch as rb

    ids = rb.Ragged.from_list([line[:-1] for line in lines()])
    following = rb.Ragged.from_list([line[1:] for line in lines()])
    data = rb.open({"ids": ids, "next": following}, target="next").transform(rb.pad())
    batches = rb.Batches(data, output="torch", seed=7, **options)

    def epoch(number: int) -> Iterator[Batch]:
        for inputs, target in batches.epoch(number):
            yield inputs["ids"], inputs["mask"], target

    return epoch


def torch_loader(sampler: Callable[[int], list[list[int]]], workers: int) -> Epoch:
    """A DataLoader whose batches are lists of samples, padded when they are collated."""
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from torch.utils.data import DataLoader

    tensors = [torch.from_numpy(line.astype(np.int64)) for line in lines()]

    def collate(samples: list[Any]) -> Batch:
        ids = pad_sequence([sample[:-1] for sample in samples], batch_first=True)
        following = pad_sequence(
            [sample[1:] for sample in samples], batch_first=True, padding_value=_MASKED
        )
        return ids, following != _MASKED, following

    class Sampler:
        """The batches of whatever epoch is to come."""

        number = 0

        def __iter__(self) -> Iterator[list[int]]:
            return iter(sampler(self.number))

    batches = Sampler()
    loader: DataLoader[Any] = DataLoader(
        tensors,  # type: ignore[arg-type]  # a list is a map-style data set
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Otherwise each of the lines would be a file of shared memory, and there are too many.
        multiprocessing_context="fork" if workers else None,
    )

    def epoch(number: int) -> Iterable[Batch]:
        batches.number = number
        return loader

    return epoch


def random_batches(number: int) -> list[list[int]]:
    """Shuffled samples, so many a batch."""
    order = np.random.default_rng(number).permutation(len(lines())).tolist()
    return [order[start : start + _BATCH_SIZE] for start in range(0, len(order), _BATCH_SIZE)]


def grouped_by_length(number: int) -> list[list[int]]:
    """As the `group_by_length` of transformers: pools of 50 batches, each sorted by length."""
    lengths = [len(line) for line in lines()]
    order = np.random.default_rng(number).permutation(len(lengths)).tolist()
    size = _POOL * _BATCH_SIZE
    pools = [order[start : start + size] for start in range(0, len(order), size)]
    flat = [row for pool in pools for row in sorted(pool, key=lambda row: -lengths[row])]
    return [flat[start : start + _BATCH_SIZE] for start in range(0, len(flat), _BATCH_SIZE)]


def bucketed(number: int) -> list[list[int]]:
    """As bucketing samplers are commonly written: sorted pools, filled up to the tokens, mixed."""
    generator = np.random.default_rng(number)
    lengths = [len(line) - 1 for line in lines()]
    order = generator.permutation(len(lengths)).tolist()
    size = _POOL * _BATCH_SIZE
    batches: list[list[int]] = []
    for start in range(0, len(order), size):
        batch: list[int] = []
        for row in sorted(order[start : start + size], key=lambda row: lengths[row]):
            if batch and (len(batch) + 1) * lengths[row] > _TOKENS:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
    return [batches[place] for place in generator.permutation(len(batches))]


def padding_alone() -> Epoch:
    """What is left where batches are known and their entries gathered: padding them."""
    import rightbatch as rb

    ids = rb.Ragged.from_list([line[:-1].astype(np.int64) for line in lines()])
    following = rb.Ragged.from_list([line[1:].astype(np.int64) for line in lines()])
    batches = rb.Batches({"ids": ids}, batch_tokens=_TOKENS, with_rows=True)
    known = [(ids.take(rows), following.take(rows)) for _, rows in batches]

    def epoch(number: int) -> Iterator[Batch]:
        del number
        for entries, targets in known:
            yield *entries.padded(), targets.padded(_MASKED)[0]

    return epoch


_OURS = "rightbatch, batch_tokens"
_REFERENCE = "torch DataLoader, bucketing sampler, 0 workers"
_LIMIT = "padding of known batches alone, 1 thread"
_TORCH = ("torch",)

_PEERS = tuple(
    Contender(
        name=f"torch DataLoader, {name}, {workers} workers",
        work=partial(TokenWork, partial(torch_loader, sampler, workers)),
        modules=_TORCH,
    )
    for name, sampler in (
        ("bucketing sampler", bucketed),
        ("group_by_length", grouped_by_length),
        ("random batches", random_batches),
    )
    for workers in (0, 2)
)

BENCHMARK = Benchmark(
    title=f"{len(lines()):,} lines of varying length → padded batches of {_TOKENS:,} tokens",
    samples=len(lines()),
    reference=_REFERENCE,
    limit=_LIMIT,
    contenders=(
        Contender(name=_OURS, work=partial(TokenWork, partial(rightbatch, batch_tokens=_TOKENS))),
        Contender(
            name="rightbatch, batch_tokens, threads=0",
            work=partial(TokenWork, partial(rightbatch, batch_tokens=_TOKENS, threads=0)),
        ),
        Contender(
            name=f"rightbatch, random batches of {_BATCH_SIZE}, rb.pad",
            work=partial(TokenWork, partial(rightbatch, batch_size=_BATCH_SIZE)),
        ),
        *_PEERS,
        Contender(name=_LIMIT, work=partial(TokenWork, padding_alone), is_limit=True),
    ),
    goals=(
        Goal(
            says="rightbatch against the best peer",
            ours=_OURS,
            theirs=tuple(peer.name for peer in _PEERS),
            factor=4.0,
        ),
    ),
    notes=(
        f"The lines of {_DATA}." if _DATA.is_file() else f"Random lines; {_DATA} is missing.",
        f"Batches of one size are of {_BATCH_SIZE} lines.",
    ),
)

if __name__ == "__main__":
    command(BENCHMARK, repeats=5)()

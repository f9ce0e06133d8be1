"""`mix`: train parts of several data sets as one, in fixed proportions."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rightbatch.data.dataset import Dataset
from rightbatch.data.duplicates import content_bytes
from rightbatch.data.joined import JoinedDataset
from rightbatch.data.token_windows import TokenWindows
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.duplicate_counts import count_duplicates
from rightbatch.loading.mixture import Mixture
from rightbatch.loading.parts import AnyTransform, Part, Parts
from rightbatch.loading.split_codes import content_groups
from rightbatch.loading.splitting import CONTENT_LIMIT_BYTES, split
from rightbatch.loading.tokenize import Tokenize
from rightbatch.loading.transform import Function
from rightbatch.plan.checks import whole_number
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.row_set import RowSet

logger = logging.getLogger(__name__)

_HELD_OUT = ("val", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Member:
    """One of the data sets that are joined: the rows of it by part, and its transforms."""

    name: str
    data: Dataset
    rows: dict[str, RowSet]
    transforms: tuple[AnyTransform, ...] = ()
    held_out_transforms: tuple[AnyTransform, ...] = ()

    def rows_of(self, part: str) -> RowSet:
        return self.rows.get(part, RowSet.from_range(len(self.data), 0, 0))


def mix(
    sources: Mapping[str, tuple[Any, float]] | Sequence[tuple[Any, float]],
    *,
    epoch_samples: int | None = None,
    val: Part | None = None,
    test: Part | None = None,
) -> Parts:
    """Several data sets with the same columns as one, whose train part comes in proportions.

    `sources` are pairs of a source and its proportion, by name: `{"web": (parts, 0.7), "books":
    (other, 0.3)}`, or a list of them. Proportions count by their ratio, 7 and 3 are 0.7 and 0.3. A
    source is what `split` gave, a train part of it, or anything that `open` takes. `epoch_samples`
    is the length of an epoch, as many as the train parts have together where it is not given.

    Any samples in a row have a source's share of them to within four samples, and to within one
    where there are two sources; within a source samples come without replacement, pass after pass,
    across the ends of epochs (`MixtureOrder`). Of epochs of `Batches` and `fit` alone: every sample
    once is `shuffle=False`.

    Validation and test are held out before: those of the sources together, every sample once, or
    the parts `val` and `test`, which may be of another data set with the same columns. So no sample
    of theirs is mixed in; where two sources are of the same data, their parts have to be disjoint.

    Transforms are attached to the mixture, `rb.mix(…).transform(rb.standardize())`, and learn from
    every training sample once; transforms that the sources have must be the same ones.

    Raises OptionError where a proportion is not valid or a part is held out, DataError where
    columns differ or a sample of one source is held out in another.

    >>> import rightbatch as rb
    >>> many = rb.split(([[0.0], [1.0]] * 50, [0, 1] * 50), val=0.2)
    >>> few = rb.split(([[8.0], [9.0]] * 5, [0, 1] * 5))
    >>> parts = rb.mix({"many": (many, 0.75), "few": (few, 0.25)}, epoch_samples=200)
    >>> x, y = next(iter(rb.Batches(parts.train, 40, seed=7)))
    >>> int((x > 5).sum()), len(parts.val)
    (10, 20)
    """
    named = _named(sources)
    members = [_member(name, source) for name, (source, _) in named.items()]
    _refuse_other_transforms(members)
    given = {"val": val, "test": test}
    for part_name, part in given.items():
        if part is not None:
            members = _with_held_out(members, part, part_name)
            _refuse_other_transforms([members[0], _member_of(part_name, part)], held_out=True)
    _refuse_leaks(members)
    data = JoinedDataset([member.data for member in members])
    mixed = members[: len(named)]
    lengths = [len(member.rows["train"]) for member in mixed]
    order = MixtureOrder.of(lengths, [proportion for _, proportion in named.values()])
    epoch_samples = (
        sum(lengths)
        if epoch_samples is None
        else whole_number("epoch_samples", epoch_samples, at_least=1)
    )
    mixture = Mixture(names=tuple(named), order=order, epoch_samples=epoch_samples)
    rows = {
        name: RowSet.joined([member.rows_of(name) for member in members])
        for name in ("train", *_HELD_OUT)
    }
    first = mixed[0]
    parts = {
        name: Part(
            data=data,
            rows=of_part,
            name=name,
            transforms=first.transforms if name == "train" else first.held_out_transforms,
            mixture=mixture if name == "train" else None,
        )
        for name, of_part in rows.items()
        if len(of_part)
    }
    return Parts(
        data=data,
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        duplicate_samples=_duplicates(data, rows),
        settings=_hidden(data),
        held_out_transforms=first.held_out_transforms,
    )


def _named(sources: Any) -> dict[str, tuple[Any, float]]:
    """Pairs of source and proportion by name; OptionError where they are none."""
    if not sources or isinstance(sources, str) or not isinstance(sources, Mapping | Sequence):
        raise OptionError(
            f"mix was given {sources!r}: give pairs of a source and its proportion by name, "
            'such as {"web": (parts, 0.7), "books": (other, 0.3)}'
        )
    pairs: list[tuple[Any, Any]] = (
        list(sources.items())
        if isinstance(sources, Mapping)
        else [(None, pair) for pair in sources]
    )
    named: dict[str, tuple[Any, float]] = {}
    for place, (name, pair) in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise OptionError(
                f"the source {place if name is None else repr(name)} is {type(pair).__name__}, and "
                "a mixture takes pairs of a source and its proportion: (parts, 0.7)"
            )
        source, proportion = pair
        if name is None:
            data = source.data if isinstance(source, Part | Parts) else source
            name = getattr(data, "name", None) or f"source {place}"
        if name in named:
            raise OptionError(
                f"two sources are called {name!r}: name them, {{'first': (parts, 0.7), "
                "'second': (other, 0.3)}"
            )
        named[str(name)] = (source, proportion)
    return named


def _member(name: str, source: Any) -> _Member:
    """A source as a member: whole data sets bring a test part of their own, if any."""
    if isinstance(source, Part):
        if source.name in _HELD_OUT:
            raise OptionError(
                f"{name!r} is the {source.name} part of {source.data.name}, which is held out: mix "
                f"train parts, and give it as mix(…, {source.name}=…) to measure by it"
            )
        parts = Parts(data=source.data, train=source, held_out_transforms=source.transforms)
    else:
        parts = source if isinstance(source, Parts) else split(source)
    if parts.train.mixture is not None:
        raise OptionError(
            f"{name!r} is a mixture itself: give its sources, with their shares of the whole"
        )
    if not len(parts.train):
        raise OptionError(f"{name!r} has no sample to train on: leave it out")
    return _Member(
        name=name,
        data=parts.data,
        rows={part_name: part.rows for part_name, part in parts.all.items()},
        transforms=parts.train.transforms,
        held_out_transforms=parts.held_out_transforms,
    )


def _refuse_other_transforms(members: Sequence[_Member], *, held_out: bool = False) -> None:
    """OptionError where the sources have transforms that are not the same ones."""
    first = _described(members[0], held_out)
    for other in members[1:]:
        if _described(other, held_out) != first:
            raise OptionError(
                f"{members[0].name!r} and {other.name!r} have other transforms, or such as have "
                "learned other values: split the sources without, and attach transforms to the "
                "mixture, rb.mix(…).transform(…)"
            )


def _described(member: _Member, held_out: bool) -> list[list[Any]]:
    """The transforms such that equal ones are equal; a function is itself."""
    both = (member.held_out_transforms, member.transforms)
    return [
        [_what_it_does(transform) for transform in transforms]
        for transforms in (both[:1] if held_out else both)
    ]


def _what_it_does(transform: AnyTransform) -> Any:
    if isinstance(transform, Function):
        return transform.function
    text = json.dumps(transform.to_json())
    # Of a tokenizer that is a function, its JSON has the name alone.
    if isinstance(transform, Tokenize) and callable(transform.how):
        return transform.how, text
    return text


def _member_of(name: str, part: Part) -> _Member:
    return _Member(
        name=f"the {name} part",
        data=part.data,
        rows={name: part.rows},
        held_out_transforms=part.transforms,
    )


def _with_held_out(members: Sequence[_Member], part: Part, name: str) -> list[_Member]:
    """The members when `part`, and nothing else, is held out as `name`."""
    if not isinstance(part, Part):
        raise OptionError(f"{name} is {type(part).__name__}; give one part, such as parts.{name}")
    found = [
        _Member(**{**vars(member), "rows": {**member.rows, name: empty}})
        for member in members
        for empty in [RowSet.from_range(len(member.data), 0, 0)]
    ]
    for place, member in enumerate(found):
        if member.data is part.data:
            rows = {**member.rows, name: part.rows}
            found[place] = _Member(**{**vars(member), "rows": rows})
            return found
    return [*found, _member_of(name, part)]


def _refuse_leaks(members: Sequence[_Member]) -> None:
    """DataError where a sample that is trained on is held out, or comes in two sources."""
    for member in members:
        for part in _HELD_OUT:
            _refuse_common(member, "train", member, part)
    for one, other in itertools.combinations(members, 2):
        if one.data is not other.data and (
            len(one.data) != len(other.data) or one.data.fingerprint != other.data.fingerprint
        ):
            _refuse_other_windows(one, other)
            continue
        for part in _HELD_OUT:
            _refuse_common(one, "train", other, part)
            _refuse_common(other, "train", one, part)
        _refuse_common(one, "train", other, "train")


def _refuse_other_windows(one: _Member, other: _Member) -> None:
    """DataError where two cuts of one stream hold anything out: their rows say nothing of it."""
    if not isinstance(one.data, TokenWindows) or not isinstance(other.data, TokenWindows):
        return
    holds_out = any(len(each.rows_of(part)) for each in (one, other) for part in _HELD_OUT)
    if holds_out and one.data.stream_fingerprint == other.data.stream_fingerprint:
        raise DataError(
            f"{one.name!r} and {other.name!r} are windows of one stream of tokens, "
            f"{one.data.name}, cut every {one.data.stride} and every {other.data.stride}: what is "
            "held out of one would be trained on in the other. Open both with one stride and take "
            "them from one split"
        )


def _refuse_common(one: _Member, part: str, other: _Member, other_part: str) -> None:
    rows, others = one.rows_of(part), other.rows_of(other_part)
    count = rows.count_common(others)
    if not count and other_part in _HELD_OUT and one.data.overlap:
        count = _count_near(rows, others, one.data.overlap)
    if not count:
        return
    where = (
        f"{count:,} samples of {one.data.name} are trained on in {one.name!r} and "
        f"{'trained on' if other_part == 'train' else f'held out ({other_part})'} in {other.name!r}"
    )
    raise DataError(
        f"{where}: take both from one split of the data, or give the parts that are disjoint"
    )


def _count_near(rows: RowSet, others: RowSet, distance: int) -> int:
    """How many of `others` share content with one of `rows`, fewer rows away than they overlap."""
    near = 0
    for chunk in others.chunks():
        is_near = np.zeros(len(chunk), np.bool_)
        for away in range(1, distance + 1):
            is_near |= rows.contains(chunk - away) | rows.contains(chunk + away)
        near += int(is_near.sum())
    return near


def _duplicates(data: JoinedDataset, rows: Mapping[str, RowSet]) -> int | None:
    """Held-out samples whose inputs are those of a training sample, of any source."""
    if not any(len(rows[name]) for name in _HELD_OUT):
        return 0
    if data.runs_others_code or content_bytes(data) > CONTENT_LIMIT_BYTES:
        return None
    content = content_groups(data, asked=False)
    if content is None:
        return None
    held_out = {name: of_part for name, of_part in rows.items() if len(of_part)}
    duplicates = count_duplicates(content, held_out)
    if duplicates:
        logger.warning(
            f"{data.name}: {duplicates:,} held-out samples have inputs equal to those of a sample "
            "on the other side, in the same source or another one"
        )
    return duplicates


def _hidden(data: Dataset) -> dict[str, Any]:
    """Columns that are no inputs, under the names that a split's settings have for them."""
    inputs = {column.name for column in data.inputs}
    hidden = [
        column.name
        for column in data.columns
        if column.name not in inputs and column.name != data.target
    ]
    return dict(zip(("group", "weights"), hidden, strict=False))

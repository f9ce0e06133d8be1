"""Parts of a data set, with their transforms: frozen before anything is shuffled."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.dataset import Dataset
from rightbatch.data.opening import open as open_data
from rightbatch.data.ragged import MAKE_ARRAYS, Ragged
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.mixture import Mixture
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.transform import Function, Inputs, Transform, Values, as_numpy
from rightbatch.plan.row_set import RowSet

logger = logging.getLogger(__name__)

AnyTransform = Transform | Function

_FIT_ROWS = 4096
_RELEASED_PIECES = 16
_EXAMPLES_TRIED = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some rows of a data set, in ascending order, with fitted transforms attached.

    `mixture` says in which proportions a train part of `rb.mix` is gone through; None elsewhere.

    >>> import rightbatch as rb
    >>> part = rb.split(rb.open("iris"), val=30).val
    >>> len(part), part.name
    (30, 'val')
    """

    data: Dataset
    rows: RowSet
    name: str
    transforms: tuple[AnyTransform, ...] = ()
    mixture: Mixture | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """A short text that changes with the data's content and with which rows these are."""
        words = f"{self.data.fingerprint}\n{self.rows.fingerprint}"
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    @cached_property
    def pipeline(self) -> Pipeline:
        """The way from a few rows to batch arrays."""
        return Pipeline(self.data, self.transforms, stacks=False)

    def example(self, count: int = 1) -> tuple[Inputs, Values | None]:
        """Inputs and target of the first samples as a batch of `count`, transforms applied.

        Where those can not be read, it is the first ones that can, of a few: whoever reads all of
        them says which are bad. It is a smaller batch where there are no more samples.
        """
        for place in range(min(_EXAMPLES_TRIED, len(self))):
            rows = self.rows.take(np.arange(place, min(place + count, len(self))))
            try:
                values = self.pipeline.gather(rows)
            except Exception:
                if place + 1 == min(_EXAMPLES_TRIED, len(self)):
                    raise
                continue
            return self.pipeline.finish(values, rows, seed=0, epoch=0)
        raise OptionError(f"{self.name} of {self.data.name} has no sample to look at")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's inputs after the transforms; OptionError for a dict.

        Raises DataError where samples vary in length.
        """
        inputs: Any = self.example()[0]
        if isinstance(inputs, Ragged):
            raise DataError(
                f"the entries of {self.data.inputs[0].name!r} vary in length: {MAKE_ARRAYS}"
            )
        if isinstance(inputs, dict):
            raise OptionError(
                f"a batch of {self.data.name} is a dict of {', '.join(inputs)}: it has no one "
                "shape. Choose columns of equal shape when opening (columns=…), or pass a "
                "torch.nn.Module that takes the dict"
            )
        return as_numpy(inputs).shape[1:]

    def __getstate__(self) -> dict[str, Any]:
        # For runs in other processes: the pipeline holds locks and buffers, and is made again.
        return {name: value for name, value in self.__dict__.items() if name != "pipeline"}

    def __repr__(self) -> str:
        mixed = "" if self.mixture is None else f"; a mixture of {self.mixture}"
        return f"<Part {self.name} of {self.data.name}: {len(self):,} samples{mixed}>"


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Train, validation and test parts of one data set: disjoint, frozen, fingerprinted.

    `duplicate_samples` counts the held-out samples whose inputs are equal, byte for byte, to
    those of a training sample (or a test sample's to a validation sample's); None where the data
    are larger than 1 GiB or read by others' code, do not know their duplicates, and nobody asked.
    `held_out_transforms` are those of every part but train, which may have more
    (`train_only=True`); predictions take them.
    """

    data: Dataset
    train: Part
    val: Part | None = None
    test: Part | None = None
    seed: int = 0
    duplicate_samples: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    held_out_transforms: tuple[AnyTransform, ...] = ()

    @property
    def all(self) -> dict[str, Part]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def sizes(self) -> dict[str, int]:
        """The number of samples by part; 0 where a part was not asked for.

        >>> import rightbatch as rb
        >>> rb.split(rb.open("breast_cancer"), val=0.16, test=0.2, stratify=True).sizes
        {'train': 364, 'val': 91, 'test': 114}
        """
        return {name: len(self.all.get(name, ())) for name in ("train", "val", "test")}

    @property
    def fingerprint(self) -> str:
        """A short text that changes when the data or the membership of any part change."""
        words = "\n".join(f"{name} {part.fingerprint}" for name, part in self.all.items())
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def transform(
        self, *transforms: AnyTransform | Callable[..., Any], train_only: bool = False
    ) -> Parts:
        """The same parts with `transforms` attached, fitted on train alone.

        A transform is one of the built-in ones or any function of a batch, see `Function`.
        With `train_only=True` they are attached to train alone: noise that is added to make
        training harder has no place in validation. Raises DataError where a transform does not
        fit the data, OptionError where there is none or something is no transform.

        >>> import rightbatch as rb
        >>> parts = rb.split(rb.open("wine"), val=0.2).transform(rb.standardize())
        >>> x, y = next(iter(rb.Batches(parts.val, "full", shuffle=False)))
        >>> x.dtype, x.shape
        (dtype('float32'), (36, 13))
        """
        if not transforms:
            raise OptionError("transform() was given nothing to attach; pass rb.scale(...) or such")
        added: list[AnyTransform] = []
        for transform in transforms:
            if isinstance(transform, Transform):
                if transform.needs_fit:
                    before = [*self.train.transforms, *added]
                    pipeline = Pipeline(self.data, before, narrows=False, stacks=False)
                    values = pipeline.values_for(transform, _chunks(self.data, self.train.rows))
                    transform = transform.fitted(values)
                added.append(transform)
            elif isinstance(transform, Function):
                added.append(transform)
            elif callable(transform):
                added.append(Function(transform))
            else:
                raise OptionError(
                    f"{transform!r} is no transform: pass rb.scale(…), rb.standardize() or such, "
                    "or a function of a batch"
                )
        held_out = [each.held_out() if isinstance(each, Transform) else each for each in added]
        parts: dict[str, Any] = {}
        for name, part in self.all.items():
            if name == "train" or not train_only:
                attached = (*part.transforms, *(added if name == "train" else held_out))
                # Compiling here refuses, where the mistake was made, what does not fit.
                Pipeline(self.data, attached)
                parts[name] = replace(part, transforms=attached)
        if not train_only:
            parts["held_out_transforms"] = (*self.held_out_transforms, *held_out)
        return replace(self, **parts)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size:,}" for name, size in self.sizes.items() if size)
        duplicates = f"; {self.duplicate_samples:,} duplicates" if self.duplicate_samples else ""
        mixture = self.train.mixture
        mixed = "" if mixture is None else f"; train is a mixture of {mixture}"
        return f"<Parts of {self.data.name}: {sizes}{duplicates}{mixed}>"


def whole(data: Any) -> Part:
    """All samples of a data set as one part; transforms attached to the data are fitted on it."""
    data = data if isinstance(data, Dataset) else open_data(data)
    part = Part(data=data, rows=RowSet.from_range(len(data), 0, len(data)), name="all")
    attached: Any = data.transforms
    return Parts(data=data, train=part).transform(*attached).train if attached else part


def _chunks(data: Dataset, rows: RowSet) -> Iterator[NDArray[np.int64]]:
    """Rows to read in one pass over the data, of which the process keeps nothing in memory."""
    for number, chunk in enumerate(_pieces(rows)):
        yield chunk
        if number % _RELEASED_PIECES == _RELEASED_PIECES - 1:
            data.release_pages()


def _pieces(rows: RowSet) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), _FIT_ROWS):
        yield rows.take(np.arange(start, min(start + _FIT_ROWS, len(rows))))

"""What a transform is: a function of whole columns or of whole batches, attached to the data."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.row_random import RowRandom

Values = NDArray[Any]
Inputs = Values | dict[str, Values]


class Transform(ABC):
    """A transform of one field of a batch, sample by sample.

    `column` names the field: None is the inputs (each of them where a batch holds a dict). Since
    no sample sees another one, a transform may run on several batches at once. One that has to
    learn something from the data (`standardize`) does so in `fitted`, from the train part alone.
    """

    column: str | None

    @property
    def needs_fit(self) -> bool:
        """Whether `fitted` must run before `apply`."""
        return False

    def fitted(self, chunks: Iterable[Values]) -> Self:
        """A copy that has learned from `chunks`, the field's values in the train part."""
        del chunks
        return self

    def held_out(self) -> Transform:
        """What parts other than train go through: the same, unless it draws at random."""
        return self

    @abstractmethod
    def describe(self, column: Column) -> Column:
        """The column that comes out when `column` goes in; DataError where it can not go in.

        `apply` gets arrays: a ragged column can not go in.
        """

    @abstractmethod
    def apply(self, values: Values) -> Values:
        """The transformed values, (B, …) in and (B, …) out; the input is left as it was."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The transform as JSON, `kind` first, so that a run can apply it again."""


class Function:
    """A user's function of a whole batch.

    Of a ragged column it gets a `Ragged`, of which it may make arrays.

    It is called as `function(inputs, target)` and returns both, or, with a single positional
    parameter, as `function(inputs)` and returns the inputs. With a parameter called `rng` it gets
    a `RowRandom`, whose draws belong to the samples (law 7). It runs once a batch and may be
    called from several threads at once.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__qualname__", type(function).__name__)
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"transform {self.name}: its parameters can not be read ({error}); "
                "wrap it in a function of (inputs) or (inputs, target)"
            ) from error
        self.takes_random = any(parameter.name == "rng" for parameter in parameters)
        positional = [
            parameter
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.name != "rng"
            and parameter.default is parameter.empty
        ]
        if len(positional) not in (1, 2):
            raise OptionError(
                f"transform {self.name} takes {len(positional)} arguments; "
                "a transform is a function of (inputs) or of (inputs, target)"
            )
        self.takes_target = len(positional) == 2

    def of_fields(self, fields: Sequence[str]) -> Self:
        """The function for inputs of these fields, by name, where that makes a difference."""
        del fields
        return self

    def __call__(
        self, inputs: Inputs, target: Values | None, rng: RowRandom
    ) -> tuple[Inputs, Values | None]:
        """Run the function on one batch and check that the number of samples is the same."""
        keywords = {"rng": rng} if self.takes_random else {}
        if self.takes_target:
            result = self.function(inputs, target, **keywords)
            if not isinstance(result, tuple) or len(result) != 2:
                raise OptionError(
                    f"transform {self.name} was given (inputs, target) and returned "
                    f"{type(result).__name__}; return the pair (inputs, target)"
                )
            had_target = target is not None
            inputs, target = result
            if had_target or target is not None:
                self._check(target, "target", len(rng.rows))
        else:
            inputs = self.function(inputs, **keywords)
        for values in inputs.values() if isinstance(inputs, dict) else [inputs]:
            self._check(values, "inputs", len(rng.rows))
        return inputs, target

    def _check(self, values: Any, what: str, samples: int) -> None:
        try:
            length = len(values)
        except TypeError as error:
            raise DataError(
                f"transform {self.name} returned {values!r} as the {what}; return an array with "
                "one entry a sample, also where the function works in place"
            ) from error
        if length != samples:
            raise DataError(
                f"transform {self.name} was given {samples} samples and returned {length} as the "
                f"{what}; a transform keeps the number of samples"
            )

    def to_json(self) -> dict[str, Any]:
        """The function by name only: code is never stored, the caller passes it again."""
        return {"kind": "function", "name": self.name}


def as_numpy(values: Any) -> Values:
    """What a function returned, as an array (tensors and lists included)."""
    return np.asarray(values)

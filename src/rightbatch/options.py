"""What the command line lets a user choose: frozen, validated at birth, storable as JSON.

Importing this file loads nothing heavy: the help of the command line reads its defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from rightbatch.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from rightbatch.data.options import OpenOptions
    from rightbatch.training.options import FitOptions

DEFAULT_HELD_OUT = 0.1
ON_DUPLICATES = ("report", "error", "together")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data to open, how to read them, which samples to hold out, how to scale them.

    `val` and `test` are shares of the whole (0 < float < 1) or counts (int, 0 holds nothing
    out). `test=None` means 0.1, unless the data bring their own test part, which is then used.
    `scale=None` divides images of bytes (uint8) by 255; True does so for every uint8 input and
    refuses data that have none; False never scales. The other options are those of `open` and
    `split`.

    Raises OptionError where a value is not valid or two contradict each other.

    >>> DataOptions(data="digits", val=0.2).test is None
    True
    """

    data: str
    target: str | int | None = None
    columns: tuple[str, ...] | None = None
    header: bool | None = None
    missing: str = "refuse"
    categories: str = "codes"
    val: int | float = DEFAULT_HELD_OUT
    test: int | float | None = None
    stratify: bool = False
    group: str | None = None
    on_duplicates: str = "report"
    standardize: bool = False
    scale: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise OptionError("data is empty; give a path, a glob or the name of a built-in set")
        self.open_options()
        _check_held_out("val", self.val)
        if self.test is not None:
            _check_held_out("test", self.test)
        shares = [share for share in (self.val, self.test) if isinstance(share, float)]
        if sum(shares) >= 1:
            raise OptionError(
                f"val={self.val} and test={self.test} hold out every sample; together they must "
                "stay below 1, so that something is left to train on"
            )
        if self.on_duplicates not in ON_DUPLICATES:
            raise OptionError(
                f"on_duplicates={self.on_duplicates!r} is not valid."
                f"{did_you_mean(str(self.on_duplicates), ON_DUPLICATES)} "
                f"Valid are: {', '.join(ON_DUPLICATES)}."
            )
        if self.group is not None and self.group == self.target:
            raise OptionError(
                f"group and target are both {self.group!r}; a group ties samples together that "
                "must stay on one side of the split, it can not be what is learned"
            )

    def open_options(self) -> OpenOptions:
        """How the data are read; OptionError where a value is not valid."""
        from rightbatch.data.missing import MissingPolicy
        from rightbatch.data.options import OpenOptions

        return OpenOptions(
            target=self.target,
            columns=self.columns,
            header=self.header,
            missing=MissingPolicy.parse(self.missing),
            categories=self.categories,
        )

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-able values."""
        return _to_json(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The options that `to_json` gave; OptionError names what is unknown."""
        return cls(**_known(cls, stored))


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Which model to train, and how.

    `model=None` is the simplest one that fits the target: `softmax` for classes, `logistic` for
    two, `linear` for numbers. `activation=None` is `relu` where there are hidden layers. Neither
    `epochs` nor `steps` means 10 epochs. `early_stopping` is a patience in epochs. Sizes count
    samples. The other options are those of `fit`.

    Raises OptionError where a value is not valid or two contradict each other.

    >>> TrainOptions(model="mlp:100", batch_size="full").fit_options(seed=0).epochs_wanted
    10
    """

    model: str | None = None
    activation: str | None = None
    init: str = "default"
    loss: str | None = None
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    batch_size: int | str = 32
    micro_batch_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    shuffle: bool = True
    window: int | None = None
    early_stopping: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        from rightbatch.training.models import ModelName

        self.fit_options(seed=0)
        if self.model is not None and not self.has_model_file:
            ModelName.parse(self.model)
        if not self.shuffle and self.window not in (None, 1):
            raise OptionError(
                f"window={self.window} shuffles within a window, and shuffling is switched off; "
                "leave out one of the two"
            )
        if (
            self.micro_batch_size is not None
            and isinstance(self.batch_size, int)
            and self.micro_batch_size > self.batch_size
        ):
            raise OptionError(
                f"micro_batch_size={self.micro_batch_size} is larger than "
                f"batch_size={self.batch_size}: a micro-batch is a piece of a batch"
            )
        if self.activation is not None and not (self.model or "").startswith("mlp"):
            raise OptionError(
                f"activation={self.activation} is for the hidden layers of mlp models, and the "
                f"model is {self.model or 'the default, which has none'}; take one such as "
                "mlp:100, or leave activation out"
            )
        if self.init != "default" and self.has_model_file:
            raise OptionError(
                f"init={self.init} is for the built-in models; {self.model} sets its own weights: "
                "leave init out"
            )

    @property
    def has_model_file(self) -> bool:
        """Whether the model is a function of a Python file, `module.py:factory`.

        >>> TrainOptions(model="nets.py:small").has_model_file
        True
        """
        return ".py:" in (self.model or "")

    def fit_options(self, *, seed: int) -> FitOptions:
        """The options as `fit` takes them; OptionError where a value is not valid."""
        from rightbatch.training.options import FitOptions

        names = {field.name for field in fields(self)} - {"model", "activation"}
        options = {name: getattr(self, name) for name in names}
        return FitOptions(**options, activation=self.activation or "relu", seed=seed)

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-able values."""
        return _to_json(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The options that `to_json` gave; OptionError names what is unknown."""
        return cls(**_known(cls, stored))


def _to_json(options: DataOptions | TrainOptions) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(options).items()
    }


def _known(kind: type[DataOptions | TrainOptions], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored values as `kind` takes them; OptionError names what it does not know."""
    unknown = sorted(set(stored) - {field.name for field in fields(kind)})
    if unknown:
        raise OptionError(
            f"the stored options hold {', '.join(unknown)}, which this version does not know; "
            "use the version of rightbatch that wrote them"
        )
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }


def _check_held_out(name: str, value: int | float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"{name}={value!r}: give a share such as 0.1 or a count such as 5000")
    if isinstance(value, float) and not 0 < value < 1:
        raise OptionError(
            f"{name}={value}: a share lies between 0 and 1; for a count give a whole number "
            "(0 holds nothing out)"
        )
    if value < 0:
        raise OptionError(f"{name}={value}: a count of samples can not be negative")

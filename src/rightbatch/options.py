"""What the command line lets a user choose: frozen, validated at birth, storable as JSON.

Importing this file loads nothing heavy: the help of the command line reads its defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from rightbatch.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from rightbatch.data.options import OpenOptions
    from rightbatch.training.options import FitOptions

DEFAULT_HELD_OUT = 0.1
ON_DUPLICATES = ("report", "error", "together")
GRADES = ("quick", "pilot")
# The batch size that is found by measuring, before training.
AUTO = "auto"
# All classes of the target equally likely, in the place of a column of weights.
BALANCED = "balanced"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data to open, how to read them, which samples to hold out, how to scale them.

    `val` and `test` are shares of the whole (0 < float < 1) or counts (int, 0 holds nothing
    out). `test=None` means 0.1, unless the data bring their own test part, which is then used.
    `scale=None` divides images of bytes (uint8) by 255; True does so for every uint8 input and
    refuses data that have none; False never scales. `image_size`, a number of pixels or (height,
    width), decodes encoded images to that size; `random_crop` and `random_flip` are for their train
    part, and `standardize` then goes by channel. `weights` is a column of numbers, by which
    training samples are drawn and which is no input then, or "balanced". The other options are
    those of `open` and `split`.

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
    on_bad_sample: str = "stop"
    max_bad: int | float | None = None
    val: int | float = DEFAULT_HELD_OUT
    test: int | float | None = None
    stratify: bool = False
    group: str | None = None
    weights: str | None = None
    on_duplicates: str = "report"
    standardize: bool = False
    scale: bool | None = None
    image_size: int | tuple[int, int] | None = None
    random_crop: bool = False
    random_flip: bool = False
    seed: int = 0
    contiguous: bool = False
    sequence_length: int | None = None
    stride: int | None = None
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None:
            from rightbatch.loading.decode_images import decode_images

            decode_images(self.image_size)
        elif self.random_crop or self.random_flip:
            given = "random_crop" if self.random_crop else "random_flip"
            raise OptionError(
                f"{given} is for encoded images that are decoded: say to what size "
                "(image_size=224, --image-size 224), or leave it out"
            )
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
        if self.weights is not None and not isinstance(self.weights, str):
            raise OptionError(
                "weights are the name of a column here, or 'balanced'; weights in an array go to "
                "rb.fit(model, parts, weights=…)"
            )
        if self.weights is not None and self.weights == self.target:
            raise OptionError(
                f"weights and target are both {self.weights!r}; for classes that are equally "
                "likely take weights='balanced'"
            )

    @property
    def weights_column(self) -> str | None:
        """The column that weighs the samples; None for "balanced" classes and equal samples."""
        return None if self.weights == BALANCED else self.weights

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
            on_bad_sample=self.on_bad_sample,
            max_bad=self.max_bad,
            sequence_length=self.sequence_length,
            stride=self.stride,
            tokenizer=self.tokenizer,
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
    samples; `batch_size="auto"` is worked out before training, by the rate and for the epochs or
    the target loss given here. The other options are those of `fit`.

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
    batch_tokens: int | None = None
    micro_batch_size: int | None = None
    batch_statistics: str | None = None
    evaluation_batch_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    shuffle: bool = True
    window: int | None = None
    block: int | None = None
    memory: str | int | float | None = None
    epoch_samples: int | None = None
    early_stopping: int | None = None
    target_loss: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        from rightbatch.training.models import ModelName

        if self.batch_tokens is not None and self.is_auto:
            # The default of `run`; there is nothing to be found.
            object.__setattr__(self, "batch_size", TrainOptions.batch_size)
        if self.is_auto:
            self._refuse_what_auto_finds()
            # Everything but the batch size can be checked before that is known.
            replace(self, batch_size=1)
            return
        self.fit_options(seed=0)
        if self.model is not None and not self.has_model_file:
            ModelName.parse(self.model)
        if not self.shuffle and self.window not in (None, 1):
            raise OptionError(
                f"window={self.window} shuffles within a window, and shuffling is switched off; "
                "leave out one of the two"
            )
        if self.block is not None:
            from rightbatch.plan.order import Order

            # Of any length: what is refused are a block without a window, and parts of blocks.
            Order.resolve(self.shuffle, self.window, 1, self.block)
        if self.memory is not None and (self.window is not None or self.block is not None):
            raise OptionError(
                f"memory={self.memory} chooses block and window by itself: leave out those two, or "
                "memory"
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

    def _refuse_what_auto_finds(self) -> None:
        """Raise OptionError for options that have no meaning before the batch size is known."""
        if self.steps is not None:
            raise OptionError(
                f"steps={self.steps} and batch_size='auto' contradict each other: steps count "
                "batches, whose size is not known yet. Say how far to train by epochs or "
                "target_loss"
            )
        if self.micro_batch_size is not None:
            raise OptionError(
                f"micro_batch_size={self.micro_batch_size} and batch_size='auto' contradict each "
                "other: where memory calls for micro-batches, auto finds their size too. Leave "
                "micro_batch_size out, or give a number as batch size"
            )

    @property
    def is_auto(self) -> bool:
        """Whether the batch size is still to be found.

        >>> TrainOptions(batch_size="auto").is_auto
        True
        """
        return self.batch_size == AUTO

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


@dataclass(frozen=True, kw_only=True)
class AdviceOptions:
    """How to look for the batch size: None leaves it to `advise`.

    `grade` is "pilot" (short training branches, the default) or "quick" (memory, speed and noise
    alone); `budget_seconds` is the time that the pilot may take; `memory_limit` is what the
    process may take in all, such as "8GB", by default what is free.

    Raises OptionError where a value is not valid.

    >>> AdviceOptions(grade="quick", memory_limit="2GB").given
    {'grade': 'quick', 'memory_limit': '2GB'}
    """

    grade: str | None = None
    budget_seconds: float | None = None
    memory_limit: str | int | float | None = None

    def __post_init__(self) -> None:
        if self.grade is not None and self.grade not in GRADES:
            raise OptionError(
                f"grade={self.grade!r} is not valid.{did_you_mean(str(self.grade), GRADES)} "
                f"Valid are: {', '.join(GRADES)}."
            )
        budget: Any = self.budget_seconds  # a caller may give anything
        if budget is not None and (
            isinstance(budget, bool)
            or not isinstance(budget, int | float)
            or not math.isfinite(budget)
            or budget <= 0
        ):
            raise OptionError(
                f"budget_seconds={budget!r} is not valid; it is a number of seconds above 0, such "
                "as 60"
            )
        if self.memory_limit is not None:
            from rightbatch.byte_sizes import parse_bytes

            parse_bytes(self.memory_limit)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not left to `advise`, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def refuse_without_auto(self, batch_size: int | str) -> None:
        """Raise OptionError where options are given, and no batch size is looked for."""
        if self.given and batch_size != AUTO:
            named = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
            raise OptionError(
                f"{named} {'is' if len(self.given) == 1 else 'are'} for batch_size='auto', and "
                f"batch_size is {batch_size}: take 'auto', or leave the rest out"
            )


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

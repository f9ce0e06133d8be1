"""The learning rate of each batch size: rules of scaling, and the grid that a search tries."""

from __future__ import annotations

from collections.abc import Sequence

from rightbatch.advice.advice import Companions
from rightbatch.advice.comparison import RateTrial
from rightbatch.errors import OptionError, did_you_mean
from rightbatch.training.options import FitOptions

# A rate that is given for no batch size in particular is taken to suit this one, `fit`'s default.
REFERENCE_BATCH_SIZE = 32
RULES = ("same", "linear", "sqrt", "tuned")
# Factors of four: wide enough to find the valley in few runs, narrow enough to hit it.
_FACTOR = 4.0
_FIRST_EXPONENTS = (-2, -1, 0, 1, 2)
_MOST_EXTENSIONS = 3


def check_rule(rule: str) -> str:
    """The rule, where there is one of that name; OptionError otherwise."""
    if rule not in RULES:
        raise OptionError(
            f"lr_rule={rule!r} is not valid.{did_you_mean(str(rule), RULES)} "
            f"Valid are: {', '.join(RULES)}."
        )
    return rule


def scaled_rate(rule: str, learning_rate: float, *, batch_size: int, reference: int) -> float:
    """The rate for `batch_size` where `learning_rate` suits the batch size `reference`.

    "linear" multiplies by B/B₀ (Goyal et al. 2017, arXiv 1706.02677), "sqrt" by √(B/B₀)
    (Krizhevsky 2014, arXiv 1404.5997), "same" not at all; "tuned" searches around the square
    root, which lies between the two.

    >>> [scaled_rate(rule, 0.1, batch_size=128, reference=32) for rule in RULES]
    [0.1, 0.4, 0.2, 0.2]
    """
    ratio = batch_size / reference
    if rule == "same":
        return learning_rate
    return learning_rate * (ratio if rule == "linear" else ratio**0.5)


def first_rates(centre: float) -> list[float]:
    """The rates that a search starts with.

    >>> first_rates(1.0)
    [0.0625, 0.25, 1.0, 4.0, 16.0]
    """
    return [centre * _FACTOR**exponent for exponent in _FIRST_EXPONENTS]


def next_rate(rates: Sequence[float], losses: Sequence[float | None]) -> float | None:
    """A further rate to try, where the best one so far is at the end of the grid; else None.

    The search goes on three times at the most.

    >>> next_rate([0.25, 1.0, 4.0], [0.3, 0.2, 0.1]), next_rate([0.25, 1.0, 4.0], [0.3, 0.1, None])
    (16.0, None)
    """
    best = best_of(losses)
    if best is None or len(rates) >= len(_FIRST_EXPONENTS) + _MOST_EXTENSIONS:
        return None
    if rates[best] == max(rates):
        return rates[best] * _FACTOR
    if rates[best] == min(rates):
        return rates[best] / _FACTOR
    return None


def best_of(losses: Sequence[float | None]) -> int | None:
    """The place of the lowest loss; None where every run diverged.

    >>> best_of([0.3, None, 0.1])
    2
    """
    finite = [(loss, place) for place, loss in enumerate(losses) if loss is not None]
    return min(finite)[1] if finite else None


def trials_of(
    batch_size: int, rates: Sequence[float], losses: Sequence[float | None]
) -> list[RateTrial]:
    """What a search tried at one batch size, in order of the rates."""
    best = best_of(losses)
    return sorted(
        (
            RateTrial(batch_size=batch_size, learning_rate=rate, loss=loss, is_chosen=place == best)
            for place, (rate, loss) in enumerate(zip(rates, losses, strict=True))
        ),
        key=lambda trial: trial.learning_rate,
    )


def rate_at(
    batch_size: int, options: FitOptions, critical_batch_size: float | None
) -> tuple[float, str]:
    """A rate to start from at `batch_size`, and where it comes from, in words.

    `options.learning_rate` is taken to suit a batch size of 32. For SGD, ε = ε_max/(1 + B_c/B):
    linear below the critical batch size and constant above it (McCandlish et al. 2018, arXiv
    1812.06162, equation 2.9); without one, and for Adam and AdamW, ε ∝ √B (Malladi et al. 2022,
    arXiv 2205.10287).

    >>> rate_at(128, FitOptions(learning_rate=0.1), 96.0)
    (0.22857142857142856, 'scaled from 0.1 at 32 by 1/(1 + B_crit/B)')
    """
    given, reference = options.learning_rate, REFERENCE_BATCH_SIZE
    if batch_size == reference:
        return given, "the rate that was given"
    if options.optimizer == "sgd" and critical_batch_size is not None:
        ratio = (1 + critical_batch_size / reference) / (1 + critical_batch_size / batch_size)
        return given * ratio, f"scaled from {given:g} at {reference} by 1/(1 + B_crit/B)"
    scaled = scaled_rate("sqrt", given, batch_size=batch_size, reference=reference)
    return scaled, f"scaled from {given:g} at {reference} by √B"


def companions_of(options: FitOptions, batch_size: int, samples: int, source: str) -> Companions:
    """What else changes with the batch size.

    For Adam and AdamW β₂ holds the half-life of the second moment, 0.999 at a batch size of 32, in
    samples (arXiv 2507.07101).

    >>> companions_of(FitOptions(optimizer="adam"), 64, 1000, "given").beta2
    0.998001
    """
    beta2 = None
    if options.optimizer in ("adam", "adamw"):
        beta2 = round(0.999 ** (batch_size / REFERENCE_BATCH_SIZE), 6)
    steps = -(-samples // batch_size)
    return Companions(
        learning_rate_source=source,
        beta2=beta2,
        schedule=(
            f"an epoch is {steps:,} step{'' if steps == 1 else 's'} at this size: count warm-up, "
            "decay and evaluations in samples or epochs, not in steps"
        ),
    )

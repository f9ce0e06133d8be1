"""Which samples an epoch draws, where it is not each of them once: by weight, or from a mixture."""

from __future__ import annotations

from numpy.typing import ArrayLike

from rightbatch.errors import OptionError
from rightbatch.loading.parts import Part
from rightbatch.loading.weights import weighted_order
from rightbatch.plan.checks import whole_number
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.weighted import WeightedOrder


def check_sampling(
    weights: ArrayLike | str | None,
    epoch_samples: int | None,
    *,
    shuffle: bool,
    window: int | None,
    block: int | None,
) -> None:
    """OptionError where draws by weight were asked for together with what contradicts them."""
    if epoch_samples is not None:
        whole_number("epoch_samples", epoch_samples, at_least=1)
    if weights is not None:
        _refuse_orders("weights draw samples from all over the data", shuffle, window, block)


def epoch_length(
    part: Part,
    *,
    weights: ArrayLike | str | None = None,
    epoch_samples: int | None = None,
    shuffle: bool = True,
) -> int:
    """How many samples an epoch of `part` has.

    Raises OptionError where `epoch_samples` is given and every sample comes once.

    >>> import rightbatch as rb
    >>> epoch_length(rb.split(rb.open("iris"), val=30).train, weights="balanced", epoch_samples=99)
    99
    """
    is_mixed = part.mixture is not None and shuffle
    if epoch_samples is not None:
        if weights is None and not is_mixed:
            raise OptionError(
                f"epoch_samples={epoch_samples} is the length of an epoch of draws, and this one "
                "has every sample once: give weights as well (equal ones are "
                f"np.ones({len(part)})), or leave it out"
            )
        return whole_number("epoch_samples", epoch_samples, at_least=1)
    return part.mixture.epoch_samples if part.mixture is not None and is_mixed else len(part)


def drawn_order(
    part: Part,
    length: int,
    *,
    weights: ArrayLike | str | None,
    shuffle: bool,
    window: int | None,
    block: int | None,
) -> WeightedOrder | MixtureOrder | None:
    """The order of epochs of `length` draws; None where every sample comes once."""
    if part.mixture is not None and shuffle:
        if weights is not None:
            raise OptionError(
                "weights and a mixture both say how often a sample comes: weigh the samples of "
                "one data set, or mix several by their proportions"
            )
        _refuse_orders("a mixture draws samples from all its sources", shuffle, window, block)
        return part.mixture.order
    return None if weights is None else weighted_order(part, weights, length)


def _refuse_orders(why: str, shuffle: bool, window: int | None, block: int | None) -> None:
    orders = (("window", window), ("block", block))
    named = [f"{name}={value}" for name, value in orders if value is not None]
    named += [] if shuffle else ["shuffle=False"]
    if named:
        raise OptionError(f"{why}, in an order of their own: leave {' and '.join(named)} out")

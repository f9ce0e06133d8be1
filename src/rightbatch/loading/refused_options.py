"""Options of `fit` and `Batches` that another function does not take, refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from rightbatch.errors import OptionError


def refuse_options(function: str, given: Mapping[str, object], reasons: Mapping[str, str]) -> None:
    """OptionError, with the reason, for an option of other functions; TypeError for one of none.

    >>> refuse_options("speed", {"weights": "balanced"}, {"weights": "leave it out"})
    Traceback (most recent call last):
    rightbatch.errors.OptionError: speed takes no weights: leave it out
    """
    for name in given:
        if name not in reasons:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
        raise OptionError(f"{function} takes no {name}: {reasons[name]}")

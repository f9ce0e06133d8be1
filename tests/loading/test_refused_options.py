"""Options that one function has and another does not: refused with the reason and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

import rightbatch as rb
from rightbatch.errors import OptionError


def call(function: str, options: dict[str, Any]) -> None:
    parts = rb.split((np.arange(40.0).reshape(20, 2), [0, 1] * 10), val=4)
    if function == "shuffle_quality":
        rb.shuffle_quality(parts.train, **options)
    elif function == "speed":
        rb.speed("softmax", parts.train, **options)
    elif function in ("evaluate", "predict"):
        getattr(rb, function)(nn.Linear(2, 1), parts.train, **options)
    else:
        getattr(rb, function)("softmax", parts, **options)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("advise", {"weights": "balanced"}, "samples that come once each: leave it out"),
        ("advise", {"epoch_samples": 9}, "samples that come once each: leave it out"),
        ("advise", {"batch_tokens": 4096}, r"rb\.fit\(…, batch_tokens=4096\)"),
        ("compare", {"batch_tokens": 4096}, "and give batch_sizes"),
        ("compare", {"batch_size": 32}, "it is batch_sizes"),
        ("compare", {"early_stopping": 2}, "give epochs or steps"),
        ("speed", {"batch_tokens": 4096}, "and give batch_sizes"),
        ("speed", {"weights": "balanced"}, "does not change its time: leave it out"),
        ("speed", {"batch_size": 32}, "it is batch_sizes"),
        ("shuffle_quality", {"weights": "balanced"}, "every sample comes once: leave it out"),
        ("shuffle_quality", {"batch_tokens": 9}, "give batch_size"),
        ("evaluate", {"weights": "balanced"}, "on every sample once: leave it out"),
        ("predict", {"epoch_samples": 9}, "every sample is predicted once: leave it out"),
        ("predict", {"batch_tokens": 9}, "give batch_size"),
    ],
)
def test_an_option_of_other_functions_is_refused_with_the_reason(
    function: str, options: dict[str, Any], message: str
) -> None:
    (name,) = options
    with pytest.raises(OptionError, match=f"^{function} takes no {name}: .*{message}"):
        call(function, options)


@pytest.mark.parametrize(
    "function", ["advise", "compare", "speed", "shuffle_quality", "evaluate", "predict"]
)
def test_an_option_of_none_is_an_error_of_the_language(function: str) -> None:
    with pytest.raises(TypeError, match=rf"{function}\(\) got an unexpected .* 'wieghts'"):
        call(function, {"wieghts": 1})

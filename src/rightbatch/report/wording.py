"""Small pieces of sentences that several parts of a report share."""

from __future__ import annotations

from collections.abc import Sequence

METRIC_NAMES = {"accuracy": "accuracy", "r2": "R²"}

_ACTIVITIES = {
    "predict": "predicting",
    "train": "training",
    "loop": "the training loop, loader included",
}


def activity(mode: str) -> str:
    """What a measurement of speed timed; a mode that is not known stands for itself.

    >>> activity("train"), activity("loop")
    ('training', 'the training loop, loader included')
    """
    return _ACTIVITIES.get(mode, mode)


def joined_words(words: Sequence[str]) -> str:
    """Words as an enumeration.

    >>> joined_words(["a"]), joined_words(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def measure_name(measure: str) -> str:
    """What people call a measure: "loss", "accuracy" or "R²".

    >>> measure_name("r2"), measure_name("loss")
    ('R²', 'loss')
    """
    return METRIC_NAMES.get(measure, measure)


def with_article(noun: str) -> str:
    """A noun with "a" or "an".

    >>> with_article("accuracy"), with_article("R²"), with_article("loss")
    ('an accuracy', 'an R²', 'a loss')
    """
    return f"an {noun}" if noun[0] in "aeiouR" else f"a {noun}"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sentence(words: str) -> str:
    """Words that end in a full stop.

    >>> sentence("no model"), sentence("Give one!")
    ('no model.', 'Give one!')
    """
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."

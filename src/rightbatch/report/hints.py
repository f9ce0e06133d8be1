"""What to run for a section that has nothing to show, from the command that made the rest."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rightbatch.advice.advice import Advice
from rightbatch.report.findings import Origin

# Repeated from the command line, which this layer can not import; a test compares.
DATA_OPTIONS = frozenset(
    {
        "--target",
        "--columns",
        "--missing",
        "--categories",
        "--on-bad-sample",
        "--max-bad",
        "--val",
        "--test",
        "--group",
        "--on-duplicates",
        "--seed",
        "--sequence-length",
        "--stride",
        "--tokenizer",
        "--weights",
        "--image-size",
    }
)
DATA_FLAGS = frozenset(
    {
        "--header",
        "--no-header",
        "--stratify",
        "--contiguous",
        "--standardize",
        "--scale",
        "--no-scale",
        "--random-crop",
        "--random-flip",
    }
)
OTHER_FLAGS = frozenset(
    {
        "--shuffle",
        "--no-shuffle",
        "--landscape",
        "--no-landscape",
        "--neighbours",
        "--no-neighbours",
        "--json",
        "--quiet",
        "--compile",
    }
)
# `train` goes on with these of `advise`.
_TRAINING_OPTIONS = frozenset(
    {"--optimizer", "--momentum", "--l1", "--l2", "--init", "--window", "--epochs", "--target-loss"}
)
# Both verbs, `compare` and `speed`, know these too.
_NETWORK_OPTIONS = frozenset({"--activation", "--loss"})
_VERBS = ("run", "advise", "compare", "train", "speed")
_BUILT_IN_MODELS = ("linear", "softmax", "logistic", "mlp:")


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What to do, and the command for it, empty where none can be told for sure."""

    words: str
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class _Command:
    model: str
    data: str
    options: list[str]
    training: list[str]


def hints(origins: Sequence[Origin], advices: Sequence[Advice] = ()) -> dict[str, Hint]:
    """A hint for each of "learning", "speed", "landscape" and "advice"."""
    made = next((found for origin in origins if (found := _parsed(origin)) is not None), None)
    return {
        "advice": Hint(
            words="Not asked for. Memory, speed and short training runs tell which size to take:"
            if _can_train(made)
            else "Not asked for. rb.advise tells which size to take; give the result to the "
            "report too.",
            command=_advise(made),
        ),
        "learning": _train_hint(made, advices[0])
        if advices
        else Hint(
            words="No run is in this report. Train at several batch sizes side by side:"
            if _can_train(made)
            else "No run is in this report. Train at several batch sizes side by side with "
            "rb.compare, and give the result to the report too.",
            command=_compare(made),
        ),
        "landscape": Hint(
            words="Not computed. A comparison draws the loss around the paths of its runs:"
            if _can_train(made)
            else "Not computed. rb.compare draws the loss around the paths of its runs, for "
            "models of a name.",
            command=_compare(made),
        ),
        "speed": Hint(words="Measured for the advice, and shown there.")
        if advices
        else Hint(
            words="Not measured. Measure it, and give the file to rightbatch report too:"
            if made is not None
            else "Not measured. Measure it with rb.speed, and give the result to the report too.",
            command="" if made is None else _speed(made),
        ),
    }


def _train_hint(made: _Command | None, advice: Advice) -> Hint:
    words = "No run is in this report. Train at the advised batch size"
    if made is None or not _can_train(made):
        return Hint(
            words=f"{words} with rb.fit(…, batch_size={advice.batch_size}, "
            f"learning_rate={advice.learning_rate:.4g}), and give the run to the report too."
        )
    typed = ["rightbatch", "train", made.data, *made.options, "--model", made.model]
    typed += [*made.training, "--batch-size", str(advice.batch_size)]
    if advice.micro_batch_size is not None:
        typed += ["--micro-batch-size", str(advice.micro_batch_size)]
    typed += ["--lr", f"{advice.learning_rate:.4g}", "--report", "report.html"]
    return Hint(words=f"{words}:", command=shlex.join(typed))


def _advise(made: _Command | None) -> str:
    if made is None or not _can_train(made):
        return ""
    words = ["rightbatch", "advise", made.data, *made.options, "--model", made.model]
    return f"{shlex.join([*words, '--json'])} > advice.json"


def _compare(made: _Command | None) -> str:
    if made is None or not _can_train(made):
        return ""
    words = ["rightbatch", "compare", made.data, *made.options, "--model", made.model]
    words += ["--batch-sizes", "1,32,128,full", "--report", "report.html"]
    return shlex.join(words)


def _speed(made: _Command) -> str:
    words = ["rightbatch", "speed", made.model, made.data, *made.options]
    return f"{shlex.join([*words, '--batch-sizes', '1-30,64,256', '--json'])} > speed.json"


def _can_train(made: _Command | None) -> bool:
    """Whether the model is one that a comparison builds; `speed` takes run folders as well."""
    return made is not None and (made.model.startswith(_BUILT_IN_MODELS) or ".py:" in made.model)


def _parsed(origin: Origin) -> _Command | None:
    """Model, data and the options that hold for every verb, and those of training."""
    try:
        words = shlex.split(origin.provenance.command or "")
    except ValueError:
        return None
    if len(words) < 3 or words[0] != "rightbatch" or words[1] not in _VERBS:
        return None
    places: list[str] = []
    options: list[str] = []
    training: list[str] = []
    model = str(origin.facts.get("model") or "")
    rest = iter(words[2:])
    for word in rest:
        if not word.startswith("-"):
            places.append(word)
            continue
        name, equals, value = word.partition("=")
        if name in DATA_FLAGS | OTHER_FLAGS:
            options += [name] if name in DATA_FLAGS else []
            continue
        value = value if equals else next(rest, "")
        if name == "--model":
            model = value
        elif name in DATA_OPTIONS | _NETWORK_OPTIONS:
            options += [name, value]
        elif name in _TRAINING_OPTIONS:
            training += [name, value]
    if words[1] == "speed":
        model, places = (places[0], places[1:]) if places else ("", [])
    if len(places) != 1 or not model:
        return None
    return _Command(model=model, data=places[0], options=options, training=training)

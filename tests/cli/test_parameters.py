"""Options as the command line declares them: complete, themed, and equal to the library's."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature

import click
import pytest

import rightbatch
from rightbatch.advice.advise import GRADES
from rightbatch.advice.rates import RULES
from rightbatch.cli import data_options
from rightbatch.cli import options as declared
from rightbatch.cli.advise import advise
from rightbatch.cli.compare import LR_RULES, compare
from rightbatch.cli.inspect import inspect
from rightbatch.cli.main import cli
from rightbatch.cli.pack import pack
from rightbatch.cli.parameters import batch_size, held_out, names
from rightbatch.cli.predict import predict
from rightbatch.cli.report import report
from rightbatch.cli.run import run
from rightbatch.cli.speed import speed
from rightbatch.cli.train import train
from rightbatch.data.builtin import BUILTIN_NAMES
from rightbatch.data.known_sets import KNOWN_SETS
from rightbatch.data.options import CATEGORIES, ON_BAD_SAMPLE
from rightbatch.data.tokenizers import TOKENIZERS
from rightbatch.options import AdviceOptions, DataOptions, TrainOptions
from rightbatch.training.losses import find_loss
from rightbatch.training.models import ACTIVATIONS
from rightbatch.training.optimizers import OPTIMIZERS
from rightbatch.training.options import PRECISIONS, FitOptions

DATA = {
    *("--target", "--columns", "--header", "--no-header", "--missing", "--categories", "--val"),
    *("--on-bad-sample", "--max-bad", "--sequence-length", "--stride", "--tokenizer"),
    *(
        "--test",
        "--stratify",
        "--group",
        "--weights",
        "--on-duplicates",
        "--contiguous",
        "--image-size",
        "--random-crop",
        "--random-flip",
        "--standardize",
        "--scale",
        "--no-scale",
        "--seed",
    ),
}
DESCENT = {
    *("--model", "--activation", "--init", "--loss", "--optimizer", "--lr", "--momentum", "--l1"),
    *("--l2", "--micro-batch-size", "--epochs", "--steps", "--shuffle", "--no-shuffle"),
    *("--window", "--block", "--memory", "--threads", "--report"),
}
ORDER = {"--shuffle", "--no-shuffle", "--window", "--block", "--memory", "--shuffle-quality"}
READING = {
    *("--target", "--columns", "--header", "--no-header", "--missing", "--categories"),
    *("--on-bad-sample", "--max-bad", "--sequence-length", "--stride", "--tokenizer"),
}
SEARCH = {"--grade", "--budget", "--memory-limit"}
RUN = (
    DESCENT
    | SEARCH
    | {
        *("--batch-size", "--batch-tokens", "--evaluation-batch-size", "--early-stopping"),
        *("--target-loss", "--out", "--epoch-samples", "--device", "--precision", "--compile"),
        "--batch-statistics",
    }
)
TRAINING = RUN | {"--resume"}
ADVICE = (
    DESCENT | SEARCH | {"--batch-sizes", "--target-loss", "--device", "--batch-statistics"}
) - {
    *("--micro-batch-size", "--steps"),
}
COMPARISON = DESCENT | {
    *("--batch-sizes", "--lr-rule", "--reference-batch-size", "--seeds", "--landscape"),
    *("--no-landscape", "--processes", "--epoch-samples"),
}
MEASUREMENT = {
    *("--batch-sizes", "--mode", "--threads", "--seconds", "--part", "--neighbours"),
    *("--no-neighbours", "--activation", "--loss", "--optimizer", "--lr", "--report"),
}
PREDICTION = {"--part", "--batch-size", "--memory", "--out", "--activation", "--loss", "--model"}
PAGE = {"-o", "--output", "--title", "--charts"}
OUTPUT = {"--json", "--quiet"}


def options_of(command: click.Command) -> set[str]:
    return {
        word
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in (*parameter.opts, *parameter.secondary_opts)
    }


def test_the_options_of_each_verb_are_exactly_these() -> None:
    assert options_of(inspect) == DATA | ORDER | {"--model", "--batch-size"} | OUTPUT
    assert options_of(pack) == READING | {"--overwrite", "--verify", "--image-size"} | OUTPUT
    assert options_of(run) == DATA | RUN | OUTPUT
    assert options_of(advise) == DATA | ADVICE | OUTPUT
    assert options_of(train) == DATA | TRAINING | OUTPUT
    assert options_of(predict) == DATA | PREDICTION | OUTPUT
    assert options_of(compare) == DATA | COMPARISON | OUTPUT
    assert options_of(speed) == DATA | MEASUREMENT | OUTPUT
    assert options_of(report) == PAGE | OUTPUT


@pytest.mark.parametrize(
    "command", [run, inspect, pack, advise, train, predict, compare, speed, report]
)
def test_every_option_has_a_theme_and_a_help_text(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert getattr(parameter, "theme", None), parameter.name


def test_the_choices_are_those_of_the_library() -> None:
    assert declared.ACTIVATIONS == ACTIVATIONS
    assert data_options.CATEGORIES == CATEGORIES
    assert data_options.ON_BAD_SAMPLE == ON_BAD_SAMPLE
    assert data_options.TOKENIZERS == TOKENIZERS
    assert declared.OPTIMIZERS == OPTIMIZERS
    assert declared.PRECISIONS == PRECISIONS
    assert {find_loss(name).name for name in declared.LOSSES} == set(declared.LOSSES)
    assert LR_RULES == RULES
    assert set(declared.GRADES) == set(GRADES)
    assert FitOptions().epochs_wanted == declared.DEFAULT_EPOCHS


def test_command_line_and_python_share_their_defaults() -> None:
    library = FitOptions()
    for field in fields(TrainOptions):
        if field.name not in ("model", "activation", "device"):
            assert field.default == getattr(library, field.name), field.name


def test_every_field_of_the_option_classes_can_be_given_on_the_command_line() -> None:
    known = {parameter.name for parameter in train.params}
    for kind in (DataOptions, TrainOptions, AdviceOptions):
        assert {field.name for field in fields(kind)} <= known


def test_python_takes_every_option_of_the_command_line_by_its_name_and_default() -> None:
    parameters = signature(rightbatch.run).parameters
    for kind in (DataOptions, TrainOptions, AdviceOptions):
        for field in fields(kind):
            default = "auto" if field.name == "batch_size" else field.default
            if field.name != "data":
                assert parameters[field.name].default == default, field.name


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("128", 128), ("full", "full"), (32, 32)])
def test_batch_sizes(text: str, value: object) -> None:
    assert batch_size(text) == value


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "ful", ""])
def test_batch_sizes_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a whole number from 1, nor full"):
        batch_size(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0.1", 0.1), ("5000", 5000), ("0", 0), ("1e-3", 0.001), (0.1, 0.1)]
)
def test_held_out_shares_and_counts(text: str, value: float) -> None:
    found = held_out(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["1.5", "0.0", "-1", "1.0", "ten", "10%", "nan", "inf"])
def test_held_out_values_that_are_neither(text: str) -> None:
    with pytest.raises(click.BadParameter, match="neither a share between 0 and 1"):
        held_out(text)


def test_names_may_hold_commas_in_quotes() -> None:
    assert names('a, "b, c",d') == ("a", "b, c", "d")


@pytest.mark.parametrize("text", ["", "a,,b", ","])
def test_empty_names_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="empty name"):
        names(text)


@pytest.mark.parametrize("command", [run, inspect, pack, advise, train, predict, compare, speed])
def test_the_help_of_every_verb_says_what_data_may_be(command: click.Command) -> None:
    # As it is called: click keeps the help option that it makes first, for all tests to come.
    context = click.Context(command, parent=click.Context(cli, **cli.context_settings))
    shown = " ".join(command.get_help(context).split())
    kinds = ("s3://", ".csv", ".parquet", ".npz", "IDX", "images", "text", "rightbatch pack")
    for word in (*kinds, *BUILTIN_NAMES, *KNOWN_SETS):
        assert word in shown, word
    assert shown.count("DATA is ") == 1

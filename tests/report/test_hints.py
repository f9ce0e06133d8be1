"""What the report tells to run is the command of the same data."""

from __future__ import annotations

import shlex

import click
import pytest

from rightbatch.cli.compare import compare
from rightbatch.cli.data_options import data_options
from rightbatch.cli.speed import speed as speed_verb
from rightbatch.cli.train import train
from rightbatch.report.findings import Origin
from rightbatch.report.hints import DATA_FLAGS, DATA_OPTIONS, OTHER_FLAGS, hints
from rightbatch.training.provenance import Provenance


def origin(command: str | None, model: str = "mlp:10") -> Origin:
    provenance = Provenance(command=command, data="table", fingerprint="", sizes={})
    return Origin(name="a", provenance=provenance, facts={"model": model})


def test_the_data_and_their_options_are_taken_over() -> None:
    told = hints(
        [
            origin(
                "rightbatch compare 'my data.csv' --standardize --lr 0.1 --val=0.2 --no-shuffle "
                "--target y --model mlp:7 --activation tanh --json --batch-sizes 1,full"
            )
        ]
    )
    assert told["speed"].command == (
        "rightbatch speed mlp:7 'my data.csv' --standardize --val 0.2 --target y "
        "--activation tanh --batch-sizes 1-30,64,256 --json > speed.json"
    )


def test_a_speed_becomes_a_comparison_where_the_model_has_a_name() -> None:
    told = hints([origin("rightbatch speed mlp:10 digits --mode train --standardize")])
    assert told["learning"].command == (
        "rightbatch compare digits --standardize --model mlp:10 --batch-sizes 1,32,128,full "
        "--report report.html"
    )
    told = hints([origin("rightbatch speed weights.npz digits --activation relu")])
    assert told["learning"].command == ""
    assert "rb.compare" in told["learning"].words


@pytest.mark.parametrize(
    "command", [None, "python train.py", "rightbatch compare 'a", "rightbatch"]
)
def test_without_a_command_there_are_words(command) -> None:
    told = hints([origin(command)])
    assert [hint.command for hint in told.values()] == ["", "", "", ""]
    assert "rb.speed" in told["speed"].words


def test_the_names_of_the_options_are_those_of_the_command_line() -> None:
    @click.command()
    @data_options
    def data(**_: object) -> None: ...

    flags = {name for option in data.params if option.is_flag for name in names(option)}
    assert flags == DATA_FLAGS
    assert {name for option in data.params for name in names(option)} == DATA_FLAGS | DATA_OPTIONS
    for verb in (compare, speed_verb, train):
        known = {
            name
            for option in verb.params
            if isinstance(option, click.Option) and option.is_flag
            for name in names(option)
        }
        assert known <= DATA_FLAGS | OTHER_FLAGS, verb.name


def names(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def test_quotes_keep_a_command_in_one_piece() -> None:
    told = hints([origin("rightbatch compare 'a; rm b.csv' --model linear")])
    assert shlex.split(told["learning"].command)[2] == "a; rm b.csv"

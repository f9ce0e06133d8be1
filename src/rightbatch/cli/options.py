"""The options that verbs share, declared once: those of training and of the output.

A verb takes them as keyword arguments and hands them to the option classes with `collect`. Those of
the data are in `data_options.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from rightbatch.cli.parameters import (
    Choice,
    Function,
    batch_size,
    batch_size_or_auto,
    memory_size,
    stacked,
    themed,
)
from rightbatch.options import (
    GRADES,
    AdviceOptions,
    DataOptions,
    TrainOptions,
)

# What the library calls valid, repeated so that the help need not import it; a test compares.
ACTIVATIONS = ("relu", "sigmoid", "tanh")
LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")
OPTIMIZERS = ("sgd", "adam", "adamw")
BATCH_STATISTICS = ("rank", "synchronised")
DEFAULT_EPOCHS = 10

Options = TypeVar("Options", AdviceOptions, DataOptions, TrainOptions)

_defaults = {field.name: field.default for field in (*fields(DataOptions), *fields(TrainOptions))}
_model = themed("Model")
_descent = themed("Gradient descent")
_batching = themed("Batches")
_sampling = themed("Sampling")
_advising = themed("Choosing the batch size")
_running = themed("Run")
_output = themed("Output")

_COUNT = click.IntRange(min=1)
_NOT_NEGATIVE = click.FloatRange(min=0)

model_options = stacked(
    _model(
        "--model",
        metavar="NAME|FILE.py:FACTORY",
        help="linear, softmax, logistic, mlp:100, mlp:50,50 (sizes of the hidden layers), or a "
        "function of a Python file that returns a torch module.  "
        "[default: softmax for classes, logistic for two, linear for numbers]",
    ),
)

batch_options = stacked(
    _batching(
        "--batch-size",
        type=batch_size,
        metavar="SAMPLES|full",
        default=_defaults["batch_size"],
        show_default=True,
        help="Samples a step: 1 is stochastic gradient descent, full is batch gradient descent.",
    ),
)

network_options = stacked(
    _model(
        "--activation",
        type=Choice(ACTIVATIONS),
        help="Of the hidden layers of mlp models.  [default: relu]",
    ),
    _model(
        "--init",
        metavar="default|zeros|normal:STD",
        default=_defaults["init"],
        show_default=True,
        help="The initial weights.",
    ),
    _model(
        "--loss",
        type=Choice(LOSSES),
        help="What is minimised.  [default: what target and model call for]",
    ),
)

token_batch_options = stacked(
    _batching(
        "--batch-tokens",
        type=_COUNT,
        help="In place of a batch size, for samples that vary in length: batches of like lengths, "
        "padded, of up to so many tokens.",
    ),
)

micro_batch_options = stacked(
    _batching(
        "--micro-batch-size",
        type=_COUNT,
        help="Samples computed at once; the step is still the exact mean over the batch.  "
        "[default: the batch]",
    ),
)

rank_options = stacked(
    _batching(
        "--batch-statistics",
        type=Choice(BATCH_STATISTICS),
        help="What BatchNorm normalises over under torchrun: each rank's share of a batch, or all "
        "of it (on GPUs).  [default: refuse]",
    ),
)

evaluation_batch_options = stacked(
    _batching(
        "--evaluation-batch-size",
        type=_COUNT,
        help="Samples that validation takes at once; memory and time alone depend on it.  "
        "[default: 1024, or what memory has room for]",
    ),
)

order_options = stacked(
    _batching(
        "--shuffle/--no-shuffle",
        default=_defaults["shuffle"],
        show_default=True,
        help="A new order every epoch, or the order of the data.",
    ),
    _batching(
        "--window",
        type=_COUNT,
        metavar="SAMPLES",
        help="Shuffle only within windows of so many samples.  [default: all samples]",
    ),
    _batching(
        "--block",
        type=_COUNT,
        metavar="SAMPLES",
        help="With --window: shuffle blocks of so many neighbours, then the samples of a window "
        "of blocks.",
    ),
    _batching(
        "--memory",
        type=memory_size,
        metavar="SIZE",
        help="For data in files that are larger than memory: what reading may take, such as 512MB. "
        "Block and window follow from it.",
    ),
)

sampling_options = stacked(
    _sampling(
        "--epoch-samples",
        type=_COUNT,
        metavar="SAMPLES",
        help="With --weights: draw so many samples an epoch.  [default: as many as there are]",
    ),
)

update_options = stacked(
    _descent(
        "--optimizer",
        type=Choice(OPTIMIZERS),
        default=_defaults["optimizer"],
        show_default=True,
        help="The update rule.",
    ),
    _descent(
        "--lr",
        "learning_rate",
        type=click.FloatRange(min=0, min_open=True),
        default=_defaults["learning_rate"],
        show_default=True,
        help="The learning rate.",
    ),
    _descent(
        "--momentum",
        type=click.FloatRange(min=0, max=1, max_open=True),
        default=_defaults["momentum"],
        show_default=True,
        help="Of sgd.",
    ),
    _descent(
        "--l1",
        type=_NOT_NEGATIVE,
        default=_defaults["l1"],
        show_default=True,
        help="Adds l1·|w|₁ to the mean loss, on weights, not biases.",
    ),
    _descent(
        "--l2",
        type=_NOT_NEGATIVE,
        default=_defaults["l2"],
        show_default=True,
        help="Adds (l2/2)·|w|² to the mean loss, on weights, not biases.",
    ),
)

length_options = stacked(
    _descent(
        "--epochs",
        type=_COUNT,
        help="Stop after so many passes over the training part.  "
        f"[default: {DEFAULT_EPOCHS}, unless --steps is given]",
    ),
    _descent("--steps", type=_COUNT, help="Stop after so many batches instead."),
)

thread_options = stacked(
    _running(
        "--threads",
        type=_COUNT,
        help="Threads of the arithmetic.  [default: torch's choice]",
    ),
)

report_options = stacked(
    _output(
        "--report",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write a page with the charts and what they say to FILE (.html).",
    ),
)

advice_options = stacked(
    _advising(
        "--grade",
        type=Choice(GRADES),
        help="pilot trains short branches at several batch sizes; quick measures memory, speed "
        "and gradient noise alone.  [default: pilot]",
    ),
    _advising(
        "--budget",
        "budget_seconds",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="The time to spend on it.  [default: 60]",
    ),
    _advising(
        "--memory-limit",
        type=memory_size,
        metavar="SIZE",
        help="What the process may take in all, such as 8GB or 512MiB.  [default: what the "
        "machine, its control group or the GPU has free]",
    ),
)

_early_stopping = _descent(
    "--early-stopping",
    type=_COUNT,
    metavar="EPOCHS",
    help="Stop when the validation loss has not improved for so many epochs.",
)
_target_loss = _descent(
    "--target-loss",
    type=float,
    metavar="LOSS",
    help="Stop when the validation loss is LOSS or lower; with --batch-size auto, find the size "
    "that gets there in the least time.",
)
_out = _running(
    "--out",
    metavar="RUN",
    type=click.Path(file_okay=False),
    help="The folder of the run.  [default: runs/DATA-MODEL-TIME]",
)


def _auto_batch_option(default: int | str) -> Callable[[Function], Function]:
    return _batching(
        "--batch-size",
        type=batch_size_or_auto,
        metavar="SAMPLES|full|auto",
        default=default,
        show_default=True,
        help="Samples a step: 1 is stochastic gradient descent, full is batch gradient descent; "
        "auto measures which size is best, and takes the learning rate that goes with it.",
    )


def _training_options(batch_size: int | str) -> Callable[[Function], Function]:
    return stacked(
        model_options,
        network_options,
        _auto_batch_option(batch_size),
        token_batch_options,
        advice_options,
        micro_batch_options,
        rank_options,
        evaluation_batch_options,
        order_options,
        sampling_options,
        update_options,
        length_options,
        _target_loss,
        _early_stopping,
        thread_options,
        _out,
    )


run_options = _training_options("auto")

training_options = stacked(
    _training_options(TrainOptions.batch_size),
    _running(
        "--resume",
        metavar="RUN",
        type=click.Path(exists=True, file_okay=False),
        help="Continue the run in this folder, with its own options.",
    ),
)

output_options = stacked(
    _output(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON object on stdout; tables and progress go to stderr.",
    ),
    _output("--quiet", is_flag=True, help="Print nothing on stderr but errors."),
)


def collect(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """The option class `kind` from what the command line gave."""
    return kind(
        **{field.name: values[field.name] for field in fields(kind) if field.name in values}
    )


def given_on_command_line(context: click.Context) -> dict[str, Any]:
    """The parameters that the user wrote, as opposed to those left at their defaults."""
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }

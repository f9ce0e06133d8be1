"""The group `rightbatch`, whose verbs load when they are asked for, and its exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import click

from rightbatch import __version__
from rightbatch.cli.failure import report_failure
from rightbatch.errors import did_you_mean
from rightbatch.launch import launched_world_size

# A verb is a file of this package that holds a click command of the same name.
VERBS = (
    "run",
    "inspect",
    "fetch",
    "pack",
    "advise",
    "train",
    "predict",
    "compare",
    "speed",
    "report",
)

# Under torchrun, these are shared by the ranks.
_VERBS_OF_RANKS = ("run", "advise", "train", "predict")


class LazyGroup(click.Group):
    """A group that imports a verb's file only when that verb is used, or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of a first visit."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, or None where there is no such verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(f"rightbatch.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # getattr says nothing of its type
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that was asked for; a usage error names the nearest one."""
        given = args[0]
        if given not in VERBS and not given.startswith("-"):
            raise click.UsageError(
                f"There is no verb {given!r}.{did_you_mean(given, VERBS)} "
                f"Valid are: {', '.join(VERBS)}.",
                ctx,
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  rightbatch run breast_cancer --stratify --standardize --model mlp:10 --report report.html
  rightbatch inspect breast_cancer
  rightbatch fetch mnist
  rightbatch pack "trips/*.parquet" packed/trips --target fare_amount
  rightbatch advise digits --model mlp:64 --lr 0.1 --epochs 20
  rightbatch train breast_cancer --stratify --standardize --model mlp:10
  rightbatch predict runs/digits more.csv --out predicted.csv
  rightbatch compare breast_cancer --standardize --model mlp:10 --report report.html
  rightbatch speed mlp:100 digits --batch-sizes 1-30,64,128,256

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 data refused, 4 out of memory, 130 interrupted.
`rightbatch VERB --help` lists the options of a verb.
""",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """The right mini-batches of any data, and the right batch size for any model, measured."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line with `arguments` and return its exit code."""
    try:
        with ExitStack() as stack:
            if launched_world_size() > 1:
                _refuse_one_process_verbs(arguments)
                from rightbatch.training.torchrun import process_group

                stack.enter_context(process_group())
            result = cli.main(
                list(arguments), prog_name="rightbatch", standalone_mode=False, obj=list(arguments)
            )
    except Exception as error:
        code = report_failure(error)
        if code is None:
            raise
        return code
    # A verb returns nothing; ctx.exit(code) comes back as the number it was given.
    return result if isinstance(result, int) else 0


def _refuse_one_process_verbs(arguments: Sequence[str]) -> None:
    """A usage error where several processes would do the work of one, into the same files."""
    verb = next((word for word in arguments if word in VERBS), None)
    if verb is not None and verb not in _VERBS_OF_RANKS:
        raise click.UsageError(
            f"`{verb}` is the work of one process, and torchrun has begun "
            f"{launched_world_size()}: call it without torchrun. Ranks share "
            f"{', '.join(_VERBS_OF_RANKS)}."
        )


def main() -> None:
    """The entry point of the installed program."""
    sys.exit(run(sys.argv[1:]))

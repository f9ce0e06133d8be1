"""How the words of a command line become values: parameter types and help grouped by theme."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rightbatch.cli.data_paragraph import DATA_PARAGRAPH
from rightbatch.errors import OptionError, did_you_mean

Function = TypeVar("Function", bound=Callable[..., Any])

# Each of several batch sizes is run: more than these are a slip of the finger.
_MOST_SIZES = 1000


class ThemedOption(click.Option):
    """An option that knows under which heading the help lists it."""

    def __init__(self, *arguments: Any, theme: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.theme = theme


class ThemedCommand(click.Command):
    """A command whose help lists the options under their themes, in the order of declaration.

    Where it takes DATA, the help says what they may be.
    """

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, and a paragraph on DATA where it takes them."""
        super().format_help_text(ctx, formatter)
        arguments = [one for one in self.get_params(ctx) if isinstance(one, click.Argument)]
        if any(argument.name == "data" for argument in arguments):
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(DATA_PARAGRAPH)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a theme."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            # Arguments stand in the usage line and in the text above.
            record = (
                None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            )
            if record is not None:
                theme = getattr(parameter, "theme", "Help")
                sections.setdefault(theme, []).append(record)
        for theme, records in sections.items():
            with formatter.section(theme):
                formatter.write_dl(records)


def themed(theme: str) -> Callable[..., Callable[[Function], Function]]:
    """`click.option` for options of one theme."""

    def option(*declarations: str, **attributes: Any) -> Callable[[Function], Function]:
        return click.option(*declarations, cls=ThemedOption, theme=theme, **attributes)

    return option


def stacked(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """One decorator of many, which the help then lists in the order given here."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


class Choice(click.Choice[str]):
    """A choice whose refusal names the nearest valid word."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The chosen word."""
        choices = [str(choice) for choice in self.choices]
        if value not in choices:
            listed = ", ".join(choices)
            self.fail(
                f"{value!r} is not valid.{did_you_mean(value, choices)} Valid: {listed}.",
                param,
                ctx,
            )
        return str(value)


def batch_size(value: int | str) -> int | str:
    """A whole number of samples from 1, or `full` for all of them.

    >>> batch_size("128"), batch_size("full")
    (128, 'full')
    """
    number = _whole(value)
    if value == "full" or (number is not None and number >= 1):
        return "full" if number is None else number
    near = did_you_mean(str(value), ["full"])
    raise click.BadParameter(f"{value!r} is not a whole number from 1, nor full.{near}")


def batch_size_or_auto(value: int | str) -> int | str:
    """A batch size, or `auto` for the one that measuring finds.

    >>> batch_size_or_auto("auto"), batch_size_or_auto("32")
    ('auto', 32)
    """
    if value == "auto":
        return "auto"
    try:
        return batch_size(value)
    except click.BadParameter as error:
        near = did_you_mean(str(value), ["full", "auto"])
        raise click.BadParameter(
            f"{value!r} is not a whole number from 1, nor full, nor auto.{near}"
        ) from error


def memory_size(value: str) -> str:
    """A size of memory such as 8GB, as it was written.

    >>> memory_size("8GB")
    '8GB'
    """
    # Here, so that the help need not import what knows the units.
    from rightbatch.byte_sizes import parse_bytes

    try:
        parse_bytes(value)
    except OptionError as error:
        raise click.BadParameter(str(error).removeprefix("memory_limit=")) from error
    return value


def batch_sizes(value: str) -> tuple[int | str, ...]:
    """Batch sizes with commas between them, ranges such as `1-30` and `full` among them.

    A size that comes twice is taken once, where it came first.

    >>> batch_sizes("1-4, 3, 64,full")
    (1, 2, 3, 4, 64, 'full')
    """
    found: dict[int | str, None] = {}
    for word in (piece.strip() for piece in value.split(",")):
        if not word:
            raise click.BadParameter(
                f"{value!r} holds an empty batch size; write sizes as 1-30,64,full."
            )
        ends = re.fullmatch(r"(\d+)\s*[-–]\s*(\d+)", word)
        sizes = _range(word, int(ends[1]), int(ends[2])) if ends else [batch_size(word)]
        found.update(dict.fromkeys(sizes))
    if len(found) > _MOST_SIZES:
        raise click.BadParameter(
            f"these are {len(found):,} batch sizes, and {_MOST_SIZES:,} are the most; name fewer."
        )
    return tuple(found)


def _range(word: str, low: int, high: int) -> range:
    if low < 1 or high < low:
        raise click.BadParameter(
            f"{word!r} is no range of batch sizes: write the smaller one first, from 1, as 1-30."
        )
    if high - low >= _MOST_SIZES:
        raise click.BadParameter(
            f"{word!r} holds {high - low + 1:,} batch sizes, and {_MOST_SIZES:,} are the most; "
            "name some of them, as 1-30,64,128."
        )
    return range(low, high + 1)


def held_out(value: float | str) -> int | float:
    """A count of samples, as int (0 holds nothing out), or a share of the whole, as float.

    >>> held_out("5000"), held_out("0.1")
    (5000, 0.1)
    """
    found = _count_or_share(value, least=0)
    if found is not None:
        return found
    raise click.BadParameter(
        f"{value!r} is neither a share between 0 and 1, such as 0.1, nor a count, such as 5000 "
        "(0 holds nothing out)."
    )


def image_size(value: int | str) -> int | tuple[int, int]:
    """A number of pixels for a square, or a height and a width as HEIGHTxWIDTH.

    >>> image_size("224"), image_size("192x256")
    (224, (192, 256))
    """
    sides = [_whole(piece) for piece in str(value).split("x")]
    known = [side for side in sides if side is not None and side >= 1]
    if len(known) == len(sides) == 1:
        return known[0]
    if len(known) == len(sides) == 2:
        return known[0], known[1]
    raise click.BadParameter(
        f"{value!r} is no size in pixels; write one number for a square, such as 224, or "
        "HEIGHTxWIDTH, such as 192x256."
    )


def most_bad(value: float | str) -> int | float:
    """A count of bad samples, as int from 1, or a share of all samples, as float.

    >>> most_bad("20"), most_bad("0.001")
    (20, 0.001)
    """
    found = _count_or_share(value, least=1)
    if found is not None:
        return found
    raise click.BadParameter(
        f"{value!r} is neither a count from 1, such as 20, nor a share between 0 and 1, such as "
        "0.001."
    )


def names(value: str) -> tuple[str, ...]:
    """Names with commas between them; one that holds a comma stands in double quotes.

    >>> names('age, "height, in cm"')
    ('age', 'height, in cm')
    """
    found = tuple(name.strip() for name in next(csv.reader([value], skipinitialspace=True), []))
    if not found or not all(found):
        raise click.BadParameter(f"{value!r} holds an empty name; write names as a,b,c.")
    return found


def _count_or_share(value: float | str, *, least: int) -> int | float | None:
    """A count from `least`, as int, or a share between 0 and 1, as float; None of anything else."""
    number = _whole(value)
    if number is not None and number >= least:
        return number
    try:
        share = float(value)
    except ValueError:
        return None
    return share if 0 < share < 1 else None


def _whole(value: float | str) -> int | None:
    try:
        return None if isinstance(value, float) else int(value)
    except ValueError:
        return None

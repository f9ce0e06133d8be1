"""`rightbatch fetch NAME`: a public data set, downloaded once, so that its name opens it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.byte_sizes import bytes_text
from rightbatch.cli.failure import INTERRUPTED
from rightbatch.cli.options import output_options
from rightbatch.cli.output import Output, command_line, table
from rightbatch.cli.parameters import ThemedCommand, stacked, themed
from rightbatch.cli.progress import pack_display

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rightbatch.fetching.fetch import FetchedSet, FetchProgress

# What the library knows, repeated so that the help need not import it; a test compares.
NAMES = ("mnist", "fashion-mnist", "cifar-10", "adult")
DEFAULT_TIMEOUT_SECONDS = 30.0
_fetching = themed("Fetching")

_fetching_options = stacked(
    _fetching("--list", "lists", is_flag=True, help="Show the sets, and which of them are here."),
    _fetching(
        "--folder",
        metavar="FOLDER",
        type=click.Path(file_okay=False, path_type=Path),
        help="What holds a folder for each set.  [default: $RIGHTBATCH_HOME, or "
        "$XDG_DATA_HOME/rightbatch, or ~/.local/share/rightbatch]",
    ),
    _fetching(
        "--mirror",
        "mirrors",
        metavar="URL",
        multiple=True,
        help="An address of your own that the files' names are appended to, instead of the public "
        "ones. Can be given several times.",
    ),
    _fetching("--allow-http", is_flag=True, help="Follow redirects from https to plain http."),
    _fetching(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT_SECONDS,
        show_default=True,
        help="How long a server may take to answer, and to send each next piece.",
    ),
)


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch fetch --list
  rightbatch fetch mnist
  rightbatch train mnist --model mlp:50,50 --optimizer adam --lr 0.001
  rightbatch fetch cifar-10 --mirror https://example.org/data/

JSON keys: name, folder, samples, bytes, downloaded_bytes, seconds, licence, homepage,
files [{file, bytes, sha256, address}], where address is null for what was there already.
With --list: folder, sets [{name, samples, bytes, kept_bytes, licence, homepage, folder,
fetched, partial_bytes}].

An interrupted download goes on with the same command. No other verb downloads anything
by these names.
""",
)
@click.argument("name", required=False)
@_fetching_options
@output_options
def fetch(
    name: str | None,
    lists: bool,
    folder: Path | None,
    mirrors: tuple[str, ...],
    allow_http: bool,
    timeout_seconds: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Download the public data set NAME and check its sha256, so that its name opens it.

    NAME is mnist, fashion-mnist, cifar-10 or adult. Afterwards it is the DATA of every verb, and
    of rb.open in Python.
    """
    output = Output(as_json=as_json, quiet=quiet)
    if lists:
        if name is not None:
            raise click.UsageError(f"--list shows all sets, and {name!r} was given too.")
        _list(folder, output)
    elif name is None:
        raise click.UsageError(
            f"Name the set to fetch: {', '.join(NAMES)}; or see what is here: --list."
        )
    else:
        options = {"allow_http": allow_http, "timeout_seconds": timeout_seconds}
        _fetch(name, folder, mirrors, options, output)


def _fetch(
    name: str,
    folder: Path | None,
    mirrors: tuple[str, ...],
    options: dict[str, Any],
    output: Output,
) -> None:
    from rightbatch.fetching.fetch import fetch as fetch_data

    began = time.monotonic()
    try:
        with pack_display(quiet=output.quiet) as display:

            def told(progress: FetchProgress) -> None:
                if display is not None:
                    words = f"{progress.stage} {progress.file}"
                    display.show(words, progress.done_bytes, progress.total_bytes)

            done = fetch_data(
                name, folder=folder, mirrors=list(mirrors) or None, progress=told, **options
            )
    except KeyboardInterrupt:
        click.echo(
            f"Interrupted. What is downloaded is kept; go on with: {command_line()}", err=True
        )
        click.get_current_context().exit(INTERRUPTED)
    report = _report(done, time.monotonic() - began)
    output.result(_texts(done, report), report)


def _report(done: FetchedSet, seconds: float) -> dict[str, Any]:
    from rightbatch.data.known_sets import KNOWN_SETS

    known = KNOWN_SETS[done.name]
    return {
        "name": done.name,
        "folder": str(done.folder),
        "samples": done.samples,
        "bytes": known.kept_bytes,
        "downloaded_bytes": done.downloaded_bytes,
        "seconds": seconds,
        "licence": known.licence,
        "homepage": known.homepage,
        "files": [vars(file) for file in done.files],
    }


def _texts(done: FetchedSet, report: dict[str, Any]) -> Iterator[RenderableType]:
    from rightbatch.data.fetched_sets import data_home
    from rightbatch.data.known_sets import KNOWN_SETS

    yield str(done)
    files = table("file", "size", "from", right=["size"])
    for file in done.files:
        files.add_row(file.file, bytes_text(file.bytes), file.origin)
    yield files
    yield f"Every file is as published: its sha256 was checked. Licence: {report['licence']}"
    has_missing = KNOWN_SETS[done.name].has_missing
    option, argument = (" --missing drop", ", missing='drop'") if has_missing else ("", "")
    yield (
        f"Open it: rightbatch inspect {done.name}{option}, or "
        f"rb.open({done.name!r}{argument}) in Python"
    )
    if done.folder.parent != data_home():
        yield f"For the name to be found there: export RIGHTBATCH_HOME={done.folder.parent}"


def _list(folder: Path | None, output: Output) -> None:
    from rightbatch.data.fetched_sets import data_home, lacking_files
    from rightbatch.data.known_sets import KNOWN_SETS
    from rightbatch.fetching.partial_file import PartialFile

    base = data_home() if folder is None else folder.expanduser().absolute()
    sets = []
    for known in KNOWN_SETS.values():
        place = base / known.name
        partial = sum(PartialFile(place / file.name).size for file in known.downloads)
        sets.append(
            {
                "name": known.name,
                "samples": known.samples,
                "bytes": known.download_bytes,
                "kept_bytes": known.kept_bytes,
                "licence": known.licence,
                "homepage": known.homepage,
                "folder": str(place),
                "fetched": not lacking_files(known, place),
                "partial_bytes": partial,
            }
        )
    output.result(_list_texts(base, sets), {"folder": str(base), "sets": sets})


def _list_texts(base: Path, sets: list[dict[str, Any]]) -> Iterator[RenderableType]:
    shown = table("name", "samples", "download", "here", "licence", right=["samples", "download"])
    for each in sets:
        here = "yes" if each["fetched"] else "no"
        if each["partial_bytes"]:
            here = f"{bytes_text(each['partial_bytes'])} of it"
        shown.add_row(
            each["name"],
            f"{each['samples']:,}",
            bytes_text(each["bytes"]),
            here,
            each["licence"],
        )
    yield shown
    yield f"Folder: {base}"

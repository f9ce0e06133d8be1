"""`rightbatch report RUN…`: results as one page that opens anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rightbatch.byte_sizes import bytes_text
from rightbatch.cli.options import output_options
from rightbatch.cli.output import Output
from rightbatch.cli.parameters import ThemedCommand, themed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from rightbatch.report.alert import Alert

_page = themed("Page")


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch report runs/mnist
  rightbatch report runs/a runs/b -o side-by-side.html --title "With and without l2"
  rightbatch compare breast_cancer --batch-sizes 1,32,full --json > compare.json
  rightbatch report compare.json speed.json --charts figures
  rightbatch advise digits --model mlp:64 --json > advice.json
  rightbatch report advice.json runs/digits

JSON keys: output, bytes, runs, charts, alerts [{kind, severity, text, advice}].
""",
)
@click.argument("results", nargs=-1, required=True, metavar="RUN...")
@_page(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page; one that is there already is replaced.",
)
@_page("--title", help="The heading of the page.  [default: model and data]")
@_page(
    "--charts",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="Write each chart into this folder too, as PNG and SVG.",
)
@output_options
def report(
    results: tuple[str, ...],
    output: str,
    title: str | None,
    charts: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show the results RUN… as one HTML page: advice, curves, speed, landscape, alerts.

    RUN is a run folder, or a JSON file that `rightbatch advise --json`, `rightbatch compare
    --json`, `rightbatch speed --json` or `rightbatch inspect --shuffle-quality --json` printed. Run
    folders are drawn on the same axes. The page is one file, needs no network, and can be
    printed.
    """
    from rightbatch.report.figures import save_figures
    from rightbatch.report.page import read_report, write_page

    speaking = Output(as_json=as_json, quiet=quiet)
    read = read_report(*results)
    size = write_page(Path(output), read, title=title)
    written = [] if charts is None else save_figures(read.figures, Path(charts))
    told = {
        "output": output,
        "bytes": size,
        "runs": sum(len(study.curves) for study in read.studies),
        "charts": [str(path) for path in written]
        if charts is not None
        else [figure.name for figure in read.figures],
        "alerts": [alert.to_json() for alert in read.alerts],
    }
    speaking.result(_texts(read.alerts, output, size, len(read.figures), written), told)


def _texts(
    alerts: list[Alert], output: str, size: int, charts: int, written: list[Path]
) -> Iterator[RenderableType]:
    from rightbatch.report.alert import grouped

    for group in grouped(alerts):
        yield f"{group.severity.capitalize()}: {' '.join([*group.texts, *group.advice])}"
    if written:
        yield f"Charts: {len(written)} files in {written[0].parent}"
    yield f"Report: {output}, {charts} charts, {bytes_text(size)}"

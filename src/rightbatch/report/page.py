"""One self-contained HTML page of any results: it opens anywhere and loads nothing."""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from rightbatch.advice.advice import Advice
from rightbatch.advice.timing import Speed
from rightbatch.durable_files import write_atomically
from rightbatch.errors import OptionError
from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.report.advice_section import (
    advice_blocks,
    advice_facts,
    advice_title,
    origin_of_advice,
)
from rightbatch.report.alert import Alert, grouped
from rightbatch.report.alerts import checks_without_finding, find_alerts
from rightbatch.report.checking import naming
from rightbatch.report.facts import lead, speed_facts, study_facts
from rightbatch.report.figure import Figure, Section
from rightbatch.report.figures import figures_of
from rightbatch.report.findings import Origin, Study
from rightbatch.report.hints import hints
from rightbatch.report.packing import packed_spec
from rightbatch.report.reading import Result, read_results
from rightbatch.report.shuffle_section import (
    origin_of_shuffle,
    shuffle_facts,
    shuffle_tables,
    shuffle_title,
)
from rightbatch.report.tables import (
    data_blocks,
    origin_of_speed,
    reproduce_blocks,
    speed_tables,
    study_table,
    trial_table,
)
from rightbatch.report.theme import style_variables
from rightbatch.training.history import finite_json
from rightbatch.training.provenance import describe_environment

# The bar of the split has one colour a part.
_PARTS = 3
_MOST_BYTES = 2_000_000
# What the page's own script calls, of all that the bundle holds.
_EXPORTS = "window.vegaEmbed = vegaEmbed;"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Results that were read, with the figures and the alerts that they call for.

    `names` are the paths that they were read from.
    """

    studies: list[Study]
    speeds: list[Speed]
    advices: list[Advice]
    shuffles: list[ShuffleQuality]
    figures: list[Figure]
    alerts: list[Alert]
    names: list[str]

    @property
    def origins(self) -> list[Origin]:
        """Where everything in the report comes from."""
        of_studies = [origin for study in self.studies for origin in study.origins]
        of_advices = [origin_of_advice(advice) for advice in self.advices]
        of_shuffles = [origin_of_shuffle(quality) for quality in self.shuffles]
        of_speeds = [origin_of_speed(speed) for speed in self.speeds]
        return of_studies + of_speeds + of_advices + of_shuffles


def read_report(*results: Result) -> Report:
    """Read results and find out what there is to draw and to say.

    Raises OptionError where a path holds no result.
    """
    studies, speeds, advices, shuffles = read_results(results)
    names = [str(result) for result in results if isinstance(result, str | Path)]
    with _naming(names):
        return Report(
            studies=studies,
            speeds=speeds,
            advices=advices,
            shuffles=shuffles,
            figures=figures_of(studies, speeds, advices, shuffles),
            alerts=find_alerts(studies, speeds, advices, shuffles),
            names=names,
        )


def _naming(names: Sequence[str]) -> AbstractContextManager[None]:
    """Numbers that are valid one by one may still be nothing that a chart can show."""
    if not names:
        return nullcontext()
    return naming(", ".join(names), advice="Leave out what is wrong, or make it anew.")


def write_report(path: str | Path, *results: Result, title: str | None = None) -> Path:
    """Write one HTML page about `results` to `path`, and give the path.

    Results are run folders, `FitResult`s of runs that have one, advice on the batch size,
    comparisons, measurements of speed and of shuffles, and JSON files that `--json` of
    `rightbatch advise`, `compare`, `speed` or `inspect --shuffle-quality` printed.
    The page is one file without network, light and dark; everything that comes from data is
    escaped, and a content security policy lets nothing run but the page's own two scripts.
    A file that is there already is replaced, once the page is complete.

    Raises OptionError where a result is none, or the file can not be written.

    >>> import tempfile, rightbatch as rb
    >>> parts = rb.split(rb.open("iris"), val=30, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = rb.fit("softmax", parts, epochs=2, out=f"{folder}/run")
    ...     page = write_report(f"{folder}/report.html", result).read_text(encoding="utf-8")
    >>> "softmax on iris" in page, len(page) < 2_000_000
    (True, True)
    """
    path = Path(path)
    write_page(path, read_report(*results), title=title)
    return path


def write_page(path: Path, report: Report, *, title: str | None = None) -> int:
    """Write the page of a report that was read; gives its size in bytes."""
    # Half of a surrogate pair, which JSON may hold, has no bytes.
    with _naming(report.names):
        content = render(report, title=title).encode(errors="replace")
    if len(content) > _MOST_BYTES:
        logging.getLogger(__name__).warning(
            "%s has %.1f MB: give fewer runs to one report", path, len(content) / 1e6
        )
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file, such as {path / 'report.html'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise OptionError(f"{path} can not be written: {error}") from error
    return len(content)


def render(report: Report, *, title: str | None = None) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # Strict: a NaN would be no JSON, and take a chart with it.
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "ensure_ascii": False,
        "allow_nan": False,
    }
    bundle, script = _bundle(), _text("page.js")
    charts = [
        {"id": f"figure-{figure.name}", "spec": finite_json(packed_spec(_spec(figure)))}
        for figure in report.figures
    ]
    in_section: dict[Section, dict[str, list[Figure]]] = {
        "advice": {},
        "learning": {},
        "speed": {},
        "shuffle": {},
        "landscape": {},
    }
    for figure in report.figures:
        in_section[figure.section].setdefault(figure.group, []).append(figure)
    return environment.get_template("page.html.jinja").render(
        title=title or _title(report),
        lead=lead(report.studies, report.speeds, report.origins, report.advices, report.shuffles),
        version=describe_environment()["versions"]["rightbatch"],
        script_hashes=" ".join(_hash(text) for text in (bundle, script)),
        style=Markup(_style(report)),  # noqa: S704  # of this package, with no word of the data
        bundle=Markup(bundle),  # noqa: S704  # the same
        script=Markup(script),  # noqa: S704  # the same
        charts=charts,
        studies=report.studies,
        blocks=advice_blocks(report.advices),
        summaries=[
            {"title": advice_title(advice), "facts": advice_facts(advice), "table": None}
            for advice in report.advices
            # Alone on the page, an advice is its own summary.
            if report.studies or report.speeds
        ]
        + [
            {"title": study.title, "facts": study_facts(study), "table": study_table(study)}
            for study in report.studies
        ]
        + [
            {"title": origin_of_speed(speed).name, "facts": speed_facts(speed), "table": None}
            for speed in report.speeds
        ]
        + [
            {"title": shuffle_title(quality), "facts": shuffle_facts(quality), "table": None}
            for quality in report.shuffles
        ],
        trials=[made for study in report.studies if (made := trial_table(study)) is not None],
        speed_tables=[made for speed in report.speeds for made in speed_tables(speed)],
        shuffle_tables=[made for quality in report.shuffles for made in shuffle_tables(quality)],
        data=data_blocks(report.origins),
        reproduce=reproduce_blocks(report.origins),
        alerts=grouped(report.alerts),
        checks=checks_without_finding(
            report.studies, report.speeds, report.alerts, report.shuffles
        ),
        notes=[note for study in report.studies for note in study.notes],
        hints=hints(report.origins, report.advices),
        **in_section,
    )


def _spec(figure: Figure) -> dict[str, Any]:
    chart = figure.draw(theme="page", width="container")
    assert chart is not None  # figures_of keeps those that draw something
    return dict(chart.to_dict())


def _title(report: Report) -> str:
    if report.studies:
        study = report.studies[0]
        return study.title
    if report.advices:
        return advice_title(report.advices[0])
    if not report.speeds:
        return shuffle_title(report.shuffles[0])
    speed = report.speeds[0]
    return f"Speed of {speed.model} on {speed.provenance.data}"


def _style(report: Report) -> str:
    counts = {1, _PARTS}
    for study in report.studies:
        counts.add(len({curve.label for curve in study.curves}))
        counts |= {len({path.label for path in mapped.paths}) for _, mapped in study.landscapes}
    for advice in report.advices:
        if advice.pilot is not None:
            counts.add(len({run.batch_size for run in advice.pilot.runs if len(run.points) > 1}))
    text = _text("page.css")
    for name in ("light", "dark"):
        text = text.replace(name.upper(), style_variables(name, counts))
    return text


def _text(name: str) -> str:
    return (files("rightbatch.report") / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; making it takes seconds, so once."""
    text = str(vl_convert.javascript_bundle(_EXPORTS))
    # In a page, these two would end or bend the script, whatever string they stand in.
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")

"""The page as a file: one piece, escaped, small, and nothing in it that is not ours."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from rightbatch.errors import OptionError
from rightbatch.report.page import read_report, write_page, write_report

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}'"&"""


class Outline(HTMLParser):
    """Tags and scripts of a page, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page(comparison, speed, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report(path, comparison, speed) == path
    return path.read_text(encoding="utf-8")


def test_every_section_is_there_and_filled(page) -> None:
    ids = [attributes.get("id") for tag, attributes in Outline(page).tags if tag == "section"]
    assert ids == [
        "summary", "learning", "speed", "landscape", "advice", "data-and-split", "alerts",
        "reproduce",
    ]  # fmt: skip
    assert page.count("<figure") == 7
    assert "rightbatch compare breast_cancer --model mlp:4" in page
    assert "6a" in page or "fingerprint" in page
    assert "16 is as fast as its neighbours." in page


def test_the_page_loads_nothing_and_stays_small(page) -> None:
    assert len(page.encode()) < 2_000_000
    for tag, attributes in Outline(page).tags:
        assert not {"src", "srcset", "data", "action"} & set(attributes), tag
        assert attributes.get("href", "#").startswith("#"), tag
    assert "@import" not in page.split("</style>")[0]
    assert "url(" not in page.split("</style>")[0]


def test_the_policy_lets_the_two_scripts_run_and_no_other(page) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = Outline(page).scripts
    # A specification a chart, which no browser runs, and the two.
    assert len(scripts) == 7 + 2
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts[-2:]
    }
    allowed = re.search(r"script-src ([^;]*)", policy).group(1).split()
    assert set(allowed) == hashes


def test_sections_without_results_say_what_to_run(run, speed, tmp_path) -> None:
    of_run = write_report(tmp_path / "run.html", run).read_text(encoding="utf-8")
    # The run was made from Python: there is no command to repeat, and none is made up.
    assert "Measure it with rb.speed" in of_run
    assert "rightbatch speed" not in of_run
    of_speed = write_report(tmp_path / "speed.html", speed).read_text(encoding="utf-8")
    assert "No run is in this report" in of_speed
    assert "Looked at, and in order: the intervals of the timings are narrow." in of_speed
    assert "diverged" not in of_speed.split('id="alerts"')[1].split("</section>")[0]


def test_names_from_data_can_not_become_markup(run, comparison, speed, tmp_path) -> None:
    hostile = tmp_path / "<img src=x onerror=alert(3)>"
    shutil.copytree(run, hostile)
    config = json.loads((hostile / "config.json").read_text())
    config["data"]["name"] = config["model"] = config["command_line"] = HOSTILE
    config["classes"] = [HOSTILE]
    config["columns"][0]["name"] = HOSTILE
    config["columns"][0]["categories"] = [HOSTILE]
    config["split"]["group"] = HOSTILE
    (hostile / "config.json").write_text(json.dumps(config))
    bad = replace(comparison, model=HOSTILE, notes=[HOSTILE], settings={HOSTILE: HOSTILE})
    worse = replace(speed, model=HOSTILE, notes=[HOSTILE], mode=HOSTILE)
    path = write_report(tmp_path / "r.html", hostile, bad, worse, title=HOSTILE)
    outline = Outline(path.read_text(encoding="utf-8"))
    assert len(outline.scripts) == len(read_report(hostile, bad, worse).figures) + 2
    assert not [tag for tag, _ in outline.tags if tag == "img"]
    assert not [name for _, attributes in outline.tags for name in attributes if name[:2] == "on"]
    assert "49" not in [text.strip() for text in re.findall(r"<h1>(.*?)</h1>", path.read_text())]
    charts = [json.loads(script) for script in outline.scripts[:-2]]
    assert any(hostile.name in json.dumps(chart, ensure_ascii=False) for chart in charts)


def test_an_old_page_is_replaced_and_folders_are_made(run, tmp_path) -> None:
    path = tmp_path / "new" / "report.html"
    path.parent.mkdir()
    path.write_text("old")
    size = write_page(path, read_report(run), title="Mine & yours")
    assert path.stat().st_size == size
    assert "<title>Mine &amp; yours</title>" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(OptionError, match="is a folder"):
        write_report(path.parent, run)
    with pytest.raises(OptionError, match="can not be written"):
        write_report(path / "below.html", run)


def test_numbers_that_are_not_finite_never_reach_the_page(comparison, bowl, tmp_path) -> None:
    paths = [
        replace(path, losses=[path.losses[0], None, math.nan], x=[path.x[0], math.inf, path.x[2]])
        for path in bowl.paths
    ]
    broken = [
        replace(
            curve,
            history=[{**row, "train_loss": math.nan} for row in curve.history],
            checked_losses=[(0, math.inf)],
            diverged="the loss of step 9 is nan",
        )
        for curve in comparison.curves[:2]
    ]
    bad = replace(
        comparison,
        curves=broken + comparison.curves[2:],
        landscape=replace(bowl, paths=paths),
    )
    page = write_report(tmp_path / "nan.html", bad).read_text(encoding="utf-8")

    def refused(word: str) -> None:
        raise AssertionError(word)

    specs = Outline(page).scripts[:-2]
    assert len(specs) == 5
    for spec in specs:
        json.loads(spec, parse_constant=refused)


def test_runs_that_all_diverged_at_once_are_told_of(comparison, tmp_path) -> None:
    curves = [
        replace(curve, history=[], step_losses=[], checked_losses=[], diverged="the loss is nan")
        for curve in comparison.curves
    ]
    page = write_report(
        tmp_path / "none.html", replace(comparison, curves=curves, landscape=None)
    ).read_text(encoding="utf-8")
    assert "No run got to the end of an epoch." in page
    assert "batch 16 (seeds 0 and 1) diverged at a learning rate of 0.1: the loss is nan." in page


def test_half_of_a_letter_is_no_reason_to_fail(comparison, tmp_path) -> None:
    page = write_report(tmp_path / "half.html", replace(comparison, model="mlp \ud800"))
    assert "mlp ?" in page.read_text(encoding="utf-8")

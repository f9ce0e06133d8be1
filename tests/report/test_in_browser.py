"""The page in a real browser, with the network off."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rightbatch.report.page import write_report

CHARTS = ["loss", "metric", "steps", "target", "landscape", "time", "throughput"]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the path")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(comparison, speed, tmp_path_factory) -> Path:
    return write_report(tmp_path_factory.mktemp("browser") / "report.html", comparison, speed)


@pytest.fixture
def visit(browser, report) -> Iterator:
    """Open the page; whatever it asks for or complains about fails the test."""
    contexts, requests, complaints = [], [], []

    def opened(**settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.locator("figure[data-failed]").count() == 0, complaints
        assert page.get_attribute("html", "data-ready") == "true", complaints
        return page

    yield opened
    for context in contexts:
        context.close()
    assert set(requests) == {report.as_uri()}
    assert complaints == []


def lines(page, chart: str) -> dict[str, str]:
    """The opacity of every line of a chart, by its colour."""
    paths = page.query_selector_all(f"#figure-{chart} .mark-line.role-mark path")
    return {path.get_attribute("stroke"): path.get_attribute("opacity") or "1" for path in paths}


def test_every_chart_is_drawn(visit) -> None:
    page = visit()
    for chart in CHARTS:
        assert page.locator(f"#figure-{chart}[data-drawn] svg").count() == 1
    marks = {
        chart: page.locator(
            f"#figure-{chart} .role-mark path, #figure-{chart} .role-mark line"
        ).count()
        for chart in CHARTS
    }
    # Three lines (one path each) with readings on them; points; bands, contours, paths and ends.
    assert marks["loss"] >= 3 + 3 * 6
    assert marks["metric"] >= 3 + 3 * 6
    assert marks["steps"] == 3
    assert marks["target"] == 2 + 6
    assert marks["landscape"] > 30
    assert marks["time"] == marks["throughput"] == 1 + 1 + 9 + 9
    points = page.get_attribute("#figure-steps .mark-line.role-mark path", "d")
    assert len(re.findall("[ML]", points)) > 100


def test_the_legend_isolates_a_curve(visit) -> None:
    page = visit()
    before = lines(page, "loss")
    assert len(before) == 3
    assert set(before.values()) == {"1"}
    page.locator("#figure-loss").get_by_text("batch 64", exact=True).click()
    page.wait_for_timeout(50)
    after = lines(page, "loss")
    assert sorted(map(float, after.values())) == [0.08, 0.08, 1]
    # The colour of the middle size: it is the one that was clicked.
    assert after["var(--series-3-1)"] == "1"


def test_the_switches_change_axis_title_and_curve_and_charts_follow(visit) -> None:
    page = visit()

    def title(chart: str) -> str:
        return page.locator(f"#figure-{chart} .role-title-text").text_content()

    def drawn() -> str:
        return page.get_attribute("#figure-loss .mark-line.role-mark path", "d")

    first = drawn()
    assert title("loss") == title("steps") == "epochs"
    page.locator("#figure-loss").get_by_text("samples", exact=True).click()
    page.wait_for_function(
        "document.querySelector('#figure-steps .role-title-text').textContent == 'samples seen'"
    )
    assert title("loss") == title("metric") == "samples seen"
    labels = page.locator("#figure-loss .role-axis-label").first.text_content()
    assert "1,000" in labels
    page.locator("#figure-loss").get_by_text("seconds", exact=True).click()
    assert title("loss") == "seconds of training"
    assert drawn() != first
    training = drawn()
    page.locator("#figure-loss").get_by_text("validation loss", exact=True).click()
    assert drawn() != training
    # Every chart keeps its own switch, though they go by one name.
    assert page.locator("input[type=radio]:checked").count() == 5


def test_dark_and_light_follow_the_system_and_the_buttons(visit) -> None:
    page = visit(color_scheme="dark")

    def colour(selector: str, name: str) -> str:
        return page.eval_on_selector(selector, f"node => getComputedStyle(node).{name}")

    line = "#figure-loss .mark-line.role-mark path"
    dark = colour("body", "backgroundColor"), colour(line, "stroke"), colour("body", "color")
    page.get_by_role("button", name="Light").click()
    light = colour("body", "backgroundColor"), colour(line, "stroke"), colour("body", "color")
    assert all(one != other for one, other in zip(dark, light, strict=True))
    page.get_by_role("button", name="Dark").click()
    assert colour("body", "backgroundColor") == dark[0]
    # Paper is light, whatever the screen shows.
    page.emulate_media(media="print")
    assert colour(line, "stroke") == light[1]


@pytest.mark.parametrize("width", [320, 400])
def test_a_phone_scrolls_in_one_direction_only(visit, width) -> None:
    page = visit(viewport={"width": width, "height": 800})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    for chart in CHARTS:
        box = page.locator(f"#figure-{chart} svg").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["width"] > 0.6 * width
    # A table wider than the screen scrolls in its own box.
    scroll = page.locator("#summary .scroll").first
    assert scroll.evaluate("node => node.scrollWidth > node.clientWidth")
    for name in ("batch 16", "batch 64", "full batch (364)"):
        assert page.locator("#figure-loss").get_by_text(name, exact=True).is_visible()


def test_it_prints(visit) -> None:
    page = visit()
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("#figure-loss .switches").is_hidden()
    assert page.locator("#figure-loss svg").is_visible()


def test_a_chart_that_can_not_be_drawn_says_so_and_leaves_the_others(
    browser, report, tmp_path
) -> None:
    page_text = report.read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    start = page_text.index('id="spec-figure-loss">') + len('id="spec-figure-loss">')
    broken.write_text(page_text[:start] + "{NaN" + page_text[start:], encoding="utf-8")
    page = browser.new_page()
    page.goto(broken.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.get_attribute("html", "data-ready") == "failed"
    assert page.locator("figure[data-failed]").count() == 1
    assert "This chart could not be drawn" in page.locator("#figure-loss .failed").inner_text()
    assert page.locator("figure[data-drawn] svg").count() == len(CHARTS) - 1
    page.close()


def test_the_first_column_stays_while_a_table_scrolls(visit) -> None:
    page = visit(viewport={"width": 400, "height": 800})
    scroll = page.locator("#summary .scroll").first
    first = scroll.locator("tbody th").first
    before = first.bounding_box()["x"]
    scroll.evaluate("node => { node.scrollLeft = 120; }")
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)


ADVICE = ["memory", "speed", "samples", "time", "noise", "branches"]


@pytest.fixture(scope="module")
def advice_page(advice, tmp_path_factory) -> Path:
    return write_report(tmp_path_factory.mktemp("browser") / "advice.html", advice)


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (400, "dark"), (320, "light")])
def test_the_charts_of_an_advice_share_their_axis(browser, advice_page, width, scheme) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(advice_page.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.get_attribute("html", "data-ready") == "true", complaints
    assert complaints == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    for chart in ADVICE:
        assert page.locator(f"#figure-advice-{chart}[data-drawn] svg").count() == 1
    # The rule of the advised size is the first one of each: it stands in one line down the page.
    rules = [
        page.locator(f"#figure-advice-{chart} .role-mark.mark-rule line").first.bounding_box()["x"]
        for chart in ADVICE[:4]
    ]
    assert max(rules) - min(rules) < 1.5
    assert page.locator("#figure-advice-memory").get_by_text("advised: 64").first.is_visible()
    lines = page.locator("#figure-advice-branches .mark-line.role-mark path").count()
    assert lines == 18
    context.close()

"""`rightbatch report`: pages from run folders and from what other verbs printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rightbatch as rb


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    parts = rb.split(rb.open("iris"), val=30, seed=0)
    folder = tmp_path_factory.mktemp("runs") / "iris"
    rb.fit("softmax", parts, batch_size=20, epochs=4, learning_rate=0.05, out=folder)
    return folder


def test_json_says_what_was_written(rightbatch, run, tmp_path) -> None:
    page = tmp_path / "page.html"
    done = rightbatch("report", run, "-o", page, "--title", "Flowers", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert set(told) == {"output", "bytes", "runs", "charts", "alerts"}
    assert told["output"] == str(page)
    assert told["bytes"] == page.stat().st_size < 2_000_000
    assert told["runs"] == 1
    assert told["charts"] == ["loss", "metric", "steps"]
    assert "<h1>Flowers</h1>" in page.read_text(encoding="utf-8")


def test_charts_are_written_as_png_and_svg(rightbatch, run, tmp_path) -> None:
    folder = tmp_path / "charts"
    page = tmp_path / "page.html"
    done = rightbatch("report", run, "-o", page, "--charts", folder, "--json", "--quiet")
    assert done.code == 0, done.err
    names = {"loss.png", "loss.svg", "metric.png", "metric.svg", "steps.png", "steps.svg"}
    assert {path.name for path in folder.iterdir()} == names
    assert {Path(path).name for path in json.loads(done.out)["charts"]} == names
    assert done.err == ""


def test_people_get_the_alerts_and_the_path(rightbatch, run, tmp_path) -> None:
    page = tmp_path / "page.html"
    done = rightbatch("report", run, "-o", page)
    assert done.code == 0
    assert f"Report: {page}, 3 charts" in done.out


def test_what_is_no_result_is_refused_with_code_2(rightbatch, tmp_path) -> None:
    page = tmp_path / "page.html"
    other = tmp_path / "other.json"
    other.write_text("{}")
    for given in (tmp_path, other, tmp_path / "absent"):
        done = rightbatch("report", given, "-o", page)
        assert done.code == 2
        assert "run folder" in done.err
    assert rightbatch("report").code == 2
    assert not page.exists()

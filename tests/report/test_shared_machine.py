"""A report on runs that shared a machine sets nothing against each other by its seconds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import rightbatch as rb
from rightbatch.advice.placement import Placement
from rightbatch.report.facts import study_facts
from rightbatch.report.figures import figures_of
from rightbatch.report.findings import of_comparison
from rightbatch.report.reading import read_results
from rightbatch.report.tables import study_table

NOTE = "Timings are not comparable: runs shared a machine (a, one with up to 1 other)."


@pytest.fixture
def shared(comparison):
    """The comparison as an executor of two processes would have given it."""
    place = Placement(
        host="a", machine="1", processor="x", began=0.0, ended=1.0, overlapping_runs=1
    )
    curves = [replace(curve, placement=place) for curve in comparison.curves]
    return replace(comparison, curves=curves, timings_comparable=False, notes=[NOTE])


def drawn(comparison, name):
    (figure,) = [f for f in figures_of([of_comparison(comparison)], []) if f.name == name]
    return json.dumps(figure.draw(theme="light", width=400).to_dict())


@pytest.mark.parametrize("name", ["loss", "metric", "steps", "target"])
def test_charts_offer_no_axis_of_seconds(comparison, shared, name) -> None:
    assert "seconds" in drawn(comparison, name)
    assert "seconds" not in drawn(shared, name)


def test_tables_facts_and_the_page_say_so(comparison, shared, tmp_path) -> None:
    study = of_comparison(shared)
    assert "seconds (not comparable)" in study_table(study).columns
    assert "seconds" in study_table(of_comparison(comparison)).columns
    assert "seconds" in " ".join(study_facts(of_comparison(comparison)))
    assert "seconds" not in " ".join(study_facts(study))
    page = rb.write_report(tmp_path / "report.html", shared).read_text(encoding="utf-8")
    assert NOTE in page
    assert "seconds (not comparable)" in page


def test_what_json_keeps_of_places_is_read_again(shared, tmp_path) -> None:
    path = tmp_path / "study.json"
    path.write_text(json.dumps(shared.to_json()))
    (study,) = read_results([path]).studies
    assert study.curves[0].placement == shared.curves[0].placement
    assert not study.has_seconds

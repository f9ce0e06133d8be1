"""The quality of a shuffle in the report: what is drawn, said and read again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.errors import OptionError
from rightbatch.report.figures import save_figures
from rightbatch.report.page import read_report
from rightbatch.report.shuffle_chart import batch_balance, shuffle_places
from rightbatch.training.history import finite_json


def quality_of(**order) -> rb.ShuffleQuality:
    data = rb.open({"x": np.arange(3000.0), "y": np.repeat(np.arange(5), 600)}, target="y")
    return rb.shuffle_quality(data, batch_size=30, **order)


@pytest.fixture(scope="module")
def poor() -> rb.ShuffleQuality:
    return quality_of(window=240, block=30)


def rows_of(chart) -> list[list[dict]]:
    return list(chart.to_dict()["datasets"].values())


def test_samples_are_drawn_where_they_go(poor) -> None:
    samples, diagonal = sorted(rows_of(shuffle_places(poor)), key=len, reverse=True)
    assert [(row["place"], row["row"]) for row in samples] == poor.places
    assert diagonal == [{"place": 0, "row": 0}, {"place": 2999, "row": 2999}]


def test_batches_are_drawn_over_the_band_of_the_uniform_shuffle(poor) -> None:
    band, batches = sorted(rows_of(batch_balance(poor)), key=len)
    (ends,) = band
    assert (ends["low"], ends["high"]) == pytest.approx(poor.uniform_band, rel=1e-4)
    assert [row["batch"] for row in batches] == list(range(1, 101))
    assert [row["imbalance"] for row in batches] == pytest.approx(
        [value for _, value in poor.batch_imbalances], rel=1e-4
    )


def test_without_labels_there_is_one_picture() -> None:
    quality = rb.shuffle_quality({"x": np.zeros(100)}, batch_size=10)
    assert batch_balance(quality) is None
    assert [figure.name for figure in read_report(quality).figures] == ["shuffle-places"]


def test_the_smallest_shuffles_can_be_drawn(tmp_path) -> None:
    for labels in ([1], [1, 1], [1, 2]):
        quality = rb.shuffle_quality({"x": np.zeros(len(labels))}, labels, batch_size="full")
        files = save_figures(read_report(quality).figures, tmp_path)
        assert len(files) == 4


def test_the_page_has_the_numbers_the_windows_and_the_warning(poor, tmp_path) -> None:
    page = rb.write_report(tmp_path / "report.html", poor).read_text(encoding="utf-8")
    for words in (
        "Shuffle of arrays, all: block-window of 240 in blocks of 30",
        'id="figure-shuffle-places"',
        'id="figure-shuffle-balance"',
        "The label shares of a batch of 30 are off by",
        "Windows that were tried",
        "mixes well",
        "label imbalance of a batch",
        "The quality of 1 shuffle.",
    ):
        assert words in page, words
    assert len(page) < 2_000_000


def test_a_page_without_shuffles_has_no_such_section(speed, tmp_path) -> None:
    page = rb.write_report(tmp_path / "report.html", speed).read_text(encoding="utf-8")
    assert 'id="shuffle"' not in page


def test_what_is_in_order_is_said_and_what_was_not_seen_too(tmp_path) -> None:
    unlabelled = rb.shuffle_quality({"x": np.zeros(100)}, batch_size=10)
    told = "batches have the label shares of the whole"
    for quality, words in (
        (quality_of(), told),
        (unlabelled, "the balance of labels, which takes"),
    ):
        page = rb.write_report(tmp_path / "report.html", quality).read_text(encoding="utf-8")
        assert words in page


def test_beside_other_results_each_has_its_place(poor, speed, tmp_path) -> None:
    good = quality_of()
    report = read_report(speed, good, poor)
    names = [figure.name for figure in report.figures if figure.section == "shuffle"]
    assert names == [
        "1-shuffle-places",
        "1-shuffle-balance",
        "2-shuffle-places",
        "2-shuffle-balance",
    ]
    assert [alert.kind for alert in report.alerts].count("shuffle") == 1


def test_captions_say_what_the_picture_shows(poor) -> None:
    captions = {
        order: read_report(quality).figures[0].caption
        for order, quality in {
            "uniform": quality_of(),
            "sequential": quality_of(shuffle=False),
            "window": quality_of(window=100),
            "blocks": poor,
        }.items()
    }
    assert "as in a uniform shuffle" in captions["uniform"]
    assert "nothing is shuffled" in captions["sequential"]
    assert "travels by 0.0" in captions["window"]
    assert "neighbours share a batch" in captions["blocks"]
    assert read_report(poor).figures[1].caption.endswith("of the batches here lie above it.")


def test_what_json_printed_is_read_again(poor, tmp_path) -> None:
    alone, inside = tmp_path / "alone.json", tmp_path / "inspect.json"
    told = finite_json(poor.to_json())
    alone.write_text(json.dumps(told))
    inside.write_text(json.dumps({"samples": 3000, "shuffle_quality": told}))
    assert read_report(alone, inside).shuffles == [poor, poor]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"travel": {"value": "far", "uniform": 1}}, "travel.value is 'far'"),
        ({"places": [[1]]}, r"places\[0\] is \[1\]"),
        ({"order": {"kind": "windoe", "window": 3}}, "windoe"),
        ({"uniform_band": [0.1]}, "uniform_band"),
    ],
)
def test_a_file_with_a_wrong_field_is_refused(poor, tmp_path, change, message) -> None:
    path = tmp_path / "shuffle.json"
    path.write_text(json.dumps({**finite_json(poor.to_json()), **change}))
    with pytest.raises(OptionError, match=message):
        read_report(path)


def test_what_comes_from_data_is_escaped(poor, tmp_path) -> None:
    hostile = replace(poor, data="<script>alert(1)</script>", notes=["<b>bold</b>"])
    page = rb.write_report(tmp_path / "report.html", hostile).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "<b>bold" not in page

"""The section about an advice: the answer, its reasons, pictures, and what could not be had."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace

import pytest

import rightbatch as rb
from rightbatch.advice.advice import Goal
from rightbatch.report.advice_captions import interval_text
from rightbatch.report.advice_section import advice_blocks, advice_facts
from rightbatch.report.advice_section import tested_table as sizes_table
from rightbatch.report.alerts import find_alerts
from rightbatch.report.facts import lead
from rightbatch.report.figure import Absence
from rightbatch.report.hints import hints
from rightbatch.report.page import read_report, write_report
from rightbatch.report.reading import read_results
from rightbatch.report.tables import origin_of_speed
from rightbatch.training.history import finite_json

PILOT = ["memory", "speed", "samples", "time", "noise", "branches"]


def names(report) -> list[str]:
    return [figure.name for figure in report.figures]


def text_of(page: str) -> str:
    """The words of the page's sections, without specifications and scripts."""
    body = page.split("<main")[1].split("</main>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ")


def test_the_answer_and_the_reasons_stand_above_the_pictures(advice, tmp_path) -> None:
    page = write_report(tmp_path / "r.html", advice).read_text(encoding="utf-8")
    words = text_of(page)
    low, high = advice.interval
    assert "<title>Batch size for mlp:64 on breast_cancer</title>" in page
    assert f"Batch size {advice.batch_size}" in words
    assert f"Any size from {low} to {high} is within 10 % of the best" in words
    assert "the least time to a validation loss of 0.2" in words
    assert "0.141 to start from (the best of the pilot&#39;s search at this size)" in words
    assert "count warm-up, decay and evaluations in samples or epochs" in words
    for reason in advice.reasons:
        assert f"{reason}." in words
    assert words.index("Why") < words.index("Memory What is in use at once")
    assert page.count("<figure") == len(PILOT)
    assert len(page.encode()) < 1_500_000
    # Alone on the page, the advice is the summary, and the other sections do not ask for it.
    assert 'id="summary"' not in page
    assert "Measured for the advice, and shown there." in words
    assert "Not asked for" not in words


def test_every_picture_of_a_pilot_is_there(advice) -> None:
    report = read_report(advice)
    assert names(report) == [f"advice-{name}" for name in PILOT]
    assert report.alerts[0].text.startswith("The budget ended early")
    assert [alert.kind for alert in report.alerts] == ["advice"]
    assert lead([], [], [], [advice]) == (
        "Advice from 11 tested batch sizes and 34.2 seconds of measurement."
    )


def test_what_could_not_be_had_says_why_in_its_place(bare_advice, tmp_path) -> None:
    report = read_report(bare_advice)
    assert names(report) == ["advice-speed"]
    (block,) = advice_blocks([bare_advice])
    told = {item.title: item.words for item in block.stack + block.more if type(item) is Absence}
    assert told["Memory"] == (
        "There is no advice on memory: the model can not be sent to another process."
    )
    assert told["Samples to the goal"] == "Not estimated: BatchNorm couples the samples of a batch."
    assert "Not predicted" in told["Time to the goal"]
    assert "BatchNorm" in told["The gradient noise scale as training goes on"]
    assert "No pilot was run" in told["The pilot: validation losses of its runs"]
    words = text_of(write_report(tmp_path / "r.html", bare_advice).read_text(encoding="utf-8"))
    assert all(sentence in words for sentence in told.values())
    assert "of the highest throughput" in interval_text(bare_advice)


def test_memory_that_was_not_measured_is_said_so(advice) -> None:
    (block,) = advice_blocks([replace(advice, memory=None)])
    assert block.stack[0] == Absence(title="Memory", words="Memory was not measured.")


def test_the_tested_sizes_have_a_row_each(advice, quick_advice) -> None:
    made = sizes_table(advice)
    assert made.columns[:4] == ["batch size", "memory", "a step", "samples a second"]
    rows = {row[0]: row for row in made.rows}
    assert len(rows) == len(advice.tested)
    assert rows["64"][-1] == "advised"
    assert rows["32"][-1] == "in the interval"
    assert rows["1,024"][1] == "82.1 MB"
    assert rows["64"][made.columns.index("learning rate")] == "0.141"
    assert made.notes[0] == "The probes ran in a process of their own."
    # Nothing was trained to the goal: the times are ratios.
    quick = sizes_table(quick_advice)
    times = [row[quick.columns.index("time to the goal")] for row in quick.rows]
    assert min(float(time.split(" ×")[0]) for time in times) == 1
    assert "samples needed" not in quick.columns


def test_micro_batches_and_beta2_are_told(advice) -> None:
    companions = replace(advice.companions, beta2=0.998001)
    cut = replace(advice, micro_batch_size=16, accumulation_steps=4, companions=companions)
    pairs = dict(advice_blocks([cut])[0].pairs)
    assert pairs["micro-batch size"] == "16; a step sums 4 of them"
    assert pairs["Adam's β₂"] == "0.998001 to start from"


def test_beside_runs_the_summary_has_the_advice_too(advice, run, tmp_path) -> None:
    words = text_of(write_report(tmp_path / "r.html", run, advice).read_text(encoding="utf-8"))
    assert f"Advised batch size: {advice.batch_size}, for the least time" in words
    assert words.count("Learning rate to start from: 0.141") == 1
    assert advice_facts(replace(advice, batch_size=1438))[0].startswith(
        "Advised batch size: 1,438, the full batch, for"
    )


def test_two_advices_are_two_blocks(advice, quick_advice, tmp_path) -> None:
    report = read_report(advice, quick_advice)
    assert names(report)[0] == "advice-1-memory"
    assert names(report)[-1] == "advice-2-noise"
    page = write_report(tmp_path / "r.html", advice, quick_advice).read_text(encoding="utf-8")
    assert page.count('class="panel answer"') == 2


def test_the_advice_of_a_run_is_read_with_it_and_shown_once(advice, run, tmp_path) -> None:
    folder = shutil.copytree(run, tmp_path / "advised")
    (folder / "advice.json").write_text(json.dumps(finite_json(advice.to_json())))
    assert len(read_results([folder]).advices) == 1
    assert len(read_results([folder, advice]).advices) == 1


def test_json_is_read_as_it_was_written(advice, quick_advice, bare_advice, tmp_path) -> None:
    for made in (advice, quick_advice, bare_advice):
        path = tmp_path / "advice.json"
        path.write_text(json.dumps(finite_json(made.to_json())))
        assert read_results([path]).advices == [made]


def test_an_advice_leads_to_training_at_its_size(advice) -> None:
    command = (
        "rightbatch advise digits --scale --model mlp:64 --lr 0.1 --optimizer adam "
        "--target-loss=0.2 --grade pilot --json"
    )
    known = replace(advice, provenance=replace(advice.provenance, command=command))
    told = hints(read_report(known).origins, [known])
    assert told["learning"].command == (
        "rightbatch train digits --scale --model mlp:64 --optimizer adam --target-loss 0.2 "
        "--batch-size 64 --lr 0.1414 --report report.html"
    )
    assert told["speed"].command == ""
    nameless = hints(read_report(advice).origins, [advice])["learning"]
    assert nameless.command == ""
    assert "rb.fit(…, batch_size=64, learning_rate=0.1414)" in nameless.words


def test_other_results_lead_to_an_advice(speed) -> None:
    known = replace(
        speed,
        provenance=replace(speed.provenance, command="rightbatch speed mlp:4 digits --json"),
    )
    told = hints([origin_of_speed(known)])
    assert told["advice"].command == "rightbatch advise digits --model mlp:4 --json > advice.json"


def test_names_from_data_can_not_become_markup(advice, tmp_path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>{{ 7*7 }}"
    bad = replace(
        advice,
        model=hostile,
        reasons=[hostile],
        alerts=[hostile],
        companions=replace(advice.companions, schedule=hostile, learning_rate_source=hostile),
        memory=replace(advice.memory, notes=[hostile], limit_source=hostile),
        noise=replace(advice.noise, method=hostile),
        speed=replace(advice.speed, notes=[hostile], mode=hostile),
    )
    page = write_report(tmp_path / "r.html", bad).read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page)[0]


def test_a_bound_that_is_infinite_reaches_neither_page_nor_chart(advice, tmp_path) -> None:
    costs = [replace(cost, high=math.inf) for cost in advice.costs]
    law = replace(advice.law, critical_batch_size=math.inf, high=math.inf)
    page = write_report(tmp_path / "r.html", replace(advice, costs=costs, law=law))
    words = text_of(page.read_text(encoding="utf-8"))
    assert "Larger batches were not seen to need more samples." in words
    assert "Infinity" not in words


def test_alerts_of_an_advice_have_no_empty_advice(advice, tmp_path) -> None:
    page = write_report(tmp_path / "r.html", advice).read_text(encoding="utf-8")
    assert '<p class="advice"></p>' not in page
    leaky = replace(advice, provenance=replace(advice.provenance, duplicate_samples=3))
    assert "duplicates" in {alert.kind for alert in find_alerts([], [], [leaky])}


def test_epochs_are_held_against_the_advised_size(epochs_advice, advice) -> None:
    words = " ".join(
        item.caption for item in advice_blocks([epochs_advice])[0].stack if hasattr(item, "caption")
    )
    assert "It is the time of 10 epochs" in words
    wide = replace(epochs_advice, interval=(8, 32), batch_size=16)
    assert "Any size from 8 to 32 is about as good" in interval_text(wide)
    assert "Up to 10 % above the fewest samples" in words
    of_target = " ".join(
        item.caption for item in advice_blocks([advice])[0].stack if hasattr(item, "caption")
    )
    assert "the fewest samples, epochs" not in of_target


@pytest.mark.skipif(not hasattr(rb, "advise"), reason="rb.advise is not there")
def test_a_real_advice_is_reported(parts, tmp_path) -> None:
    made = rb.advise(
        "logistic", parts, learning_rate=0.1, epochs=3, grade="quick", budget_seconds=3,
        probe_memory=False,
    )  # fmt: skip
    path = tmp_path / "advice.json"
    path.write_text(json.dumps(finite_json(made.to_json())))
    assert len(read_results([path, made]).advices) == 1
    page = write_report(tmp_path / "r.html", path).read_text(encoding="utf-8")
    assert "Memory was not measured." in page
    assert f"Batch size</span> {made.batch_size:,}" in page


def test_goals_are_told_as_they_are(advice) -> None:
    made = replace(advice, goal=Goal(kind="epochs", epochs=1))
    assert dict(advice_blocks([made])[0].pairs)["goal"].startswith("the least time for 1 epoch")

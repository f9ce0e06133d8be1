"""What can be reported on, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest

import rightbatch as rb
from rightbatch.errors import OptionError
from rightbatch.report.reading import read_results
from rightbatch.training.history import finite_json


def test_a_run_folder_is_a_curve_named_after_it(run) -> None:
    (study,), speeds, *_ = read_results([run])
    (curve,) = study.curves
    assert speeds == []
    assert (curve.label, curve.batch_size, curve.seed, curve.is_full) == ("small", 64, 2, False)
    assert len(curve.history) == 3
    assert len(curve.step_losses) == curve.history[-1]["steps"]
    assert study.title == "mlp:4 on breast_cancer"
    assert study.origins[0].provenance.sizes == {"train": 364, "val": 91, "test": 114}
    assert study.origins[0].provenance.transforms[0]["kind"] == "standardize"


def test_runs_are_one_study_with_names_that_differ(run, tmp_path) -> None:
    other = shutil.copytree(run, tmp_path / "else" / run.name)
    (study,), *_ = read_results([run, str(other)])
    parent = run.parent.name
    assert [curve.label for curve in study.curves] == [f"{parent}/small", "else/small"]
    assert not study.timings_comparable


def test_what_is_given_twice_is_drawn_once(run, comparison, caplog) -> None:
    (runs, compared), *_ = read_results([run, comparison, str(run), comparison])
    assert len(runs.curves) == 1
    assert len(compared.curves) == len(comparison.curves)
    assert [record.getMessage().split(" is ")[1] for record in caplog.records] == [
        "given twice; the report shows it once"
    ] * 2


def test_what_json_printed_is_read_again(comparison, speed, tmp_path) -> None:
    paths = [tmp_path / "compare.json", tmp_path / "speed.json"]
    for path, result in zip(paths, (comparison, speed), strict=True):
        path.write_text(json.dumps(finite_json(result.to_json())))
    (study,), (measured,), *_ = read_results(paths)
    assert [curve.label for curve in study.curves] == [curve.label for curve in comparison.curves]
    assert study.landscapes[0][1] == comparison.landscape
    assert measured.points == speed.points


def test_a_fit_with_a_run_is_read_and_one_without_refused(parts, tmp_path) -> None:
    kept = rb.fit("logistic", parts, epochs=1, out=tmp_path / "kept")
    assert read_results([kept])[0][0].curves[0].label == "kept"
    with pytest.raises(OptionError, match=r"rb\.fit\(…, out=FOLDER\)"):
        read_results([rb.fit("logistic", parts, epochs=1)])


def test_stored_results_and_landscapes_are_read_where_there_are_some(run, bowl, tmp_path) -> None:
    full = shutil.copytree(run, tmp_path / "full")
    (full / "result.json").write_text('{"test_accuracy": 0.5, "leaked_samples": 0}')
    (full / "landscape.json").write_text(json.dumps(bowl.to_json()))
    (study,), *_ = read_results([full])
    assert study.origins[0].result["test_accuracy"] == 0.5
    assert study.landscapes == [("full", bowl)]


def test_a_run_under_way_may_end_in_half_a_line(run, tmp_path) -> None:
    going = shutil.copytree(run, tmp_path / "going")
    with (going / "history.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')
    assert len(read_results([going])[0][0].curves[0].history) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "holds a list"),
        ('{"epochs": 3}', "an object with epochs, and none of `reasons`, `curves`, `points` and"),
        ("not json", "can not be read as JSON"),
        ('{"curves": [{"seed": 1}]}', "the field model is missing"),
        ('{"points": 7, "fit": null}', "the field model is missing"),
        ('{"points": []}', "Make it anew"),
        ("[" * 100_000, "can not be read as JSON"),
    ],
)
def test_json_of_something_else_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=message):
        read_results([path])


def test_folders_and_paths_that_are_none_are_refused(run, tmp_path) -> None:
    with pytest.raises(OptionError, match="no run folder"):
        read_results([tmp_path])
    with pytest.raises(OptionError, match="does not exist"):
        read_results([tmp_path / "absent"])
    with pytest.raises(OptionError, match="needs a result"):
        read_results([])
    young = shutil.copytree(run, tmp_path / "young")
    (young / "history.jsonl").write_text("")
    with pytest.raises(OptionError, match="no epoch in its history yet"):
        read_results([young])
    (young / "history.jsonl").write_text('nonsense\n{"epoch": 1}\n')
    with pytest.raises(OptionError, match="line 1, is no JSON"):
        read_results([young])


def at(*place, to):
    """A change of a stored result: the value at this place becomes `to`."""

    def change(stored) -> None:
        for step in place[:-1]:
            stored = stored[step]
        stored[place[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (at("curves", to=[]), "curves is []"),
        (at("curves", 0, "history", to=None), "curves[0].history is None"),
        (at("curves", 0, "history", to=[{}]), "curves[0].history[0].epoch is missing"),
        (at("curves", 0, "history", 0, "train_loss", to="x"), "history[0].train_loss is 'x'"),
        (at("curves", 0, "history", 0, "epoch", to="<b>"), "history[0].epoch is '<b>'"),
        (at("curves", 0, "batch_size", to="9"), "curves[0].batch_size is '9'"),
        (at("curves", 0, "batch_size", to=0), "curves[0].batch_size is 0"),
        (at("curves", 0, "learning_rate", to=None), "curves[0].learning_rate is None"),
        (at("curves", 0, "step_losses", to="abc"), "curves[0].step_losses is 'abc'"),
        (at("settings", to=None), "settings is None"),
        (at("notes", to=None), "notes is None"),
        (at("extra", to=1), "extra is 1"),
        (at("provenance", to=None), "provenance is None"),
        (at("provenance", "sizes", to=[1]), "provenance.sizes is [1]"),
        (at("provenance", "sizes", "train", to="a"), "provenance.sizes.train is 'a'"),
        (at("provenance", "environment", to=None), "provenance.environment is None"),
        (at("landscape", "losses", 0, to=[1]), "landscape.losses[0] is [1]"),
        (at("landscape", "x", to=[]), "landscape.x is []"),
        (at("landscape", "y", 1, to=-9.0), "landscape.y is"),
        (at("landscape", "explained", to=[]), "landscape.explained is []"),
        (at("landscape", "paths", 0, "x", to=[1.0]), "landscape.paths[0] is"),
    ],
)
def test_a_comparison_with_a_wrong_field_is_refused_by_its_name(
    comparison, tmp_path, change, field
) -> None:
    stored = json.loads(json.dumps(finite_json(comparison.to_json())))
    change(stored)
    refused(tmp_path / "compare.json", stored, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (at("points", to=[]), "points is []"),
        (at("points", 0, "seconds_per_sample", to=0), "points[0].seconds_per_sample is 0"),
        (at("points", 0, "seconds_per_sample", to=None), "seconds_per_sample is None"),
        (at("points", 0, "low", to=float("nan")), "points[0].low is nan"),
        (at("fit", "p", to=0), "fit.p is 0"),
        (at("fit", "p", to="x"), "fit.p is 'x'"),
        (at("threads", to=True), "threads is True"),
    ],
)
def test_a_speed_with_a_wrong_field_is_refused_by_its_name(speed, tmp_path, change, field) -> None:
    stored = speed.to_json()
    change(stored)
    refused(tmp_path / "speed.json", stored, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (at("batch_size", to=0), "batch_size is 0"),
        (at("interval", to=[64]), "interval is [64]"),
        (at("interval", to=[64, 32]), "interval is [64, 32]"),
        (at("grade", to="best"), "grade is 'best', and 'quick' or 'pilot' is valid"),
        (at("goal", "kind", to="time"), "goal.kind is 'time'"),
        (at("goal", "target_loss", to=None), "goal.target_loss is None"),
        (at("companions", "schedule", to=None), "companions.schedule is None"),
        (at("reasons", to="because"), "reasons is 'because'"),
        (at("reasons", 0, to=1), "reasons[0] is 1"),
        (at("memory", "measured", 0, "bytes", to=-1), "memory.measured[0].bytes is -1"),
        (at("memory", "fit", "bends", to=[[1]]), "memory.fit.bends[0] is [1]"),
        (at("memory", "cap", to="all"), "memory.cap is 'all'"),
        (at("speed", "points", to=[]), "speed.points is []"),
        (at("noise", "scale", to=None), "noise.refused is None"),
        (at("noise", "trajectory", 0, "high", to=1.0), "noise.trajectory[0] is"),
        (at("pilot", "sizes", 0, "samples", to=0), "pilot.sizes[0].samples is 0"),
        (at("pilot", "runs", 0, "points", 0, "loss", to=None), "pilot.runs[0].points[0].loss"),
        (at("pilot", "levels", 0, "law", to=None), "pilot.levels[0].law is None"),
        (at("law", "critical_batch_size", to=0), "law.critical_batch_size is 0"),
        (at("costs", 0, "has_run", to=1), "costs[0].has_run is 1"),
        (at("costs", 0, "low", to=1e9), "costs[0] is"),
        (at("tested", to=[]), "tested is []"),
        (at("provenance", "sizes", to=None), "provenance.sizes is None"),
        (at("extra", to=1), "extra is 1"),
    ],
)
def test_an_advice_with_a_wrong_field_is_refused_by_its_name(
    advice, tmp_path, change, field
) -> None:
    stored = json.loads(json.dumps(finite_json(advice.to_json())))
    change(stored)
    refused(tmp_path / "advice.json", stored, field)


def refused(path, stored, field) -> None:
    path.write_text(json.dumps(stored))
    with pytest.raises(OptionError) as error:
        read_results([path])
    assert str(error.value).startswith(f"{path} can not be used: ")
    assert field in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "field"),
    [
        ("config.json", '{"options": {"batch_size": "x"}}', "options.batch_size is 'x'"),
        ("config.json", '{"options": []}', "options is []"),
        ("config.json", '{"options": {}, "sizes": {"train": "x"}}', "sizes.train is 'x'"),
        ("environment.json", "[]", "the whole is []"),
        ("history.jsonl", '{"epoch": 1}', "history.jsonl, line 1, can not be used"),
        ("steps.jsonl", '{"step": 1}', "the field loss is missing"),
        ("landscape.json", '{"x": []}', "landscape.json can not be used"),
        ("transforms.json", '{"kind": 1}', "transforms.json can not be used"),
    ],
)
def test_a_run_folder_with_a_wrong_field_is_refused_by_its_name(
    run, tmp_path, file, content, field
) -> None:
    broken = shutil.copytree(run, tmp_path / "broken")
    (broken / file).write_text(content)
    with pytest.raises(OptionError) as error:
        read_results([broken])
    assert str(broken) in str(error.value)
    assert field in str(error.value)


def test_losses_that_are_null_are_no_fault(comparison, tmp_path) -> None:
    stored = json.loads(json.dumps(finite_json(comparison.to_json())))
    stored["landscape"]["paths"][0]["losses"][0] = None
    stored["curves"][0]["history"][0]["train_loss"] = None
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(stored))
    assert len(read_results([path])[0][0].curves) == len(comparison.curves)

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
    (study,), speeds = read_results([run])
    (curve,) = study.curves
    assert speeds == []
    assert (curve.label, curve.batch_size, curve.seed, curve.is_full) == ("small", 64, 2, False)
    assert len(curve.history) == 3
    assert len(curve.step_losses) == curve.history[-1]["steps"]
    assert study.title == "mlp:4 on breast_cancer"
    assert study.origins[0].provenance.sizes == {"train": 364, "val": 91, "test": 114}
    assert study.origins[0].transforms[0]["kind"] == "standardize"


def test_runs_are_one_study_with_names_that_differ(run, tmp_path) -> None:
    other = shutil.copytree(run, tmp_path / "else" / run.name)
    (study,), _ = read_results([run, str(other), other])
    parent = run.parent.name
    assert [curve.label for curve in study.curves] == [
        f"{parent}/small",
        "else/small",
        "else/small (2)",
    ]
    assert not study.timings_comparable


def test_what_json_printed_is_read_again(comparison, speed, tmp_path) -> None:
    paths = [tmp_path / "compare.json", tmp_path / "speed.json"]
    for path, result in zip(paths, (comparison, speed), strict=True):
        path.write_text(json.dumps(finite_json(result.to_json())))
    (study,), (measured,) = read_results(paths)
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
    (study,), _ = read_results([full])
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
        ('{"epochs": 3}', "an object with epochs, and neither `curves` nor `points`"),
        ("not json", "can not be read as JSON"),
        ('{"curves": [{"seed": 1}]}', "looks like a comparison"),
        ('{"points": 7, "fit": null}', "looks like a speed"),
        ('{"points": []}', "Make it anew"),
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

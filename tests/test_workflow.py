"""`rb.run`: the main job from Python, with objects in the place of names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.progress import AdviceProgress
from rightbatch.options import AdviceOptions, TrainOptions
from rightbatch.resumption import resume
from rightbatch.training.progress import Progress


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 5)).astype(np.float32)
    return inputs, (inputs.sum(axis=1) > 0).astype(np.int64)


def test_arrays_and_a_module_are_advised_about_trained_and_reported(
    samples, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    first = {name: value.clone() for name, value in model.state_dict().items()}
    news = []
    result = rb.run(
        samples,
        model=model,
        learning_rate=0.1,
        epochs=3,
        grade="quick",
        budget_seconds=2,
        out=tmp_path / "run",
        report=tmp_path / "report.html",
        progress=news.append,
    )
    assert [type(told) for told in (news[0], news[-1])] == [AdviceProgress, Progress]
    assert result.batch_size == result.advice.batch_size
    assert result.model == "Sequential"
    assert any(not torch.equal(value, first[name]) for name, value in model.state_dict().items())
    assert result.report == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").exists()
    assert "(advised)" in repr(result)
    assert "(advised)" in result._repr_html_()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "command" not in config  # from objects nobody can go on by name
    assert config["asked"]["batch_size"] == "auto"
    with pytest.raises(rb.ResumeError, match="started from Python"):
        resume(tmp_path / "run", {})


def test_ranks_that_are_started_anew_go_on_by_the_advice_that_there_is(
    samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"grade": "quick", "budget_seconds": 2, "learning_rate": 0.1, "epochs": 2}
    first = rb.run(samples, model="softmax", out=tmp_path / "first", **options)
    # What a job that was killed in its first epoch leaves behind.
    (tmp_path / "second").mkdir()
    stored = json.loads((tmp_path / "first" / "advice.json").read_text())
    stored |= {"batch_size": 7, "tested": sorted([*stored["tested"], 7]), "interval": [7, 7]}
    (tmp_path / "second" / "advice.json").write_text(json.dumps(stored))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    again = rb.run(samples, model="softmax", out=tmp_path / "second", **options)
    assert first.advice is not None
    assert again.advice is not None
    assert (again.batch_size, again.advice.batch_size) == (7, 7)
    assert again.advice.seconds_spent == first.advice.seconds_spent


def test_a_number_keeps_everything_as_given(samples, tmp_path: Path) -> None:
    result = rb.run(samples, batch_size=20, learning_rate=0.3, epochs=2, out=tmp_path / "run")
    assert (result.batch_size, result.learning_rate, result.advice) == (20, 0.3, None)
    assert result.reached_target is None
    assert "advised" not in repr(result)
    assert set(result.test) == {"loss", "accuracy"}


def test_a_target_loss_ends_the_training_and_is_told(samples, tmp_path: Path) -> None:
    options = {"batch_size": 10, "learning_rate": 0.3, "epochs": 50}
    result = rb.run(samples, target_loss=0.15, out=tmp_path / "a", **options)
    assert result.reached_target
    assert 1 < result.epochs < 50
    assert result.val["loss"] <= 0.15
    missed = rb.run(samples, target_loss=1e-9, out=tmp_path / "b", **{**options, "epochs": 2})
    assert missed.reached_target is False
    assert missed.epochs == 2


def test_a_path_is_gone_on_with_by_its_name(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b,y\n" + "".join(f"{k % 7},{k % 3},{k % 2}\n" for k in range(80)))
    for data in (table, str(table)):
        folder = tmp_path / type(data).__name__
        rb.run(data, target="y", batch_size=8, epochs=1, out=folder)
        stored = json.loads((folder / "config.json").read_text())["command"]["data"]
        assert stored["data"] == str(table)


def test_without_out_the_folder_is_named_after_the_data(samples, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = rb.run(samples, batch_size=50, epochs=1)
    assert result.run.startswith("runs/arrays-softmax-") or result.run.startswith(
        "runs/arrays-logistic-"
    )
    assert (tmp_path / result.run / "result.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grade": "best"}, "grade='best' is not valid"),
        ({"budget_seconds": 0}, "budget_seconds=0 is not valid"),
        ({"budget_seconds": True}, "budget_seconds=True is not valid"),
        ({"memory_limit": "lots"}, "memory_limit='lots' is not a size of memory"),
        ({"batch_size": 8, "memory_limit": "8GB"}, "memory_limit='8GB' is for batch_size='auto'"),
        ({"batch_size": "atuo", "epochs": 1}, "batch_size='atuo' is not valid"),
        ({"steps": 3}, "steps=3 and batch_size='auto' contradict"),
        ({"micro_batch_size": 3}, "micro_batch_size=3 and batch_size='auto' contradict"),
        ({"target_loss": "low"}, "target_loss='low' is not valid"),
        ({"target_loss": 0.1, "val": 0}, "target_loss watches the validation loss"),
        ({"early_stopping": 3, "val": 0}, "early_stopping watches the validation loss"),
        ({"model": nn.Linear(5, 2), "init": "zeros"}, "a torch.nn.Module has its own"),
        ({"report": "."}, r"\. is a folder"),
    ],
)
def test_refusals_come_before_anything_is_measured(
    samples, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(rb.OptionError, match=message):
        rb.run(samples, out=tmp_path / "run", **options)
    assert not (tmp_path / "run" / "advice.json").exists()


def test_parts_are_refused_with_the_two_steps_to_take(samples) -> None:
    with pytest.raises(rb.OptionError, match=r"rb\.advise\(model, parts\)"):
        rb.run(rb.split(rb.open(samples), val=0.1))


def test_a_folder_that_holds_a_run_is_refused_before_the_advice(samples, tmp_path: Path) -> None:
    rb.run(samples, batch_size=50, epochs=1, out=tmp_path / "run")
    with pytest.raises(rb.OptionError, match="holds a run already"):
        rb.run(samples, out=tmp_path / "run")


def test_fit_measures_nothing_and_says_who_does(samples) -> None:
    with pytest.raises(rb.OptionError, match=r"fit measures nothing: take rb\.run"):
        rb.fit("softmax", rb.split(rb.open(samples), val=0.1), batch_size="auto")


def test_auto_is_checked_like_every_other_training() -> None:
    with pytest.raises(rb.OptionError, match="optimizer='sgdd'"):
        TrainOptions(batch_size="auto", optimizer="sgdd")
    with pytest.raises(rb.OptionError, match="shuffling is switched off"):
        TrainOptions(batch_size="auto", shuffle=False, window=5)
    with pytest.raises(rb.OptionError, match="fit measures nothing"):
        TrainOptions(batch_size="auto").fit_options(seed=0)
    assert AdviceOptions().given == {}

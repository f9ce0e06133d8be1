"""Training on draws: by weight, resumed bit for bit, measured on what is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.errors import OptionError, ResumeError
from rightbatch.training.run_description import RunDescription
from rightbatch.training.run_folder import RunFolder


def table() -> rb.Dataset:
    generator = np.random.default_rng(0)
    y = (generator.random(400) < 0.1).astype(np.int64)
    x = generator.normal(size=(400, 2)) + y[:, None]
    return rb.open({"a": x[:, 0], "b": x[:, 1], "w": 1.0 + 8 * y, "y": y}, target="y")


def parts(**options: Any) -> rb.Parts:
    return rb.split(table(), val=80, stratify=True, seed=1, **options)


OPTIONS: dict[str, Any] = {"batch_size": 16, "learning_rate": 0.2, "seed": 3}


def test_balanced_draws_find_more_of_a_rare_class() -> None:
    made = parts(weights="w")
    recalls = []
    for weights in (None, "balanced"):
        found = rb.fit("logistic", made, epochs=20, weights=weights, **OPTIONS)
        said = rb.predict(found, made.val)
        target = np.concatenate([y for _, y in rb.Batches(made.val, 64, shuffle=False)])
        recalls.append(np.mean(said.predicted[target == 1]))
    assert recalls[1] > recalls[0] + 0.2


def test_an_epoch_has_the_draws_that_were_asked_for_and_validation_is_whole() -> None:
    found = rb.fit("logistic", parts(), epochs=2, weights="balanced", epoch_samples=100, **OPTIONS)
    assert [row["samples"] for row in found.history] == [100, 200]
    assert [row["steps"] for row in found.history] == [7, 14]
    assert found.leaked_samples == 0
    val = rb.evaluate(found, parts().val)
    assert found.history[-1]["val_loss"] == pytest.approx(val["loss"], rel=1e-6)


@pytest.mark.parametrize("weights", ["balanced", "w", np.arange(400.0)])
@pytest.mark.parametrize("stop", [4, 13, 21])
def test_law_4_a_run_on_draws_goes_on_bit_for_bit(tmp_path: Path, weights: Any, stop: int) -> None:
    options = {**OPTIONS, "weights": weights, "epoch_samples": 130}
    made = parts()
    whole = rb.fit("mlp:4", made, steps=30, out=tmp_path / "whole", **options)
    rb.fit("mlp:4", made, steps=stop, out=tmp_path / "cut", **options)
    resumed = rb.fit("mlp:4", made, steps=30, out=tmp_path / "cut", resume=True, **options)
    assert resumed.step_losses == whole.step_losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_the_run_says_by_what_it_drew_and_refuses_other_weights(tmp_path: Path) -> None:
    made = parts()
    options = {**OPTIONS, "epoch_samples": 100}
    rb.fit("logistic", made, steps=3, weights=np.arange(400), out=tmp_path / "run", **options)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert stored["epoch_samples"] == 100
    assert stored["weights"].startswith("400 numbers, ")
    for changed, message in [
        ({"weights": "balanced"}, "weights was '400 numbers"),
        ({"weights": np.arange(400), "epoch_samples": 90}, "epoch_samples was 100 and is 90"),
        ({"epoch_samples": None}, "weights was '400 numbers, .* and is None"),
    ]:
        with pytest.raises(ResumeError, match=message):
            rb.fit(
                "logistic", made, steps=9, out=tmp_path / "run", resume=True,
                **{**options, **changed},
            )  # fmt: skip


def test_runs_of_earlier_versions_go_on(tmp_path: Path) -> None:
    made = parts()
    rb.fit("logistic", made, steps=5, out=tmp_path / "run", **OPTIONS)
    config = tmp_path / "run" / "config.json"
    stored = json.loads(config.read_text())
    del stored["options"]["weights"], stored["options"]["epoch_samples"], stored["mixture"]
    config.write_text(json.dumps(stored))
    resumed = rb.fit("logistic", made, steps=9, out=tmp_path / "run", resume=True, **OPTIONS)
    assert resumed.steps == 9


def test_a_column_of_weights_is_no_input_of_the_model(tmp_path: Path) -> None:
    found = rb.fit("logistic", parts(), steps=2, weights="w", out=tmp_path / "run", **OPTIONS)
    assert [column.name for column in found.inputs] == ["a", "b"]
    described = RunDescription.read(RunFolder(tmp_path / "run"))
    assert [column.name for column in described.inputs] == ["a", "b"]
    said = rb.predict(tmp_path / "run", parts().val)
    assert said.samples == 80
    again = rb.fit("logistic", parts(weights="w"), steps=2, weights="w", **OPTIONS)
    assert again.step_losses == found.step_losses


def test_a_full_batch_is_an_epoch_of_draws() -> None:
    found = rb.fit(
        "logistic", parts(), epochs=2, weights="balanced", epoch_samples=90,
        **{**OPTIONS, "batch_size": "full"},
    )  # fmt: skip
    assert (found.steps, found.batch_size) == (2, 90)


def test_compare_draws_in_every_run() -> None:
    study = rb.compare(
        "logistic", parts(), batch_sizes=[10, "full"], epochs=2, weights="w",
        epoch_samples=200, learning_rate=0.1,
    )  # fmt: skip
    assert [curve.history[-1]["steps"] for curve in study.curves] == [40, 2]
    assert study.curves[1].is_full
    assert study.settings["weights"] == "w"
    assert study.settings["epoch_samples"] == 200


def test_run_takes_a_column_and_refuses_to_look_for_a_batch_size(tmp_path: Path) -> None:
    options = {"model": "logistic", "epochs": 2, "weights": "w", "target": None}
    found = rb.run(table(), batch_size=16, epoch_samples=64, out=tmp_path / "run", **options)
    assert found.steps == 8
    with pytest.raises(OptionError, match="leave weights out to find it"):
        rb.run(table(), out=tmp_path / "auto", **options)
    with pytest.raises(OptionError, match=r"rb.fit\(model, parts, weights=…\)"):
        rb.run(table(), batch_size=16, weights=np.ones(400))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "balanced", "window": 9}, "leave window=9 out"),
        ({"weights": "balanced", "shuffle": False}, "leave shuffle=False out"),
        ({"epoch_samples": 9}, "give weights as well"),
        ({"weights": "balanced", "epoch_samples": 0}, "epoch_samples=0"),
    ],
)
def test_what_contradicts_draws_is_refused(options: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        rb.fit("logistic", parts(), **OPTIONS, **options)

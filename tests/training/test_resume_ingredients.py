"""A resumed run has what it began with: whatever else is changed is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.errors import ResumeError


def parts(seed: int = 7, factor: float = 1 / 16) -> rb.Parts:
    return rb.split(rb.open("digits"), val=200, seed=seed).transform(rb.scale(factor), rb.flatten())


def run(out, *, given=None, model="softmax", **options):
    settings = {"batch_size": 64, "epochs": 1, **options}
    return rb.fit(model, given or parts(), out=out, **settings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"given": parts(seed=8)}, "other data or another split"),
        ({"given": parts(factor=1 / 8)}, "transforms were scale, flatten and are scale, flatten"),
        ({"given": rb.split(rb.open("digits"), val=200, seed=7)}, "transforms were scale, flatten"),
        ({"model": "mlp:5"}, "model was 'softmax' and is 'mlp:5'"),
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is 0.5"),
        ({"batch_size": 32}, "batch_size was 64 and is 32"),
    ],
)
def test_each_changed_ingredient_is_refused_by_name(tmp_path, changed, message) -> None:
    run(tmp_path / "run")
    config = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(ResumeError, match=message):
        run(tmp_path / "run", resume=True, **{"epochs": 2, **changed})
    assert (tmp_path / "run" / "config.json").read_text() == config
    assert run(tmp_path / "run", resume=True, epochs=2).epochs == 2


def test_a_finished_run_keeps_its_batch_size_and_can_still_be_resumed(tmp_path) -> None:
    run(tmp_path / "run")
    again = run(tmp_path / "run", resume=True, batch_size=32, allow_new_batch_size=True)
    assert again.batch_size == 64
    assert json.loads((tmp_path / "run" / "config.json").read_text())["options"]["batch_size"] == 64
    assert run(tmp_path / "run", resume=True).epochs == 1


def test_a_new_batch_size_is_written_down_and_needs_no_second_word(tmp_path) -> None:
    run(tmp_path / "run")
    longer = run(tmp_path / "run", resume=True, epochs=2, batch_size=32, allow_new_batch_size=True)
    assert longer.batch_size == 32
    assert run(tmp_path / "run", resume=True, epochs=3, batch_size=32).epochs == 3


def test_what_is_no_device_part_or_model_is_refused() -> None:
    small = parts()
    with pytest.raises(rb.OptionError, match=r"device='foo' is not to be had .* are cpu"):
        rb.fit("softmax", small, epochs=1, device="foo")
    with pytest.raises(rb.OptionError, match="not to be had here"):
        rb.Batches(small.train, 8, device="foo")
    result = rb.fit("softmax", small, epochs=1)
    with pytest.raises(rb.OptionError, match=r"one part and was given Parts: parts\.val"):
        rb.evaluate(result, small)  # type: ignore[arg-type]
    with pytest.raises(rb.OptionError, match="was given 'runs/a'"):
        rb.evaluate("runs/a", small.train)  # type: ignore[arg-type]


def test_a_batch_of_one_before_batch_normalisation_is_refused_before_training() -> None:
    from torch import nn

    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    small = parts()  # 1,597 training samples
    with pytest.raises(rb.OptionError, match="make a batch of one"):
        rb.fit(model, small, batch_size=len(small.train) - 1, epochs=1)
    with pytest.raises(rb.OptionError, match="activation and init are for models by name"):
        rb.fit(model, small, init="zeros")


def test_rows_takes_lists_and_every_whole_number_dtype() -> None:
    data = rb.open({"x": np.arange(10) * 2})
    for indices in ([5, 1], np.array([5, 1], np.int32), np.array([5, 1], np.uint8), (5, 1)):
        assert data.rows(indices)["x"].tolist() == [10, 2]
    assert data.rows([])["x"].tolist() == []
    for wrong in (np.array([True, False]), np.array([1.0]), [[1]]):
        with pytest.raises(rb.OptionError, match="takes row numbers"):
            data.rows(wrong)

"""Training around samples that can not be read: left out, listed, and the same on resume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.errors import BadSampleError, DataError, ResumeError
from rightbatch.training.evaluate import Score

LENGTH = 300
BAD = {3, 77, 150, 299}


class Failing(rb.Dataset):
    """Samples of which some raise, as broken images do."""

    def __init__(self, bad: set[int]) -> None:
        generator = np.random.default_rng(0)
        x = generator.normal(size=(LENGTH, 4)).astype(np.float32)
        self.held = ArrayDataset({"x": x, "y": (x.sum(axis=1) > 0).astype(np.int64)}, target="y")
        super().__init__(name="failing", columns=self.held.columns, target="y")
        self.bad = bad

    def __len__(self) -> int:
        return LENGTH

    def rows(self, indices) -> dict[str, np.ndarray]:
        wrong = sorted(self.bad & set(np.asarray(indices).tolist()))
        if wrong:
            raise OSError(f"image {wrong[0]} is broken")
        return self.held.rows(indices)

    def span(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self.rows(np.arange(start, stop))

    def array(self, name: str) -> np.ndarray | None:
        return self.held.array(name) if name == "y" else None

    @property
    def fingerprint(self) -> str:
        return self.held.fingerprint


def parts(bad: set[int] = BAD) -> rb.Parts:
    return rb.split(Failing(bad), val=60, seed=2)


def train(split: rb.Parts, out, *, epochs: int = 3, **options) -> rb.FitResult:
    given = {"on_bad_sample": "quarantine", "max_bad": 10, **options}
    return rb.fit("mlp:4", split, batch_size=32, epochs=epochs, seed=1, out=out, threads=1, **given)


def test_training_goes_on_without_them_and_says_so(tmp_path) -> None:
    split = parts()
    in_training = sorted(BAD & set(split.train.rows.take(np.arange(240)).tolist()))
    assert in_training
    result = train(split, tmp_path / "run")
    assert [sample.row for sample in result.bad_samples] == in_training
    assert result.history[-1]["bad_samples"] == len(in_training)
    listed = json.loads((tmp_path / "run" / "bad_samples.json").read_text())
    assert [sample["row"] for sample in listed] == in_training
    assert listed[0]["reason"] == f"OSError: image {in_training[0]} is broken"
    # An epoch has so many samples fewer, and as many steps.
    assert result.history[0]["samples"] == 240 - len(in_training)
    assert result.history[0]["steps"] == 8


def test_classes_are_found_around_them_where_no_column_lies_in_memory(tmp_path) -> None:
    class ReadOneByOne(Failing):
        def array(self, name: str) -> None:
            return None

    split = rb.split(ReadOneByOne(BAD), val=60, seed=2)
    found = train(split, tmp_path / "a")
    expected = train(parts(), tmp_path / "b")
    assert found.step_losses == expected.step_losses
    assert [bad.row for bad in found.bad_samples] == [bad.row for bad in expected.bad_samples]


@pytest.mark.parametrize("options", [{}, {"block": 8, "window": 64}])
def test_the_step_is_the_mean_over_the_others(tmp_path, options) -> None:
    split = parts()
    bad = sorted(BAD & set(split.train.rows.take(np.arange(240)).tolist()))
    result = rb.fit(
        "mlp:4",
        split,
        batch_size="full",
        steps=1,
        seed=1,
        threads=1,
        on_bad_sample="quarantine",
        max_bad=10,
        **options,
    )
    rows = split.train.rows.take(np.arange(240))
    good = Failing(set())
    kept = {name: values[~np.isin(rows, bad)] for name, values in good.rows(rows).items()}
    without = rb.fit(
        "mlp:4",
        rb.split(rb.open(kept, target="y")),
        batch_size="full",
        steps=1,
        seed=1,
        threads=1,
        shuffle=False,
    )
    assert result.step_losses[0][1] == pytest.approx(without.step_losses[0][1], rel=1e-5)
    for name, value in without.model.state_dict().items():
        assert torch.allclose(result.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_leaves_the_same_samples_out(tmp_path) -> None:
    whole = train(parts(), tmp_path / "whole", epochs=4)
    train(parts(), tmp_path / "run", epochs=2)
    # They can be read by now, and stay left out: the run goes on as it would have.
    resumed = train(parts(set()), tmp_path / "run", epochs=4, resume=True)
    assert resumed.bad_samples == whole.bad_samples
    assert resumed.step_losses == whole.step_losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_without_a_quarantine_the_first_one_stops_the_run(tmp_path) -> None:
    with pytest.raises(OSError, match="is broken"):
        train(parts(), tmp_path / "run", on_bad_sample="stop", max_bad=None)
    with pytest.raises(BadSampleError, match="max_bad allows 1"):
        train(parts(), tmp_path / "other", max_bad=1)


def test_a_run_with_bad_samples_does_not_go_on_without_a_quarantine(tmp_path) -> None:
    train(parts(), tmp_path / "run", epochs=1)
    with pytest.raises(ResumeError, match="on_bad_sample was 'quarantine' and is 'stop'"):
        train(parts(), tmp_path / "run", epochs=2, resume=True, on_bad_sample="stop", max_bad=None)


def test_bad_samples_of_validation_do_not_count(tmp_path) -> None:
    split = parts({sample for sample in range(LENGTH) if sample % 50 == 0})
    assert split.val is not None
    score = rb.evaluate(
        train(split, None), split.val, on_bad_sample="quarantine", max_bad=10, batch_size=16
    )
    assert 0 <= score["accuracy"] <= 1
    assert np.isfinite(score["loss"])


def test_bad_samples_of_validation_are_listed_and_left_out_on_resume_too(tmp_path) -> None:
    split = parts()
    assert split.val is not None
    held_out = set(split.val.rows.take(np.arange(60)).tolist())
    bad = {min(held_out), max(held_out)} | {sorted(set(range(LENGTH)) - held_out)[5]}
    whole = train(parts(bad), tmp_path / "whole", epochs=4)
    assert {sample.row for sample in whole.bad_samples} == bad
    train(parts(bad), tmp_path / "run", epochs=2)
    listed = json.loads((tmp_path / "run" / "bad_samples.json").read_text())
    assert {sample["row"] for sample in listed} == bad
    resumed = train(parts(set()), tmp_path / "run", epochs=4, resume=True)
    assert [row["val_loss"] for row in resumed.history] == [
        row["val_loss"] for row in whole.history
    ]


def test_a_score_of_no_sample_is_an_error_in_words() -> None:
    with pytest.raises(DataError, match="no sample of the part could be read"):
        Score(metric="accuracy").result()

"""`compare`: the same start and order at every batch size, and nothing of the caller's touched."""

from __future__ import annotations

import copy
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.comparison import Comparison
from rightbatch.training.models import build_model

SIZES = [1, 32, 128, "full"]


def untimed(history):
    return [{name: row[name] for name in row if "seconds" not in name} for row in history]


def small_network(seed, inputs=30):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 4), nn.Dropout(0.2), nn.Tanh(), nn.Linear(4, 1))


@pytest.fixture(scope="module")
def study(cancer):
    return rb.compare(
        "mlp:10", cancer, batch_sizes=SIZES, epochs=20, learning_rate=0.1, activation="sigmoid"
    )


def test_every_curve_is_what_fit_alone_gives(cancer, study):
    for size, curve in zip(SIZES, study.curves, strict=True):
        alone = rb.fit(
            "mlp:10", cancer, batch_size=size, epochs=20, learning_rate=0.1, activation="sigmoid"
        )
        assert curve.step_losses == alone.step_losses
        assert untimed(curve.history) == untimed(alone.history)


def test_all_runs_of_a_seed_start_from_the_same_weights(cancer):
    study = rb.compare("mlp:4", cancer, batch_sizes=[8, 64], epochs=1, seeds=2, landscape=False)
    starts = {(curve.batch_size, curve.seed): curve.checked_losses[0] for curve in study.curves}
    assert starts[8, 0] == starts[64, 0]
    assert starts[8, 1] == starts[64, 1]
    assert starts[8, 0] != starts[8, 1]
    assert all(step == 0 for step, _ in starts.values())


def test_a_smaller_batch_falls_faster_by_the_epoch(study):
    _, small, middle, full = ([row["train_loss"] for row in c.history] for c in study.curves)
    assert all(a < b < c for a, b, c in zip(small[1:], middle[1:], full[1:], strict=True))


def test_the_checked_losses_are_the_training_loss_at_the_weights(cancer, study):
    for curve, size in zip(study.curves, SIZES, strict=True):
        result = rb.fit(
            "mlp:10", cancer, batch_size=size, epochs=20, learning_rate=0.1, activation="sigmoid"
        )
        step, loss = curve.checked_losses[-1]
        assert step == result.steps
        assert loss == pytest.approx(rb.evaluate(result, cancer.train)["loss"], rel=1e-5)


def test_sizes_past_the_part_are_the_full_batch_and_come_once(cancer):
    study = rb.compare("logistic", cancer, batch_sizes=[400, "full", 364], epochs=1)
    assert [(curve.batch_size, curve.is_full) for curve in study.curves] == [(364, True)]


def test_the_same_study_twice_is_the_same(cancer):
    one, two = (
        rb.compare("mlp:3", cancer, batch_sizes=[50, "full"], epochs=2, seeds=2) for _ in "ab"
    )
    assert one.landscape == two.landscape
    assert [c.step_losses for c in one.curves] == [c.step_losses for c in two.curves]


def test_a_module_random_state_and_threads_are_left_as_they_were(cancer):
    model = small_network(0).eval()
    before = copy.deepcopy(model.state_dict())
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    study = rb.compare(model, cancer, batch_sizes=[64, "full"], epochs=2, learning_rate=0.1)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()
    assert study.model == "Sequential"
    assert study.curves[0].checked_losses[0] == study.curves[1].checked_losses[0]


def test_a_function_of_the_seed_makes_a_model_for_every_run(cancer):
    study = rb.compare(small_network, cancer, batch_sizes=[64, 128], epochs=1, seeds=2)
    starts = {(curve.batch_size, curve.seed): curve.checked_losses[0] for curve in study.curves}
    assert starts[64, 0] == starts[128, 0] != starts[64, 1] == starts[128, 1]
    assert study.model == "small_network"


def test_a_function_that_sets_no_seed_gives_every_run_the_same_start_all_the_same(cancer):
    state = torch.get_rng_state()
    study = rb.compare(
        lambda seed: nn.Linear(30, 1), cancer, batch_sizes=[64, 128], epochs=1, seeds=2
    )
    starts = {(curve.batch_size, curve.seed): curve.checked_losses[0] for curve in study.curves}
    assert starts[64, 0] == starts[128, 0] != starts[64, 1] == starts[128, 1]
    assert torch.equal(torch.get_rng_state(), state)


def test_processes_give_the_same_curves_also_of_parts_in_use(cancer):
    options = {"batch_sizes": [32, "full"], "epochs": 2, "learning_rate": 0.1, "seeds": 2}
    list(rb.Batches(cancer.train, 32))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        told = []
        there = rb.compare("mlp:4", cancer, executor=executor, progress=told.append, **options)
    here = rb.compare("mlp:4", cancer, **options)
    for one, two in zip(here.curves, there.curves, strict=True):
        assert (one.batch_size, one.seed) == (two.batch_size, two.seed)
        assert one.step_losses == two.step_losses
        assert one.checked_losses == two.checked_losses
        assert untimed(one.history) == untimed(two.history)
    assert here.landscape == there.landscape
    assert here.timings_comparable
    assert all(curve.placement is None for curve in here.curves)
    assert all("placement" not in curve.to_json() for curve in here.curves)
    assert [news.run for news in told] == [1, 2, 3, 4]
    assert told[-1].runs == 4


def test_threads_take_turns_and_give_the_same_curves(cancer):
    for model in ("mlp:4", small_network(0)):
        options = {"batch_sizes": [32, 64], "epochs": 1, "landscape": False}
        threads, state = torch.get_num_threads(), torch.get_rng_state()
        with ThreadPoolExecutor(2) as executor:
            there = rb.compare(model, cancer, executor=executor, **options)
        here = rb.compare(model, cancer, **options)
        assert [c.step_losses for c in here.curves] == [c.step_losses for c in there.curves]
        assert there.timings_comparable
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("rule", "rates"), [("same", [0.1, 0.1]), ("linear", [0.2, 0.4]), ("sqrt", [0.1 * 2**0.5, 0.2])]
)
def test_rules_scale_the_learning_rate_from_the_reference(cancer, rule, rates):
    study = rb.compare(
        "logistic", cancer, batch_sizes=[64, 128], epochs=1, learning_rate=0.1, lr_rule=rule
    )
    found = [curve.learning_rate for curve in study.curves]
    assert found == pytest.approx(rates)
    assert study.reference_batch_size == (None if rule == "same" else 32)


def test_tuned_takes_the_rate_of_the_lowest_validation_loss_and_says_what_it_tried(cancer):
    study = rb.compare(
        "mlp:6", cancer, batch_sizes=[16, "full"], epochs=4, learning_rate=0.1, lr_rule="tuned",
        seeds=2,
    )  # fmt: skip
    for curve in study.curves:
        trials = [trial for trial in study.trials if trial.batch_size == curve.batch_size]
        assert 5 <= len(trials) <= 8
        chosen = [trial for trial in trials if trial.is_chosen]
        assert [trial.learning_rate for trial in chosen] == [curve.learning_rate]
        assert chosen[0].loss == min(t.loss for t in trials if t.loss is not None)
        inner = sorted(trial.learning_rate for trial in trials)[1:-1]
        assert curve.learning_rate in inner or len(trials) == 8
        if curve.seed == 0:
            assert min(row["val_loss"] for row in curve.history) == chosen[0].loss
    assert any("searched at each batch size" in note for note in study.notes)


def test_a_run_that_diverges_keeps_its_curve_and_the_others_go_on(diabetes):
    study = rb.compare(
        "linear", diabetes, batch_sizes=[1, "full"], epochs=60, learning_rate=0.1,
    )  # fmt: skip
    small, full = study.curves
    assert (small.diverged is not None and "is inf" in small.diverged) or "is nan" in small.diverged
    assert small.history
    assert small.step_losses
    assert len(small.history) < 60
    assert full.diverged is None
    assert len(full.history) == 60
    assert study.landscape is not None
    assert [path.label for path in study.landscape.paths] == [full.label]
    assert any(small.diverged in note for note in study.notes)
    summary = {row.label: row for row in study.summary()}
    assert summary[small.label].diverged == 1
    assert summary[small.label].measures == {}
    stored = json.loads(json.dumps(study.to_json()).replace("Infinity", "null"))
    assert Comparison.from_json(stored).curves[0].diverged == small.diverged


def test_when_every_run_diverges_there_is_no_landscape_and_a_note(diabetes):
    study = rb.compare("linear", diabetes, batch_sizes=[8], epochs=60, learning_rate=5.0)
    assert study.landscape is None
    assert "No landscape: every run diverged." in study.notes
    tuned = rb.compare(
        "linear", diabetes, batch_sizes=[8], epochs=60, learning_rate=1e4, lr_rule="tuned"
    )
    assert tuned.curves[0].diverged is not None
    assert tuned.curves[0].learning_rate == min(trial.learning_rate for trial in tuned.trials)


def test_a_micro_batch_larger_than_the_batch_is_left_out(cancer):
    study = rb.compare(
        "mlp:3", cancer, batch_sizes=[4, 64], epochs=1, micro_batch_size=16, landscape=False
    )
    plain = rb.compare("mlp:3", cancer, batch_sizes=[4, 64], epochs=1, landscape=False)
    for one, two in zip(study.curves, plain.curves, strict=True):
        assert one.history[-1]["train_loss"] == pytest.approx(two.history[-1]["train_loss"])


def test_progress_tells_each_run_by_its_number(cancer):
    told = []
    rb.compare("logistic", cancer, batch_sizes=[64, 128], epochs=2, seeds=2, progress=told.append)
    assert [(news.run, news.batch_size, news.seed) for news in told if news.training.row] == [
        (1, 64, 0), (1, 64, 0), (2, 128, 0), (2, 128, 0),
        (3, 64, 1), (3, 64, 1), (4, 128, 1), (4, 128, 1),
    ]  # fmt: skip
    assert {news.runs for news in told} == {4}


def test_the_json_comes_back_as_the_same_study(study):
    text = json.dumps(study.to_json())
    back = Comparison.from_json(json.loads(text))
    assert json.dumps(back.to_json()) == text
    first = json.loads(text)["curves"][0]
    assert {"batch_size", "learning_rate", "seed", "history", "step_losses"} <= set(first)
    assert back.landscape == study.landscape


def test_text_and_table_of_a_study_escape_what_comes_from_data():
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    data = rb.open((X, (X[:, 0] > 0).astype(int)), name="<script>alert(1)</script>")
    study = rb.compare(
        "logistic", rb.split(data, val=0.2), batch_sizes=[8, "full"], epochs=1, landscape=False
    )
    assert repr(study).startswith("<Comparison of logistic on <script>")
    html = study._repr_html_()
    assert "<script>" not in html
    assert "full batch (48)" in html
    assert "val accuracy" in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": []}, r"batch_sizes is empty; give such as"),
        ({"batch_sizes": "32"}, r"batch_sizes='32' is a text; give a list"),
        ({"batch_sizes": ["ful"]}, r"Did you mean 'full'"),
        ({"batch_sizes": [0]}, r"batch_size=0 is not valid"),
        ({"lr_rule": "squareroot"}, r"lr_rule='squareroot' is not valid.* Valid are: same"),
        ({"seeds": 0}, r"seeds=0"),
        ({"learning_rate": -1}, r"learning_rate=-1"),
        ({"epochs": 1, "steps": 1}, r"contradict each other"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(cancer, options, message):
    with pytest.raises(rb.OptionError, match=message):
        rb.compare("logistic", cancer, **options)


def test_one_part_is_refused(cancer):
    with pytest.raises(rb.OptionError, match="trains on the parts of a split and was given Part"):
        rb.compare("logistic", cancer.train)


def test_a_dense_network_of_ones_own_goes_through_the_closed_form_unharmed(cancer):
    model = build_model("mlp:5", inputs=30, outputs=1, seed=3)
    before = model.flat.clone()
    rb.compare(model, cancer, batch_sizes=[32], epochs=1, learning_rate=0.1)
    assert torch.equal(model.flat, before)


def test_an_end_beyond_all_numbers_counts_as_diverged_and_leaves_no_infinity_behind():
    parts = rb.split(rb.open("diabetes"), val=0.2, seed=1)
    # The last step's loss is 2.7e38, finite still; the weights after it are of no use.
    study = rb.compare("linear", parts, batch_sizes=[1, "full"], learning_rate=1.0, steps=3074)
    json.dumps(study.landscape.to_json(), allow_nan=False)
    one, full = study.curves
    assert one.diverged is not None
    assert "Lower the learning rate" in one.diverged
    assert full.label in {path.label for path in study.landscape.paths}


def test_the_transforms_are_part_of_what_it_takes_to_get_it_again(cancer):
    augmented = cancer.transform(np.abs, train_only=True)
    study = rb.compare("logistic", augmented, batch_sizes=[64], epochs=1, landscape=False)
    kinds = [(one["kind"], one.get("train_only", False)) for one in study.provenance.transforms]
    assert kinds == [("standardize", False), ("function", True)]
    timing = rb.speed("logistic", cancer.train, batch_sizes=[8], seconds=0.05)
    assert [one["kind"] for one in timing.provenance.transforms] == ["standardize"]

"""What the estimators learn is what `rb.fit` learns, in one call or in several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.preprocessing import StandardScaler

import rightbatch as rb
from rightbatch.errors import DataError, NonFiniteLossError, OptionError
from rightbatch.integrations.scikit_learn import MiniBatchClassifier, MiniBatchRegressor


def _scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def cancer():
    return _scaled(load_breast_cancer)


@pytest.fixture(scope="module")
def digits():
    return _scaled(load_digits)


@pytest.fixture(scope="module")
def diabetes():
    X, y = _scaled(load_diabetes)
    return X, (y - y.mean()) / y.std()


def _weights(estimator):
    return estimator.module_.state_dict()


def _assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("cancer", {"model": "mlp:9"}),
        ("cancer", {"model": "mlp:9,5", "activation": "tanh", "optimizer": "adam"}),
        ("cancer", {"model": "logistic", "batch_size": "full", "init": "normal:0.1"}),
        ("cancer", {"model": "softmax", "batch_size": 9999, "l2": 0.1}),
        ("cancer", {"model": "logistic", "batch_size": 1, "epochs": 1}),
        ("digits", {"model": "mlp:9", "optimizer": "adamw", "batch_size": 128}),
        ("digits", {"model": "softmax", "momentum": 0.9, "shuffle": False, "l1": 0.01}),
        ("diabetes", {"model": "linear", "momentum": 0.5}),
        ("diabetes", {"model": "mlp:9", "activation": "sigmoid"}),
    ],
    ids=str,
)
def test_the_weights_are_those_of_fit(data, options, request):
    X, y = request.getfixturevalue(data)
    options = {"optimizer": "sgd", "epochs": 3, "learning_rate": 0.02, "batch_size": 32, **options}
    kind = MiniBatchRegressor if data == "diabetes" else MiniBatchClassifier
    estimator = kind(**options, random_state=11).fit(X, y)
    model = options.pop("model")
    expected = rb.fit(model, rb.split(rb.open((X, y))), **options, seed=11)
    _assert_equal(_weights(estimator), expected.model.state_dict())
    assert estimator.loss_curve_ == [row["train_loss"] for row in expected.history]
    assert estimator.n_iter_ == len(expected.history)
    assert estimator.validation_loss_curve_ is None


@pytest.mark.parametrize("data", ["cancer", "diabetes"])
def test_early_stopping_is_that_of_fit_on_a_split(data, request):
    X, y = request.getfixturevalue(data)
    options = {"learning_rate": 0.05, "optimizer": "adam", "epochs": 40, "early_stopping": 3}
    kind = MiniBatchRegressor if data == "diabetes" else MiniBatchClassifier
    estimator = kind("mlp:30", **options, validation_fraction=0.2, random_state=2).fit(X, y)
    parts = rb.split(rb.open((X, y)), val=0.2, stratify=data == "cancer", seed=2)
    expected = rb.fit("mlp:30", parts, **options, seed=2)
    assert expected.stopped_early
    _assert_equal(_weights(estimator), expected.model.state_dict())
    assert estimator.validation_loss_curve_ == [row["val_loss"] for row in expected.history]
    assert estimator.n_iter_ == expected.epochs < 40


def test_early_stopping_true_waits_ten_epochs(cancer):
    options = {"learning_rate": 0.05, "epochs": 60, "random_state": 2}
    by_name = MiniBatchClassifier("mlp:30", **options, early_stopping=True).fit(*cancer)
    by_number = MiniBatchClassifier("mlp:30", **options, early_stopping=10).fit(*cancer)
    assert by_name.loss_curve_ == by_number.loss_curve_
    assert len(by_name.validation_loss_curve_) == by_name.n_iter_ < 60
    off = MiniBatchClassifier("mlp:3", epochs=1, early_stopping=False).fit(*cancer)
    assert off.validation_loss_curve_ is None


_OPTIMIZERS = [
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05},
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
]


@pytest.mark.parametrize("options", _OPTIMIZERS, ids=str)
def test_warm_starts_add_up_to_one_longer_run(options, cancer):
    options = {"model": "mlp:9", "random_state": 4, "batch_size": 50, **options}
    whole = MiniBatchClassifier(**options, epochs=5).fit(*cancer)
    pieces = MiniBatchClassifier(**options, epochs=3, warm_start=True).fit(*cancer)
    pieces.set_params(epochs=2).fit(*cancer)
    _assert_equal(_weights(pieces), _weights(whole))
    assert pieces.loss_curve_ == whole.loss_curve_
    assert pieces.n_iter_ == 5


@pytest.mark.parametrize("options", _OPTIMIZERS, ids=str)
def test_partial_fits_of_the_same_samples_add_up_to_fit(options, cancer, diabetes):
    options = {"model": "mlp:9", "random_state": 4, "batch_size": 50, **options}
    whole = MiniBatchClassifier(**options, epochs=3).fit(*cancer)
    passes = MiniBatchClassifier(**options).partial_fit(*cancer, classes=[1, 0])
    passes.partial_fit(*cancer).partial_fit(*cancer, classes=[0, 1])
    _assert_equal(_weights(passes), _weights(whole))
    assert passes.loss_curve_ == whole.loss_curve_
    whole = MiniBatchRegressor(**options, epochs=3).fit(*diabetes)
    passes = MiniBatchRegressor(**options).partial_fit(*diabetes).partial_fit(*diabetes)
    _assert_equal(_weights(passes.partial_fit(*diabetes)), _weights(whole))


def test_fit_begins_anew_and_partial_fit_goes_on_from_it(cancer):
    X, y = cancer
    options = {"model": "mlp:9", "random_state": 4}
    expected = MiniBatchClassifier(**options, epochs=2).fit(X, y)
    estimator = MiniBatchClassifier(**options, epochs=2).fit(X[:100, :7], y[:100] + 5).fit(X, y)
    _assert_equal(_weights(estimator), _weights(expected))
    assert estimator.n_iter_ == 2
    assert estimator.n_features_in_ == 30
    estimator.partial_fit(X, y)
    _assert_equal(_weights(estimator), _weights(MiniBatchClassifier(**options, epochs=3).fit(X, y)))


def test_a_seed_that_was_drawn_stays_for_the_passes_that_follow(cancer):
    np.random.seed(5)  # noqa: NPY002 - random_state=None draws from the global state
    passes = MiniBatchClassifier("mlp:9").partial_fit(*cancer, classes=[0, 1]).partial_fit(*cancer)
    np.random.seed(5)  # noqa: NPY002
    whole = MiniBatchClassifier("mlp:9", epochs=2).fit(*cancer)
    assert passes.loss_curve_ == whole.loss_curve_


def test_a_stream_of_chunks_is_learned_from(digits):
    X, y = digits
    order = np.argsort(y[:1500], kind="stable")  # the first chunks know few of the digits
    estimator = MiniBatchClassifier("mlp:50", random_state=0, learning_rate=0.01)
    for _ in range(4):
        for rows in np.array_split(np.random.default_rng(0).permutation(order), 10):
            estimator.partial_fit(X[rows], y[rows], classes=np.arange(10))
    assert estimator.n_iter_ == 40 == len(estimator.loss_curve_)
    assert estimator.score(X[1500:], y[1500:]) > 0.9
    one_label = MiniBatchClassifier("softmax").partial_fit(X[:1], y[:1], classes=np.arange(10))
    assert one_label.predict_proba(X[:2]).shape == (2, 10)


def test_the_batch_size_and_the_optimizer_may_change_on_the_way(cancer):
    estimator = MiniBatchClassifier("mlp:9", random_state=0, warm_start=True, epochs=2)
    estimator.fit(*cancer).set_params(batch_size="full", optimizer="sgd", momentum=0.9)
    estimator.fit(*cancer)
    assert estimator.n_iter_ == 4
    assert estimator.loss_curve_[3] < estimator.loss_curve_[0]


def test_what_early_stopping_went_back_from_is_not_remembered(cancer):
    X, y = cancer
    options = {"model": "mlp:30", "learning_rate": 0.05, "random_state": 2}
    stopped = MiniBatchClassifier(**options, epochs=40, early_stopping=3, warm_start=True)
    stopped.fit(X, y)
    assert stopped._learned.optimizer == {}
    before = stopped.n_iter_
    stopped.set_params(early_stopping=None, epochs=1).fit(X, y)
    assert stopped.n_iter_ == before + 1
    assert len(stopped.validation_loss_curve_) == before


def test_a_pass_that_fails_leaves_the_estimator_as_it_was(diabetes):
    X, y = diabetes
    estimator = MiniBatchRegressor("linear", optimizer="sgd", random_state=0).partial_fit(X, y)
    module, predicted, losses = estimator.module_, estimator.predict(X), estimator.loss_curve_
    with pytest.raises(NonFiniteLossError):
        estimator.partial_fit(X * 1e15, y)
    assert estimator.module_ is module
    np.testing.assert_array_equal(estimator.predict(X), predicted)
    assert estimator.loss_curve_ == losses
    estimator.partial_fit(X, y)
    assert estimator.n_iter_ == 2


def test_passes_that_do_not_belong_together_are_refused(cancer):
    X, y = cancer
    begun = MiniBatchClassifier("mlp:9", random_state=0).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(OptionError, match="the first partial_fit needs classes"):
        MiniBatchClassifier().partial_fit(X, y)
    with pytest.raises(OptionError, match=r"classes=\[0, 1, 2\] differ from those .* \[0, 1\]"):
        begun.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(DataError, match=r"labels that are none of the classes .*: 2; .* 0, 1"):
        begun.partial_fit(X, y + 1)
    with pytest.raises(DataError, match=r"none of the classes .*: '0', '1'; .* 0, 1"):
        begun.partial_fit(X, y.astype(str))
    with pytest.raises(DataError, match="only one class, 'a'"):
        MiniBatchClassifier().partial_fit(X, ["a"] * 569, classes=["a"])
    with pytest.raises(ValueError, match=r"X has 4 features, but .* is expecting 30"):
        begun.partial_fit(X[:, :4], y)
    with pytest.raises(OptionError, match=r"30-9-1 with relu, .* ask for 30-5-1: fit anew"):
        begun.set_params(model="mlp:5").partial_fit(X, y)
    with pytest.raises(OptionError, match="early_stopping=True needs several: use fit"):
        begun.set_params(model="mlp:9", early_stopping=True).partial_fit(X, y)


def test_a_warm_start_takes_other_samples_of_the_same_classes_only(cancer):
    X, y = cancer
    estimator = MiniBatchClassifier("mlp:9", epochs=1, random_state=0, warm_start=True).fit(X, y)
    estimator.fit(X[y == 1], y[y == 1])
    assert estimator.classes_.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"fit without warm_start"):
        estimator.fit(X, y + 7)
    estimator.set_params(warm_start=False).fit(X, y + 7)
    assert estimator.classes_.tolist() == [7, 8]


def test_another_optimizer_of_the_same_shape_starts_afresh(cancer):
    X, y = cancer

    def steps(estimator):
        remembered = estimator._learned.optimizer
        return {float(value) for name, value in remembered.items() if value.numel() == 1}

    estimator = MiniBatchClassifier("logistic", epochs=1, warm_start=True, random_state=0)
    once = steps(estimator.fit(X, y))
    assert once == {18.0}
    estimator.set_params(optimizer="adamw").fit(X, y)
    assert steps(estimator) == once
    assert steps(estimator.fit(X, y)) == {36.0}

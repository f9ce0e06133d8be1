"""The estimators in scikit-learn's own hands: its checks, pipelines, searches, copies, frames."""

from __future__ import annotations

import copy
import pickle
import random

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rightbatch.errors import DataError, NonFiniteLossError, OptionError
from rightbatch.integrations.scikit_learn import MiniBatchClassifier, MiniBatchRegressor


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


@pytest.fixture(scope="module")
def fitted(cancer):
    return MiniBatchClassifier("mlp:8", epochs=2, random_state=0).fit(*cancer)


# No check is expected to fail. Those of scikit-learn that want SCIPY_ARRAY_API set skip themselves.
@parametrize_with_checks([MiniBatchClassifier(), MiniBatchRegressor()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [
        # scikit-learn has a check of its own for classifiers that tell two classes apart.
        MiniBatchClassifier("logistic", epochs=3, learning_rate=0.3),
        MiniBatchRegressor("linear", epochs=5, learning_rate=0.3),
    ]
)
def test_scikit_learns_own_checks_of_the_models_without_hidden_layers(estimator, check):
    check(estimator)


@pytest.mark.parametrize("load", [load_breast_cancer, load_digits])
def test_a_search_over_the_batch_size_of_a_pipeline(load):
    X, y = load(return_X_y=True)
    net = MiniBatchClassifier("softmax", epochs=3, learning_rate=0.01, random_state=0)
    pipeline = Pipeline([("scale", StandardScaler()), ("net", net)])
    search = GridSearchCV(pipeline, {"net__batch_size": [8, 64, "full"]}, cv=2).fit(X, y)
    assert search.best_params_ == {"net__batch_size": 8}
    scores = search.cv_results_["mean_test_score"]
    # Three steps of full batch learn less than hundreds of small ones.
    assert scores[0] > 0.85 > scores[2] > 0
    assert search.best_estimator_["net"].n_iter_ == 3


def test_two_processes_find_what_one_finds_and_hand_errors_back(cancer):
    net = MiniBatchClassifier("mlp:4", epochs=2, random_state=0)
    diverging = MiniBatchRegressor("linear", optimizer="sgd", learning_rate=100.0)
    grid = {"batch_size": [16, "full"]}
    try:
        one, two = (GridSearchCV(net, grid, cv=2, n_jobs=jobs).fit(*cancer) for jobs in (1, 2))
        with pytest.raises(NonFiniteLossError, match="the loss of step"):
            GridSearchCV(diverging, grid, cv=2, n_jobs=2, error_score="raise").fit(*cancer)
    finally:
        # The workers would wait for more, five minutes long.
        get_reusable_executor().shutdown(wait=True)
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize(
    "copied",
    [
        lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),  # noqa: S301 - our own bytes
        lambda estimator, folder: copy.deepcopy(estimator),
        lambda estimator, folder: joblib.load(
            joblib.dump(estimator, folder / "estimator.joblib")[0], mmap_mode="r"
        ),
    ],
    ids=["pickle", "deepcopy", "joblib, mapped read-only"],
)
def test_a_copy_predicts_and_learns_on_as_the_original(copied, cancer, tmp_path):
    X, y = cancer
    estimator = MiniBatchClassifier("mlp:8", epochs=2, random_state=0).fit(X, y)
    torch_state = torch.get_rng_state()
    twin = copied(estimator, tmp_path)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(estimator.predict_proba(X), twin.predict_proba(X))
    before = twin.predict_proba(X)
    estimator.partial_fit(X, y)
    np.testing.assert_array_equal(twin.predict_proba(X), before)
    twin.partial_fit(X, y)
    np.testing.assert_array_equal(estimator.predict_proba(X), twin.predict_proba(X))
    assert estimator.loss_curve_ == twin.loss_curve_


def test_a_pickle_holds_each_number_once(digits):
    estimator = MiniBatchClassifier(
        "mlp:100", optimizer="sgd", epochs=1, random_state=0, batch_size=500
    ).fit(*digits)
    weights_bytes = 4 * (64 * 100 + 100 + 100 * 10 + 10)
    assert weights_bytes < len(pickle.dumps(estimator)) < 1.2 * weights_bytes


def test_a_clone_has_the_parameters_and_has_learned_nothing(fitted):
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "module_")
    with pytest.raises(NotFittedError):
        twin.predict(np.zeros((1, 30)))


def test_predictions_do_not_depend_on_their_batch(cancer, fitted):
    X, _ = cancer
    many = np.tile(X, (4, 1))  # 2,276 rows: more than two batches
    whole = fitted.predict_proba(many)
    one_by_one = np.vstack(
        [fitted.predict_proba(many[row : row + 1]) for row in range(0, 2276, 31)]
    )
    np.testing.assert_allclose(whole[::31], one_by_one, rtol=1e-12)
    np.testing.assert_array_equal(whole[:569], whole[1707:])


def test_probabilities_are_those_of_the_module(cancer, digits):
    X, y = digits
    estimator = MiniBatchClassifier("mlp:20", epochs=3, random_state=0).fit(X, y)
    with torch.no_grad():
        logits = estimator.module_(torch.tensor(X, dtype=torch.float32))
    np.testing.assert_allclose(estimator.predict_proba(X), logits.softmax(1).numpy(), atol=1e-5)
    assert not estimator.module_.training
    # scikit-learn warns, here an error, where the rows of a float64 do not sum to one.
    assert log_loss(y, estimator.predict_proba(X)) < 1.0
    X, y = cancer
    estimator = MiniBatchClassifier("logistic", epochs=3, random_state=0).fit(X, y)
    with torch.no_grad():
        logits = estimator.module_(torch.tensor(X, dtype=torch.float32))
    np.testing.assert_allclose(
        estimator.predict_proba(X)[:, 1:], torch.sigmoid(logits).numpy(), atol=1e-5
    )
    np.testing.assert_array_equal(estimator.predict(X), estimator.predict_proba(X).argmax(axis=1))


def test_a_small_probability_keeps_its_digits(cancer):
    X, y = cancer
    estimator = MiniBatchClassifier("logistic", epochs=20, random_state=0).fit(X, y)
    probabilities = estimator.predict_proba(1000.0 * X)
    assert 0 < probabilities[probabilities > 0].min() < 1e-30
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, bool])
def test_any_numbers_are_inputs(dtype, digits):
    X, y = digits
    X = (X * 16).astype(dtype)
    options = {"epochs": 2, "random_state": 0}
    expected = MiniBatchClassifier("softmax", **options).fit(X.astype(np.float64), y)
    estimator = MiniBatchClassifier("softmax", **options).fit(X, y)
    np.testing.assert_array_equal(estimator.predict_proba(X), expected.predict_proba(X))


def test_frames_are_known_by_the_names_of_their_columns(cancer):
    X, y = cancer
    frame = pd.DataFrame(X[:, :3], columns=["radius", "texture", "perimeter"])
    labels = pd.Series(np.where(y, "benign", "malignant"))
    estimator = MiniBatchClassifier("mlp:8", epochs=5, random_state=0).fit(frame, labels)
    assert estimator.feature_names_in_.tolist() == ["radius", "texture", "perimeter"]
    assert estimator.classes_.tolist() == ["benign", "malignant"]
    assert estimator.score(frame, labels) > 0.8
    with pytest.raises(ValueError, match="should match those that were passed during fit"):
        estimator.predict(frame[["texture", "radius", "perimeter"]])
    with pytest.raises(ValueError, match="should match those that were passed during fit"):
        estimator.partial_fit(frame.rename(columns={"texture": "Textur"}), labels)


def test_several_outputs_keep_their_shape():
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    options = {"learning_rate": 0.05, "epochs": 20, "random_state": 0}
    column = MiniBatchRegressor("linear", **options).fit(X, y[:, None])
    assert column.predict(X).shape == (442, 1)
    both = MiniBatchRegressor("linear", **options).fit(X, np.stack([y, -2 * y], axis=1))
    predicted = both.predict(X)
    assert predicted.shape == (442, 2)
    assert np.corrcoef(predicted[:, 0], predicted[:, 1])[0, 1] < -0.95
    assert MiniBatchRegressor("linear", **options).fit(X, y).predict(X).shape == (442,)


def test_the_random_states_and_threads_of_the_caller_are_untouched(cancer):
    def states():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global state is what is looked at
            random.getstate(),
            torch.get_num_threads(),
        )

    before = states()
    MiniBatchClassifier("mlp:4", epochs=1, random_state=0, threads=2).fit(*cancer)
    assert states() == before


def test_a_random_state_is_drawn_from_and_an_integer_gives_the_same_again(cancer):
    X, y = cancer

    def learned(random_state):
        return MiniBatchClassifier("mlp:4", epochs=1, random_state=random_state).fit(X, y)

    generator = np.random.RandomState(3)
    assert learned(generator).loss_curve_ != learned(generator).loss_curve_
    assert (
        learned(np.random.RandomState(3)).loss_curve_
        == learned(np.random.RandomState(3)).loss_curve_
    )
    assert learned(3).loss_curve_ == learned(np.int64(3)).loss_curve_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size=0 is not valid"),
        ({"batch_size": "ful"}, r"Did you mean 'full'"),
        ({"epochs": None}, r"epochs=None is not valid"),
        ({"model": "mpl:100"}, r"Did you mean 'mlp'"),
        ({"model": torch.nn.Linear(30, 1)}, r"takes a model by its name, such as 'mlp:100'"),
        ({"model": "linear"}, r"learns quantities: use MiniBatchRegressor"),
        ({"optimizer": "adm"}, r"Did you mean 'adam'"),
        ({"momentum": 0.9}, r"momentum=0.9 goes with optimizer='sgd'"),
        ({"early_stopping": "auto"}, r"early_stopping='auto' is not valid"),
        ({"early_stopping": 3, "validation_fraction": 0}, r"holds out none"),
        ({"early_stopping": 3, "validation_fraction": 2.0}, r"validation_fraction=2.0 can not"),
        ({"random_state": -1}, r"[Ss]eed must be between 0"),
    ],
    ids=str,
)
def test_parameters_are_refused_when_fitting_and_named(options, message, cancer):
    # What another fit has learned must not answer for this one.
    estimator = MiniBatchClassifier("softmax", epochs=1).fit(cancer[0], cancer[1] + 5)
    estimator.set_params(**options)
    with pytest.raises(ValueError, match=message):
        estimator.fit(*cancer)
    with pytest.raises(NotFittedError):
        estimator.predict(cancer[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("sparse", TypeError, r"[Ss]parse.*dense.*toarray"),
        ("beyond float32", ValueError, r"too large for dtype\('float32'\)"),
        ("one class", DataError, r"only one class, 1\.0"),
        ("quantities", ValueError, r"Unknown label type: continuous"),
        ("images", ValueError, r"dim 3"),
    ],
)
def test_data_that_are_none_are_refused(change, error, message, cancer):
    X, y = cancer
    given = {
        "sparse": (sparse.csr_array(X), y),
        "beyond float32": (X * 1e300, y),
        "one class": (X, np.ones(569)),
        "quantities": (X, X[:, 0]),
        "images": (X.reshape(569, 5, 6), y),
    }
    with pytest.raises(error, match=message):
        MiniBatchClassifier("mlp:4", epochs=1).fit(*given[change])


def test_the_regressor_refuses_what_it_can_not_learn(cancer):
    X, y = cancer
    with pytest.raises(OptionError, match="learns classes: use MiniBatchClassifier"):
        MiniBatchRegressor("softmax").fit(X, y)
    with pytest.raises(ValueError, match=r"Input y contains infinity or a value too large"):
        MiniBatchRegressor("linear").fit(X, y * 1e300)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        MiniBatchRegressor("linear").fit(X, sparse.csr_array(X))


def test_what_diverges_says_so_and_how_to_scale(cancer):
    X, y = cancer
    regressor = MiniBatchRegressor("linear", optimizer="sgd", learning_rate=100.0, epochs=50)
    with pytest.raises(NonFiniteLossError, match=r"StandardScaler in front.*TransformedTarget"):
        regressor.fit(X, y)
    with pytest.raises(NotFittedError):
        regressor.predict(X)


def test_the_error_of_a_worker_reaches_its_parent():
    error = NonFiniteLossError("the loss of step 3 is nan", step=3, rows=[1, 2])
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(twin), twin.step, twin.rows) == (str(error), 3, [1, 2])

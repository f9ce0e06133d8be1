"""Estimators for scikit-learn, trained by rightbatch's own mini-batches."""

# ruff: noqa: N803 - X is scikit-learn's name for the inputs, and callers may pass it by name

from __future__ import annotations

from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets

from rightbatch.errors import DataError, OptionError
from rightbatch.integrations.mini_batch_estimator import TARGET, MiniBatchEstimator
from rightbatch.plan.checks import whole_number
from rightbatch.training.losses import find_loss
from rightbatch.training.task import Task


class MiniBatchClassifier(ClassifierMixin, MiniBatchEstimator):  # type: ignore[misc]  # no types
    """A classifier trained by mini-batch gradient descent, for scikit-learn.

    `fit(X, y)` gives the weights that `rightbatch.fit` gives on the same samples with the same
    options and `seed=random_state`. Scale the inputs first, as with a StandardScaler in a
    Pipeline: gradient descent is slow where features differ in size.

    Parameters:
        model: `mlp:100` (one hidden layer of 100 units), `mlp:50,50`, `softmax`, or `logistic`
            for two classes.
        batch_size: Samples a step, or "full". One above the number of samples is full batch.
        epochs: Passes over the samples by each `fit`.
        learning_rate: Factor of each update.
        optimizer: `adam`, `adamw`, or `sgd` with its `momentum`. The default is not the plain
            descent of `rightbatch.fit` because an estimator also meets inputs nobody has scaled.
        momentum: Of `sgd`.
        l1: Factor of |w|₁ in the loss, on weights and not on biases.
        l2: Factor of |w|²/2, likewise.
        activation: `relu`, `sigmoid` or `tanh`, between the layers of an mlp.
        init: `default`, `zeros` or `normal:STD`.
        shuffle: Whether each epoch has another order.
        early_stopping: Epochs without a lower validation loss after which `fit` ends and takes
            the weights of the best epoch; True is 10. None trains on all samples.
        validation_fraction: The share of the samples held out for early stopping, in the
            proportions of the classes.
        warm_start: Whether another `fit` goes on for `epochs` more, with the same weights, order
            and optimizer, as one longer run would.
        random_state: Seed of weights, order and split. An integer gives the same model again.
        threads: torch's CPU threads while training; by default one where a step is small.

    Attributes:
        classes_: The labels, sorted, (K,).
        n_features_in_: The number of features.
        feature_names_in_: Their names, where the inputs were a frame with names.
        loss_curve_: The mean loss of each epoch, before each update and without penalties.
        validation_loss_curve_: The validation loss of each epoch; None without early stopping.
        n_iter_: Epochs trained so far.
        module_: The network, a `torch.nn.Module` that gives logits.

    Inputs are dense (N, F) of any numbers, used as float32. Sample weights are not supported.
    Errors are ValueErrors (a sparse matrix: TypeError), and NonFiniteLossError where training
    diverges.

    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> classifier = MiniBatchClassifier("mlp:10", batch_size=64, epochs=10, random_state=0)
    >>> make_pipeline(StandardScaler(), classifier).fit(X[:400], y[:400]).score(X[400:], y[400:])
    0.9...
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train for `epochs` epochs on inputs (N, F) and labels (N,), and give the estimator.

        Raises DataError where the labels are of one class, OptionError where a parameter is not
        valid, NonFiniteLossError where training diverges.
        """
        goes_on = self._goes_on()
        epochs = whole_number("epochs", self.epochs, at_least=1)
        self._check_model(None)
        inputs, labels = self._validate(X, y, reset=not goes_on)
        if not goes_on:
            classes = np.unique(labels)
            self._check_classes(classes)
            self._check_model(len(classes))
            self.classes_ = classes
        return self._train(
            inputs, self._encode(labels), self._task(), epochs=epochs, goes_on=goes_on
        )

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Make one pass over these samples, going on with weights, order and optimizer.

        `classes` are all labels that any call will bring; the first call needs them. Several
        passes over the same samples give the weights of one `fit` with as many epochs.

        Raises OptionError where `classes` are missing or others than before, DataError where a
        label is none of them.
        """
        self._refuse_early_stopping()
        self._check_model(None)
        is_first = not hasattr(self, "_learned")
        given = None if classes is None else np.unique(np.asarray(classes))
        if is_first and given is None:
            raise OptionError(
                "the first partial_fit needs classes=…, all labels that any call will bring, "
                "such as np.unique(y) of the whole set: this call's y may lack some"
            )
        inputs, labels = self._validate(X, y, reset=is_first)
        if is_first:
            assert given is not None  # refused above
            self._check_classes(given)
            self._check_model(len(given))
            self.classes_ = given
        elif given is not None and not np.array_equal(given, self.classes_):
            raise OptionError(
                f"classes=[{_listed(given)}] differ from those it began with, "
                f"[{_listed(self.classes_)}]: leave classes out, or begin with a new estimator"
            )
        return self._train(
            inputs, self._encode(labels), self._task(), epochs=1, goes_on=not is_first
        )

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable label of each row, (N,)."""
        outputs = self._outputs(X)
        is_one = outputs.shape[1] == 1
        codes = (outputs[:, 0] > 0).astype(np.int64) if is_one else outputs.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[codes]
        return labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The probability of each class, float64 (N, K), columns in the order of `classes_`."""
        outputs = self._outputs(X)
        probabilities: NDArray[np.float64] = (
            # Each from its own side: 1 - p would lose the digits of a small probability.
            np.hstack([expit(-outputs), expit(outputs)])
            if outputs.shape[1] == 1
            else softmax(outputs, axis=1)
        )
        return probabilities

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self.model != "logistic"
        return tags

    def _validate(
        self, X: ArrayLike, y: ArrayLike, *, reset: bool
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        inputs, labels = self._validated(X, y, reset=reset)
        check_classification_targets(labels)
        return inputs, labels

    def _check_model(self, class_count: int | None) -> None:
        kind = self._model_name().kind
        if kind == "linear":
            raise OptionError(
                "the model linear learns quantities: use MiniBatchRegressor, or softmax, logistic "
                "or mlp:100 for classes"
            )
        if kind == "logistic" and class_count is not None and class_count > 2:
            raise OptionError(
                # The first sentence is the one by which scikit-learn knows this refusal.
                "Only binary classification is supported. The model logistic tells two classes "
                f"apart, and y has {class_count}: use softmax or mlp:100"
            )

    def _check_classes(self, classes: NDArray[Any]) -> None:
        if len(classes) < 2:
            raise DataError(
                f"there is only one class, {_listed(classes)}: a classifier needs two at the least"
            )

    def _encode(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The codes 0 … K-1 of labels; DataError where one is none of `classes_`."""
        # As Python's values: NumPy would find the text "1" among whole numbers.
        unknown = set(np.unique(labels).tolist()) - set(self.classes_.tolist())
        if unknown:
            raise DataError(
                f"y has labels that are none of the classes this classifier began with: "
                f"{', '.join(map(repr, sorted(unknown, key=str)[:8]))}; the classes are "
                f"{_listed(self.classes_)}. Begin anew with all of them: fit without "
                "warm_start, or partial_fit(X, y, classes=…)"
            )
        return np.searchsorted(self.classes_, labels).astype(np.int64)

    def _task(self) -> Task:
        count = len(self.classes_)
        is_one_output = count == 2 and self._model_name().kind != "softmax"
        return Task(
            loss=find_loss("binary_cross_entropy" if is_one_output else "cross_entropy"),
            outputs=1 if is_one_output else count,
            classes=np.arange(count),
            target=TARGET,
            keeps_integers=False,
        )


class MiniBatchRegressor(RegressorMixin, MultiOutputMixin, MiniBatchEstimator):  # type: ignore[misc]  # no types
    """A regressor trained by mini-batch gradient descent on the squared error, for scikit-learn.

    Parameters are those of `MiniBatchClassifier`, with the models `linear`, `mlp:100`,
    `mlp:50,50`; `validation_fraction` holds out a random share. Attributes too, without
    `classes_`; `module_` gives values. `y` is (N,) or (N, K), of any numbers, used as float32.
    Where its values are large, training is slow or diverges: scale it as well, as with
    scikit-learn's TransformedTargetRegressor.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MiniBatchRegressor("mlp:20", learning_rate=0.01, random_state=0)
    >>> regressor.fit(X[:350], y[:350]).score(X[350:], y[350:]) > 0.4
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train for `epochs` epochs on inputs (N, F) and values (N,) or (N, K).

        Raises OptionError where a parameter is not valid, NonFiniteLossError where training
        diverges.
        """
        goes_on = self._goes_on()
        epochs = whole_number("epochs", self.epochs, at_least=1)
        return self._fit(X, y, epochs=epochs, goes_on=goes_on)

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Make one pass over these samples, going on with weights, order and optimizer.

        Several passes over the same samples give the weights of one `fit` with as many epochs.
        """
        self._refuse_early_stopping()
        return self._fit(X, y, epochs=1, goes_on=hasattr(self, "_learned"))

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The value of each row, float64, of the shape that `y` had: (N,) or (N, K)."""
        return self._outputs(X).reshape(-1, *self._value_shape)

    def _fit(self, X: ArrayLike, y: ArrayLike, *, epochs: int, goes_on: bool) -> Self:
        kind = self._model_name().kind
        if kind in ("softmax", "logistic"):
            raise OptionError(
                f"the model {kind} learns classes: use MiniBatchClassifier, or linear or mlp:100 "
                "for quantities"
            )
        inputs, values = self._validated(X, y, multi_output=True, y_numeric=True, reset=not goes_on)
        # Beyond float32 a finite value would become infinite, and is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            values = check_array(values, dtype=np.float32, ensure_2d=False, input_name="y")
        task = Task(
            loss=find_loss("squared_error"),
            outputs=prod(values.shape[1:]),
            classes=None,
            target=TARGET,
            keeps_integers=False,
        )
        self._train(inputs, values, task, epochs=epochs, goes_on=goes_on)
        self._value_shape = values.shape[1:]
        return self


def _listed(labels: NDArray[Any]) -> str:
    shown = ", ".join(repr(label) for label in labels[:8].tolist())
    return f"{shown}, … ({len(labels)} in all)" if len(labels) > 8 else shown

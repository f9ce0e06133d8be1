"""What the estimators for scikit-learn share: parameters, training and outputs."""

# ruff: noqa: N803 - X is scikit-learn's name for the inputs, and callers may pass it by name

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from rightbatch.errors import NonFiniteLossError, OptionError
from rightbatch.integrations.continued_training import GivenArrays, Learned, go_on
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.splitting import split
from rightbatch.plan.checks import is_integer, whole_number
from rightbatch.plan.row_set import RowSet
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE
from rightbatch.training.models import DenseNetwork, ModelName, build_model
from rightbatch.training.options import FitOptions
from rightbatch.training.task import Task

# What early_stopping=True waits for, as scikit-learn's own n_iter_no_change does.
_PATIENCE_EPOCHS = 10
TARGET = "y"


class MiniBatchEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """An estimator whose parameters are options of `rightbatch.fit`; subclasses add the task."""

    # There once something has been learned, and not before.
    _learned: Learned

    def __init__(
        self,
        model: str = "mlp:100",
        *,
        batch_size: int | str = 32,
        epochs: int = 50,
        learning_rate: float = 0.003,
        optimizer: str = "adam",
        momentum: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        activation: str = "relu",
        init: str = "default",
        shuffle: bool = True,
        early_stopping: bool | int | None = None,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.momentum = momentum
        self.l1 = l1
        self.l2 = l2
        self.activation = activation
        self.init = init
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.threads = threads

    @property
    def module_(self) -> DenseNetwork:
        """The trained `torch.nn.Module`, in evaluation mode; its outputs are logits or values."""
        if not hasattr(self, "_learned"):
            raise AttributeError(f"this {type(self).__name__} has no module_ yet: call fit first")
        return self._learned.network

    def _goes_on(self) -> bool:
        """Whether `fit` goes on with the network that is there; if not, it is let go."""
        if self.warm_start and hasattr(self, "_learned"):
            return True
        # A fit that fails must not leave the network of other data behind other classes.
        self.__dict__.pop("_learned", None)
        return False

    def _model_name(self) -> ModelName:
        if not isinstance(self.model, str):
            raise OptionError(
                f"model={self.model!r} is no name: an estimator takes a model by its name, such as "
                "'mlp:100'; a torch.nn.Module is trained by rightbatch.fit"
            )
        return ModelName.parse(self.model)

    def _validated(self, X: ArrayLike, *y: ArrayLike, **checks: Any) -> Any:
        """The inputs, and y where given, as scikit-learn checks them; the inputs as float32."""
        # What is too large for float32 is refused by name; NumPy would warn of it before.
        with np.errstate(over="ignore", invalid="ignore"):
            return validate_data(self, X, *y, dtype=np.float32, order="C", **checks)

    def _train(
        self,
        inputs: NDArray[np.float32],
        target: NDArray[Any],
        task: Task,
        *,
        epochs: int,
        goes_on: bool,
    ) -> Self:
        """Train for `epochs` epochs and set what both estimators learn."""
        options = self._options()
        sizes = (inputs.shape[1], *self._model_name().hidden, task.outputs)
        if goes_on:
            learned: Learned = self._learned
            self._refuse_another_network(learned.network, sizes)
        else:
            seed = self._draw_seed()
            network = build_model(
                self.model,
                inputs=sizes[0],
                outputs=sizes[-1],
                activation=options.activation,  # type: ignore[arg-type]  # FitOptions has checked it
                init=options.init,
                seed=seed,
            )
            learned = Learned(network=network, seed=seed)
        data = GivenArrays({"x": inputs, TARGET: target}, name="X", target=TARGET)
        parts = self._parts(data, task, learned.seed, options)
        try:
            self._learned = go_on(learned, parts, task, options, epochs=epochs)
        except NonFiniteLossError as error:
            scaler = "a StandardScaler in front, in a Pipeline"
            if task.classes is None:
                scaler += ", and TransformedTargetRegressor for y"
            raise NonFiniteLossError(
                f"{error}. With scikit-learn, scale by {scaler}", step=error.step, rows=error.rows
            ) from error
        self.loss_curve_ = list(self._learned.losses)
        self.validation_loss_curve_ = list(self._learned.validation_losses) or None
        self.n_iter_ = self._learned.epochs
        return self

    def _parts(self, data: GivenArrays, task: Task, seed: int, options: FitOptions) -> Parts:
        if options.early_stopping is None:
            rows = RowSet.from_range(len(data), 0, len(data))
            return Parts(data=data, train=Part(data=data, rows=rows, name="train"))
        try:
            return split(
                data,
                val=self.validation_fraction,
                stratify=task.classes is not None,
                seed=seed,
            )
        except OptionError as error:
            raise OptionError(
                f"validation_fraction={self.validation_fraction!r} can not be held out for "
                f"early_stopping: {error}"
            ) from error

    def _options(self) -> FitOptions:
        """The parameters as those of `rightbatch.fit`; OptionError where one is not valid."""
        patience: Any = self.early_stopping
        if isinstance(patience, bool | np.bool_):
            patience = _PATIENCE_EPOCHS if patience else None
        if patience is not None and not self.validation_fraction:
            raise OptionError(
                f"early_stopping={self.early_stopping!r} watches the loss of held-out samples, and "
                f"validation_fraction={self.validation_fraction!r} holds out none: give a share "
                "such as 0.1"
            )
        return FitOptions(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            momentum=self.momentum,
            l1=self.l1,
            l2=self.l2,
            activation=self.activation,
            init=self.init,
            shuffle=self.shuffle,
            early_stopping=patience,
            threads=self.threads,
        )

    def _refuse_early_stopping(self) -> None:
        if self._options().early_stopping is not None:
            raise OptionError(
                f"partial_fit makes one pass over what it is given, and "
                f"early_stopping={self.early_stopping!r} needs several: use fit, or "
                "set_params(early_stopping=None)"
            )

    def _refuse_another_network(self, network: DenseNetwork, sizes: tuple[int, ...]) -> None:
        if (network.sizes, network.activation) != (sizes, self.activation):
            there, asked = ("-".join(map(str, each)) for each in (network.sizes, sizes))
            raise OptionError(
                f"training goes on with the network that is there, {there} with "
                f"{network.activation}, and now model={self.model!r} with "
                f"activation={self.activation!r} and these data ask for {asked}: fit anew with "
                "warm_start=False, or leave them as they were"
            )

    def _draw_seed(self) -> int:
        # It also refuses what scikit-learn refuses, such as negative numbers.
        generator = check_random_state(self.random_state)
        if is_integer(self.random_state):
            return whole_number("random_state", self.random_state)
        return int(generator.randint(np.iinfo(np.int32).max))

    def _outputs(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits or values of each row, float64 (N, K).

        In float64 they do not depend on which rows are computed together, beyond about 1e-15.
        """
        check_is_fitted(self, "_learned")
        inputs = self._validated(X, reset=False)
        network = copy.deepcopy(self.module_).double().eval()
        outputs = np.empty((len(inputs), network.sizes[-1]))
        with torch.inference_mode():
            for start in range(0, len(inputs), EVALUATION_BATCH_SIZE):
                rows = slice(start, start + EVALUATION_BATCH_SIZE)
                batch = torch.from_numpy(inputs[rows].astype(np.float64))
                outputs[rows] = network(batch).numpy()
        return outputs

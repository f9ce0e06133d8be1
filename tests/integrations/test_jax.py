"""A plain loop of JAX over `JaxBatches`: the curve of `rb.fit`, its state, and static shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.integrations.jax import JaxBatches
from rightbatch.testing import check_resume

jax = pytest.importorskip(
    "jax", reason="the group `integrations` is not installed", exc_type=ImportError
)
jnp = jax.numpy

# Float32 sums in another order.
TOLERANCE = 1e-5


def loss_of(weights: list[Any], inputs: Any, target: Any, sample_weights: Any) -> Any:
    first, first_bias, second, second_bias = weights
    hidden = jax.nn.relu(inputs @ first.T + first_bias)
    logits = hidden @ second.T + second_bias
    losses = -jax.nn.log_softmax(logits)[jnp.arange(len(target)), target]
    return (losses * sample_weights).sum() / sample_weights.sum()


@jax.jit
def step(state: Any, inputs: Any, target: Any, sample_weights: Any) -> Any:
    weights, velocities = state
    loss, gradients = jax.value_and_grad(loss_of)(weights, inputs, target, sample_weights)
    velocities = [0.9 * v + g for v, g in zip(velocities, gradients, strict=True)]
    return ([w - 0.1 * v for w, v in zip(weights, velocities, strict=True)], velocities), loss


def beginning(course: Any) -> Any:
    weights = [
        jnp.asarray(values.detach().numpy())
        for layer in course.model().layers
        for values in (layer.weight, layer.bias)
    ]
    return weights, [jnp.zeros_like(values) for values in weights]


def padded(course: Any) -> JaxBatches:
    return JaxBatches(course.batches(remainder="pad", with_rows=True))


def trained(state: Any, batches: JaxBatches, steps: int) -> tuple[Any, list[float], list[Any]]:
    losses, rows = [], []
    while len(losses) < steps:
        for inputs, target, numbers, weights in batches:
            assert isinstance(inputs, jax.Array)
            state, loss = step(state, inputs, target, weights)
            losses.append(float(loss))
            rows.append([row for row in numbers.tolist() if row >= 0])
            if len(losses) == steps:
                break
    return state, losses, rows


def test_the_loss_curve_is_that_of_fit_with_one_compiled_step(course) -> None:
    step.clear_cache()
    _, losses, rows = trained(beginning(course), padded(course), course.steps)
    assert rows == course.rows
    assert losses == pytest.approx(course.step_losses, abs=TOLERANCE)
    assert step._cache_size() == 1


def test_a_saved_state_goes_on_with_the_next_batch(course, stop) -> None:
    _, whole, _ = trained(beginning(course), padded(course), course.steps)
    batches = padded(course)
    state, first, _ = trained(beginning(course), batches, stop)
    fresh = padded(course)
    fresh.load_state_dict(batches.state_dict())
    _, second, rows = trained(state, fresh, course.steps - stop)
    assert first + second == whole
    assert rows == course.rows[stop:]


def test_resuming_is_exact_anywhere(course) -> None:
    check_resume(lambda: JaxBatches(course.batches()))


def test_batches_that_are_held_keep_their_values(course) -> None:
    # On the CPU JAX may use NumPy's memory itself, which is used again once nothing refers to it.
    held = list(JaxBatches(course.batches()).epoch(0))
    for found, wanted in zip(held, course.batches().epoch(0), strict=True):
        np.testing.assert_array_equal(np.asarray(found[0]), wanted[0])
        np.testing.assert_array_equal(np.asarray(found[1]), wanted[1])


def test_a_device_is_where_arrays_are(course) -> None:
    device = jax.devices("cpu")[0]
    inputs, _ = next(iter(JaxBatches(course.batches(), device=device)))
    assert inputs.devices() == {device}
    assert len(JaxBatches(course.batches())) == 15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rb.Batches(rb.Ragged.from_list(["a", "b"]), 2), "entries vary in length"),
        (lambda: rb.Batches(np.zeros((2, 2)), 2, output="torch"), "leave output='torch'"),
        (lambda: rb.Batches(np.array([1, 2**40]), 2), "from 1 to 1,099,511,627,776 do not fit"),
        (lambda: [1, 2], "an rb.Batches is wanted, and list"),
    ],
)
def test_what_jax_can_not_hold_is_refused(make, message) -> None:
    with pytest.raises(rb.OptionError, match=message):
        list(JaxBatches(make()))

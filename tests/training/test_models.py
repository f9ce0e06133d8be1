"""The built-in models: names, initialisation, and parameters that stay one flat tensor."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rightbatch.errors import OptionError
from rightbatch.training.models import DenseNetwork, ModelName, build_model, parse_init


def network(name: str = "mlp:5,4", **options: object) -> DenseNetwork:
    return build_model(name, inputs=3, outputs=2, **options)  # type: ignore[arg-type]  # test values


def assert_flat(model: DenseNetwork) -> None:
    """Every parameter and gradient is its own stretch of the flat tensors, weights first."""
    weights = [layer.weight for layer in model._linear]
    biases = [layer.bias for layer in model._linear]
    values = torch.cat([parameter.detach().reshape(-1) for parameter in weights + biases])
    assert torch.equal(values, model.flat)
    assert model.weights_length == sum(weight.numel() for weight in weights)
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.untyped_storage().data_ptr() == model.flat.untyped_storage().data_ptr()
        assert (
            parameter.grad.untyped_storage().data_ptr()
            == model.flat_gradient.untyped_storage().data_ptr()
        )
    model.flat.fill_(0.5)
    model.flat_gradient.fill_(0.25)
    assert all(bool((parameter == 0.5).all()) for parameter in model.parameters())
    assert all(
        bool((parameter.grad == 0.25).all())
        for parameter in model.parameters()
        if parameter.grad is not None
    )


def test_a_new_network_is_flat():
    assert_flat(network())


def test_a_deep_copy_is_flat_and_on_its_own():
    model = network()
    copied = copy.deepcopy(model)
    before = model.flat.clone()
    assert torch.equal(copied.flat, before)
    assert_flat(copied)
    assert torch.equal(model.flat, before)


@pytest.mark.parametrize("convert", [nn.Module.double, nn.Module.half, lambda m: m.to("cpu")])
def test_conversion_keeps_values_and_flatness(convert):
    model = network()
    before = model.flat.clone()
    convert(model)
    assert torch.equal(model.flat.float(), before.to(model.flat.dtype).float())
    assert model.flat.dtype == model._linear[0].weight.dtype
    assert_flat(model)


def test_float64_comes_back_from_float64():
    model = network().double()
    assert model(torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64


def test_a_state_dict_goes_round_and_keeps_flatness():
    model, other = network(seed=1), network(seed=2)
    assert not torch.equal(model.flat, other.flat)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(model.flat, other.flat)
    assert_flat(other)


def test_share_repairs_what_torch_code_of_the_user_took_apart():
    model = network()
    values = model.flat.clone()
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    model.zero_grad(set_to_none=True)
    model.share()
    assert torch.equal(model.flat, values)
    assert_flat(model)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_the_network_computes_what_torch_layers_compute(activation):
    model = network(activation=activation)
    functions = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
    first, second, third = model._linear
    plain = nn.Sequential(
        nn.Flatten(), first, functions[activation](), second, functions[activation](), third
    )
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(inputs), plain(inputs))
    torch.testing.assert_close(model(inputs.reshape(6, 3, 1)), plain(inputs))


def test_names_and_what_they_build():
    assert [layer.out_features for layer in network("mlp:5,4")._linear] == [5, 4, 2]
    for name in ("linear", "softmax", "logistic"):
        assert [layer.out_features for layer in network(name)._linear] == [2]


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("sofmax", "Did you mean 'softmax'"),
        ("mlp", "mlp:100 or mlp:50,50"),
        ("mlp:", "mlp:100 or mlp:50,50"),
        ("mlp:0", "mlp:100 or mlp:50,50"),
        ("mlp:5,x", "mlp:100 or mlp:50,50"),
        ("mlp:-3", "mlp:100 or mlp:50,50"),
        ("softmax:10", "no hidden layers: write 'softmax'"),
        (None, "neither a name such as 'mlp:100' nor a torch.nn.Module"),
    ],
)
def test_a_wrong_name_is_refused(name, telling):
    with pytest.raises(OptionError, match=telling):
        ModelName.parse(name)


@pytest.mark.parametrize("init", ["normal", "normal:0", "normal:-1", "normal:x", "zero", 3, ""])
def test_a_wrong_init_is_refused(init):
    with pytest.raises(OptionError, match=r"Valid are: default, zeros, normal:1"):
        parse_init(init)


@pytest.mark.parametrize("init", ["normal", "normal:", "normal:0", "normal:-1", "normal:x"])
def test_normal_without_a_deviation_is_told_what_it_needs(init):
    with pytest.raises(OptionError, match=r"deviation above 0, such as normal:0\.1") as refusal:
        parse_init(init)
    assert "Did you mean" not in str(refusal.value)


def test_a_misspelt_init_is_told_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'normal'"):
        parse_init("norml:1")


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_normal_is_read_as_its_standard_deviation(std):
    assert parse_init(f"normal:{std!r}") == std


def test_zeros_are_zeros():
    assert not network(init="zeros").flat.any()


def test_normal_draws_have_their_deviation_and_zero_biases():
    model = build_model("softmax", inputs=784, outputs=100, init="normal:0.3")
    (layer,) = model._linear
    assert layer.weight.std().item() == pytest.approx(0.3, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.01)
    assert not layer.bias.any()


@pytest.mark.parametrize(
    ("activation", "bounds"),
    [
        ("relu", [math.sqrt(6 / 200), math.sqrt(6 / 300)]),
        ("tanh", [math.sqrt(6 / 400), math.sqrt(6 / 300)]),
    ],
)
def test_default_weights_are_uniform_within_the_bounds_of_he_and_glorot(activation, bounds):
    model = build_model("mlp:200", inputs=200, outputs=100, activation=activation)
    for layer, bound in zip(model._linear, bounds, strict=True):
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()


def test_weights_follow_the_seed_and_not_torchs_state():
    torch.manual_seed(1)
    first = network(seed=5).flat
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, network(seed=5).flat)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, network(seed=6).flat)

"""bfloat16 and torch.compile: how near they come, what stays as it is, and resuming."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rightbatch as rb
from rightbatch.training.forward import ForwardGradient, gradient_for
from rightbatch.training.losses import find_loss
from rightbatch.training.models import build_model
from rightbatch.training.options import FitOptions
from rightbatch.training.step import AutogradGradient, DenseGradient

PARTS = rb.split(rb.open("digits"), val=0.1, seed=7).transform(rb.scale(1 / 16), rb.flatten())
OPTIONS: dict[str, Any] = {"batch_size": 32, "epochs": 4, "learning_rate": 0.1}
# Of a number near 1, bfloat16 holds 8 bits: 0.4 %. Sums over units even most of that out.
NARROW = 2e-2

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler (g++ or clang++), and there is none here",
)


def test_a_named_model_takes_its_closed_form_in_float32_alone() -> None:
    model = build_model("mlp:5", inputs=4, outputs=3)
    loss = find_loss("cross_entropy")
    assert isinstance(gradient_for(model, loss, FitOptions()), DenseGradient)
    assert isinstance(gradient_for(nn.Linear(4, 3), loss, FitOptions()), AutogradGradient)
    narrow = gradient_for(model, loss, FitOptions(precision="bfloat16"))
    assert isinstance(narrow, ForwardGradient)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["softmax", "mlp:8"]),
    samples=st.integers(2, 40),
    micro=st.integers(1, 40),
    seed=st.integers(0, 50),
)
def test_the_gradient_in_bfloat16_is_that_of_float32_within_its_rounding(
    kind, samples, micro, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 6, generator=generator)
    target = torch.randint(3, (samples,), generator=generator)
    loss = find_loss("cross_entropy")
    gradients = []
    for precision in ("float32", "bfloat16"):
        # Smooth: a ReLU whose sum is near 0 may be open in one precision and shut in the other.
        model = build_model(kind, inputs=6, outputs=3, activation="tanh", seed=seed)
        gradient = ForwardGradient(model, loss, is_compiled=False, precision=precision)
        found = torch.zeros(())
        for start in range(0, samples, micro):
            piece = slice(start, start + micro)
            found += gradient.accumulate(
                inputs[piece], target[piece], total=samples, is_first=start == 0
            )
        assert found.dtype == torch.float32
        values = [value.grad for value in gradient.parameters if value.grad is not None]
        assert all(value.dtype == torch.float32 for value in values)
        gradients.append(torch.cat([found.reshape(1), *[value.flatten() for value in values]]))
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(*gradients, rtol=NARROW, atol=NARROW * scale)


def test_a_run_in_bfloat16_learns_as_one_in_float32(tmp_path) -> None:
    wide = rb.fit("mlp:32", PARTS, **OPTIONS)
    narrow = rb.fit("mlp:32", PARTS, precision="bfloat16", out=tmp_path / "run", **OPTIONS)
    for one, two in zip(narrow.history, wide.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=NARROW)
        assert one["val_loss"] == pytest.approx(two["val_loss"], rel=NARROW)
    assert narrow.step_losses != wide.step_losses
    assert {value.dtype for value in narrow.model.parameters()} == {torch.float32}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"]["precision"] == "bfloat16"
    again = rb.fit(
        "mlp:32", PARTS, precision="bfloat16", out=tmp_path / "run", resume=True,
        **{**OPTIONS, "epochs": 5},
    )  # fmt: skip
    assert again.epochs == 5


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"precision": "float32"}, "precision was 'bfloat16' and is 'float32'"),
        ({"precision": "bfloat16", "compile": True}, "compile was False and is True"),
    ],
)
def test_a_resumed_run_keeps_precision_and_compilation(changed, told, tmp_path) -> None:
    rb.fit("softmax", PARTS, precision="bfloat16", out=tmp_path / "run", **OPTIONS)
    with pytest.raises(rb.ResumeError, match=told):
        rb.fit("softmax", PARTS, out=tmp_path / "run", resume=True, **{**OPTIONS, **changed})


def test_a_run_of_before_there_was_a_choice_goes_on(tmp_path) -> None:
    rb.fit("softmax", PARTS, out=tmp_path / "run", **OPTIONS)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    for name in ("precision", "compile", "capture", "device_memory"):
        del config["options"][name]
    path.write_text(json.dumps(config))
    options = {**OPTIONS, "epochs": 5}
    assert rb.fit("softmax", PARTS, out=tmp_path / "run", resume=True, **options).epochs == 5
    with pytest.raises(rb.ResumeError, match="precision was 'float32' and is 'bfloat16'"):
        rb.fit("softmax", PARTS, out=tmp_path / "run", resume=True, precision="bfloat16", **options)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"precision": "float16"}, r"precision='float16' is not valid.* Valid are: float32, bf"),
        ({"precision": None}, r"precision=None is not valid"),
        ({"compile": "yes"}, r"compile='yes' is not valid"),
        ({"capture": 1}, r"capture=1 is not valid"),
    ],
)
def test_other_values_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(rb.OptionError, match=told):
        rb.fit("softmax", PARTS, **OPTIONS, **wrong)


@needs_a_compiler
@pytest.mark.filterwarnings("default")  # what torch's compiler warns of is its own affair
def test_a_compiled_model_learns_what_it_learns_otherwise(tmp_path, monkeypatch) -> None:
    # Its pool of processes would outlive the test.
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    calls = []

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

        def forward(self, values: Tensor) -> Tensor:
            if not torch.compiler.is_compiling():
                calls.append(len(values))
            return self.layers(values)

    torch.manual_seed(0)
    plain = Network()
    compiled = Network()
    compiled.load_state_dict(plain.state_dict())
    options = {**OPTIONS, "batch_size": 100, "epochs": 2}
    wanted = rb.fit(plain, PARTS, **options)
    calls.clear()
    found = rb.fit(compiled, PARTS, compile=True, out=tmp_path / "run", **options)
    for one, two in zip(found.step_losses, wanted.step_losses, strict=True):
        assert one[1] == pytest.approx(two[1], rel=1e-4)
    assert found.model is compiled
    # A look at its outputs, and validation: a batch an epoch.
    assert len(calls) == 3
    assert list(found.model.state_dict()) == list(plain.state_dict())
    assert rb.evaluate(found, PARTS.val)["accuracy"] > 0.1
    torch._dynamo.reset()


def test_what_measures_and_predicts_says_that_it_is_for_training() -> None:
    for function, options, told in (
        (
            rb.advise,
            {"precision": "bfloat16"},
            "advise takes no precision: it measures steps in fl",
        ),
        (rb.advise, {"compile": True}, "advise takes no compile"),
        (rb.predict, {"precision": "bfloat16"}, "predict takes no precision: predictions are made"),
        (rb.predict, {"compile": True}, "predict takes no compile"),
    ):
        with pytest.raises(rb.OptionError, match=told):
            function("softmax", PARTS, **options)
    with pytest.raises(rb.OptionError, match="precision='bfloat16' and batch_size='auto'"):
        rb.run("digits", precision="bfloat16")

"""A model file that fails: one OptionError that names file, line and the original message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rightbatch.cli.main import run
from rightbatch.errors import OptionError
from rightbatch.model_file import load_model

HEAD = "from torch import nn\n\n"

# The content of the file, the error behind it, the line that is named, words of the message.
FAILURES = {
    "syntax": ("def net(:\n    pass\n", SyntaxError, 1, "cannot be loaded: SyntaxError: "),
    "indentation": ("x = 1\n  y = 2\n", IndentationError, 2, "unexpected indent"),
    "import": (
        "import os\nimport no_such_module_here\n",
        ModuleNotFoundError,
        2,
        "No module named 'no_such_module_here'",
    ),
    "name of an import": ("from os import nothing\n", ImportError, 1, "cannot import name"),
    "any exception": ("x = 1\n\nx / 0\n", ZeroDivisionError, 3, "division by zero"),
    "without a message": ("raise KeyError\n", KeyError, 1, "cannot be loaded: KeyError"),
    "exit": ("import sys\nsys.exit('bye')\n", SystemExit, 2, "SystemExit: bye"),
    "arguments": (
        HEAD + "def net(width, depth=2):\n    return nn.Linear(width, depth)\n",
        TypeError,
        3,
        "net(width, depth=2) is called without arguments: missing a required argument: 'width'",
    ),
    "arguments of a class": (
        HEAD + "class net(nn.Module):\n    def __init__(self, width):\n        pass\n",
        TypeError,
        4,
        "missing a required argument: 'width'",
    ),
    "factory": (
        HEAD + "def net():\n    raise RuntimeError('no such weights')\n",
        RuntimeError,
        4,
        "net() failed at",
    ),
    "factory, deeper": (
        HEAD + "def net():\n    return nn.Linear(-3, 2)\n",
        RuntimeError,
        4,
        "negative dimension",
    ),
    "factory, its own TypeError": (
        HEAD + "def net():\n    return nn.Linear()\n",
        TypeError,
        4,
        "missing 2 required positional arguments",
    ),
}


@pytest.fixture(params=FAILURES.values(), ids=FAILURES.keys())
def failing(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, type, int, str]:
    content, kind, line, telling = request.param
    path = tmp_path / "failing_nets.py"
    path.write_text(content)
    return path, kind, line, telling


def test_the_error_names_file_line_and_the_original_message(failing) -> None:
    path, kind, line, telling = failing
    with pytest.raises(OptionError) as refusal:
        load_model(f"{path}:net", seed=0)
    assert f"{path}, line {line}" in str(refusal.value)
    assert telling in str(refusal.value)
    assert type(refusal.value.__cause__) is kind


def test_the_command_line_exits_2_without_a_traceback(failing, capsys) -> None:
    path, _, line, telling = failing
    capsys.readouterr()
    assert run(["train", "iris", "--model", f"{path}:net"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    # Lines may be wrapped for the terminal.
    message = " ".join(captured.err.split())
    assert telling in message
    assert f"line {line}" in message


def test_an_error_in_an_imported_file_names_both_files(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "helper_of_nets.py").write_text("def broken(:\n")
    (tmp_path / "nets.py").write_text("\nimport helper_of_nets\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match=r"nets\.py, line 2 .*\(helper_of_nets\.py, line 1\)"):
        load_model(f"{tmp_path}/nets.py:net", seed=0)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_bytes(b"x = 1\n\0\xff\n")
    with pytest.raises(OptionError, match=r"nets\.py.* cannot be loaded"):
        load_model(f"{tmp_path}/nets.py:net", seed=0)


def test_a_class_of_torch_that_needs_arguments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("from torch.nn import Linear\n")
    with pytest.raises(OptionError, match=r"Linear\(.* is called without arguments"):
        load_model(f"{tmp_path}/nets.py:Linear", seed=0)


def test_a_failure_leaves_no_module_and_torch_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "half_loaded.py"
    path.write_text("import torch\ntorch.rand(3)\nraise ValueError\n")
    before = torch.random.get_rng_state()
    with pytest.raises(OptionError):
        load_model(f"{path}:net", seed=0)
    assert not any("half_loaded" in name for name in sys.modules)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_running_out_of_memory_is_no_wrong_option(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def net():\n    raise MemoryError\n")
    with pytest.raises(MemoryError):
        load_model(f"{tmp_path}/nets.py:net", seed=0)


def test_a_factory_whose_parameters_have_defaults_is_called(tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text(HEAD + "def net(width=4, *more, **named):\n    return nn.Linear(width, 2)\n")
    model = load_model(f"{path}:net", seed=0)
    assert isinstance(model, nn.Linear)
    assert torch.equal(model.weight, load_model(f"{path}:net", seed=0).weight)

"""`rightbatch fetch`, from the command line to the file, over a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import rightbatch as rb
from rightbatch.cli.main import run
from rightbatch.data.known_sets import KNOWN_SETS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The XDG data folder of the test."""
    monkeypatch.delenv("RIGHTBATCH_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "rightbatch"


@pytest.fixture
def mnist(server, real_data: Path) -> str:
    """The address of a mirror of MNIST."""
    for path in (real_data / "mnist").iterdir():
        server.files[f"/mnist/{path.name}"] = path.read_bytes()
    return f"{server.mirror}mnist"


def test_from_nothing_to_a_trained_model_by_name(mnist, home, capsys, tmp_path):
    assert run(["inspect", "mnist"]) == 3
    assert (
        "Fetch it once, 11.6 MB from the network: rightbatch fetch mnist" in capsys.readouterr().err
    )
    assert run(["fetch", "mnist", "--mirror", mnist]) == 0
    shown = capsys.readouterr()
    assert f"mnist: 70,000 samples in {home / 'mnist'}, 11.6 MB downloaded" in shown.out
    assert f"{mnist}/train-images-idx3-ubyte.gz" in shown.out
    assert "rightbatch inspect mnist, or rb.open('mnist') in Python" in shown.out
    assert "RIGHTBATCH_HOME" not in shown.out
    out = str(tmp_path / "run")
    training = ["train", "mnist", "--batch-size", "500", "--steps", "20", "--lr", "0.1"]
    assert run([*training, "--val", "0.5", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_accuracy"] > 0.5
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["command"]["data"]["data"] == "mnist"
    # A run by name goes on by name, from any folder.
    assert run(["train", "--resume", out, "--steps", "22"]) == 0


def test_a_set_with_missing_values_says_how_to_open_it(server, real_data, capsys):
    server.files["/adult.data"] = (real_data / "adult" / "adult.data").read_bytes() + b"\n"
    assert run(["fetch", "adult", "--mirror", server.mirror]) == 0
    told = "rightbatch inspect adult --missing drop, or rb.open('adult', missing='drop') in Python"
    assert told in capsys.readouterr().out
    assert run(["inspect", "adult", "--missing", "drop"]) == 0
    assert "adult: 30,162 samples, the target is 'income' of 2 classes" in capsys.readouterr().out


def test_json_tells_of_every_file(mnist, home, capsys):
    arguments = ["fetch", "mnist", "--mirror", mnist, "--json", "--quiet"]
    reports = []
    for _ in range(2):
        assert run(arguments) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        reports.append(json.loads(shown.out))
    first, second = reports
    known = KNOWN_SETS["mnist"]
    assert list(first) == [
        "name",
        "folder",
        "samples",
        "bytes",
        "downloaded_bytes",
        "seconds",
        "licence",
        "homepage",
        "files",
    ]
    assert first["folder"] == str(home / "mnist")
    assert (first["downloaded_bytes"], second["downloaded_bytes"]) == (known.download_bytes, 0)
    assert first["files"][1] == {
        "file": "train-labels-idx1-ubyte.gz",
        "bytes": 28_881,
        "sha256": known.downloads[1].sha256,
        "address": f"{mnist}/train-labels-idx1-ubyte.gz",
    }
    assert {file["address"] for file in second["files"]} == {None}


def test_the_list_shows_what_is_here(mnist, home, capsys):
    run(["fetch", "mnist", "--mirror", mnist])
    (home / "cifar-10").mkdir()
    (home / "cifar-10" / "cifar-10-binary.tar.gz.partial").write_bytes(bytes(2_000_000))
    capsys.readouterr()
    assert run(["fetch", "--list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert " yes " in rows["mnist"]
    assert "MIT (Zalando SE)" in rows["fashion-mnist"]
    assert " no " in rows["adult"]
    assert "2.00 MB of it" in rows["cifar-10"]
    assert run(["fetch", "--list", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["folder"] == str(home)
    assert {each["name"]: each["fetched"] for each in report["sets"]} == {
        "mnist": True,
        "fashion-mnist": False,
        "cifar-10": False,
        "adult": False,
    }
    assert report["sets"][2]["partial_bytes"] == 2_000_000


def test_another_folder_says_how_the_name_is_found_there(mnist, tmp_path, capsys):
    folder = tmp_path / "data"
    assert run(["fetch", "mnist", "--folder", str(folder), "--mirror", mnist]) == 0
    assert f"export RIGHTBATCH_HOME={folder}" in capsys.readouterr().out
    assert run(["fetch", "--list", "--folder", str(folder)]) == 0
    assert f"Folder: {folder}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fetch"], 2, "Name the set to fetch: mnist, fashion-mnist, cifar-10, adult"),
        (["fetch", "mnits"], 2, "Did you mean 'mnist'?"),
        (["fetch", "mnist", "--list"], 2, "--list shows all sets, and 'mnist' was given too"),
        (["fetch", "mnist", "--mirror", "mirror"], 2, "mirrors='mirror' is no address"),
        (["fetch", "mnist", "--timeout", "0"], 2, "Invalid value for '--timeout'"),
    ],
)
def test_wrong_usage(arguments, code, message, capsys, home):
    assert run(arguments) == code
    assert message in capsys.readouterr().err
    assert not home.exists()


def test_a_mirror_in_vain_exits_with_1_and_says_what_happened(server, capsys):
    assert run(["fetch", "adult", "--mirror", server.mirror]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"Error: adult.data could not be downloaded: {server.mirror}adult.data" in shown.err
    assert "answers 404" in shown.err


def test_several_mirrors_are_asked_in_turn(mnist, server, capsys):
    mirrors = ["--mirror", f"{server.mirror}nothing", "--mirror", mnist]
    assert run(["fetch", "mnist", *mirrors]) == 0
    assert "nothing/train-images-idx3-ubyte.gz answers 404" in capsys.readouterr().err


def test_ctrl_c_keeps_what_there_is_and_says_how_to_go_on(mnist, server, home, capsys):
    over = threading.Event()

    def half(handler) -> bool:
        content = handler.server.files[handler.path]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:5_000_000])
        over.wait(20)
        return True

    server.faults = [half]
    arguments = ["fetch", "mnist", "--mirror", mnist]
    process = subprocess.Popen(
        # A shell that starts the tests in the background has them ignore the signal.
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from rightbatch.cli.main import main; main()",
            *arguments,
        ],
        env={**os.environ, "PYTHONPATH": str(Path(rb.__file__).parent.parent)},
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = home / "mnist" / "train-images-idx3-ubyte.gz.partial"
    deadline = time.monotonic() + 60
    while not (partial.is_file() and partial.stat().st_size == 5_000_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    over.set()
    assert process.returncode == 130
    assert "Interrupted. What is downloaded is kept; go on with: rightbatch fetch mnist" in err
    assert run(arguments) == 0
    assert server.requests[1][1]["Range"] == "bytes=5000000-"

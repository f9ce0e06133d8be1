"""`fetch`: sets from a real server into a real folder, and what opens by name then."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.known_sets import KNOWN_SETS
from rightbatch.data.opening import find_tables
from rightbatch.errors import DataError, DiskSpaceError, DownloadError, OptionError

MNIST = KNOWN_SETS["mnist"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of fetched sets."""
    monkeypatch.setenv("RIGHTBATCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def serve(server, real_data: Path) -> Callable[..., str]:
    """Serves the real files of a set, and gives the mirror's address."""

    def run(name: str, *, appended: bytes = b"") -> str:
        for path in (real_data / name).iterdir():
            server.files[f"/{path.name}"] = path.read_bytes() + appended
        return str(server.mirror)

    return run


def small_cifar(rows: int = 7) -> tuple[bytes, dict[str, bytes]]:
    """An archive like that of CIFAR-10's binary version, and the files in it."""
    generator = np.random.default_rng(0)
    files = {}
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        records = generator.integers(0, 256, (rows, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(rows) % 10
        files[name] = records.tobytes()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue(), files


@pytest.fixture
def cifar(server, as_known, monkeypatch) -> dict[str, bytes]:
    """A small CIFAR-10 in the place of the large one, and on the server."""
    archive, files = small_cifar()
    known = KNOWN_SETS["cifar-10"]
    small = replace(
        known,
        downloads=(as_known(known.downloads[0].name, archive),),
        members=tuple(replace(each, bytes=len(files[each.name])) for each in known.members),
    )
    monkeypatch.setitem(KNOWN_SETS, "cifar-10", small)
    server.files["/cifar-10-binary.tar.gz"] = archive
    return files


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_sets_open_by_name_as_their_folder_does(serve, home, real_data, name):
    done = rb.fetch(name, mirrors=[serve(name)])
    assert done.folder == home / name
    assert done.downloaded_bytes == KNOWN_SETS[name].download_bytes
    assert str(done).startswith(f"{name}: 70,000 samples in {home / name}, ")
    data, folder = rb.open(name), rb.open(real_data / name)
    assert data.name == name
    assert data.fingerprint == folder.fingerprint
    assert "train-images-idx3-ubyte.gz</td>" in done._repr_html_()
    assert dict(data.own_parts) == dict(folder.own_parts)
    assert data.target == "label"
    assert data.files[0].parent == home / name


def test_adult_opens_by_name_as_a_table_with_names(serve, real_data):
    # What the mirror of the real data lacks: UCI's own file ends with a blank line.
    rb.fetch("adult", mirrors=serve("adult", appended=b"\n"))
    with pytest.raises(DataError, match=r"'workclass' 1,836.*adult\.data, line 15.*--missing drop"):
        rb.open("adult")
    data = rb.open("adult", missing="drop")
    same = rb.open(real_data / "adult", header=False, target=-1, missing="drop")
    assert len(data) == len(same) == 30_162
    assert data.target == "income"
    assert data.column("income").categories == ("<=50K", ">50K")
    names = [column.name for column in data.columns]
    assert names[:5] == ["age", "workclass", "fnlwgt", "education", "education-num"]
    whole, expected = data.span(0, len(data)), same.span(0, len(same))
    for name, other in zip(names, [column.name for column in same.columns], strict=True):
        np.testing.assert_array_equal(whole[name], expected[other])
    assert rb.open("adult", missing="fill", target="sex", columns=["age"]).target == "sex"
    assert len(rb.open("adult", missing="fill")) == 32_561
    with pytest.raises(OptionError, match="header=True has no meaning for adult"):
        rb.open("adult", header=True)


def test_adult_with_a_bad_row_is_quarantined_like_any_table(home):
    row = b"39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, "
    row += b"White, Male, 2174, 0, 40, United-States, <=50K\n"
    content = row * 3 + b"39, State-gov\n"
    content += b" " * (KNOWN_SETS["adult"].kept_bytes - len(content) - 1) + b"\n"
    (home / "adult").mkdir(parents=True)
    (home / "adult" / "adult.data").write_bytes(content)
    with pytest.raises(DataError, match="line 4: 2 fields found, 15 expected"):
        rb.open("adult")
    assert len(rb.open("adult", on_bad_sample="quarantine", max_bad=2)) == 3


def test_cifar_is_taken_out_of_its_archive_and_opens_by_name(server, cifar, home):
    done = rb.fetch("cifar-10", mirrors=[server.mirror])
    assert [file.address for file in done.files] == [f"{server.mirror}cifar-10-binary.tar.gz"]
    names = {path.name for path in (home / "cifar-10").iterdir()}
    assert names == {*cifar, "SHA256SUMS"}
    data = rb.open("cifar-10")
    assert data.column("image").shape == (3, 32, 32)
    assert data.column("label").categories[3] == "cat"
    assert dict(data.own_parts) == {"train": range(35), "test": range(35, 42)}
    assert data.span(0, 42)["label"].tolist() == list(range(7)) * 6
    last = np.frombuffer(cifar["test_batch.bin"], np.uint8).reshape(7, 3073)[:, 1:]
    np.testing.assert_array_equal(data.rows([41])["image"].ravel(), last[6])


def test_a_set_that_is_whole_is_not_asked_for_again(server, cifar, serve):
    serve("mnist")
    for name in ("mnist", "cifar-10"):
        rb.fetch(name, mirrors=[server.mirror])
        server.requests.clear()
        again = rb.fetch(name, mirrors=[server.mirror])
        assert server.requests == []
        assert again.downloaded_bytes == 0
        assert all(file.address is None for file in again.files)
        assert "there already, and whole" in str(again)


def test_a_damaged_file_alone_is_fetched_anew(serve, server, home, caplog):
    mirror = serve("mnist")
    rb.fetch("mnist", mirrors=[mirror])
    path = home / "mnist" / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    server.requests.clear()
    again = rb.fetch("mnist", mirrors=[mirror])
    assert [asked for asked, _ in server.requests] == [f"/{path.name}"]
    assert again.downloaded_bytes == len(content)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == MNIST.downloads[2].sha256
    assert f"{path} is damaged, or another file; it is fetched anew" in caplog.text


@pytest.mark.parametrize("damage", [b"x", None])
def test_a_damaged_member_fetches_the_archive_anew(server, cifar, home, damage):
    rb.fetch("cifar-10", mirrors=[server.mirror])
    path = home / "cifar-10" / "test_batch.bin"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage + cifar[path.name][1:])
    assert rb.fetch("cifar-10", mirrors=[server.mirror]).downloaded_bytes > 0
    assert path.read_bytes() == cifar[path.name]


def test_an_archive_that_is_not_taken_out_yet_needs_no_download(server, cifar, home):
    folder = home / "cifar-10"
    folder.mkdir(parents=True)
    (folder / "cifar-10-binary.tar.gz").write_bytes(server.files["/cifar-10-binary.tar.gz"])
    rb.fetch("cifar-10", mirrors=[server.mirror])
    assert server.requests == []
    assert len(rb.open("cifar-10")) == 42


def test_progress_tells_of_bytes_up_to_all_of_them(server, cifar, faults):
    archive = server.files["/cifar-10-binary.tar.gz"]
    server.faults = [faults.cut(50_000)]
    told = []
    rb.fetch("cifar-10", mirrors=[server.mirror], progress=told.append)
    stages = {
        stage: [p for p in told if p.stage == stage] for stage in ("downloading", "extracting")
    }
    for stage, total in (("downloading", len(archive)), ("extracting", 42 * 3073)):
        done = [progress.done_bytes for progress in stages[stage]]
        assert done == sorted(done)
        assert done[-1] == total
        assert {progress.total_bytes for progress in stages[stage]} == {total}


def test_the_bytes_downloaded_are_those_of_this_call(server, cifar, faults):
    archive = server.files["/cifar-10-binary.tar.gz"]
    server.faults = [faults.cut(50_000), *[faults.status(404)] * 2]
    with pytest.raises(DownloadError):
        rb.fetch("cifar-10", mirrors=[server.mirror])
    server.faults.clear()
    done = rb.fetch("cifar-10", mirrors=[server.mirror])
    assert done.downloaded_bytes == len(archive) - 50_000


def test_another_folder_is_found_once_the_environment_names_it(
    server, cifar, tmp_path, monkeypatch
):
    rb.fetch("cifar-10", folder=tmp_path / "elsewhere", mirrors=[server.mirror])
    with pytest.raises(DataError, match="not on this machine yet"):
        rb.open("cifar-10")
    assert len(rb.open(tmp_path / "elsewhere" / "cifar-10")) == 42
    monkeypatch.setenv("RIGHTBATCH_HOME", str(tmp_path / "elsewhere"))
    assert len(rb.open("cifar-10")) == 42


def test_a_disk_that_is_too_small_is_told_before_anything_is_asked(server, cifar, monkeypatch):
    size = sum(len(content) for content in cifar.values())
    free = shutil.disk_usage(Path.cwd()).free
    known = KNOWN_SETS["cifar-10"]
    large = replace(known.downloads[0], bytes=free + size)
    monkeypatch.setitem(KNOWN_SETS, "cifar-10", replace(known, downloads=(large,)))
    with pytest.raises(DiskSpaceError, match=r"cifar-10 needs .* more in .*, and .* is free there"):
        rb.fetch("cifar-10", mirrors=[server.mirror])
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fashion_mnist"}, r"'fashion_mnist'\. Did you mean 'fashion-mnist'\?"),
        ({"name": "../mnist"}, "no set can be fetched by the name"),
        ({"name": None}, "by the name None. Valid are mnist, fashion-mnist, cifar-10, adult"),
        ({"mirrors": []}, "mirrors is empty"),
        ({"mirrors": ["mnist.org/"]}, "mirrors='mnist.org/' is no address"),
        ({"mirrors": "file:///etc/"}, "mirrors='file:///etc/' is no address"),
        ({"mirrors": [3]}, "mirrors=3 is no address"),
        ({"mirrors": ["https://ada:secret@example.org"]}, "is no address"),
        ({"mirrors": ["https://example.org/?a=b"]}, "is no address"),
        ({"mirrors": ["https://example.org:port/"]}, "is no address"),
        ({"mirrors": ["https://example.org/a b"]}, "is no address"),
        ({"name": []}, r"by the name \[\]"),
        ({"mirrors": ["https://"]}, "mirrors='https://' is no address"),
        ({"timeout_seconds": -1}, "timeout_seconds=-1 is not valid"),
    ],
)
def test_bad_arguments(arguments, message, home):
    with pytest.raises(OptionError, match=message):
        rb.fetch(**{"name": "mnist", **arguments})
    assert not home.exists()


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"file/mnist can not be made: Not a directory"):
        rb.fetch("mnist", folder=tmp_path / "file")


def start(script: str, *arguments: object, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={
            **os.environ,
            "RIGHTBATCH_HOME": str(home),
            "PYTHONPATH": str(Path(rb.__file__).parent.parent),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FETCH = """
    import sys
    import rightbatch as rb
    done = rb.fetch("mnist", mirrors=[sys.argv[1]], timeout_seconds=100)
    print(done.downloaded_bytes)
"""


def half_then(wait: threading.Event) -> Callable[[object], bool]:
    """A server that sends a good half of the file, and the rest once it is told to."""

    def fault(handler) -> bool:
        content = handler.server.files[handler.path]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')  # noqa: S324
        handler.end_headers()
        handler.wfile.write(content[:6_000_000])
        wait.wait(90)
        handler.wfile.write(content[6_000_000:])
        return True

    return fault


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_download_goes_on_where_it_was(serve, server, home):
    mirror, wait = serve("mnist"), threading.Event()
    server.faults = [half_then(wait)]
    partial = home / "mnist" / "train-images-idx3-ubyte.gz.partial"
    process = start(FETCH, mirror, home=home)
    until(lambda: partial.is_file() and partial.stat().st_size == 6_000_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait.set()
    with pytest.raises(DataError, match="mnist is not on this machine yet"):
        rb.open("mnist")
    server.requests.clear()
    done = rb.fetch("mnist", mirrors=[mirror])
    assert server.requests[0][1]["Range"] == "bytes=6000000-"
    assert "If-Range" in server.requests[0][1]
    assert done.downloaded_bytes == MNIST.download_bytes - 6_000_000
    assert len(rb.open("mnist")) == 70_000


def test_two_processes_fetch_one_after_the_other(serve, server, home):
    mirror, wait = serve("mnist"), threading.Event()
    server.faults = [half_then(wait)]
    first = start(FETCH, mirror, home=home)
    until(lambda: len(server.requests) == 1)
    second = start(FETCH, mirror, home=home)
    assert second.stderr is not None
    # It waits, and says so: only then does the first one get the rest.
    assert "Another process fetches into" in second.stderr.readline()
    wait.set()
    told = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert told == [f"{MNIST.download_bytes}\n", "0\n"]
    assert len(server.requests) == 4
    assert len(list((home / "mnist").iterdir())) == 4


OPENING = """
    import sys

    def refuse(event, arguments):
        if event.startswith(("socket.", "urllib.", "http.", "ftplib.")):
            sys.stderr.write(f"{event}\\n")

    sys.addaudithook(refuse)
    import rightbatch as rb
    import torch  # what it does by itself when it is imported is not ours
    sys.stderr.write("begin\\n")
    for name in ("mnist", "adult", "cifar-10", "minst"):
        try:
            print(len(rb.open(name)))
        except rb.DataError as error:
            print(error)
    parts = rb.split(rb.open("mnist"), val=100)
    for images, labels in rb.Batches(parts.val, 50):
        print(images.shape)
    sys.stderr.write("end\\n")
    try:
        rb.fetch("adult", mirrors=[sys.argv[1]])
    except rb.DownloadError as error:
        print(error)
"""


def test_opening_never_touches_the_network(serve, server, home):
    mirror = serve("mnist")
    rb.fetch("mnist", mirrors=[mirror])
    process = start(OPENING, mirror, home=home)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    events = err.splitlines()
    begin, end = events.index("begin"), events.index("end")
    assert events[begin + 1 : end] == []
    # The same hook hears of a fetch.
    assert "socket.connect" in events[end:]
    assert out.startswith("70000\nadult is not on this machine yet. Fetch it once, 3.97 MB from")
    assert out.count("(50, 28, 28)") == 2
    assert "answers 404" in out


def test_a_name_is_the_fetched_set_and_a_path_the_path(
    serve, home, tmp_path, monkeypatch, real_data
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "a.csv").write_text("x\n1\n")
    # As long as the set is not here, the folder is what the name can mean.
    assert len(rb.open("mnist")) == 1
    assert find_tables("mnist") is not None
    rb.fetch("mnist", mirrors=[serve("mnist")])
    data = rb.open("mnist")
    assert len(data) == 70_000
    assert data.notes == (
        f"mnist is the fetched set in {home / 'mnist'}; {tmp_path / 'mnist'} is opened as ./mnist.",
    )
    assert find_tables("mnist") is None
    assert len(rb.open("./mnist")) == len(rb.open(Path("mnist"))) == 1
    monkeypatch.chdir(home)
    assert rb.open("mnist").notes == ()


def test_a_set_that_is_not_whole_says_what_it_lacks(serve, home):
    rb.fetch("mnist", mirrors=[serve("mnist")])
    (home / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=re.escape("lacks t10k-labels-idx1-ubyte.gz. Fetch it")):
        rb.open("mnist")
    with pytest.raises(DataError, match=r"Did you mean 'cifar-10'\?.*brings mnist, fashion-mnist"):
        rb.open("cifar10")

"""The catalogue of known sets, and where they are looked for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import rightbatch as rb
from rightbatch.cli.fetch import DEFAULT_TIMEOUT_SECONDS, NAMES
from rightbatch.data.builtin import BUILTIN_NAMES
from rightbatch.data.fetched_sets import data_home, is_fetched, lacking_files
from rightbatch.data.known_sets import KNOWN_SETS
from rightbatch.errors import DataError
from rightbatch.fetching.download import DownloadOptions


@pytest.mark.parametrize("known", KNOWN_SETS.values(), ids=lambda known: known.name)
def test_every_entry_can_be_fetched(known):
    assert KNOWN_SETS[known.name] is known
    assert re.fullmatch(r"[a-z0-9-]+", known.name)
    assert len(known.mirrors) >= 2
    assert len(set(known.mirrors)) == len(known.mirrors)
    for mirror in known.mirrors:
        assert mirror.startswith("https://")
        assert mirror.endswith("/")
    for file in known.downloads:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.bytes > 0
        assert Path(file.name).name == file.name
    if known.members:
        assert len(known.downloads) == 1
    assert len({file.name for file in known.kept}) == len(known.kept)
    assert known.samples > 0
    assert known.licence
    assert known.homepage.startswith("https://")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_what_is_pinned_is_what_the_real_files_are(real_data, name):
    for file in KNOWN_SETS[name].downloads:
        content = (real_data / name / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)


def test_the_adult_that_is_pinned_is_the_real_file_and_a_blank_line(real_data):
    (file,) = KNOWN_SETS["adult"].downloads
    content = (real_data / "adult" / file.name).read_bytes() + b"\n"
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)


def test_cifar_is_the_sum_of_its_files():
    known = KNOWN_SETS["cifar-10"]
    assert known.kept_bytes == known.samples * 3073
    assert [member.name for member in known.members][-2:] == ["data_batch_5.bin", "test_batch.bin"]


def test_no_name_is_taken_twice():
    assert not set(KNOWN_SETS) & set(BUILTIN_NAMES)


def test_the_command_line_repeats_what_the_library_knows():
    assert tuple(KNOWN_SETS) == NAMES
    assert DownloadOptions().timeout_seconds == DEFAULT_TIMEOUT_SECONDS


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RIGHTBATCH_HOME": "/a", "XDG_DATA_HOME": "/b"}, "/a"),
        ({"RIGHTBATCH_HOME": "~/a"}, "/home/ada/a"),
        ({"RIGHTBATCH_HOME": "", "XDG_DATA_HOME": "/b"}, "/b/rightbatch"),
        ({"XDG_DATA_HOME": "not/absolute"}, "/home/ada/.local/share/rightbatch"),
        ({"XDG_DATA_HOME": ""}, "/home/ada/.local/share/rightbatch"),
        ({}, "/home/ada/.local/share/rightbatch"),
    ],
)
def test_the_folder_is_that_of_the_environment(monkeypatch, environment, expected):
    monkeypatch.setenv("HOME", "/home/ada")
    for name in ("RIGHTBATCH_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert data_home() == Path(expected)


def test_a_file_of_another_size_is_lacking(tmp_path, monkeypatch):
    monkeypatch.setenv("RIGHTBATCH_HOME", str(tmp_path))
    known = KNOWN_SETS["mnist"]
    (tmp_path / "mnist").mkdir()
    for file in known.downloads:
        with (tmp_path / "mnist" / file.name).open("wb") as made:
            made.truncate(file.bytes)
    assert is_fetched("mnist")
    assert not any(map(is_fetched, ["adult", "digits", "./mnist", Path("mnist"), 3]))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    assert lacking_files(known, tmp_path / "mnist") == ["t10k-labels-idx1-ubyte.gz"]
    assert not is_fetched("mnist")


def test_a_file_that_was_cut_off_is_told_from_one_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("RIGHTBATCH_HOME", str(tmp_path))
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "adult.data").write_bytes(b"39, State-gov")
    with pytest.raises(DataError, match=r"adult is not whole: .*adult\.data has another size"):
        rb.open("adult")


def test_a_name_in_capital_letters_is_answered_by_its_own():
    with pytest.raises(DataError, match="Did you mean 'mnist'"):
        rb.open("MNIST")

"""Archives as published, and as somebody hostile would make them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from rightbatch.data.known_sets import KnownMember, KnownSet
from rightbatch.errors import DataError
from rightbatch.fetching.archive import CHECKSUMS_FILE, extract, read_checksums

ONE, TWO = b"one" * 1000, b"two" * 500
KNOWN = KnownSet(
    name="small",
    samples=2,
    licence="none",
    homepage="https://example.org",
    downloads=(),
    mirrors=(),
    members=(
        KnownMember(path="inner/one.bin", bytes=len(ONE)),
        KnownMember(path="inner/two.bin", bytes=len(TWO)),
    ),
)


def member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


GOOD = [member("inner/one.bin", ONE), member("inner/two.bin", TWO)]


def archive(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "small.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def test_the_known_members_alone_are_taken_out_with_their_sha256(tmp_path):
    folder = member("inner", type=tarfile.DIRTYPE)
    path = archive(tmp_path, folder, *GOOD, member("inner/readme.html", b"<html>"))
    told = []
    extract(path, KNOWN, told=told.append)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [CHECKSUMS_FILE, "one.bin", "small.tar.gz", "two.bin"]
    assert (tmp_path / "one.bin").read_bytes() == ONE
    assert read_checksums(tmp_path) == {
        "one.bin": hashlib.sha256(ONE).hexdigest(),
        "two.bin": hashlib.sha256(TWO).hexdigest(),
    }
    assert told == [len(ONE), len(ONE) + len(TWO)]


def test_sha256sum_reads_the_checksums(tmp_path):
    extract(archive(tmp_path, *GOOD), KNOWN)
    command = ["sha256sum", "--check", CHECKSUMS_FILE]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("there is no program sha256sum here")
    assert done.stdout == "one.bin: OK\ntwo.bin: OK\n"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("../evil", b"x"), r"'../evil' leads out of the folder"),
        (member("inner/../../evil", b"x"), "leads out of the folder"),
        (member("/tmp/evil", b"x"), "leads out of the folder"),  # noqa: S108  # never written
        (member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link or a device"),
        (member("a", type=tarfile.LNKTYPE, linkname="inner/one.bin"), "is a link or a device"),
        (member("a", type=tarfile.CHRTYPE), "is a link or a device"),
        (member("inner/one.bin", ONE), "holds 'inner/one.bin' twice"),
    ],
)
def test_a_hostile_member_is_refused_before_anything_is_written(tmp_path, bad, message):
    path = archive(tmp_path, *GOOD, bad)
    with pytest.raises(DataError, match=message):
        extract(path, KNOWN)
    assert [each.name for each in tmp_path.iterdir()] == ["small.tar.gz"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (GOOD[:1], r"lacks inner/two\.bin"),
        ([GOOD[0], member("inner/two.bin", TWO + b"x")], "has 1,501 bytes, and a file of 1,500"),
        ([GOOD[0], member("inner/two.bin", type=tarfile.DIRTYPE)], "a file of 1,500"),
    ],
)
def test_a_known_member_that_is_not_as_it_should_be_is_named(tmp_path, members, message):
    path = archive(tmp_path, *members)
    with pytest.raises(DataError, match=message):
        extract(path, KNOWN)
    assert [each.name for each in tmp_path.iterdir()] == ["small.tar.gz"]


@pytest.mark.parametrize("content", [b"", b"no archive at all", None])
def test_what_is_no_archive_is_told(tmp_path, content):
    path = archive(tmp_path, *GOOD)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(DataError, match=r"small\.tar\.gz (is damaged|lacks)"):
        extract(path, KNOWN)


def test_checksums_that_are_not_there_are_none(tmp_path):
    assert read_checksums(tmp_path) == {}
    (tmp_path / CHECKSUMS_FILE).write_text("nonsense\n")
    assert read_checksums(tmp_path) == {}

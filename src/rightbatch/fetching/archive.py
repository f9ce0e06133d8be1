"""The known members of a `.tar.gz`: nothing else is taken out, and nothing leaves the folder."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from rightbatch.data.known_sets import KnownMember, KnownSet
from rightbatch.durable_files import sync_folder, write_atomically
from rightbatch.errors import DataError

# In the form of the program sha256sum, which reads it: sha256sum -c SHA256SUMS
CHECKSUMS_FILE = "SHA256SUMS"
_READ_BYTES = 1 << 20
_ARCHIVE_ERRORS = (tarfile.TarError, EOFError, zlib.error)


def extract(
    archive: Path, known: KnownSet, *, told: Callable[[int], None] = lambda _: None
) -> None:
    """Put the members of `known` beside `archive`, each whole or not at all, and their sha256.

    `told` hears of the bytes that are out.

    Raises DataError where a path leads out of the folder, a member is a link or a device, or one
    is lacking or not of its size; nothing of the kind is written.
    """
    folder = archive.parent
    members = {member.path: member for member in known.members}
    sums: dict[str, str] = {}
    done = 0
    try:
        # All of them are looked at before the first is written.
        _check_members(archive, members)
        with tarfile.open(archive, "r|gz") as tar:
            for found in tar:
                member = members.get(_path(found))
                content = None if member is None else tar.extractfile(found)
                if member is None or content is None:
                    continue
                sums[member.name] = _write(content, folder, member)
                done += member.bytes
                told(done)
    except _ARCHIVE_ERRORS as error:
        raise DataError(f"{archive} is damaged ({error}). Fetch it anew.") from error
    lines = "".join(f"{sums[member.name]}  {member.name}\n" for member in known.members)
    write_atomically(folder / CHECKSUMS_FILE, lines.encode())


def read_checksums(folder: Path) -> dict[str, str]:
    """The sha256 of each file that was taken out, by name; empty where that is not known."""
    path = folder / CHECKSUMS_FILE
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def _check_members(archive: Path, members: Mapping[str, KnownMember]) -> None:
    """Raise DataError where a member is not safe, or a known one is not there as it should be."""
    lacking = dict(members)
    with tarfile.open(archive, "r|gz") as tar:
        for found in tar:
            _refuse_unsafe(archive, found)
            path = _path(found)
            if path not in members:
                continue
            if path not in lacking:
                raise DataError(f"{archive} holds {found.name!r} twice. Fetch it anew.")
            size = lacking.pop(path).bytes
            if not found.isfile() or found.size != size:
                raise DataError(
                    f"{archive}: the member {found.name!r} has {found.size:,} bytes, and a file of "
                    f"{size:,} is expected. Fetch it anew."
                )
    if lacking:
        raise DataError(f"{archive} lacks {', '.join(lacking)}. Fetch it anew.")


def _path(found: tarfile.TarInfo) -> str:
    return str(PurePosixPath(found.name))


def _refuse_unsafe(archive: Path, found: tarfile.TarInfo) -> None:
    path = PurePosixPath(found.name)
    if path.is_absolute() or ".." in path.parts:
        reason = "leads out of the folder"
    elif not (found.isfile() or found.isdir()):
        reason = "is a link or a device"
    else:
        return
    raise DataError(
        f"{archive}: the member {found.name!r} {reason}; nothing of this archive is used. It is "
        "not the published one: delete it and fetch from another mirror."
    )


def _write(content: IO[bytes], folder: Path, member: KnownMember) -> str:
    """Write a member and return its sha256."""
    path = folder / member.name
    partial = path.with_name(path.name + ".partial")
    digest = hashlib.sha256()
    with partial.open("wb") as out:
        while piece := content.read(_READ_BYTES):
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
    sync_folder(folder)
    return digest.hexdigest()

"""`fetch`: a known public data set, downloaded once and checked, so that its name opens it."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rightbatch.byte_sizes import bytes_text
from rightbatch.data.fetched_sets import data_home, lacking_files
from rightbatch.data.known_sets import KNOWN_SETS, KnownFile, KnownSet
from rightbatch.errors import DiskSpaceError, OptionError, did_you_mean
from rightbatch.fetching.archive import extract, read_checksums
from rightbatch.fetching.download import DownloadOptions, download
from rightbatch.fetching.partial_file import PartialFile
from rightbatch.fetching.responses import check_address
from rightbatch.notebook import html_table

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FetchProgress:
    """How far a fetch is: `stage` is "downloading" or "extracting", `file` what it is about.

    `done_bytes` of `total_bytes` count all files of the stage, and what was there already.
    """

    stage: str
    file: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class FetchedFile:
    """A file as published, and the address it came from: None where it was there already.

    Of a published archive that was fetched earlier, the files that were taken out of it.
    """

    file: str
    bytes: int
    sha256: str
    address: str | None

    @property
    def origin(self) -> str:
        """Where the file came from, in words."""
        return self.address or "there already"


@dataclass(frozen=True, kw_only=True)
class FetchedSet:
    """A data set that is whole on this machine; `files` are those that were downloaded or checked.

    `downloaded_bytes` went over the network in this call, without what an earlier one had left.
    """

    name: str
    folder: Path
    samples: int
    downloaded_bytes: int
    files: tuple[FetchedFile, ...]

    def __str__(self) -> str:
        came = (
            f"{bytes_text(self.downloaded_bytes)} downloaded"
            if self.downloaded_bytes
            else "there already, and whole"
        )
        return f"{self.name}: {self.samples:,} samples in {self.folder}, {came}"

    def _repr_html_(self) -> str:
        return html_table(
            ["file", "size", "from"],
            [(file.file, bytes_text(file.bytes), file.origin) for file in self.files],
            caption=str(self),
        )


def fetch(
    name: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    mirrors: Sequence[str] | None = None,
    allow_http: bool = False,
    timeout_seconds: float = 30.0,
    progress: Callable[[FetchProgress], None] | None = None,
) -> FetchedSet:
    """Download the public data set called `name`; `open(name)` opens it from then on.

    Every file is checked against the sha256 that is pinned in the code. A download that was
    interrupted goes on where it ended, a set that is whole is left as it is, and a damaged file is
    downloaded anew. Nothing else in this library downloads one of these sets.

    Args:
        name: "mnist", "fashion-mnist", "cifar-10" or "adult".
        folder: What holds a folder for each set; by default `$RIGHTBATCH_HOME`, or else
            `$XDG_DATA_HOME/rightbatch`, or else `~/.local/share/rightbatch`. Where it is another
            one, `RIGHTBATCH_HOME` must name it for `open(name)` to look there.
        mirrors: Addresses of your own, instead of the public ones, to which the names of the files
            are appended: such as "https://example.org/mnist/".
        allow_http: Follow redirects from https to plain http.
        timeout_seconds: How long a server may take to answer, and to send each next piece.
        progress: Called with a `FetchProgress` now and then.

    Raises:
        OptionError: No set has that name, or another argument is not valid.
        DownloadError: No mirror gave a file; the message names what each one did.
        DiskSpaceError: The disk has no room, before or while downloading.
        DataError: The published archive does not hold what it should.

    >>> fetch("minst")
    Traceback (most recent call last):
    ...
    rightbatch.errors.OptionError: no set can be fetched by the name 'minst'. Did you mean
    'mnist'? Valid are mnist, fashion-mnist, cifar-10, adult
    """
    known = KNOWN_SETS.get(str(name))
    if known is None:
        raise OptionError(
            f"no set can be fetched by the name {name!r}.{did_you_mean(str(name), KNOWN_SETS)} "
            f"Valid are {', '.join(KNOWN_SETS)}"
        )
    if isinstance(mirrors, str):
        mirrors = [mirrors]
    if mirrors is not None and not mirrors:
        raise OptionError("mirrors is empty; name one at least, or leave the option out")
    for address in mirrors or ():
        check_address(address, option="mirrors")
    options = DownloadOptions(timeout_seconds=timeout_seconds, allow_http=allow_http)
    base = data_home() if folder is None else Path(folder).expanduser().absolute()
    return fetch_known(known, base / known.name, mirrors or known.mirrors, options, progress)


def fetch_known(
    known: KnownSet,
    folder: Path,
    mirrors: Sequence[str],
    options: DownloadOptions,
    progress: Callable[[FetchProgress], None] | None = None,
) -> FetchedSet:
    """Bring the files of `known` into `folder`, as `fetch` does.

    Two processes that fetch the same set do so one after the other.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"{folder} can not be made: {error.strerror}. Name another folder: RIGHTBATCH_HOME, "
            "or --folder"
        ) from error
    with _alone(folder):
        return _Fetch(known, folder, mirrors, options, progress).run()


class _Fetch:
    def __init__(
        self,
        known: KnownSet,
        folder: Path,
        mirrors: Sequence[str],
        options: DownloadOptions,
        progress: Callable[[FetchProgress], None] | None,
    ) -> None:
        self._known = known
        self._folder = folder
        self._mirrors = mirrors
        self._options = options
        self._progress = progress
        self._done_bytes = self._downloaded_bytes = 0

    def run(self) -> FetchedSet:
        known = self._known
        files = self._whole_members() if known.members else []
        if not files:
            whole = [file for file in known.downloads if self._is_whole(file)]
            self._refuse_small_disk([file for file in known.downloads if file not in whole])
            files = [self._bring(file, is_there=file in whole) for file in known.downloads]
            if known.members:
                self._extract()
        return FetchedSet(
            name=known.name,
            folder=self._folder,
            samples=known.samples,
            downloaded_bytes=self._downloaded_bytes,
            files=tuple(files),
        )

    def _whole_members(self) -> list[FetchedFile]:
        """What was taken out of the archive, where all of it is as it was then."""
        if lacking_files(self._known, self._folder):
            return []
        sums = read_checksums(self._folder)
        files = []
        for member in self._known.members:
            path = self._folder / member.name
            found = sha256_of(path)
            if sums.get(member.name) != found:
                _logger.warning(
                    "%s is not as it was taken out of the archive; it is fetched anew", path
                )
                return []
            files.append(
                FetchedFile(file=member.name, bytes=member.bytes, sha256=found, address=None)
            )
        return files

    def _is_whole(self, file: KnownFile) -> bool:
        path = self._folder / file.name
        if not path.is_file():
            return False
        if path.stat().st_size == file.bytes and sha256_of(path) == file.sha256:
            return True
        _logger.warning("%s is damaged, or another file; it is fetched anew", path)
        return False

    def _refuse_small_disk(self, lacking: Sequence[KnownFile]) -> None:
        needed = sum(file.bytes - self._partial_bytes(file) for file in lacking)
        needed += sum(member.bytes for member in self._known.members)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DiskSpaceError(
                f"{self._known.name} needs {bytes_text(needed)} more in {self._folder}, and "
                f"{bytes_text(free)} is free there. Make room, or name another folder: "
                "RIGHTBATCH_HOME, or --folder"
            )

    def _partial_bytes(self, file: KnownFile) -> int:
        return min(file.bytes, PartialFile(self._folder / file.name).size)

    def _bring(self, file: KnownFile, *, is_there: bool) -> FetchedFile:
        address = None
        if not is_there:
            before = last = self._partial_bytes(file)

            def told(done: int) -> None:
                nonlocal last
                # Less than before: a mirror began anew.
                self._downloaded_bytes += done - last if done >= last else done
                last = done
                self._tell("downloading", file.name, self._done_bytes + done)

            self._tell("downloading", file.name, self._done_bytes + before)
            addresses = [_join(mirror, file.name) for mirror in self._mirrors]
            address = download(file, self._folder, addresses, self._options, told=told)
        self._done_bytes += file.bytes
        self._tell("downloading", file.name, self._done_bytes)
        return FetchedFile(file=file.name, bytes=file.bytes, sha256=file.sha256, address=address)

    def _extract(self) -> None:
        archive = self._folder / self._known.downloads[0].name

        def told(done: int) -> None:
            self._tell("extracting", archive.name, done, total=self._known.kept_bytes)

        extract(archive, self._known, told=told)
        # What it held is whole, checked, and known by its sha256.
        archive.unlink()

    def _tell(self, stage: str, file: str, done: int, *, total: int | None = None) -> None:
        if self._progress is not None:
            self._progress(
                FetchProgress(
                    stage=stage,
                    file=file,
                    done_bytes=done,
                    total_bytes=self._known.download_bytes if total is None else total,
                )
            )


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _join(mirror: str, name: str) -> str:
    return f"{mirror.rstrip('/')}/{name}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches into `folder`, and keep others out meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.warning("Another process fetches into %s; waiting until it is done", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks. The worst that two can do there is to spoil a partial
            # file, which its sha256 tells.
            _logger.debug("%s can not be locked", folder, exc_info=True)
        yield
    finally:
        os.close(descriptor)

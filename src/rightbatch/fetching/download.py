"""One published file, from whichever mirror gives it: resumed, and checked by its sha256."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rightbatch.data.known_sets import KnownFile
from rightbatch.durable_files import FULL_DISK
from rightbatch.errors import DiskSpaceError, DownloadError, OptionError
from rightbatch.fetching.attempts import AttemptError, MirrorError, RestartError
from rightbatch.fetching.partial_file import Origin, PartialFile
from rightbatch.fetching.responses import Response, request_rest

_logger = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
# An attempt that brought so much was worth it: the same mirror is asked for the rest at once.
_WORTH_BYTES = 1 << 20
_SLOWEST_BYTES_PER_SECOND = 1024
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """How patient a download is.

    A server has `timeout_seconds` to answer, and to send each next piece. All mirrors are asked up
    to `rounds` times in turn; after a round in vain there is a pause of `first_wait_seconds`, then
    of twice that, and so on. `allow_http` follows redirects to plain http.

    Raises OptionError for a value that is not valid.
    """

    timeout_seconds: float = 30.0
    rounds: int = 4
    first_wait_seconds: float = 1.0
    allow_http: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timeout_seconds) and self.timeout_seconds > 0):
            raise OptionError(
                f"timeout_seconds={self.timeout_seconds!r} is not valid; give a number above 0"
            )
        if self.rounds < 1:
            raise OptionError(f"rounds={self.rounds!r} is not valid; give a whole number from 1 on")


def download(
    file: KnownFile,
    folder: Path,
    addresses: Sequence[str],
    options: DownloadOptions,
    *,
    told: Callable[[int], None] = lambda _: None,
) -> str:
    """Bring `file` into `folder` from one of the full `addresses`, and return which one it was.

    `told` hears of the bytes that there are. What an interrupt leaves is gone on with next time.

    Raises DownloadError, naming what each address did, where none gives the file;
    DiskSpaceError where the disk is full.
    """
    return _Download(file, folder, addresses, options, told).run()


class _Download:
    def __init__(
        self,
        file: KnownFile,
        folder: Path,
        addresses: Sequence[str],
        options: DownloadOptions,
        told: Callable[[int], None],
    ) -> None:
        self._file = file
        self._addresses = addresses
        self._options = options
        self._told = told
        self._partial = PartialFile(folder / file.name)
        self._failures: dict[str, str] = {}
        self._untold: list[str] = []

    def run(self) -> str:
        if self._partial.size > self._file.bytes:
            self._partial.discard()
        asked = list(self._addresses)
        for number in range(self._options.rounds):
            wait_seconds = min(
                _LONGEST_WAIT_SECONDS, self._options.first_wait_seconds * 2.0**number
            )
            for address in list(asked):
                self._tell_failures()
                try:
                    self._finish_from(address)
                except MirrorError as error:
                    asked.remove(address)
                    self._failed(address, str(error))
                except AttemptError as error:
                    wait_seconds = max(wait_seconds, error.wait_seconds)
                    self._failed(address, str(error))
                else:
                    return address
            if not asked:
                break
            if number + 1 < self._options.rounds:
                self._tell_failures()
                _logger.warning(
                    "%s: asking again in %g seconds", self._file.name, round(wait_seconds, 1)
                )
                time.sleep(wait_seconds)
        raise self._error()

    def _failed(self, address: str, what: str) -> None:
        if self._failures.get(address) != what:
            self._untold.append(f"{address} {what}")
        self._failures[address] = what

    def _tell_failures(self) -> None:
        """Say what went wrong where it is gone on with; the last failures are in the error."""
        for text in self._untold:
            _logger.warning("%s", text)
        self._untold.clear()

    def _finish_from(self, address: str) -> None:
        """Get the rest from one mirror, as long as it brings something."""
        has_restarted = False
        while True:
            before = self._partial.size
            try:
                self._attempt(address)
            except RestartError as error:
                self._partial.discard()
                if has_restarted or before == 0:
                    raise MirrorError(str(error)) from error
                has_restarted = True
                _logger.warning("%s %s; it is downloaded from the beginning", address, error)
            except AttemptError as error:
                if self._partial.size - before < _WORTH_BYTES:
                    raise
                _logger.warning("%s %s; going on there", address, error)
            else:
                return

    def _attempt(self, address: str) -> None:
        start, total = self._partial.size, self._file.bytes
        digest = self._digest()
        if start < total:
            origin = self._partial.origin
            is_same = origin is not None and origin.address == address
            with request_rest(
                address,
                start=start,
                validator=origin.validator if origin is not None and is_same else None,
                timeout_seconds=self._options.timeout_seconds,
                allow_http=self._options.allow_http,
            ) as response:
                if response.total_bytes not in (None, total):
                    raise MirrorError(
                        f"has another file: {response.total_bytes:,} bytes, and {total:,} are "
                        "expected"
                    )
                if response.start == 0:
                    digest = hashlib.sha256()
                self._receive(response, address, digest)
        found = digest.hexdigest()
        if found == self._file.sha256:
            self._partial.finish()
            return
        self._partial.discard()
        wrong = (
            f"gave another file: its sha256 is {found}, and {self._file.sha256} is expected; it "
            "is deleted"
        )
        # Pieces of two states of a file, or a damaged piece: one mirror alone may do better.
        raise RestartError(wrong) if start else MirrorError(wrong)

    def _digest(self) -> hashlib._Hash:
        digest = hashlib.sha256()
        if self._partial.size:
            with self._partial.read() as there:
                while piece := there.read(_READ_BYTES):
                    digest.update(piece)
        return digest

    def _receive(self, response: Response, address: str, digest: hashlib._Hash) -> None:
        """Write what comes; AttemptError where it ends too early or comes too slowly."""
        done, total = response.start, self._file.bytes
        window_began, window_bytes = time.monotonic(), 0
        origin = Origin(address, response.validator)
        with self._partial.write(origin, start=response.start) as out:
            while piece := response.read():
                if done + len(piece) > total:
                    self._partial.discard()
                    raise MirrorError(f"has another file: more than {total:,} bytes came")
                try:
                    _write_all(out.write, piece)
                except OSError as error:
                    raise self._write_error(error) from error
                digest.update(piece)
                done += len(piece)
                window_bytes += len(piece)
                self._told(done)
                seconds = time.monotonic() - window_began
                if done < total and seconds >= self._options.timeout_seconds:
                    if window_bytes < _SLOWEST_BYTES_PER_SECOND * seconds:
                        raise AttemptError(
                            f"is slower than {_SLOWEST_BYTES_PER_SECOND:,} bytes a second"
                        )
                    window_began, window_bytes = time.monotonic(), 0
        if done < total:
            raise AttemptError(f"ended the connection after {done:,} of {total:,} bytes")

    def _write_error(self, error: OSError) -> OSError:
        if error.errno not in FULL_DISK:
            return error
        return DiskSpaceError(
            f"The disk is full: {self._partial.path} has {self._partial.size:,} of "
            f"{self._file.bytes:,} bytes, which are kept. Make room and fetch again."
        )

    def _error(self) -> DownloadError:
        told = "; ".join(f"{address} {what}" for address, what in self._failures.items())
        kept = self._partial.size
        hint = f" {kept:,} bytes are kept, and the next call goes on from there." if kept else ""
        return DownloadError(
            f"{self._file.name} could not be downloaded: {told}.{hint} Look at the network and "
            "the proxy (HTTPS_PROXY), try again later, or name a mirror of your own: --mirror URL "
            "(mirrors=[URL])."
        )


def _write_all(write: Callable[[memoryview], int | None], piece: bytes) -> None:
    """Write all of it: an unbuffered file may take less than it is given."""
    left = memoryview(piece)
    while left:
        left = left[write(left) or 0 :]

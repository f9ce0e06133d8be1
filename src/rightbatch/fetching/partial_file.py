"""What there is of a file so far, kept across interrupts, and what it is known by."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, NamedTuple

from rightbatch.durable_files import sync_folder


class Origin(NamedTuple):
    """The address that the bytes came from, and the server's mark of the file's state there."""

    address: str
    validator: str | None


class PartialFile:
    """`target` while it is downloaded: `NAME.partial`, with its origin in `NAME.partial.json`."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".partial")
        self._origin_path = target.with_name(target.name + ".partial.json")

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def origin(self) -> Origin | None:
        """Where the bytes came from; None where that is not known."""
        try:
            stored = json.loads(self._origin_path.read_bytes())
            address, validator = stored["address"], stored["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        is_valid = isinstance(address, str) and isinstance(validator, str | None)
        return Origin(address, validator) if is_valid else None

    def read(self) -> IO[bytes]:
        """The bytes there are, to be looked through."""
        return self.path.open("rb")

    def write(self, origin: Origin, *, start: int) -> IO[bytes]:
        """The file to write to from byte `start` on: 0, or its size."""
        self._origin_path.write_text(json.dumps(origin._asdict()), encoding="utf-8")
        # Unbuffered: what has come is kept, however the process ends.
        return self.path.open("ab" if start else "wb", buffering=0)

    def discard(self) -> None:
        """Forget what there is."""
        self.path.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the file in its place, whole and on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._origin_path.unlink(missing_ok=True)
        sync_folder(self.target.parent)

"""How an attempt to download may fail: for now, or for good as far as one mirror goes."""

from __future__ import annotations


class AttemptError(Exception):
    """An attempt failed, and another one may succeed.

    `wait_seconds` is what the server asks to wait for, 0 where it asks nothing.
    """

    def __init__(self, message: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class RestartError(AttemptError):
    """What is there can not be gone on with: the file is to be downloaded from its beginning."""


class MirrorError(Exception):
    """A mirror will not give the file, however often it is asked."""

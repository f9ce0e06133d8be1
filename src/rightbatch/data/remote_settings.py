"""What the environment says about remote reading: where the cache lies, its size, time-outs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rightbatch.byte_sizes import parse_bytes
from rightbatch.errors import OptionError

CACHE = "RIGHTBATCH_CACHE"
CACHE_SIZE = "RIGHTBATCH_CACHE_SIZE"
TIMEOUT = "RIGHTBATCH_TIMEOUT"

_CACHE_BYTES = 10 << 30
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class RemoteSettings:
    """Where blocks are kept (`cache_folder`), how many bytes of them, and what a request may take.

    `cache_bytes` of 0 keeps nothing on the disk.
    """

    cache_folder: Path
    cache_bytes: int
    timeout_seconds: float

    @classmethod
    def of_environment(cls) -> RemoteSettings:
        """The settings as the variables say now; OptionError where one is not valid.

        RIGHTBATCH_CACHE is the folder (by default `rightbatch` in that of the user's caches),
        RIGHTBATCH_CACHE_SIZE its size (10GiB), RIGHTBATCH_TIMEOUT the seconds that one request
        may take (60).
        """
        return cls(
            cache_folder=_folder(), cache_bytes=_cache_bytes(), timeout_seconds=_timeout_seconds()
        )


def _folder() -> Path:
    given = os.environ.get(CACHE)
    if given:
        return Path(given).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # The standard says that a relative path there does not count.
    base = Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache"
    return base / "rightbatch"


def _cache_bytes() -> int:
    given = os.environ.get(CACHE_SIZE, "").strip()
    if not given:
        return _CACHE_BYTES
    return 0 if given == "0" else parse_bytes(given, name=CACHE_SIZE)


def _timeout_seconds() -> float:
    given = os.environ.get(TIMEOUT, "").strip()
    try:
        seconds = float(given) if given else _TIMEOUT_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise OptionError(f"{TIMEOUT}={given!r} is not valid; it is a number of seconds above 0")
    return seconds

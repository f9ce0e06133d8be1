"""Where and when a run of a study ran, and whether its seconds compare with those of others."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSORS = Path("/proc/cpuinfo")
# Importing torch from a cold disk; a worker that is older was waiting for work.
_MOST_STARTING_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The machine that a run ran on, and from when to when, in seconds since 1970 by its clock.

    `machine` is the same for all that run on one machine, in whichever container, and says
    nothing else. `processor` is its kind, with the number of cores. The first run of a worker that
    was just started began with that start, which is work for the machine as well.
    `overlapping_runs` counts the other runs of the study that ran on it for some of that time.
    """

    host: str
    machine: str
    processor: str
    began: float
    ended: float
    overlapping_runs: int = 0

    @classmethod
    def until_now(cls, began: float) -> Self:
        """Of what began at that time in this process, and has just ended."""
        return cls(
            host=platform.node() or "an unnamed machine",
            machine=_machine(),
            processor=_processor(),
            began=began,
            ended=time.time(),
        )

    def overlaps(self, other: Placement) -> bool:
        """Whether both ran on the same machine for some time."""
        return (
            self.machine == other.machine and self.began < other.ended and other.began < self.ended
        )

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)


def with_overlaps(placements: Sequence[Placement]) -> list[Placement]:
    """The same, each with the number of others that it overlaps, where that is more than was known.

    >>> one = Placement(host="a", machine="1", processor="x", began=0.0, ended=2.0)
    >>> [each.overlapping_runs for each in with_overlaps(
    ...     [one, replace(one, began=1.0), replace(one, began=2.0, ended=3.0)])]
    [1, 1, 0]
    """
    return [
        replace(
            one,
            overlapping_runs=max(
                one.overlapping_runs,
                sum(one.overlaps(two) for two in placements if two is not one),
            ),
        )
        for one in placements
    ]


def why_not_comparable(placements: Sequence[Placement]) -> str | None:
    """Why the seconds of these runs do not compare, as a sentence; None where they do.

    >>> one = Placement(host="a", machine="1", processor="x", began=0.0, ended=2.0)
    >>> why_not_comparable([one, replace(one, host="b", machine="2")])
    >>> why_not_comparable([one, replace(one, host="b", machine="2", processor="y")])
    'Timings are not comparable: runs were on machines of different kinds (a: x; b: y).'
    >>> why_not_comparable([replace(one, overlapping_runs=1), one])
    'Timings are not comparable: runs shared a machine (a, one with up to 1 other).'
    """
    shared: dict[str, int] = {}
    for one in placements:
        if one.overlapping_runs:
            shared[one.host] = max(shared.get(one.host, 0), one.overlapping_runs)
    if shared:
        hosts = "; ".join(
            f"{host}, one with up to {runs:,} other{'s' if runs > 1 else ''}"
            for host, runs in shared.items()
        )
        return f"Timings are not comparable: runs shared a machine ({hosts})."
    kinds = {one.processor: one.host for one in reversed(placements)}
    if len(kinds) > 1:
        told = "; ".join(f"{host}: {kind}" for kind, host in reversed(kinds.items()))
        return f"Timings are not comparable: runs were on machines of different kinds ({told})."
    return None


class Beginning:
    """When work of this process begins: with its own start for the first, if that was just now."""

    def __init__(self) -> None:
        self._is_first = True

    def now(self) -> float:
        """The time, in seconds since 1970."""
        age = _process_age_seconds() if self._is_first else 0.0
        self._is_first = False
        return time.time() - (age if age < _MOST_STARTING_SECONDS else 0.0)


def _process_age_seconds() -> float:
    """How long ago this process was started; 0 where the system does not tell."""
    try:
        # After the name, which stands in brackets and may hold anything.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return max(0.0, uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, IndexError, ValueError):
        return 0.0


@cache
def _machine() -> str:
    try:
        # Containers on one machine have names of their own, and one kernel.
        told = _BOOT.read_text(encoding="ascii")
    except OSError:
        told = platform.node()
    return hashlib.blake2b(told.encode(), digest_size=6).hexdigest()


@cache
def _processor() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else name}, {os.cpu_count() or 1} cores"

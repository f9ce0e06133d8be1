"""How much memory is free here: on the machine, and in the control groups of this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Version 1 of control groups writes a number near 2⁶³ where there is no limit.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a process may take in all, libraries, model and data included, and who says so."""

    bytes: int
    source: str


def free_memory(root: Path = Path("/")) -> Limit | None:
    """What is free: the least of the machine's and its control groups'; None off Linux.

    `root` is where proc and sys lie.
    """
    found = [limit for limit in (_machine(root), *_groups(root)) if limit is not None]
    return min(found, key=lambda limit: limit.bytes, default=None)


def _machine(root: Path) -> Limit | None:
    for line in _lines(root / "proc/meminfo"):
        # The kernel's own estimate: what is free and what it would give up, such as file caches.
        if line.startswith("MemAvailable:"):
            return Limit(bytes=int(line.split()[1]) << 10, source="free on this machine")
    return None


def _groups(root: Path) -> list[Limit]:
    """What is left in each control group that this process is in, of version 2 and of version 1."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            mounts = ["sys/fs/cgroup/memory"]
        else:
            continue
        for mount in mounts:
            folder = root / mount / path.lstrip("/")
            top = root / mount
            # Inside a container the path is often that of the host, and its own group the top.
            folders = [folder, *folder.parents] if folder.is_dir() else [top]
            for inside in folders:
                if inside == top.parent:
                    break
                left = _left(inside, *names)
                if left is not None:
                    found.append(Limit(bytes=left, source="free in the control group"))
    return found


def _left(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    limit, used = _number(folder / limit_name), _number(folder / used_name)
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    # The group counts files that were read, and gives them up before it kills anybody.
    cached = sum(
        int(line.split()[1])
        for line in _lines(folder / "memory.stat")
        if line.split()[:1] == [cache_name]
    )
    return max(0, limit - used + cached)


def _number(file: Path) -> int | None:
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []

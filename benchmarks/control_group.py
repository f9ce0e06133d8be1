"""A control group of memory (version 1, which root may write to): a process within a limit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def control_group() -> Iterator[str]:
    """The folder of a new control group of memory."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    if own is None or not os.access(f"/sys/fs/cgroup/memory{own}", os.W_OK):
        raise SystemExit("trials need a control group of version 1 to write to, as root has it")
    folder = Path(f"/sys/fs/cgroup/memory{own}") / f"rightbatch-trial-{os.getpid()}"
    folder.mkdir()
    try:
        yield str(folder)
    finally:
        folder.rmdir()


def join(group: str, room_bytes: int) -> None:
    """Let this process take so much more than it has; beyond it the kernel kills it."""
    Path(group, "memory.limit_in_bytes").write_text(str(room_bytes), encoding="ascii")
    # What a process took before it joined stays with its old group.
    Path(group, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

"""What memory a process of Linux holds, and how a forked one is brought to its parent's state."""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from pathlib import Path

import numpy as np

_STATUS = Path("/proc/self/status")
_TASKS = Path("/proc/self/task")
_MADV_POPULATE_READ = 22
_M_MMAP_THRESHOLD = -3
# The bits of an entry of pagemap: the page is there, and it is one of a file.
_PRESENT, _FILE = np.uint64(1 << 63), np.uint64(1 << 61)

Runs = list[tuple[int, int]]


def memory_bytes(field: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS is what the process holds, VmHWM its peak.

    >>> memory_bytes("VmHWM") >= memory_bytes("VmRSS") > 1 << 20
    True
    """
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"{_STATUS} has no {field}")


def file_pages() -> Runs:
    """The pages of files (code and data of libraries) that this process holds: (address, bytes).

    Empty where the kernel does not tell.
    """
    runs: Runs = []
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            for line in maps:
                words = line.split(maxsplit=5)
                is_file = len(words) == 6 and words[5].startswith("/")
                # Reading a device may have an effect, and a deleted file may have lost its end.
                if (
                    not is_file
                    or words[1][0] != "r"
                    or words[5].startswith(("/dev/", "/proc/"))
                    or words[5].endswith("(deleted)")
                ):
                    continue
                begin, end = (int(word, 16) for word in words[0].split("-"))
                pagemap.seek(begin // mmap.PAGESIZE * 8)
                entries = np.frombuffer(
                    pagemap.read((end - begin) // mmap.PAGESIZE * 8), dtype=np.uint64
                )
                held = ((entries & _PRESENT) != 0) & ((entries & _FILE) != 0)
                edges = np.flatnonzero(np.diff(held, prepend=False, append=False))
                runs += [
                    (begin + int(a) * mmap.PAGESIZE, int(b - a) * mmap.PAGESIZE)
                    for a, b in edges.reshape(-1, 2)
                ]
    except OSError:
        return []
    return runs


def hold(runs: Runs) -> None:
    """Make this process hold those pages, as its parent does.

    A forked process finds the parent's own memory in place, but pages of files only when it
    touches them, and code that was running already would be counted as new memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for address, length in runs:
        arguments = (ctypes.c_void_p(address), ctypes.c_size_t(length))
        if libc.madvise(*arguments, _MADV_POPULATE_READ) != 0:
            # Before Linux 5.14.
            for page in range(address, address + length, mmap.PAGESIZE):
                ctypes.string_at(page, 1)


def give_back_free_memory() -> None:
    """Return to the system what the C library keeps of freed memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def return_freed_memory(above_bytes: int) -> bool:
    """Have freed blocks above a size returned to the system at once; gives whether that is so.

    By default the C library of Linux returns blocks above 128 KiB at first, but keeps ever larger
    ones as it sees them freed, up to 32 MiB, to use them again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, above_bytes) == 1


def wait_for_threads(*, at_most_seconds: float = 1.0) -> None:
    """Wait until the other threads of this process have nothing left to do."""
    own, deadline = str(threading.get_native_id()), time.monotonic() + at_most_seconds
    while any(_is_running(task) for task in _TASKS.iterdir() if task.name != own):
        if time.monotonic() > deadline:
            return
        time.sleep(1e-3)


def _is_running(task: Path) -> bool:
    try:
        # After the name, which stands in brackets and may hold anything.
        state = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False  # it has ended
    return state in ("R", "D")

"""Ctrl-C during a run: the loop is told, and stops where it stands well."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupts:
    """While it is entered, the first Ctrl-C calls `interrupt` and the second one raises.

    An exception raised between two updates of one step would leave half a step behind, so the
    loop is told and stops where it stands well. Only the main thread can listen for signals.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self._interrupt()
        signal.signal(signal.SIGINT, self._before)

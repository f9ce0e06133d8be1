"""Windows of an epoch, read ahead by a few threads while the one before is consumed."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError
from rightbatch.loading.quarantine import Quarantine, fillers, read_around
from rightbatch.loading.ragged_track import empty_entries
from rightbatch.loading.row_reader import Buffers, OpenRows, Piece, RowReader
from rightbatch.loading.track import Track
from rightbatch.loading.transform import Values

# Reading waits for the disk most of the time: with fewer the disk has too little to do at once.
READING_THREADS = 4
# One window is consumed while the next one is read.
WINDOWS_HELD = 2
# How long to wait before looking whether anybody is still reading.
_LOOK_SECONDS = 1.0
_CLOSING_SECONDS = 10.0
_THREAD_NAME = "rightbatch-reader"

Stretch = tuple[int, int]
RowsOf = Callable[[int, int], NDArray[np.int64]]


class ClosedError(Exception):
    """The epoch was given up while somebody waited for a window of it."""


class Window:
    """The samples at places `begin` up to `end` of an epoch, in memory or on the way there.

    `rows` are their row numbers in the epoch's order, `places` where each of them lies in the
    buffers, which hold the rows in ascending order. `row_ids` are the row numbers too, but -1 for a
    sample that is left out: its row and place are those of another one, that fills its place.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.row_ids: NDArray[np.int64] = np.empty(0, np.int64)
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.places: NDArray[np.int64] = np.empty(0, np.int64)
        self.buffers: Buffers = []
        self.error: BaseException | None = None
        self.is_ready = threading.Event()
        self.pieces_left = 0
        self.samples_left = end - begin


class WindowPool:
    """Buffers of windows, used again from window to window and from epoch to epoch."""

    def __init__(self, reader: RowReader, samples: int) -> None:
        self.samples = samples
        self.reader = reader
        self._free: list[Buffers] = []
        # Not a plain one: the garbage collector may close an epoch inside of `take`.
        self._lock = threading.RLock()

    def take(self) -> Buffers:
        """Buffers that nobody uses."""
        with self._lock:
            if self._free:
                return self._free.pop()
        return self.reader.new_buffers(self.samples)

    def clear(self) -> None:
        """Let go of what nobody uses."""
        with self._lock:
            self._free.clear()

    def give_back(self, buffers: Buffers) -> None:
        """Nobody reads from them or writes into them any more."""
        with self._lock:
            if len(self._free) < WINDOWS_HELD:
                self._free.append(buffers)


class WindowStream:
    """The windows of one epoch in order: `gather` waits for what it needs and lets go of it.

    `stretches` are the windows' places in the epoch, `rows_of(start, stop)` gives the rows at
    places of it. Two windows are held at most, each until all its samples have been gathered once.
    What a reading thread raises is raised where the window is needed, unless it is about samples
    that the quarantine takes. With `reads_ahead=False` there are no threads: the caller of `gather`
    reads.
    """

    def __init__(
        self,
        pool: WindowPool,
        stretches: Iterable[Stretch],
        rows_of: RowsOf,
        *,
        reads_ahead: bool = True,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._quarantine = quarantine
        self._reader = reader = pool.reader
        self._pool = pool
        self._stretches = iter(stretches)
        self._rows_of = rows_of
        self._resources = contextlib.ExitStack()
        self._open: OpenRows = self._resources.enter_context(reader.opened())
        self._changed = threading.Condition()
        # Every window from the first that is not used up, in order; gather looks for its own here.
        self._windows: deque[Window] = deque()
        self._pieces: deque[tuple[Window, Piece, NDArray[np.int64]]] = deque()
        self._held = 0
        self._is_planning = False
        self._is_exhausted = False
        self._is_closed = False
        self._thread_error: BaseException | None = None
        # What ended reading: windows that are there are still handed out, further ones never come.
        self._failure: BaseException | None = None
        self._threads = [
            # One of them works out the windows: the memory that this takes and gives back would
            # stay with each thread that ever did it.
            threading.Thread(
                target=self._work, args=(number == 0,), name=f"{_THREAD_NAME}-{number}", daemon=True
            )
            for number in range(READING_THREADS if reads_ahead else 0)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # Ctrl-C between two of them would leave the others waiting
            self.close()
            raise

    def gather(
        self, tracks: Sequence[Track], start: int, stop: int, length: int
    ) -> tuple[NDArray[np.int64], list[Values]]:
        """The rows at places `start` up to `stop` of the epoch, and each track's values of them.

        A sample that is left out has the row -1 and the values of another one. Values have `length`
        entries; those past the last row repeat it. Every place is to be gathered once. Raises
        DataError and whatever else reading has raised.
        """
        found = np.empty(stop - start, np.int64)
        # Of more than one window what the first ones hold is gathered before the last is read.
        parts: list[list[Values]] = []
        at = start
        while at < stop:
            window = self._wait_for(at)
            until = min(stop, window.end)
            inside = slice(at - window.begin, until - window.begin)
            rows, places = window.rows[inside], window.places[inside]
            found[at - start : until - start] = window.row_ids[inside]
            wanted = len(rows) + (length - (stop - start) if until == stop else 0)
            sources = self._reader.arrays(window.buffers)
            if (window.row_ids < 0).all():
                # Not through the map: the file may have been cut off before any of these rows.
                sources = [
                    (empty_entries(array, window.end - window.begin), True)
                    if isinstance(array, Ragged)
                    else (array, is_buffer)
                    for array, is_buffer in sources
                ]
            parts.append(
                [
                    track.gather_from(array, places if is_buffer else rows, wanted)
                    for track, (array, is_buffer) in zip(tracks, sources, strict=True)
                ]
            )
            self._let_go(window, until - at)
            at = until
        if len(parts) == 1:
            return found, parts[0]
        return found, [_joined(pieces) for pieces in zip(*parts, strict=True)]

    def close(self) -> None:
        """Stop reading; whoever waits is told. No thread is left, unless the disk holds it."""
        with self._changed:
            self._is_closed = True
            self._pieces.clear()
            # Their buffers are let go for good: a thread may be gathering from them right now.
            for window in self._windows:
                window.is_ready.set()
            self._windows.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(_CLOSING_SECONDS)
        if not any(thread.is_alive() for thread in self._threads):
            self._resources.close()

    def _wait_for(self, place: int) -> Window:
        """The window that holds the place, read."""
        while True:
            with self._changed:
                if self._is_closed:
                    raise ClosedError
                window = next((w for w in self._windows if w.begin <= place < w.end), None)
                if window is None and self._failure is not None:
                    raise self._failure
                if window is None and self._threads:
                    self._changed.wait(_LOOK_SECONDS)
            if window is None and not self._threads:
                self._read_next()
                continue
            if window is not None and window.is_ready.wait(_LOOK_SECONDS):
                break
            self._refuse_ended_thread()
        self._refuse_ended_thread()
        if self._is_closed:
            raise ClosedError
        if window.error is not None:
            raise window.error
        return window

    def _refuse_ended_thread(self) -> None:
        """DataError where a thread that reads has been ended from outside: nobody waits for it."""
        if self._thread_error is not None:
            raise DataError(
                "a thread that reads the data was ended before the epoch was over "
                f"({self._thread_error!r}): something outside of rightbatch has stopped it. Go on "
                "from the last checkpoint"
            ) from self._thread_error

    def _let_go(self, window: Window, samples: int) -> None:
        with self._changed:
            window.samples_left -= samples
            if window.samples_left == 0 and not self._is_closed:
                self._windows.remove(window)
                self._pool.give_back(window.buffers)
                self._held -= 1
                self._changed.notify_all()

    def _work(self, plans: bool) -> None:
        try:
            self._read_until_closed(plans)
        except BaseException as error:  # told to whoever waits for what it was about to read
            with self._changed:
                self._thread_error = error
                for window in self._windows:
                    window.is_ready.set()
                self._changed.notify_all()

    def _read_until_closed(self, plans: bool) -> None:
        while True:
            with self._changed:
                while not (self._is_closed or self._pieces or (plans and self._can_plan)):
                    if self._is_exhausted and not self._is_planning:
                        return
                    self._changed.wait()
                if self._is_closed:
                    return
                job = self._pieces.popleft() if self._pieces else None
                if job is None:
                    self._is_planning = True
            if job is None:
                self._plan_next()
            else:
                self._read(*job)

    @property
    def _can_plan(self) -> bool:
        return (
            self._held < WINDOWS_HELD
            and not self._is_planning
            and not self._is_exhausted
            and self._failure is None
        )

    def _plan_next(self) -> None:
        """Work out the next window's rows and hand out its pieces."""
        stretch = next(self._stretches, None)
        if stretch is None:
            with self._changed:
                self._is_planning, self._is_exhausted = False, True
                self._changed.notify_all()
            return
        window = Window(*stretch)
        pieces: list[tuple[Window, Piece, NDArray[np.int64]]] = []
        try:
            in_order = self._plan(window)
            pieces = [(window, piece, in_order) for piece in self._reader.pieces(in_order)]
        except Exception as error:  # it is raised again where the window is needed
            window.error = self._failure = error
            window.is_ready.set()
        with self._changed:
            window.pieces_left = len(pieces)
            self._windows.append(window)
            self._held += 1
            self._is_planning = False
            self._pieces.extend(pieces)
            self._changed.notify_all()

    def _plan(self, window: Window) -> NDArray[np.int64]:
        """Fill in the window's rows, places and buffers; gives the rows in ascending order."""
        window.rows = window.row_ids = self._rows_of(window.begin, window.end)
        order = np.argsort(window.rows)
        window.places = np.empty_like(order)
        window.places[order] = np.arange(len(order))
        window.buffers = self._pool.take()
        return window.rows[order]

    def _read(self, window: Window, piece: Piece, rows: NDArray[np.int64]) -> None:
        try:
            if window.error is None:
                self._read_piece(window, piece, rows)
        except Exception as error:  # it is raised again where the window is needed
            window.error = self._failure = error
        with self._changed:
            window.pieces_left -= 1
            is_whole = window.pieces_left == 0
            if self._failure is not None:
                self._changed.notify_all()
        if is_whole:
            if window.error is None and self._quarantine is not None and len(self._quarantine):
                _fill_in(window, self._quarantine.is_bad(rows), rows)
            window.is_ready.set()

    def _read_piece(self, window: Window, piece: Piece, rows: NDArray[np.int64]) -> None:
        def read(first: int, last: int) -> None:
            inside = slice(piece.first + first, piece.first + last)
            outs = [None if b is None else b[inside] for b in window.buffers]
            self._open.read(rows[inside], outs)

        count = piece.last - piece.first
        if self._quarantine is None:
            read(0, count)
        else:
            read_around(read, count, self._quarantine, rows[piece.first : piece.last])

    def _read_next(self) -> None:
        """Plan and read a window in the caller's thread."""
        with self._changed:
            if self._is_closed or self._is_exhausted:
                raise ClosedError
        self._plan_next()
        while self._pieces:
            self._read(*self._pieces.popleft())


def _joined(pieces: Sequence[Any]) -> Any:
    """Values of one field, gathered from several windows."""
    if isinstance(pieces[0], Ragged):
        return Ragged.concatenate(pieces)
    return np.concatenate(pieces)


def _fill_in(window: Window, is_bad: NDArray[np.bool_], in_order: NDArray[np.int64]) -> None:
    """Let other samples of the window stand in for the bad ones of its rows in ascending order."""
    if not is_bad.any():
        return
    if is_bad.all():
        for buffer in window.buffers:
            if buffer is not None:
                buffer[0] = 0
    window.row_ids = np.where(is_bad[window.places], -1, window.rows)
    window.places = fillers(is_bad)[window.places]
    window.rows = in_order[window.places]

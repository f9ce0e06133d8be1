"""A data set whose columns lie in remote objects, and are read as they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.file_region import FileRegion
from rightbatch.data.fingerprint import fingerprint_columns
from rightbatch.data.ragged import Ragged
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.data.remote_ragged import RemoteRagged
from rightbatch.data.remote_region import RemoteColumn
from rightbatch.free_memory import free_memory

# Of what is free: others need memory as well, and this is held for as long as the data set.
_HELD_SHARE = 4
_HELD_BYTES = 1 << 30


class RemoteArrays(Dataset):
    """Columns that are `RemoteColumn` or `RemoteRagged` each, of one length.

    `columns` describe them, where they are more than arrays of numbers.

    Whoever asks for a whole column gets it where it takes no more than a quarter of the memory
    that is free (1 GiB where nobody knows): it is fetched once and held. Larger ones are read by
    rows and spans alone. Reading in windows (`memory=`) fetches what each window needs.

    Raises RemoteError wherever an object can not be read, or is another version by now.
    """

    def __init__(
        self,
        stored: Mapping[str, RemoteColumn | RemoteRagged],
        *,
        name: str,
        target: str | None = None,
        columns: Sequence[Column] | None = None,
        own_parts: Mapping[str, range] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._stored = dict(stored)
        self._length = len(next(iter(stored.values())))
        self._held: dict[str, Any] = {}
        self._lock = threading.RLock()
        super().__init__(
            name=name,
            columns=columns
            or [
                Column(name=column, dtype=values.dtype, shape=values.shape[1:])
                for column, values in stored.items()
            ],
            target=target,
            own_parts=own_parts,
            notes=notes,
        )

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: ArrayLike) -> Arrays:
        """Copies of the samples at `indices`, one array a column; IndexError past either end."""
        rows = valid_rows(indices, self._length)
        return {name: values.take(rows) for name, values in self._stored.items()}

    def span(self, start: int, stop: int) -> Arrays:
        """Copies of the samples from `start` up to `stop`; IndexError past either end."""
        check_span(start, stop, self._length)
        return {name: values[start:stop] for name, values in self._stored.items()}

    @override
    def array(self, name: str) -> NDArray[Any] | None:
        """The whole column, fetched when it is first asked for; None where it is too large."""
        found: NDArray[Any] | None = None if self.column(name).is_ragged else self._whole(name)
        return found

    @override
    def ragged(self, name: str) -> Ragged | None:
        """The whole ragged column, fetched when it is asked for; None where it is too large."""
        found: Ragged | None = self._whole(name) if self.column(name).is_ragged else None
        return found

    @override
    def ragged_region(self, name: str) -> RaggedRegion | None:
        """Where the entries of a column lie, to be read in windows; None of another one."""
        stored = self._stored[self.column(name).name]
        return stored.region if isinstance(stored, RemoteRagged) else None

    @override
    def ragged_bytes(self, name: str) -> int | None:
        """The bytes of all values, which nobody has to fetch to know."""
        stored = self._stored[self.column(name).name]
        return stored.values.nbytes if isinstance(stored, RemoteRagged) else None

    @override
    def region(self, name: str) -> FileRegion | None:
        """Where the rows of a column lie, to be read in windows; None of a ragged one."""
        stored = self._stored[self.column(name).name]
        return None if isinstance(stored, RemoteRagged) else stored.region

    @cached_property
    def fingerprint(self) -> str:
        """That of the same columns in memory; of up to 1 GiB all is read for it."""
        return fingerprint_columns(self.columns, self._stored)  # type: ignore[arg-type]  # sliced as arrays are

    def _whole(self, name: str) -> Any:
        stored = self._stored[name]
        with self._lock:
            if name not in self._held:
                free = free_memory()
                most = _HELD_BYTES if free is None else free.bytes // _HELD_SHARE
                # Settled once: what is None now is None for good.
                self._held[name] = stored[0 : len(self)] if stored.nbytes <= most else None
            return self._held[name]

    @override
    def __getstate__(self) -> dict[str, Any]:
        # What is held is fetched again in another process, from the cache.
        return {**super().__getstate__(), "_held": {}, "_lock": None}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lock = threading.RLock()

"""What a budget of memory comes to: the order that it calls for, and how much is read at a time."""

from __future__ import annotations

import logging

from rightbatch.byte_sizes import bytes_text
from rightbatch.errors import OptionError
from rightbatch.free_memory import Limit
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.windows import WINDOWS_HELD
from rightbatch.plan.order import Order
from rightbatch.plan.orders import AnyOrder

logger = logging.getLogger(__name__)

# Reads of so many bytes a column come at the speed of the disk; smaller ones, where many columns
# share a block, cost it.
_BLOCK_BYTES = 512 << 10
_COLUMN_BYTES = 64 << 10
# Fewer blocks in a window mix badly.
_LEAST_BLOCKS = 16
# Row numbers of a window in the epoch's order, places in the buffers, and what sorting them takes.
_INDEX_BYTES = 40
_LEAST_WINDOWS = 4
# What reading takes beside the windows: a thread's memory for rows it can not read into place.
_BESIDE_BYTES = 6 << 20
# Without shuffling there is nothing to mix: small windows are read ahead just as well.
_SEQUENTIAL_BYTES = 16 << 20


class BudgetError(OptionError):
    """The budget of memory has no room for windows beside batches of this size."""


class MemoryBudget:
    """How reading and batching share a budget of memory.

    Two windows of samples with their index, and the batches that are made ahead and held
    (`batches_bytes` in all), have to fit into `total_bytes`. Raises BudgetError where not even
    windows of a few samples do.
    """

    def __init__(self, total_bytes: int, reader: RowReader, batches_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._reader = reader
        beside = _BESIDE_BYTES + batches_bytes
        sample_bytes = WINDOWS_HELD * (reader.sample_bytes + _INDEX_BYTES)
        self.window = max(0, total_bytes - beside) // sample_bytes
        if self.window < _LEAST_BLOCKS:
            least = beside + sample_bytes * _LEAST_BLOCKS
            raise BudgetError(
                f"memory={bytes_text(total_bytes)} has no room for two windows of {_LEAST_BLOCKS} "
                f"samples of {bytes_text(reader.sample_bytes)} and for the batches beside them "
                f"({bytes_text(batches_bytes)}): give {bytes_text(least)} or more, or a smaller "
                "batch size"
            )

    def fits(self, length: int) -> bool:
        """Whether memory holds all samples of a data set at once."""
        return length * self._reader.resident_bytes <= self.total_bytes

    def order(self, length: int) -> Order:
        """The order of shuffled samples: uniform where one window holds them all."""
        if self.window >= length:
            return Order(kind="uniform")
        block = self._block
        # Nothing is handed out before the first window is read: it is a fourth at most.
        window = min(self.window // block, -(-length // (_LEAST_WINDOWS * block))) * block
        return Order(kind="block-window", block=block, window=window)

    @property
    def _block(self) -> int:
        """Samples a block: as many as are read well in one go, and a part of the window."""
        wanted = max(_BLOCK_BYTES, _COLUMN_BYTES * self._reader.column_count)
        return max(1, min(wanted // self._reader.stored_bytes, self.window // _LEAST_BLOCKS))


def warn_of_random_reads(
    name: str, order: AnyOrder, length: int, reader: RowReader, free: Limit | None
) -> None:
    """Say so where samples in files that memory does not hold are read from all over them."""
    needed = length * reader.stored_bytes
    if order.kind not in ("uniform", "weighted") or free is None or needed <= free.bytes:
        return
    logger.warning(
        f"{name}: {bytes_text(needed)} are read in a {order.kind} order, and "
        f"{bytes_text(free.bytes)} is {free.source}: every sample will be fetched from the disk by "
        "itself. "
        + (
            f"Say how much memory reading may take, such as memory={bytes_text(free.bytes / 4)!r} "
            "(--memory), for an order that is read block by block"
            if order.kind == "uniform"
            else "Samples drawn by weight are not read block by block: draw from less, or from a "
            "faster disk"
        )
    )


def most_samples(order: AnyOrder, length: int, window: int | None, reader: RowReader) -> int | None:
    """How many samples are read at a time; None where the order can not be read in windows.

    `window` is what a budget has room for, None without one.
    """
    if isinstance(order, Order) and order.block is not None:
        return order.window
    if order.kind == "uniform":
        return length if window is not None and length <= window else None
    few = max(1, _SEQUENTIAL_BYTES // (reader.sample_bytes + _INDEX_BYTES))
    return min(length, few if window is None else min(few, window))

"""Columns that live on the device: gathered, cast and scaled there, by positions of the order.

Each operation is one of torch's own that rounds once, as NumPy's does on the host, so batches are
equal bit for bit. What could round otherwise is left to the host: see `_device_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.byte_sizes import bytes_text, parse_bytes
from rightbatch.errors import OptionError
from rightbatch.free_memory import free_memory
from rightbatch.loading.affine import AffineMap
from rightbatch.loading.parts import Part
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.track import Track
from rightbatch.loading.transforms import Affine, Cast, Flatten
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.token_plan import AnyPlan, TokenPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEFAULT_SHARE = 0.25
"""The share of the device's free memory that the samples of a part may take."""

# torch gathers these on every device; of the wider unsigned numbers it has the names alone.
_GATHERED = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
_UPLOADED_BYTES = 64 << 20

Step = Callable[["Tensor"], "Tensor"]
Form = Callable[["torch.device"], Step]
"""A transform as a device does it, once it is known which."""


@dataclass(frozen=True, kw_only=True)
class Residency:
    """Whether the samples of a part live on the device, of how many bytes, and why (not).

    >>> Residency(is_resident=False, bytes=0, reason="batches are NumPy's")
    <Residency: on the host, batches are NumPy's>
    """

    is_resident: bool
    bytes: int
    reason: str

    def __repr__(self) -> str:
        return f"<Residency: on the {'device' if self.is_resident else 'host'}, {self.reason}>"


def find_residency(
    pipeline: Pipeline,
    part: Part,
    plan: AnyPlan | RankPlan,
    device: torch.device | None,
    *,
    device_memory: str | int | float | None,
    reads_windows: bool,
    leaves_bad_out: bool,
) -> Residency:
    """Whether the part is to live on `device`.

    `device_memory` is the most that it may take there: a share of what is free (0 < float ≤ 1), or
    bytes; 0 keeps it on the host. None is a quarter of what a GPU has free, and nothing elsewhere.

    Raises OptionError where that is not valid.
    """
    refused = None
    if device is None:
        refused = "batches stay on the host"
    elif device_memory is None and device.type != "cuda":
        refused = f"the device {device} has no memory of its own"
    elif device_memory == 0:
        refused = "device_memory=0"
    else:
        refused = _why_on_host(pipeline, plan, reads_windows, leaves_bad_out)
    most = None if device_memory in (None, 0) else _most_bytes(device_memory)
    if refused is not None or device is None:
        return Residency(is_resident=False, bytes=0, reason=refused or "")
    needed = sum(_resident_bytes(track, len(part.rows)) for track in pipeline.tracks)
    free = free_device_memory(device)
    if most is None:
        most = DEFAULT_SHARE
    if isinstance(most, float):
        most = math.inf if free is None else int(most * free)
    if free is not None:
        most = min(most, free)
    takes = f"its {len(part.rows):,} samples take {bytes_text(needed)}"
    if needed > most:
        return Residency(
            is_resident=False,
            bytes=needed,
            reason=f"{takes}, and device_memory allows {bytes_text(int(most))} on {device}",
        )
    return Residency(is_resident=True, bytes=needed, reason=f"{takes} on {device}")


def free_device_memory(device: torch.device) -> int | None:
    """What is free on a device, in bytes, torch's own cache there counted; None if unknown."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type == "cpu":
        limit = free_memory()
        return None if limit is None else limit.bytes
    return None


class DeviceColumns:
    """The fields of a part on a device, in the part's own order; `gather` takes positions in it.

    Of a field whose transforms the device can do, the values lie there as the data have them; of
    others as they come out of the transforms, which run once, on the host.
    """

    def __init__(self, pipeline: Pipeline, part: Part, device: torch.device) -> None:
        import torch

        self.device = device
        samples = len(part.rows)
        self._columns: list[tuple[Tensor, list[Step]]] = []
        for track in pipeline.tracks:
            steps = _chosen_steps(track)
            piece = max(1, _UPLOADED_BYTES // max(1, _sample_bytes(track, steps)))
            shape, dtype = _stored(track, steps)
            values = torch.empty((samples, *shape), dtype=getattr(torch, dtype.name), device=device)
            for start in range(0, samples, piece):
                stop = min(start + piece, samples)
                rows = part.rows.take(np.arange(start, stop))
                host = track.gather(rows) if steps is None else _raw(track, rows)
                # From pageable memory: torch copies that before it goes on, so it may be reused.
                values[start:stop].copy_(torch.from_numpy(host))
            self._columns.append((values, [step(device) for step in steps or ()]))

    def gather(self, positions: Tensor) -> list[Tensor]:
        """The fields at `positions` (int64, (B,), on the device), transformed, inputs first."""
        gathered = []
        for values, steps in self._columns:
            found = values.index_select(0, positions)
            for step in steps:
                found = step(found)
            gathered.append(found)
        return gathered


def _why_on_host(
    pipeline: Pipeline, plan: AnyPlan | RankPlan, reads_windows: bool, leaves_bad_out: bool
) -> str | None:
    """What speaks against the device, whatever its memory; None for nothing."""
    if pipeline.has_functions:
        return f"{pipeline.first_function} is a function of a batch, which runs on the host"
    if isinstance(plan, TokenPlan) or pipeline.has_ragged:
        return "its samples vary in length"
    if isinstance(plan, RankPlan):
        return "a rank reads its share of each batch on the host"
    if pipeline.decoding_tracks:
        return "its samples are decoded for each batch"
    if reads_windows:
        return "its samples are read in windows, within a budget of memory"
    if leaves_bad_out:
        return "samples that can not be read are left out while they are read"
    if not pipeline.has_arrays:
        return "its samples are read row by row, from no array in memory or in a file"
    for track in pipeline.tracks:
        _, dtype = _stored(track, None)
        if dtype.name not in _GATHERED:
            return f"torch has no tensors of {dtype} to gather from ({track.column.name!r})"
    return None


def _most_bytes(device_memory: Any) -> int | float:
    if isinstance(device_memory, float) and 0 < device_memory <= 1:
        return device_memory
    if isinstance(device_memory, float) and device_memory < 0:
        raise OptionError(
            f"device_memory={device_memory!r} is not valid; give a share of what the device has "
            "free, such as 0.25, or a size such as '2GB'; 0 keeps the samples on the host"
        )
    return parse_bytes(device_memory, name="device_memory")


def _resident_bytes(track: Track, samples: int) -> int:
    return samples * _sample_bytes(track, _chosen_steps(track))


def _sample_bytes(track: Track, steps: Any) -> int:
    shape, dtype = _stored(track, steps)
    return math.prod(shape) * dtype.itemsize


def _stored(track: Track, steps: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a sample on the device: as the data have it, or as it comes out."""
    column = track.column if steps is None else track.source.column
    return column.shape, _finished_dtype(track) if steps is None else column.dtype


def _finished_dtype(track: Track) -> np.dtype[Any]:
    """The dtype that comes out; stacked columns are narrowed by a last cast of their own."""
    if not track.later:
        return track.gathered_dtype
    last = track.later[-1]
    return last.dtype if isinstance(last, Cast) else track.column.dtype


def _raw(track: Track, rows: NDArray[np.int64]) -> NDArray[Any]:
    array = track.source.array
    native = array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array[rows].astype(native, copy=False))


def _chosen_steps(track: Track) -> list[Form] | None:
    """What the device does after the gather; None where values come finished from the host."""
    steps = _device_steps(track)
    if steps is None or _sample_bytes(track, steps) > _sample_bytes(track, None):
        return None
    return steps


def _device_steps(track: Track) -> list[Form] | None:
    """The transforms of a track as the device does them; None where it has no form of one."""
    dtype = track.source.column.dtype
    if dtype.name not in _GATHERED:
        return None
    steps: list[Form] = []
    if track.affine is not None:
        steps.append(_affine_step(track.affine, dtype))
        dtype = np.dtype(np.float32)
    elif track.cast is not None and track.cast != dtype:
        if not _casts_alike(dtype, track.cast):
            return None
        steps.append(_cast_step(track.cast))
        dtype = track.cast
    for transform in track.later:
        if isinstance(transform, Flatten):
            steps.append(lambda _: lambda values: values.flatten(1))
        elif isinstance(transform, Cast) and _casts_alike(dtype, transform.dtype):
            steps.append(_cast_step(transform.dtype))
            dtype = transform.dtype
        elif isinstance(transform, Affine):
            steps.append(_affine_step(AffineMap(transform.center, transform.factor), dtype))
            dtype = np.dtype(np.float32)
        else:
            return None
    return steps


def _casts_alike(before: np.dtype[Any], after: np.dtype[Any]) -> bool:
    """Whether every device converts as NumPy does on the host.

    What becomes of a float that a whole number can not hold is a matter of the machine, and
    torch rounds a float64 to float16 by way of float32.
    """
    if after.name not in _GATHERED:
        return False
    if before.kind == "f" and after.kind in "ui":
        return False
    return after != np.float16 or before in (np.float16, np.float32, np.uint8, np.int8, np.bool_)


def _cast_step(dtype: np.dtype[Any]) -> Form:
    def on(_: torch.device) -> Step:
        import torch

        wanted = getattr(torch, dtype.name)
        return lambda values: values.to(wanted)

    return on


def _affine_step(affine: AffineMap, dtype: np.dtype[Any]) -> Form:
    center, factor = affine.parameters(dtype)

    def on(device: torch.device) -> Step:
        import torch

        subtracted = None if center is None else torch.from_numpy(center.copy()).to(device)
        multiplied = torch.from_numpy(factor.copy()).to(device)

        def step(values: Tensor) -> Tensor:
            # In place: what was gathered is nobody else's.
            mapped = values.to(multiplied.dtype)
            if subtracted is not None:
                mapped.sub_(subtracted)
            return mapped.mul_(multiplied).to(torch.float32)

        return step

    return on

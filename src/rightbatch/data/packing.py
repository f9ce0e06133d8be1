"""Writing a packed data set: streamed, in bounded memory, and gone on with after a kill."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.byte_sizes import bytes_text
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.data.duplicate_search import find_duplicates
from rightbatch.data.duplicates import span_keys
from rightbatch.data.fingerprint import ReadColumn, fingerprint_columns
from rightbatch.data.packed import PackedDataset, source_files
from rightbatch.data.packed_array import (
    SOURCE_ROWS_FILE,
    write_array,
)
from rightbatch.data.packed_column import PackedColumn, map_columns
from rightbatch.data.packed_manifest import Manifest, is_pack, read_manifest
from rightbatch.data.packing_columns import check_arrays, column_sizes, draft_columns
from rightbatch.data.packing_folder import (
    KEYS_BYTES,
    PackingFolder,
    identity,
    is_unfinished,
    partial_folder,
    remove_help_files,
)
from rightbatch.data.packing_place import (
    existing_pack,
    put_in_place,
    refuse_or_remove,
    remove_replaced,
)
from rightbatch.data.row_bytes import column_bytes
from rightbatch.data.table_chunks import ChunkedTable
from rightbatch.errors import DataError, DiskSpaceError, OptionError

logger = logging.getLogger(__name__)

_SPAN_BYTES = 2**23
# What a kill can cost is written again: so many bytes, or what took so many seconds.
_SYNC_BYTES = 2**26
_SYNC_SECONDS = 10.0
# Of thousands of columns each takes a time to be put on the disk, however little it is.
_SYNC_COLUMN_BYTES = 2**18
_FEW_COLUMNS = 100
_PROGRESS_SECONDS = 0.2
# Beside the columns the search for duplicates keeps a key and a record of 16 bytes a row.
_SCRATCH_BYTES = KEYS_BYTES + 16
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class PackProgress:
    """How far a packing has come; told a few times a second.

    `stage` is "writing" or "duplicates" (the search for samples of equal inputs). `resumed_bytes`
    of `done_bytes` were there from an earlier start; `seconds` count from this one.
    """

    stage: str
    done_bytes: int
    total_bytes: int
    resumed_bytes: int
    seconds: float


Progress = Callable[[PackProgress], None]


def packed_bytes(data: Dataset) -> int:
    """The bytes that the values of `data` take in a pack.

    >>> from rightbatch.data import open
    >>> packed_bytes(open(([[1.0, 2.0], [3.0, 4.0]], [0, 1])))
    48
    """
    return sum(column_bytes(data, column) for column in data.columns)


def write_pack(
    data: Dataset,
    folder: Path,
    *,
    source: Dataset | None = None,
    packed_transforms: Sequence[Mapping[str, Any]] = (),
    left_transforms: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackedDataset:
    """Write `data` to `folder` as a pack, and open it.

    `source` is what `data` were made of by `packed_transforms`, if by any; the descriptions of the
    transforms and `options` go into the manifest.

    Raises OptionError where `folder` or the place it needs is taken, DataError where the data can
    not be packed, DiskSpaceError where the disk is too small or becomes full.
    """
    folder = folder.expanduser().absolute()
    draft = _draft(
        data,
        source or data,
        packed_transforms=tuple(packed_transforms),
        left_transforms=tuple(left_transforms),
        options=options or {},
    )
    partial = partial_folder(folder)
    found = existing_pack(folder, draft, overwrite=overwrite)
    if found is None and is_pack(partial) and not is_unfinished(partial):
        # A kill came between the last file and the name.
        remove_help_files(partial)
        if identity(read_manifest(partial)) == identity(draft):
            put_in_place(partial, folder)
            return PackedDataset(folder)
        refuse_or_remove(partial, overwrite=overwrite)
    if found is not None:
        remove_replaced(folder)
        return found
    if overwrite and is_unfinished(partial) and not _goes_on(partial, draft):
        shutil.rmtree(partial)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with PackingFolder(partial, draft) as packing:
        try:
            try:
                _refuse_small_disk(packing, folder, data)
            except DiskSpaceError:
                if packing.rows_done == 0:
                    shutil.rmtree(partial)
                raise
            manifest = _write(data, source or data, packing, progress)
            packing.finish(manifest)
            put_in_place(partial, folder)
        except DiskSpaceError:
            raise
        except OSError as error:
            if error.errno not in _FULL:
                raise _unwritable(folder, error) from error
            raise _full_disk(packing, folder, data) from error
    return PackedDataset(folder)


def _write(
    data: Dataset, source: Dataset, packing: PackingFolder, progress: Progress | None
) -> Manifest:
    """Write what is missing, look for duplicates, and describe it all."""
    told = _Told(progress, packing, sum(column_sizes(data)))
    block_rows = packing.draft.columns[0].array.block_rows
    sample_bytes = sum(column_sizes(data))
    step = block_rows * max(1, _SPAN_BYTES // max(1, block_rows * sample_bytes))
    sync_bytes = max(_SYNC_BYTES, _SYNC_COLUMN_BYTES * (len(data.columns) - _FEW_COLUMNS))
    synced_rows, synced_at = packing.rows_done, time.monotonic()
    told("writing", packing.rows_done, always=True)
    try:
        while packing.rows_done < len(data):
            start = packing.rows_done
            stop = min(start + step, len(data))
            arrays = data.span(start, stop)
            check_arrays(data, arrays, start, stop - start)
            packing.append(arrays, span_keys(data, arrays))
            told("writing", packing.rows_done)
            written = (packing.rows_done - synced_rows) * sample_bytes
            if written >= sync_bytes or time.monotonic() - synced_at >= _SYNC_SECONDS:
                packing.sync_behind()
                synced_rows, synced_at = packing.rows_done, time.monotonic()
    except BaseException:
        _sync_quietly(packing)
        raise
    packing.sync()
    _refuse_changed(source, packing.draft)
    columns = packing.finish_columns()
    shutil.rmtree(packing.scratch, ignore_errors=True)
    packing.scratch.mkdir()
    duplicates = find_duplicates(
        _written(data, columns, packing.path),
        packing.keys_path,
        packing.scratch,
        packing.path,
        progress=lambda share: told("duplicates", packing.rows_done, share=share),
    )
    shutil.rmtree(packing.scratch)
    source_rows = None
    numbers = _source_rows(source)
    if numbers is not None:
        source_rows = write_array(packing.path, SOURCE_ROWS_FILE, numbers)
    fingerprint = packing.draft.fingerprint
    if not fingerprint:
        same = data is source
        fingerprint = _fingerprint(data, columns, packing) if same else source.fingerprint
    told("duplicates", packing.rows_done, share=1.0, always=True)
    return replace(
        packing.draft,
        created=packing.created,
        fingerprint=fingerprint,
        columns=columns,
        source_rows=source_rows,
        duplicates=duplicates,
        duplicate_rows=0 if duplicates is None else duplicates.shape[0],
    )


def _source_rows(source: Dataset) -> NDArray[np.int64] | ReadColumn | None:
    """The samples' row numbers in the source, read in spans where it is a table in chunks."""
    if not isinstance(source, ChunkedTable):
        return source.source_rows
    if not source.drops_rows:
        return None
    column = Column(name="source rows", dtype=np.dtype(np.int64))
    return ReadColumn(column, len(source), source.source_rows_of)


def _fingerprint(data: Dataset, columns: Sequence[PackedColumn], packing: PackingFolder) -> str:
    """That of the source, taken from what was written of it."""
    arrays = map_columns(packing.path, columns)
    return fingerprint_columns(data.columns, arrays)


def _written(data: Dataset, columns: Sequence[PackedColumn], folder: Path) -> ArrayDataset:
    """The columns as they lie in the folder, mapped."""
    return ArrayDataset(map_columns(folder, columns), name=data.name, target=data.target)


class _Told:
    """Tells the progress where it is time."""

    def __init__(self, progress: Progress | None, packing: PackingFolder, row_bytes: int) -> None:
        self._progress = progress
        self._row_bytes = row_bytes
        self._total = packing.draft.length * row_bytes
        self._resumed = packing.rows_done * row_bytes
        self._began = self._last = time.monotonic()

    def __call__(
        self, stage: str, rows: int, *, share: float | None = None, always: bool = False
    ) -> None:
        now = time.monotonic()
        if self._progress is None or not (always or now - self._last >= _PROGRESS_SECONDS):
            return
        self._last = now
        self._progress(
            PackProgress(
                stage=stage,
                done_bytes=rows * self._row_bytes if share is None else int(share * self._total),
                total_bytes=self._total,
                resumed_bytes=self._resumed if share is None else 0,
                seconds=now - self._began,
            )
        )


def _draft(
    data: Dataset,
    source: Dataset,
    *,
    packed_transforms: tuple[Mapping[str, Any], ...],
    left_transforms: tuple[Mapping[str, Any], ...],
    options: Mapping[str, Any],
) -> Manifest:
    """The manifest before anything is written: without checksums."""
    seen = {column.name for column in data.inputs} | {data.target}
    hidden = [column.name for column in data.columns if column.name not in seen]
    if hidden:
        raise OptionError(
            f"{data.name} has a column that is no input ({hidden[0]!r}, which ties samples "
            "together); pack the data as they were opened, and give group= when the pack is split"
        )
    signature = source.source_signature
    return Manifest(
        rightbatch=_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        name=data.name,
        # Of a source that is read in chunks, the pack itself gives the fingerprint in the end.
        fingerprint=source.fingerprint if signature is None else "",
        source_signature=signature,
        overlap=source.overlap,
        length=len(data),
        target=data.target,
        columns=draft_columns(data),
        own_parts=data.own_parts,
        notes=source.notes,
        source_files=source_files(source.files),
        options=options,
        packed_transforms=packed_transforms,
        left_transforms=left_transforms,
    )


def _version() -> str:
    try:
        return metadata.version("rightbatch")
    except metadata.PackageNotFoundError:
        return "not installed"


def _goes_on(partial: Path, draft: Manifest) -> bool:
    """Whether what is unfinished there is of these data."""
    try:
        with PackingFolder(partial, draft):
            return True
    except OptionError as error:
        if "another process" in str(error):
            raise
        return False


def _refuse_changed(source: Dataset, draft: Manifest) -> None:
    """Refuse to end a pack whose source changed meanwhile: it would be of neither state."""
    before = {file.path: file for file in draft.source_files}
    for now in source_files(source.files):
        if now.path in before and now != before[now.path]:
            raise DataError(
                f"{now.path} changed while it was packed. Open the data again and pack them anew: "
                "overwrite=True (--overwrite)"
            )


def _refuse_small_disk(packing: PackingFolder, folder: Path, data: Dataset) -> None:
    needed = _missing_bytes(packing, data)
    free = shutil.disk_usage(packing.path).free
    if free < needed:
        raise DiskSpaceError(
            f"{folder} needs {bytes_text(needed)} more on its disk, which has {bytes_text(free)} "
            "free. Make room, name a folder on another disk, or pack fewer columns"
        )


def _missing_bytes(packing: PackingFolder, data: Dataset) -> int:
    """What the rest of the packing takes on the disk."""
    draft = packing.draft
    missing = draft.length - packing.rows_done
    return missing * (sum(column_sizes(data)) + KEYS_BYTES) + draft.length * (
        _SCRATCH_BYTES - KEYS_BYTES
    )


def _unwritable(folder: Path, error: OSError) -> OptionError:
    return OptionError(
        f"{folder} can not be written ({error.strerror}: {error.filename}). Name a folder in a "
        "place where you may write, or look at the disk"
    )


def _full_disk(packing: PackingFolder, folder: Path, data: Dataset) -> DiskSpaceError:
    sample_bytes = sum(column_sizes(data))
    done, total = (bytes_text(n * sample_bytes) for n in (packing.rows_done, packing.draft.length))
    return DiskSpaceError(
        f"the disk of {packing.path} is full: {done} of {total} are packed and kept there. Make "
        f"room for {bytes_text(_missing_bytes(packing, data))} and pack again into {folder}: it "
        "goes on where it stopped"
    )


def _sync_quietly(packing: PackingFolder) -> None:
    """Keep what is written, where that is possible: another error is on its way up."""
    try:
        packing.cut_back()  # on a full disk, the room that the journal needs
        packing.sync()
    except OSError:
        logger.debug("the last blocks could not be kept", exc_info=True)

"""A packed data set: a folder of .npy files, one a column, mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.arrays import check_target
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.file_region import FileRegion, inode_of
from rightbatch.data.options import OpenOptions
from rightbatch.data.packed_array import PackedArray
from rightbatch.data.packed_column import map_columns
from rightbatch.data.packed_manifest import Manifest, SourceFile, read_manifest
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.errors import DataError

logger = logging.getLogger(__name__)


class PackedDataset(ArrayDataset):
    """What `pack` wrote: read-only memory maps of the columns, in the order of the source.

    `folder` is where it lies and `manifest` what manifest.json says. Values are read from the disk
    when they are asked for, and the memory they take is given back when it is needed.
    """

    def __init__(self, folder: Path, options: OpenOptions | None = None) -> None:
        """Open the pack `folder`.

        Raises DataError where the manifest or a file is damaged, missing or other than described.
        """
        options = options or OpenOptions()
        options.refuse_unused(f"the packed data set {folder}")
        manifest = read_manifest(folder)
        # Runs in other processes may start in another folder.
        self.folder = folder.absolute()
        self.manifest = manifest
        name = options.name or str(folder)
        stored = {column.name: column for column in manifest.columns}
        chosen = options.choose(name, tuple(stored), default_target=manifest.target)
        super().__init__(
            self._map(chosen.columns),
            name=name,
            target=chosen.target,
            categories={
                column: texts
                for column in chosen.columns
                if (texts := stored[column].categories) is not None
            },
            own_parts=manifest.own_parts,
            tokens=[column for column in chosen.columns if stored[column].is_token],
            notes=(*manifest.notes, *_notes(folder, manifest)),
        )
        self.overlap = manifest.overlap
        if chosen.target is not None and chosen.target != manifest.target:
            check_target(name, chosen.target, self._arrays[chosen.target])
        self.files = (
            self.folder / "manifest.json",
            *(self.folder / array.file for array in manifest.arrays.values()),
        )
        self._map_beside()

    @cached_property
    def fingerprint(self) -> str:
        """That of the source, so that what began there goes on here; one of its own otherwise.

        A choice of columns, and transforms that were packed in, make it another one.
        """
        names = [column.name for column in self.columns]
        return packed_fingerprint(
            self.manifest,
            None if names == [column.name for column in self.manifest.columns] else names,
        )

    def _find_regions(self) -> dict[str, FileRegion | RaggedRegion]:
        """Where the columns lie, as the manifest says."""
        stored = {column.name: column for column in self.manifest.columns}
        found: dict[str, FileRegion | RaggedRegion] = {}
        for name, values in self._arrays.items():
            column = stored[name]
            if column.offsets is None:
                found[name] = self._region(column.array)
            else:
                found[name] = RaggedRegion(
                    ragged=values,
                    values=self._region(column.array),
                    offsets=self._region(column.offsets),
                )
        return found

    def _region(self, stored: PackedArray) -> FileRegion:
        values_bytes = math.prod(stored.file_shape) * stored.dtype.itemsize
        return FileRegion(
            path=self.folder / stored.file,
            offset=stored.file_bytes - values_bytes,
            length=stored.file_shape[0],
            dtype=stored.dtype,
            shape=stored.shape[1:],
            inode=inode_of(self.folder / stored.file),
        )

    def _map(self, columns: Sequence[str]) -> Arrays:
        stored = {column.name: column for column in self.manifest.columns}
        return map_columns(self.folder, [stored[name] for name in columns])

    def _map_beside(self) -> None:
        """Map what is stored beside the columns."""
        self.known_duplicates = self._known_duplicates()
        if self.manifest.source_rows is not None:
            self.source_rows = self.manifest.source_rows.map(self.folder, "the source's rows")

    def _known_duplicates(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        packed = {column.name for column in self.manifest.columns} - {self.manifest.target}
        if self.manifest.duplicate_rows is None or packed != {c.name for c in self.inputs}:
            return None
        if self.manifest.duplicates is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        pairs = self.manifest.duplicates.map(self.folder, "the duplicates")
        return pairs[:, 0], pairs[:, 1]

    def __getstate__(self) -> dict[str, Any]:
        # A map would be pickled with all that it shows; the other process maps the files itself.
        columns = [column.name for column in self.columns]
        dropped = {"_arrays": columns, "known_duplicates": None, "source_rows": None}
        return {**super().__getstate__(), **dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Not as arrays are received: the manifest says how they are mapped.
        Dataset.__setstate__(self, state)
        if read_manifest(self.folder) != self.manifest:
            raise DataError(
                f"{self.folder} has been packed anew since it was opened; open it again."
            )
        self._arrays = self._map(state["_arrays"])
        self._regions = self._find_regions()
        self._map_beside()


def packed_fingerprint(manifest: Manifest, columns: Sequence[str] | None = None) -> str:
    """The fingerprint of a pack of which `columns` are kept; None for all, in their order."""
    if columns is None and not manifest.packed_transforms:
        return manifest.fingerprint
    words = json.dumps([manifest.fingerprint, list(manifest.packed_transforms), columns])
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def source_files(files: Sequence[Path]) -> tuple[SourceFile, ...]:
    """The files as they are now; those that are gone are left out."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append(
            SourceFile(path=str(file.absolute()), bytes=status.st_size, mtime_ns=status.st_mtime_ns)
        )
    return tuple(found)


def _notes(folder: Path, manifest: Manifest) -> list[str]:
    """What the reader has to know beyond what the source had to say."""
    notes = []
    now = {file.path: file for file in source_files([Path(f.path) for f in manifest.source_files])}
    changed = [f.path for f in manifest.source_files if f.path in now and f != now[f.path]]
    if changed:
        more = f" and {len(changed) - 1:,} more files" if len(changed) > 1 else ""
        notes.append(
            f"{folder}: the source {changed[0]}{more} changed since it was packed "
            f"({manifest.created}). The packed values are used; to have the new ones, pack anew: "
            "rb.pack(data, folder, overwrite=True), rightbatch pack DATA FOLDER --overwrite"
        )
        logger.warning(notes[-1])
    return [*notes, *left_transform_notes(str(folder), manifest)]


def left_transform_notes(folder: str, manifest: Manifest) -> list[str]:
    """The note that transforms were attached to the source, where they were not packed."""
    if not manifest.left_transforms:
        return []
    kinds = ", ".join(str(left.get("kind")) for left in manifest.left_transforms)
    return [
        f"{folder}: the source had transforms attached that were not packed ({kinds}); attach "
        "them again with transform()"
    ]

"""A packed data set behind a URL: its columns are read in pieces, as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.arrays import check_target
from rightbatch.data.block_checksums import checksum
from rightbatch.data.options import OpenOptions
from rightbatch.data.packed import left_transform_notes, packed_fingerprint
from rightbatch.data.packed_array import PackedArray
from rightbatch.data.packed_manifest import MANIFEST_FILE, Manifest, read_manifest
from rightbatch.data.remote_arrays import RemoteArrays
from rightbatch.data.remote_file import RemoteFile
from rightbatch.data.remote_path import RemotePath, as_path
from rightbatch.data.remote_ragged import RemoteRagged
from rightbatch.data.remote_region import RemoteColumn
from rightbatch.errors import DataError

# Where the server lists a folder, one request tells size and tag of every file in it.
_FEW_FILES = 2


class RemotePack(RemoteArrays):
    """What `pack` wrote, behind a URL: the same samples, order and fingerprint as of a copy here.

    `folder` is the URL and `manifest` what manifest.json says. Opening reads that file alone, and
    compares the sizes of the others. Raises DataError where the manifest or a file is damaged,
    missing or other than described, and RemoteError where one can not be read.
    """

    def __init__(self, folder: RemotePath, options: OpenOptions | None = None) -> None:
        options = options or OpenOptions()
        options.refuse_unused(f"the packed data set {folder}")
        manifest = read_manifest(as_path(folder))
        self.folder = folder
        self.manifest = manifest
        name = options.name or str(folder)
        stored = {column.name: column for column in manifest.columns}
        chosen = options.choose(name, tuple(stored), default_target=manifest.target)
        self._paths = _listed(folder, manifest)
        self._used: list[RemotePath] = []
        columns: dict[str, RemoteColumn | RemoteRagged] = {}
        for column in chosen.columns:
            values, offsets = stored[column].array, stored[column].offsets
            role = f"column {column!r}"
            columns[column] = (
                self._column(values, role)
                if offsets is None
                else RemoteRagged(
                    self._column(values, f"the values of {role}"),
                    self._column(offsets, f"the offsets of {role}"),
                    is_text=stored[column].is_text,
                )
            )
        super().__init__(
            columns,
            name=name,
            target=chosen.target,
            columns=[stored[column].column for column in chosen.columns],
            own_parts=manifest.own_parts,
            notes=(*manifest.notes, *left_transform_notes(str(folder), manifest)),
        )
        self.overlap = manifest.overlap
        described = [self._paths.get(MANIFEST_FILE) or folder / MANIFEST_FILE, *self._used]
        self.remote_objects = tuple(path.remote_object() for path in described)
        if chosen.target is not None and chosen.target != manifest.target:
            _check_target(self, name, chosen.target)

    @cached_property
    @override
    def fingerprint(self) -> str:
        """That of the pack where it lies here: what began there goes on here."""
        names = [column.name for column in self.columns]
        return packed_fingerprint(
            self.manifest,
            None if names == [column.name for column in self.manifest.columns] else names,
        )

    @property
    def known_duplicates(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """The duplicates that were found when packing, fetched when they are asked for."""
        packed = {column.name for column in self.manifest.columns} - {self.manifest.target}
        if self.manifest.duplicate_rows is None or packed != {c.name for c in self.inputs}:
            return None
        if self.manifest.duplicates is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        pairs = self._column(self.manifest.duplicates, "the duplicates")[0:]
        return pairs[:, 0], pairs[:, 1]

    @known_duplicates.setter
    def known_duplicates(self, _: Any) -> None:
        raise AttributeError("the duplicates of a pack are those that its manifest tells")

    @property
    def source_rows(self) -> NDArray[np.int64] | None:
        """The samples' row numbers in the source, fetched when they are asked for."""
        if self.manifest.source_rows is None:
            return None
        return self._column(self.manifest.source_rows, "the source's rows")[0:]

    @source_rows.setter
    def source_rows(self, _: Any) -> None:
        raise AttributeError("the source's rows of a pack are those that its manifest tells")

    def _column(self, stored: PackedArray, role: str) -> RemoteColumn:
        path = self._paths.get(stored.file) or self.folder / stored.file
        described = f"{path} ({role} of the packed data set {self.folder})"
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise DataError(
                f"{described} is missing; expected are {stored.file_bytes:,} bytes of "
                f"{stored.dtype} of shape {stored.file_shape}. Copy it there, or pack the data "
                "anew."
            ) from error
        if size != stored.file_bytes:
            raise DataError(
                f"{described} has {size:,} bytes, and manifest.json says {stored.file_bytes:,}. "
                "Copy the file there anew, or pack the data anew."
            )
        self._used.append(path)
        values_bytes = math.prod(stored.file_shape) * stored.dtype.itemsize
        return RemoteColumn(
            path,
            offset=stored.file_bytes - values_bytes,
            length=stored.file_shape[0],
            dtype=stored.dtype,
            shape=stored.shape[1:],
            check=partial(_check_header, stored, described),
        )


def _listed(folder: RemotePath, manifest: Manifest) -> Mapping[str, RemotePath]:
    """The pack's files by name, where there are many and the server lists them."""
    if len(manifest.arrays) <= _FEW_FILES or folder.url.startswith("http"):
        return {}
    return {path.name: path for path in folder.iterdir()}


def _check_header(stored: PackedArray, described: str, file: RemoteFile) -> None:
    """Raise DataError where the file does not begin as it was written."""
    if checksum(file.read_at(0, stored.header_bytes)) != stored.header_checksum:
        raise DataError(
            f"{described} does not begin with the header that manifest.json tells of. Copy the "
            "file there anew, or pack the data anew."
        )


def _check_target(data: RemotePack, name: str, target: str) -> None:
    values = data.array(target)
    check_target(name, target, data.span(0, 1)[target] if values is None else values)

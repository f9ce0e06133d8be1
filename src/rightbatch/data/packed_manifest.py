"""The manifest of a packed data set: manifest.json, written once and read strictly."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rightbatch.data.packed_array import PackedArray
from rightbatch.data.packed_column import PackedColumn
from rightbatch.data.packed_json import array_to_json, column_to_json, read_array, read_column
from rightbatch.data.stored_fields import Fields, WrongFieldError, is_whole
from rightbatch.errors import DataError

MANIFEST_FILE = "manifest.json"
FORMAT = "rightbatch packed data set"
VERSION = 1

# The checksum stands last, over every byte before it.
_SEALED = re.compile(rb'(.*,\n "checksum": )"([0-9a-f]{32})"\n}\n', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that the data were packed from, as it was then."""

    path: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pack holds, where it came from, and how it was made.

    `fingerprint` and `name` are those of the source. `duplicates` is the array (D, 2) of rows and
    the first rows of equal inputs; None with `duplicate_rows` 0 where there are none, and with
    `duplicate_rows` None where nobody looked. `packed_transforms` ran before the values were
    stored, `left_transforms` were attached to the source and did not. `source_rows` is the array
    (N,) of the samples' row numbers in the source, None where they are the samples' own.
    `source_signature` names the files of a source whose fingerprint only the pack gives. `overlap`
    is that of the source (see `Dataset`).
    """

    rightbatch: str
    created: str
    name: str
    fingerprint: str
    length: int
    target: str | None
    columns: tuple[PackedColumn, ...]
    own_parts: Mapping[str, range] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source_files: tuple[SourceFile, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    packed_transforms: tuple[Mapping[str, Any], ...] = ()
    left_transforms: tuple[Mapping[str, Any], ...] = ()
    duplicate_rows: int | None = None
    duplicates: PackedArray | None = None
    source_rows: PackedArray | None = None
    source_signature: str | None = None
    overlap: int = 0

    @property
    def arrays(self) -> dict[str, PackedArray]:
        """Every file of the pack but the manifest, by what it is for."""
        found: dict[str, PackedArray] = {}
        for column in self.columns:
            found |= column.files
        more = {"duplicates": self.duplicates, "source rows": self.source_rows}
        return found | {role: array for role, array in more.items() if array is not None}

    @property
    def files_bytes(self) -> int:
        """The bytes of all arrays together, headers included."""
        return sum(array.file_bytes for array in self.arrays.values())

    def to_bytes(self) -> bytes:
        """The content of manifest.json, its own checksum at the end."""
        described = {
            "format": FORMAT,
            "version": VERSION,
            "rightbatch": self.rightbatch,
            "created": self.created,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "length": self.length,
            "target": self.target,
            "columns": [column_to_json(column) for column in self.columns],
            "own_parts": {name: [rows.start, rows.stop] for name, rows in self.own_parts.items()},
            "notes": list(self.notes),
            "source_files": [vars(file) for file in self.source_files],
            "options": dict(self.options),
            "packed_transforms": list(self.packed_transforms),
            "left_transforms": list(self.left_transforms),
            "duplicate_rows": self.duplicate_rows,
            "duplicates": None if self.duplicates is None else array_to_json(self.duplicates),
            "source_rows": None if self.source_rows is None else array_to_json(self.source_rows),
            "source_signature": self.source_signature,
        }
        if self.overlap:
            # Where there is one: what other packs say stays as it was.
            described["overlap"] = self.overlap
        text = json.dumps(described, indent=1)
        head = (text.removesuffix("\n}") + ',\n "checksum": ').encode()
        return head + f'"{_digest(head)}"\n}}\n'.encode()


def is_pack(folder: Path) -> bool:
    """Whether the folder holds a manifest that calls itself one of a packed data set."""
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            return f'"format": "{FORMAT}"'.encode() in file.read(200)
    except OSError:
        return False


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the pack `folder`; DataError, naming the field, where it is not valid."""
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is no packed data set: it has no {MANIFEST_FILE}. Give the folder that "
            "rightbatch pack wrote."
        ) from error
    sealed = _SEALED.fullmatch(content)
    if sealed is None or _digest(sealed[1]) != sealed[2].decode():
        raise DataError(f"{path} {_why_not_sealed(content)}")
    try:
        described = json.loads(content)
        return _manifest(Fields(described, ""), overlaps="overlap" in described)
    except WrongFieldError as error:
        raise DataError(f"{path}: {error}. Pack the data anew.") from error


def _why_not_sealed(content: bytes) -> str:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > VERSION:
        return (
            f"has the version {version}, and this rightbatch reads {VERSION}: open the data with "
            "a newer rightbatch, or pack them anew."
        )
    if isinstance(found, dict) and found.get("format") != FORMAT:
        return (
            f"is no manifest of a packed data set: its field 'format' is {found.get('format')!r} "
            f"and not {FORMAT!r}."
        )
    return (
        "is damaged: its content does not match the checksum at its end. Put it back from a copy, "
        "or pack the data anew."
    )


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _manifest(fields: Fields, *, overlaps: bool) -> Manifest:
    fields.take("format", repr(FORMAT), lambda found: found if found == FORMAT else None)
    version = fields.whole("version", 1)
    if version != VERSION:
        raise WrongFieldError(
            f"the field 'version' is {version}, and this rightbatch reads {VERSION}"
        )
    length = fields.whole("length", 1)
    described = fields.items("columns")
    columns = tuple(
        read_column(found, f"columns[{place}].", length) for place, found in enumerate(described)
    )
    names = [column.name for column in columns]
    files = [array.file.casefold() for column in columns for array in column.files.values()]
    if not columns or len(set(names)) < len(names) or len(set(files)) < len(files):
        raise WrongFieldError(
            "the field 'columns' must have one column at least, and no name or file twice"
        )
    target = fields.text_or_none("target")
    if target is not None and target not in names:
        raise WrongFieldError(f"the field 'target' is {target!r}, which is no column")
    duplicate_rows, duplicates = _duplicates(fields, length)
    manifest = Manifest(
        rightbatch=fields.text("rightbatch"),
        created=fields.text("created"),
        name=fields.text("name"),
        fingerprint=fields.text("fingerprint"),
        length=length,
        target=target,
        columns=columns,
        own_parts={
            name: _rows(name, found, length) for name, found in fields.mapping("own_parts").items()
        },
        notes=fields.texts("notes"),
        source_files=tuple(
            _source_file(Fields(found, f"source_files[{place}]."))
            for place, found in enumerate(fields.items("source_files"))
        ),
        options=fields.mapping("options"),
        packed_transforms=fields.objects("packed_transforms"),
        left_transforms=fields.objects("left_transforms"),
        duplicate_rows=duplicate_rows,
        duplicates=duplicates,
        source_rows=_whole_numbers(fields, "source_rows", (length,)),
        source_signature=fields.text_or_none("source_signature"),
        overlap=fields.whole("overlap", 1) if overlaps else 0,
    )
    fields.done()
    return manifest


def _duplicates(fields: Fields, length: int) -> tuple[int | None, PackedArray | None]:
    count = fields.whole_or_none("duplicate_rows")
    if not count:
        valid = "null where 'duplicate_rows' is 0 or null"
        fields.take("duplicates", valid, lambda found: (found,) if found is None else None)
        return count, None
    array = _whole_numbers(fields, "duplicates", (count, 2))
    if array is None or count >= length:
        raise WrongFieldError(
            f"the field 'duplicate_rows' is {count}, and 'duplicates' or 'length' contradict it"
        )
    return count, array


def _whole_numbers(fields: Fields, name: str, shape: tuple[int, ...]) -> PackedArray | None:
    """The description of an array of int64 of `shape`, or None where the field is null."""
    found = fields.take(name, "null or an object", lambda found: (found,))[0]
    if found is None:
        return None
    described = Fields(found, f"{name}.")
    array = read_array(described, shape[0])
    described.done()
    if array.dtype != np.dtype(np.int64) or array.shape != shape:
        raise WrongFieldError(
            f"the field {name!r} is {array.dtype} of shape {array.shape}, not int64 of {shape}"
        )
    return array


def _source_file(fields: Fields) -> SourceFile:
    file = SourceFile(
        path=fields.text("path"),
        bytes=fields.whole("bytes", 0),
        mtime_ns=fields.whole("mtime_ns", -(2**63)),
    )
    fields.done()
    return file


def _rows(name: str, found: Any, length: int) -> range:
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(is_whole(end, 0) for end in found)
        or not found[0] < found[1] <= length
    ):
        raise WrongFieldError(
            f"the field 'own_parts.{name}' is {found!r:.80}; valid is [start, stop] within "
            f"{length} rows"
        )
    return range(found[0], found[1])

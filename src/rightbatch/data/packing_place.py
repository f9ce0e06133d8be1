"""The place of a pack: who stands in it, who may take it, and how it is taken."""

from __future__ import annotations

import shutil
from pathlib import Path

from rightbatch.data.packed import PackedDataset
from rightbatch.data.packed_manifest import MANIFEST_FILE, Manifest, is_pack, read_manifest
from rightbatch.data.packing_folder import differing, identity
from rightbatch.durable_files import sync_folder
from rightbatch.errors import DataError, OptionError


def existing_pack(folder: Path, draft: Manifest, *, overwrite: bool) -> PackedDataset | None:
    """The pack of the same data that stands in the place; None where the place can be taken."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise OptionError(f"{folder} is a file; name a folder that does not exist yet")
    if not is_pack(folder):
        if any(folder.iterdir()):
            raise OptionError(
                f"{folder} exists and holds no packed data set; name a folder that does not exist "
                "yet"
            )
        return None
    if not overwrite:
        manifest = read_manifest(folder)
        asked, there = identity(draft), identity(manifest)
        if asked != there:
            raise OptionError(
                f"{folder} holds a pack of other data or of another state of them (other are: "
                f"{differing(asked, there)}). Name another folder, or replace it: "
                "overwrite=True (--overwrite)"
            )
        data = PackedDataset(folder)
        data.notes = (*data.notes, f"{folder} holds these data already; nothing was written")
        return data
    _refuse_foreign_files(folder)
    return None


def _refuse_foreign_files(folder: Path) -> None:
    """Refuse to replace a pack in which somebody put files of their own."""
    try:
        own = {array.file for array in read_manifest(folder).arrays.values()} | {MANIFEST_FILE}
    except DataError:
        # Damaged, and so to be replaced; what it would hold is told by the endings alone.
        own = {path.name for path in folder.glob("*.npy")} | {MANIFEST_FILE}
    others = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if others:
        raise OptionError(
            f"{folder} holds files that are not of the pack ({', '.join(others[:5])}), and they "
            "would be lost; move them away first"
        )


def refuse_or_remove(partial: Path, *, overwrite: bool) -> None:
    """Clear the place of a complete pack of other data that never got its name, where allowed."""
    if not overwrite:
        raise OptionError(
            f"{partial} holds a complete pack of other data; rename or remove it, or pack with "
            "overwrite=True (--overwrite)"
        )
    _refuse_foreign_files(partial)
    shutil.rmtree(partial)


def put_in_place(partial: Path, folder: Path) -> None:
    """Rename a complete pack to `folder`; a pack that stood there is removed once replaced."""
    if folder.exists():
        if is_pack(folder):
            remove_replaced(folder)
            folder.rename(_replaced_folder(folder))
        else:
            folder.rmdir()  # an empty folder: anything else has been refused
    partial.rename(folder)
    sync_folder(folder.parent)
    remove_replaced(folder)


def remove_replaced(folder: Path) -> None:
    """Remove the pack that stood in the place of `folder`, which a kill may have left behind."""
    if is_pack(_replaced_folder(folder)):
        shutil.rmtree(_replaced_folder(folder))


def _replaced_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")

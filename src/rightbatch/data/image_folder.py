"""A folder of images: one file a sample, in a folder for each class, read as they are encoded."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, RemoteObject, check_span, valid_rows
from rightbatch.data.file_region import MOST_BYTES
from rightbatch.data.options import OpenOptions
from rightbatch.data.ragged import Ragged, offsets_of
from rightbatch.data.remote_path import is_remote
from rightbatch.errors import DataError

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".avif"),
)
IMAGE = "image"
CLASS = "class"
_MOST_NAMED = 5
_REQUESTS_AT_ONCE = 16
# Of thousands of objects the first ones stand for all: a run keeps their tags.
_MOST_OBJECTS = 100


class Folder(Protocol):
    """What is asked of a folder or a file: `pathlib.Path` has it, and so may a remote path."""

    @property
    def name(self) -> str:
        """The last piece of the path."""

    def iterdir(self) -> Iterator[Any]:
        """What the folder holds."""

    def is_dir(self) -> bool:
        """Whether it is a folder."""

    def is_file(self) -> bool:
        """Whether it is a file."""

    def stat(self) -> Any:
        """Its status, of which `st_size` is taken."""

    def read_bytes(self) -> bytes:
        """The content of the file."""

    def __truediv__(self, name: str) -> Any:
        """What is called `name` in the folder."""


class ImageFolder(Dataset):
    """The files of a folder, in the order of the names of their classes and then of the files.

    The column `image` (uint8, ragged) has the bytes of each file as it is encoded;
    `rb.decode_images` makes arrays of them. The target `class` (int64) is the place of the file's
    folder among the sorted names of the folders, which are its categories. A folder of images
    without class folders has no target.

    The fingerprint is of names and sizes: it takes no look into the files, and a file that was
    replaced by another one of the same size goes unnoticed.

    Raises DataError where the folder holds no images, or holds them in more than one way.
    """

    def __init__(self, folder: Folder, options: OpenOptions | None = None) -> None:
        options = options or OpenOptions()
        source = str(folder)
        options.refuse_unused(f"{source} (a folder of images)")
        self._folder = folder
        found = _Listing(folder)
        self._classes = found.classes
        self._names = found.names
        self._sizes = found.sizes
        self._folders = [folder / name for name in found.classes] or [folder]
        columns = {
            IMAGE: Column(name=IMAGE, dtype=np.dtype(np.uint8), is_ragged=True),
        }
        self._codes: NDArray[np.int64] | None = None
        if found.classes:
            self._codes = found.codes
            columns[CLASS] = Column(
                name=CLASS, dtype=np.dtype(np.int64), categories=tuple(found.classes)
            )
        chosen = options.choose(
            source, tuple(columns), default_target=CLASS if found.classes else None
        )
        super().__init__(
            name=options.name or source,
            columns=[columns[name] for name in chosen.columns],
            target=chosen.target,
            notes=found.notes,
        )
        self.remote_objects = found.objects
        if isinstance(folder, Path):
            self.files = (folder,)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b of the names of classes and files, and of the files' sizes."""
        digest = hashlib.blake2b(digest_size=16)
        described = [(column.name, column.dtype.str, column.categories) for column in self.columns]
        digest.update(repr(described).encode("utf-8", errors="surrogatepass"))
        codes = np.empty(0, np.int64) if self._codes is None else self._codes
        for array in (self._names.offsets, self._names.values, self._sizes, codes):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices`; DataError, naming the file, where one can not be read."""
        return self._read(valid_rows(indices, len(self)))

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`; DataError where one can not be read."""
        check_span(start, stop, len(self))
        return self._read(np.arange(start, stop))

    def array(self, name: str) -> NDArray[Any] | None:
        """The classes; None of the images, which are read file by file."""
        return self._codes if self.column(name).name == CLASS else None

    def ragged_bytes(self, name: str) -> int | None:
        """The bytes of all files."""
        return int(self._sizes.sum()) if self.column(name).is_ragged else None

    def locate(self, row: int) -> str:
        """The file of a row, within the folder."""
        return f"row {row:,} ({self.file_name(row)})"

    def file_name(self, row: int) -> str:
        """The file of a row, by its name within the folder.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "cat").mkdir()
        ...     _ = (Path(folder) / "cat" / "1.jpg").write_bytes(b"...")
        ...     ImageFolder(Path(folder)).file_name(0)
        'cat/1.jpg'
        """
        name = _text(self._names[row])
        return name if self._codes is None else f"{self._classes[int(self._codes[row])]}/{name}"

    def _read(self, rows: NDArray[np.int64]) -> Arrays:
        arrays: Arrays = {}
        for column in self.columns:
            if column.name == CLASS:
                assert self._codes is not None  # there is no such column otherwise
                arrays[CLASS] = self._codes[rows]
            else:
                arrays[IMAGE] = self._images(rows)
        return arrays

    def _images(self, rows: NDArray[np.int64]) -> Ragged:
        """The bytes of the files of `rows`; DataError names the one that can not be read."""
        sizes = self._sizes[rows]
        offsets = offsets_of(sizes)
        # One byte more than they should have shows that one has grown.
        values = np.empty(int(offsets[-1]) + 1, np.uint8)
        room = values.data
        wanted = [
            (row, path, room[start : start + size + 1])
            for row, path, start, size in zip(
                rows.tolist(), self._paths(rows), offsets.tolist(), sizes.tolist(), strict=False
            )
        ]
        if len(rows) < 2 or not is_remote(self._folder):
            for one in wanted:
                self._fill(*one)
        else:
            # Each waits for the server, and not for the others.
            with ThreadPoolExecutor(min(_REQUESTS_AT_ONCE, len(rows)), "rightbatch-fetch") as pool:
                deque(pool.map(lambda one: self._fill(*one), wanted), maxlen=0)
        return Ragged.of_checked(values[:-1], offsets, False)

    def _paths(self, rows: NDArray[np.int64]) -> Iterator[Any]:
        """Where the files of `rows` are: local ones as text, since a `Path` takes 4 us to make."""
        offsets, names = self._names.offsets, self._names.values
        homes = np.zeros(len(rows), np.int64) if self._codes is None else self._codes[rows]
        is_local = isinstance(self._folder, Path)
        folders = [f"{folder}/" for folder in self._folders] if is_local else self._folders
        # Looked up for all rows at once: one by one it takes as long as reading a small file.
        for home, start, stop in zip(
            homes.tolist(), offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True
        ):
            name = _text(names[start:stop])
            yield folders[home] + name if is_local else folders[home] / name

    def _fill(self, row: int, path: Any, room: memoryview) -> None:
        """Read a file into all of `room` but its last byte."""
        size = len(room) - 1
        try:
            if isinstance(path, str):
                found = _read_into(path, room)
            else:
                content = path.read_bytes()
                found = len(content)
                room[:size] = content[:size].ljust(size)
        except OSError as error:
            raise DataError(
                f"{self.name}: {self.locate(row)} can not be read: {error.strerror or error}. Put "
                "the file back, or open the folder anew"
            ) from error
        if found != size:
            raise DataError(
                f"{self.name}: {self.locate(row)} has changed since the folder was opened: it had "
                f"{size:,} bytes and has {found:,}. Open the folder anew"
            )


def holds_images(folder: Folder) -> bool:
    """Whether a folder, or one of the folders in it, holds a file that ends as images do."""
    entries = _sorted(folder)
    return any(is_image(entry.name) for entry in entries) or any(
        is_image(inner.name) for entry in entries if _is_folder(entry) for inner in entry.iterdir()
    )


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image.

    >>> is_image("rose.JPG"), is_image("._rose.jpg"), is_image("SHA256SUMS")
    (True, False, False)
    """
    return not name.startswith(".") and name.lower().endswith(IMAGE_ENDINGS)


class _Listing:
    """What a folder holds, names as bytes one after another: a million take some 30 MB."""

    def __init__(self, folder: Folder) -> None:
        self.classes: list[str] = []
        self.notes: list[str] = []
        self.objects: tuple[RemoteObject, ...] = ()
        self._others: list[str] = []
        entries = _sorted(folder)
        folders = [entry for entry in entries if _is_folder(entry)]
        inside = {entry.name for entry in folders}
        loose = [entry for entry in entries if is_image(entry.name) and entry.name not in inside]
        kept = inside.union(entry.name for entry in loose)
        self._leave_out(entry.name for entry in entries if entry.name not in kept)
        pieces = [] if loose else [self._list(each) for each in folders]
        full = [
            (each.name, piece)
            for each, piece in zip(folders, pieces, strict=False)
            if piece is not None
        ]
        if loose:
            inner = next((each for each in folders if _first_image(each)), None)
            if inner is not None:
                raise DataError(
                    f"{folder} holds the image {loose[0].name} beside the folder {inner.name}, "
                    "which holds images too. Put every image into the folder of its class, or all "
                    "of them into one folder"
                )
            self._leave_out(f"{each.name}/" for each in folders)
            names, sizes = self._described(loose)
            counts = [len(names)]
        else:
            empty = [
                each.name for each, piece in zip(folders, pieces, strict=True) if piece is None
            ]
            if not full:
                raise _no_images(folder, folders)
            if empty:
                self.notes.append(f"Left out folders that hold no image: {_listed(empty)}.")
            self.classes = [name for name, _ in full]
            names = Ragged.concatenate([piece[0] for _, piece in full])
            sizes = np.concatenate([piece[1] for _, piece in full])
            counts = [len(piece[0]) for _, piece in full]
        self.names, self.sizes = names, sizes
        self.codes = np.repeat(np.arange(len(counts)), counts)
        if self._others:
            self.notes.append(
                f"Left out {len(self._others):,} entr{'y' if len(self._others) == 1 else 'ies'} "
                f"that {'is' if len(self._others) == 1 else 'are'} no image by name: "
                f"{_listed(self._others)}."
            )

    def _list(self, folder: Any) -> tuple[Ragged, NDArray[np.int64]] | None:
        """The names and sizes of the images of a class; None where there is none."""
        entries = _sorted(folder)
        images = [entry for entry in entries if is_image(entry.name)]
        kept = {entry.name for entry in images}
        self._leave_out(f"{folder.name}/{e.name}" for e in entries if e.name not in kept)
        return self._described(images) if images else None

    def _leave_out(self, names: Iterable[str]) -> None:
        self._others.extend(names)

    def _described(self, files: Sequence[Any]) -> tuple[Ragged, NDArray[np.int64]]:
        sizes = np.array([file.stat().st_size for file in files], np.int64)
        # As the system has them: a name that is no UTF-8 is found again as well.
        names = [file.name.encode("utf-8", errors="surrogateescape") for file in files]
        some = files[: max(0, _MOST_OBJECTS - len(self.objects))]
        self.objects += tuple(file.remote_object() for file in some if is_remote(file))
        return Ragged.from_list(names), sizes


def _sorted(folder: Any) -> list[Any]:
    return sorted(folder.iterdir(), key=lambda entry: str(entry.name))


def _is_folder(entry: Any) -> bool:
    return not entry.name.startswith((".", "__MACOSX")) and entry.is_dir()


def _first_image(folder: Any) -> str | None:
    return next((entry.name for entry in folder.iterdir() if is_image(entry.name)), None)


def _no_images(folder: Folder, folders: Sequence[Any]) -> DataError:
    nested = next((each for each in folders for inner in each.iterdir() if _is_folder(inner)), None)
    hint = (
        f" {nested.name} holds folders itself: if those are the classes, open "
        f"{folder}/{nested.name}"
        if nested is not None
        else ""
    )
    return DataError(
        f"{folder} and the folders in it hold no image; images end in "
        f"{', '.join(IMAGE_ENDINGS)}.{hint}"
    )


def _read_into(path: str, room: memoryview) -> int:
    """Read a file into `room`, one byte longer than the file should be; gives how long it is.

    With one call where nothing has changed: `Path.read_bytes` makes five, each of which lets go of
    the interpreter's lock, and takes twice as long.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = read = os.readv(descriptor, [room[:MOST_BYTES]])
        while read and found < len(room) - 1:
            read = os.readv(descriptor, [room[found : found + MOST_BYTES]])
            found += read
        return found if found < len(room) else os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _text(name: NDArray[Any]) -> str:
    return name.tobytes().decode("utf-8", errors="surrogateescape")


def _listed(names: Sequence[str]) -> str:
    more = f", … {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more

"""A URL with the methods that sources use of a path, so that they open it as they open a path."""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, TypeGuard, TypeVar, cast

from rightbatch.data.dataset import RemoteObject
from rightbatch.data.remote_file import RemoteFile, RemoteReader
from rightbatch.data.remote_retry import patiently
from rightbatch.data.remote_settings import RemoteSettings
from rightbatch.data.remote_store import ObjectInfo, Store, store_of
from rightbatch.data.remote_url import child_of, name_of, parent_of, path_of, shown_url

Value = TypeVar("Value")

_BUFFER_BYTES = 1 << 18


class RemoteStatus(NamedTuple):
    """What `stat` tells of an object.

    `st_mtime_ns` is no time but a number made of the tag: another one where the object changed.
    """

    st_size: int
    st_mtime_ns: int
    st_ino: int = 0


class RemotePath:
    """A URL in place of a path; `storage_options` go to fsspec's file system of the protocol.

    What is there is asked for once, when it is first needed: from then on this object stands for
    that version, and reading another one raises RemoteError. Text and repr leave out what may be
    secret: storage options, a password, the signature of a signed address.

    >>> path = RemotePath("s3://bucket/taxi")
    >>> (path / "2019-01.csv").name, path / "2019-01.csv"
    ('2019-01.csv', RemotePath('s3://bucket/taxi/2019-01.csv'))
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        info: ObjectInfo | None = None,
    ) -> None:
        self.url = url
        self._options = dict(storage_options or {})
        self._info = info
        self._file: RemoteFile | None = None

    @property
    def name(self) -> str:
        """The last piece of the URL's path."""
        return name_of(self.url)

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in."""
        return RemotePath(parent_of(self.url), self._options)

    @property
    def parts(self) -> tuple[str, ...]:
        """The pieces of the URL's path, protocol and host (or bucket) first."""
        scheme, _, rest = shown_url(path_of(self.url)).partition("://")
        host, *pieces = rest.rstrip("/").split("/")
        return (f"{scheme}://{host}", *pieces)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(child_of(self.url, name), self._options)

    def joinpath(self, *names: str) -> RemotePath:
        """What is called so inside of it."""
        found = self
        for name in names:
            found = found / name
        return found

    def with_name(self, name: str) -> RemotePath:
        """What is called so beside it."""
        return self.parent / name

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        """The path from the folder `other` to this; ValueError where it is not inside."""
        return PurePosixPath(*self.parts).relative_to(PurePosixPath(*other.parts))

    def expanduser(self) -> RemotePath:
        """Itself: a URL has no ~."""
        return self

    def absolute(self) -> RemotePath:
        """Itself: a URL is whole."""
        return self

    def exists(self) -> bool:
        """Whether something is there; RemoteError where that can not be found out."""
        return self._found() is not None

    def is_dir(self) -> bool:
        """Whether a folder is there."""
        found = self._found()
        return found is not None and found.is_folder

    def is_file(self) -> bool:
        """Whether an object is there."""
        found = self._found()
        return found is not None and not found.is_folder

    def stat(self) -> RemoteStatus:
        """Size, and a number that changes with the object; FileNotFoundError without one."""
        info = self._file_info()
        digest = hashlib.blake2b(info.tag.encode(errors="surrogateescape"), digest_size=7).digest()
        return RemoteStatus(st_size=info.size, st_mtime_ns=int.from_bytes(digest))

    @property
    def tag(self) -> str:
        """What the server calls this version (ETag); FileNotFoundError where nothing is there."""
        return self._file_info().tag

    def remote_object(self) -> RemoteObject:
        """What a run keeps of it."""
        info = self._file_info()
        return RemoteObject(url=str(self), tag=info.tag, bytes=info.size)

    def remote_file(self) -> RemoteFile:
        """The object in the version that was found; FileNotFoundError where nothing is there."""
        if self._file is None:
            self._file = RemoteFile(self.url, self._options, self._file_info())
        return self._file

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The object as a file of bytes that can be sought in."""
        if mode != "rb":
            raise ValueError(f"remote data are read only, as mode 'rb', and mode is {mode!r}")
        return io.BufferedReader(RemoteReader(self.remote_file()), _BUFFER_BYTES)

    def read_bytes(self) -> bytes:
        """All bytes of the object."""
        file = self.remote_file()
        return file.read_at(0, file.size)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The object as text."""
        return self.read_bytes().decode(encoding, errors)

    def iterdir(self) -> Iterator[RemotePath]:
        """What the folder holds, in the order of the names."""
        entries = self._patiently(lambda store: store.entries(self.url))
        for entry in entries:
            yield RemotePath(self._like(entry.url), self._options, info=entry.info)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """The files inside that match the pattern, in the order of the names."""
        whole = f"{path_of(self.url).rstrip('/')}/{pattern}"
        for entry in self._patiently(lambda store: store.matching(whole)):
            yield RemotePath(self._like(entry.url), self._options, info=entry.info)

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """The files at any depth that match the pattern, in the order of the names."""
        yield from self.glob(f"**/{pattern}")

    def matching(self) -> list[RemotePath]:
        """The files that match the URL itself, read as a pattern."""
        entries = self._patiently(lambda store: store.matching(path_of(self.url)))
        return [RemotePath(self._like(e.url), self._options, info=e.info) for e in entries]

    @property
    def is_pattern(self) -> bool:
        """Whether the URL holds a *, or a ? or [ that is none of a query."""
        scheme = self.url.partition("://")[0]
        path = path_of(self.url)
        return "*" in path or (scheme not in ("http", "https") and glob.has_magic(path))

    def _like(self, url: str) -> str:
        """The URL with this one's query, which may sign it."""
        return url + self.url[len(path_of(self.url)) :]

    def _found(self) -> ObjectInfo | None:
        """What is there, asked for until something is."""
        if self._info is None:
            self._info = self._patiently(lambda store: store.describe(self.url))
        return self._info

    def _file_info(self) -> ObjectInfo:
        found = self._found()
        if found is None:
            raise FileNotFoundError(2, "nothing is there", str(self))
        if found.is_folder:
            raise IsADirectoryError(21, "it is a folder", str(self))
        return found

    def _patiently(self, action: Callable[[Store], Value]) -> Value:
        timeout_seconds = RemoteSettings.of_environment().timeout_seconds
        return patiently(
            self.url,
            lambda: action(store_of(self.url, self._options, timeout_seconds)),
            options=self._options,
        )

    def __str__(self) -> str:
        return shown_url(self.url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __lt__(self, other: RemotePath) -> bool:
        return self.url < other.url

    def __getstate__(self) -> dict[str, Any]:
        # Another process has connections and blocks of its own.
        return {**self.__dict__, "_file": None}


def is_remote(path: object) -> TypeGuard[RemotePath]:
    """Whether a path is a URL."""
    return isinstance(path, RemotePath)


def as_path(remote: RemotePath) -> Path:
    """The remote path for a function that takes a path and uses of it what both have."""
    return cast("Path", remote)

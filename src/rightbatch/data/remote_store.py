"""What stands behind a URL: its size and tag, byte ranges of it, and what a folder holds.

One store speaks one protocol with one set of storage options. Its connections belong to the
process: a child that was forked makes its own.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rightbatch.data.remote_errors import CutOffError, changed
from rightbatch.data.remote_url import path_of, shown_url
from rightbatch.errors import DataError, MissingDependencyError, OptionError

# What to install for a protocol that fsspec knows and whose library is an extra of ours.
_EXTRAS = {"s3": "s3", "s3a": "s3", "hf": "huggingface"}
# Words for the version of an object, in the order in which they say most.
_TAGS = ("ETag", "etag", "sha256", "blob_id", "md5Hash", "generation", "checksum")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object as it is now: `tag` changes with its content, "" where the server gives none.

    `has_ranges` says whether the server gives a piece of it, rather than all or nothing. `version`
    is what a store asks for this very version by, where there is such a thing.
    """

    is_folder: bool = False
    size: int = 0
    tag: str = ""
    has_ranges: bool = True
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a folder holds: its URL, and what is known of it without asking again."""

    url: str
    info: ObjectInfo | None


class Store:
    """Any protocol that fsspec speaks. Every method makes one try, and raises what that raises."""

    # Whether a listing tells an object's tag in the same words as asking for the object does.
    lists_tags = False

    def __init__(self, protocol: str, options: Mapping[str, Any], timeout_seconds: float) -> None:
        self.options = dict(options)
        self.timeout_seconds = timeout_seconds
        self.files = make_file_system(protocol, self.file_system_options())

    def file_system_options(self) -> dict[str, Any]:
        """What the library behind is made with: listings are asked for anew each time."""
        return {"use_listings_cache": False, "skip_instance_cache": True, **self.options}

    def describe(self, url: str) -> ObjectInfo | None:
        """What is there now; None where nothing is."""
        try:
            return info_of(self.files.info(url))
        except FileNotFoundError:
            return None

    def fetch(self, url: str, info: ObjectInfo, start: int, stop: int) -> bytes:
        """The bytes `start` up to `stop` of the object as `info` tells it.

        Raises RemoteError where the object has another tag by now.
        """
        content: bytes = self.files.cat_file(url, start=start, end=stop)
        # Asked afterwards: what was read is of this version, or of one that is refused.
        now = self.describe(url)
        refuse_changed_tag(url, info, "nothing" if now is None else now.tag, now)
        return whole(content, stop - start)

    def stream(self, url: str, info: ObjectInfo, piece_bytes: int) -> Iterator[bytes]:
        """The whole object in pieces, from a server that gives no ranges."""
        raise NotImplementedError(f"{type(self).__name__} asks for ranges of {shown_url(url)}")

    def entries(self, url: str) -> list[Entry]:
        """What the folder holds, in the order of the URLs."""
        found = self.files.ls(url, detail=True)
        own = path_of(url).rstrip("/")
        entries = [
            Entry(url=str(self.files.unstrip_protocol(each["name"])), info=self._listed(each))
            for each in found
        ]
        # Object stores may list the folder itself, as an object of no bytes.
        inside = [entry for entry in entries if entry.url.rstrip("/") != own]
        return sorted(inside, key=lambda entry: entry.url)

    def matching(self, pattern: str) -> list[Entry]:
        """The files that match a pattern with *, ** and ?, in the order of the URLs."""
        found = self.files.glob(pattern, detail=True)
        entries = [
            Entry(url=str(self.files.unstrip_protocol(name)), info=self._listed(each))
            for name, each in found.items()
            if each.get("type") != "directory"
        ]
        return sorted(entries, key=lambda entry: entry.url)

    def _listed(self, found: Mapping[str, Any]) -> ObjectInfo | None:
        """What a listing tells for good; None where the object is to be asked for."""
        info = info_of(found)
        return info if info is not None and (info.is_folder or self.lists_tags) else None

    def close(self) -> None:
        """Let go of the connections."""


def info_of(found: Mapping[str, Any]) -> ObjectInfo | None:
    """What fsspec knows of an object; None where it lacks the size."""
    if found.get("type") == "directory":
        return ObjectInfo(is_folder=True)
    if found.get("size") is None:
        return None
    lfs: Any = found.get("lfs") or {}
    words = [found.get(name) for name in _TAGS] + [getattr(lfs, "sha256", None)]
    times = [found.get(name) for name in _TIMES]
    tag = next((str(word) for word in [*words, *times] if word), "")
    return ObjectInfo(size=int(found["size"]), tag=tag)


def refuse_changed_tag(url: str, info: ObjectInfo, tag: str, now: ObjectInfo | None) -> None:
    """Raise RemoteError where an object that was just read is not the one in `info`."""
    size = info.size if now is None else now.size
    if tag != info.tag or size != info.size:
        before, after = info.tag or f"{info.size:,} bytes", tag or f"{size:,} bytes"
        if before == after:
            before, after = f"{before} ({info.size:,} bytes)", f"{after} ({size:,} bytes)"
        raise changed(url, before, after)


def whole(content: bytes, count: int) -> bytes:
    """The content, where it has as many bytes as were asked for; CutOffError otherwise."""
    if len(content) != count:
        raise CutOffError(f"{len(content):,} bytes came of {count:,}")
    return content


def make_file_system(protocol: str, options: Mapping[str, Any]) -> Any:
    """The file system of fsspec; an error that says what to install where there is none."""
    import fsspec

    try:
        return fsspec.filesystem(protocol, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        install = (
            f"pip install 'rightbatch[{extra}]'" if extra else f"{str(error).rstrip('.')} (fsspec)"
        )
        raise MissingDependencyError(
            f"{protocol}:// needs a library that is not installed: {install}"
        ) from error
    except ValueError as error:
        if "not known" not in str(error):
            raise
        known = ", ".join(("s3", "gs", "abfs", "hf", "https", "http", "ftp", "sftp"))
        raise DataError(
            f"{protocol}:// is no protocol that fsspec speaks; it speaks {known} and more"
        ) from error
    except TypeError as error:
        named = ", ".join(options)
        raise OptionError(
            f"storage_options for {protocol}:// are not valid ({type(error).__name__}): given were "
            f"{named}"
        ) from error


class _Stores:
    """The stores of this process, one for each protocol and set of options."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Store] = {}

    def get(self, protocol: str, options: Mapping[str, Any], timeout_seconds: float) -> Store:
        """The store; it is made where there is none yet."""
        # The environment holds credentials and addresses, which tests and notebooks change.
        named = {name: os.environ[name] for name in sorted(os.environ) if _matters(name)}
        described = repr((protocol, sorted(options.items()), timeout_seconds, named))
        key = hashlib.blake2b(described.encode(errors="surrogateescape")).hexdigest()
        with self._lock:
            if key not in self._made:
                self._made[key] = _kind_of(protocol)(protocol, options, timeout_seconds)
            return self._made[key]

    def close(self) -> None:
        """Let go of all connections; stores are made anew when they are needed."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for store in made:
            store.close()


def _matters(name: str) -> bool:
    return name.startswith(("AWS_", "HF_", "GOOGLE_", "AZURE_")) or name.upper().endswith("_PROXY")


def _kind_of(protocol: str) -> type[Store]:
    if protocol in ("http", "https"):
        from rightbatch.data.remote_http import HttpStore

        return HttpStore
    if protocol in ("s3", "s3a"):
        from rightbatch.data.remote_s3 import S3Store

        return S3Store
    if protocol == "hf":
        from rightbatch.data.remote_hugging_face import HuggingFaceStore

        return HuggingFaceStore
    return Store


_stores = _Stores()


def _forget() -> None:
    # The connections belong to the parent, and so does the thread that serves them.
    global _stores
    _stores = _Stores()


os.register_at_fork(after_in_child=_forget)


def store_of(url: str, options: Mapping[str, Any], timeout_seconds: float) -> Store:
    """The store that speaks the URL's protocol with these storage options."""
    try:
        return _stores.get(url.partition("://")[0].lower(), options, timeout_seconds)
    except DataError as error:
        raise DataError(f"{shown_url(url)}: {error}") from error


def close_stores() -> None:
    """Close the connections of this process; the next read opens new ones."""
    _stores.close()

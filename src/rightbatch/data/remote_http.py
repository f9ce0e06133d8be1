"""Objects behind http:// and https://: ranges with the tag that came with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from typing_extensions import override

from rightbatch.data.remote_errors import CutOffError, changed
from rightbatch.data.remote_store import Entry, ObjectInfo, Store, refuse_changed_tag, whole
from rightbatch.data.remote_url import child_of, name_of, path_of

_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+)")
_PARTIAL, _NOT_FOUND, _GONE, _NO_SUCH_RANGE = 206, 404, 410, 416


class HttpStore(Store):
    """A server of HTTP, whose answers say of which version of the object they are."""

    @override
    def file_system_options(self) -> dict[str, Any]:
        """With proxies as the environment says, which fsspec leaves to its caller."""
        options = super().file_system_options()
        client = {"trust_env": True, **options.get("client_kwargs", {})}
        return {**options, "client_kwargs": client}

    @override
    def describe(self, url: str) -> ObjectInfo | None:
        """Size, tag and whether there are ranges, from the answer to a request for one byte.

        HEAD is not asked for: addresses that are signed allow GET alone.
        """
        if path_of(url).endswith("/"):
            return ObjectInfo(is_folder=True)
        from rightbatch.data.packed_manifest import MANIFEST_FILE

        found: ObjectInfo | None = self._sync(self._describe, url)
        if found is None and "." not in name_of(url):
            # Many servers have no page for a folder; a pack is told by what it must hold.
            manifest = self._sync(self._describe, child_of(url, MANIFEST_FILE))
            return None if manifest is None else ObjectInfo(is_folder=True)
        return found

    async def _describe(self, url: str) -> ObjectInfo | None:
        async with await self._get(url, {"Range": "bytes=0-0"}) as answer:
            if answer.status in (_NOT_FOUND, _GONE):
                return None
            tag = _tag(answer.headers)
            if answer.status == _NO_SUCH_RANGE:
                return ObjectInfo(size=0, tag=tag)
            answer.raise_for_status()
            if answer.url.path.endswith("/"):
                # The server has sent on to the page of a folder.
                return ObjectInfo(is_folder=True)
            if answer.status == _PARTIAL:
                return ObjectInfo(size=_total(answer.headers), tag=tag)
            length = answer.headers.get("Content-Length")
            if length is None:
                raise CutOffError("the server does not say how large the object is")
            return ObjectInfo(size=int(length), tag=tag, has_ranges=False)

    @override
    def fetch(self, url: str, info: ObjectInfo, start: int, stop: int) -> bytes:
        """The bytes and their tag come in one answer, so that no other version slips in."""
        content: bytes = self._sync(self._fetch, url, info, start, stop)
        return content

    async def _fetch(self, url: str, info: ObjectInfo, start: int, stop: int) -> bytes:
        async with await self._get(url, {"Range": f"bytes={start}-{stop - 1}"}) as answer:
            if answer.status == _NO_SUCH_RANGE:
                # It ends before the range begins: another version.
                raise changed(url, info.tag, _tag(answer.headers) or "that of a shorter one")
            answer.raise_for_status()
            tag = _tag(answer.headers)
            if answer.status != _PARTIAL:
                refuse_changed_tag(url, info, tag, None)
                raise CutOffError(f"the server gave no range, but HTTP {answer.status}")
            refuse_changed_tag(url, info, tag, ObjectInfo(size=_total(answer.headers), tag=tag))
            return whole(await answer.read(), stop - start)

    @override
    def stream(self, url: str, info: ObjectInfo, piece_bytes: int) -> Iterator[bytes]:
        """The whole object in pieces of `piece_bytes`, the last one shorter."""
        answer = self._sync(self._get, url, {})
        try:
            answer.raise_for_status()
            length = int(answer.headers.get("Content-Length") or info.size)
            tag = _tag(answer.headers)
            refuse_changed_tag(url, info, tag, ObjectInfo(size=length, tag=tag))
            for start in range(0, info.size, piece_bytes):
                count = min(piece_bytes, info.size - start)
                yield self._sync(answer.content.readexactly, count)
        finally:
            self._sync(_close, answer)

    @override
    def entries(self, url: str) -> list[Entry]:
        """The links of the page at `url` that lead into it, where the server makes such pages."""
        found = [self.files.unstrip_protocol(each["name"]) for each in self.files.ls(url)]
        base = path_of(url).rstrip("/") + "/"
        inside = {each for each in found if path_of(each).startswith(base) and name_of(each)}
        return [
            Entry(url=each, info=ObjectInfo(is_folder=True) if each.endswith("/") else None)
            for each in sorted(inside)
            if each.rstrip("/") != base.rstrip("/")
        ]

    @override
    def matching(self, pattern: str) -> list[Entry]:
        """The links that match; sizes are asked for when a file is opened."""
        return [Entry(url=str(url), info=None) for url in sorted(self.files.glob(pattern))]

    @override
    def close(self) -> None:
        """Close the session."""
        session = self.files._session
        if session is not None and not session.closed:
            self._sync(session.close)

    async def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        """The answer to a request; its body is still to be read, and it is to be closed."""
        session = await self.files.set_session()
        options = dict(self.files.kwargs)
        # Bytes are counted as they are stored: nothing may be zipped on the way.
        given = {**options.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        return await session.get(self.files.encode_url(url), headers=given, **options)

    def _sync(self, function: Any, *arguments: Any) -> Any:
        """Run a coroutine on the thread that fsspec has for it, for so long at most."""
        from fsspec.asyn import sync

        return sync(self.files.loop, function, *arguments, timeout=self.timeout_seconds)


async def _close(answer: Any) -> None:
    answer.close()


def _tag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""


def _total(headers: Mapping[str, str]) -> int:
    found = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
    if found is None:
        raise CutOffError(
            "the server does not say how large the object is: its Content-Range is "
            f"{headers.get('Content-Range')!r}"
        )
    return int(found[3])

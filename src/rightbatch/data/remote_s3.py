"""Objects in S3 and what speaks like it: ranges with the tag that came with them."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from rightbatch.data.remote_errors import status_of
from rightbatch.data.remote_store import ObjectInfo, Store, refuse_changed_tag, whole

_MOST_CONNECTIONS = 32
_NO_SUCH_RANGE = 416


class S3Store(Store):
    """A bucket of Amazon's or of another server of the protocol, through s3fs."""

    lists_tags = True

    @override
    def file_system_options(self) -> dict[str, Any]:
        """One try a request, for trying again is done here for all protocols alike."""
        options = super().file_system_options()
        config = {
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": self.timeout_seconds,
            "read_timeout": self.timeout_seconds,
            "max_pool_connections": _MOST_CONNECTIONS,
            **options.get("config_kwargs", {}),
        }
        return {**options, "config_kwargs": config}

    def __init__(self, protocol: str, options: Any, timeout_seconds: float) -> None:
        super().__init__(protocol, options, timeout_seconds)
        self.files.retries = 1

    @override
    def fetch(self, url: str, info: ObjectInfo, start: int, stop: int) -> bytes:
        """The bytes and their tag come in one answer, so that no other version slips in."""
        from fsspec.asyn import sync

        try:
            content: bytes = sync(
                self.files.loop, self._fetch, url, info, start, stop, timeout=self.timeout_seconds
            )
        except OSError as error:
            if status_of(error) == _NO_SUCH_RANGE:
                # It ends before the range begins: another version.
                now = self.describe(url)
                refuse_changed_tag(url, info, "nothing" if now is None else now.tag, now)
            raise
        return content

    async def _fetch(self, url: str, info: ObjectInfo, start: int, stop: int) -> bytes:
        bucket, key, version = self.files.split_path(url)
        answer = await self.files._call_s3(
            "get_object",
            Bucket=bucket,
            Key=key,
            Range=f"bytes={start}-{stop - 1}",
            **({"VersionId": version} if version else {}),
        )
        async with answer["Body"] as body:
            tag = str(answer.get("ETag", ""))
            total = int(str(answer.get("ContentRange", f"/{info.size}")).rpartition("/")[2])
            refuse_changed_tag(url, info, tag, ObjectInfo(size=total, tag=tag))
            return whole(await body.read(), stop - start)

    @override
    def close(self) -> None:
        """Close the session."""
        from fsspec.asyn import sync

        creator = getattr(self.files, "_s3creator", None)
        if creator is not None and self.files._s3 is not None:
            self.files._s3 = None
            sync(self.files.loop, creator.__aexit__, None, None, None, timeout=10)

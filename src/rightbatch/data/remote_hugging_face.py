"""Files of the Hugging Face Hub: of the commit that the branch stood at when they were opened."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from rightbatch.data.remote_store import ObjectInfo, Store, whole


class HuggingFaceStore(Store):
    """The Hub, or a mirror of it; a commit never changes, and so neither does what is read."""

    @override
    def describe(self, url: str) -> ObjectInfo | None:
        """What the branch (or the commit, `NAME@REVISION`) holds now, and which commit that is."""
        from huggingface_hub.errors import EntryNotFoundError

        place = self.files.resolve_path(url)
        if not hasattr(place, "repo_id"):
            return super().describe(url)  # storage that has no commits
        hub = self.files._api
        commit = hub.repo_info(
            place.repo_id, repo_type=place.repo_type, revision=place.revision
        ).sha
        if not place.path_in_repo:
            return ObjectInfo(is_folder=True, version=commit)
        try:
            found = hub.get_paths_info(
                place.repo_id, [place.path_in_repo], repo_type=place.repo_type, revision=commit
            )
        except EntryNotFoundError:
            return None
        if not found:
            return None
        if not hasattr(found[0], "blob_id"):
            return ObjectInfo(is_folder=True, version=commit)
        large = getattr(found[0], "lfs", None)
        tag = found[0].blob_id if large is None else large.sha256
        return ObjectInfo(size=found[0].size, tag=tag, version=commit)

    @override
    def fetch(self, url: str, info: ObjectInfo, start: int, stop: int) -> bytes:
        """The bytes as of the commit that `info` tells."""
        place = self.files.resolve_path(url)
        if not hasattr(place, "repo_id"):
            return super().fetch(url, info, start, stop)
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        address = hf_hub_url(
            place.repo_id,
            place.path_in_repo,
            repo_type=place.repo_type,
            revision=info.version,
            endpoint=self.files.endpoint,
        )
        headers = {
            **build_hf_headers(token=self.files.token),
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
        }
        answer: Any = get_session().get(
            address, headers=headers, timeout=self.timeout_seconds, follow_redirects=True
        )
        hf_raise_for_status(answer)
        return whole(answer.content, stop - start)

"""The remote objects that a run is trained on: kept with their tags, compared when it goes on."""

from __future__ import annotations

import logging
from typing import Any

from rightbatch.data.dataset import Dataset
from rightbatch.errors import ResumeError
from rightbatch.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

# Of data in thousands of objects the first ones stand for all; the fingerprint is of all.
_MOST_KEPT = 100


def describe_objects(data: Dataset) -> dict[str, Any]:
    """What a run keeps of the objects that its data are read from; nothing of data that lie here.

    >>> from rightbatch.data import open
    >>> describe_objects(open("iris"))
    {}
    """
    objects = [found._asdict() for found in data.remote_objects[:_MOST_KEPT]]
    return {"objects": objects} if objects else {}


def refuse_changed_objects(folder: RunFolder, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise ResumeError, naming the tags, where an object changed and the data with it.

    An object of another tag and the same content, as one that was copied, is told in a warning.
    """
    tags = {found["url"]: found["tag"] for found in before.get("objects", [])}
    for found in now.get("objects", []):
        tag = tags.get(found["url"], found["tag"])
        if tag == found["tag"]:
            continue
        changed = (
            f"{found['url']} has changed since {folder.path} was begun: its tag was {tag} and is "
            f"{found['tag']}"
        )
        if before["fingerprint"] != now["fingerprint"]:
            raise ResumeError(
                f"{changed}. Put back what the run was trained on, or start another run in another "
                "folder"
            )
        logger.warning(f"{changed}. The fingerprint of the data is the same, and the run goes on")
        return

"""The fields of a stored JSON object, taken out one by one and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, TypeVar

Value = TypeVar("Value")


class WrongFieldError(Exception):
    """A field of the manifest is not valid; the message names it."""


class Fields:
    """The fields of one JSON object, taken out one by one and checked."""

    def __init__(self, found: Any, where: str) -> None:
        if not isinstance(found, dict):
            raise WrongFieldError(f"the field {where.rstrip('.')!r} is {found!r:.80}, no object")
        self._found = dict(found)
        self._where = where

    def take(self, name: str, valid: str, read: Callable[[Any], Value | None]) -> Value:
        """The field `name` as `read` gives it; it gives None for what is not valid."""
        if name not in self._found:
            raise WrongFieldError(f"the field {self._where + name!r} is missing")
        found = self._found.pop(name)
        value = read(found)
        if value is None:
            raise WrongFieldError(
                f"the field {self._where + name!r} is {found!r:.80}; valid is {valid}"
            )
        return value

    def text(self, name: str) -> str:
        """The field `name`, a text."""
        return self.take(name, "a text", lambda found: found if isinstance(found, str) else None)

    def text_or_none(self, name: str) -> str | None:
        """The field `name`, a text or None."""
        return self.take(
            name,
            "a text or null",
            lambda found: (found,) if found is None or isinstance(found, str) else None,
        )[0]

    def whole(self, name: str, least: int) -> int:
        """The field `name`, a whole number from `least`."""
        return self.take(
            name,
            f"a whole number from {least}",
            lambda found: found if is_whole(found, least) else None,
        )

    def whole_or_none(self, name: str) -> int | None:
        """The field `name`, a whole number from 0, or None."""
        return self.take(
            name,
            "a whole number from 0, or null",
            lambda found: (found,) if found is None or is_whole(found, 0) else None,
        )[0]

    def items(self, name: str) -> list[Any]:
        """The field `name`, a list."""
        return self.take(name, "a list", lambda found: found if isinstance(found, list) else None)

    def texts(self, name: str) -> tuple[str, ...]:
        """The field `name`, a list of texts."""
        return self.take(name, "a list of texts", texts_or_none)

    def objects(self, name: str) -> tuple[Mapping[str, Any], ...]:
        """The field `name`, a list of objects."""
        return self.take(
            name,
            "a list of objects",
            lambda found: (
                tuple(found)
                if isinstance(found, list) and all(isinstance(item, dict) for item in found)
                else None
            ),
        )

    def mapping(self, name: str) -> dict[str, Any]:
        """The field `name`, an object."""
        return self.take(name, "an object", lambda found: found if _is_dict(found) else None)

    def done(self) -> None:
        """Refuse what was not taken."""
        self._found.pop("checksum", None)
        for name in self._found:
            raise WrongFieldError(f"the field {self._where + name!r} is not known")


def is_whole(found: Any, least: int) -> TypeGuard[int]:
    """Whether `found` is a whole number from `least`; True and False are none."""
    return isinstance(found, int) and not isinstance(found, bool) and found >= least


def _is_dict(found: Any) -> bool:
    return isinstance(found, dict)


def texts_or_none(found: Any) -> tuple[str, ...] | None:
    """The texts of a list of texts; None for anything else."""
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return None
    return tuple(found)

"""Asking again where the network or a server failed for a moment, and giving up in time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rightbatch.data.remote_errors import failure, is_passing, is_unreachable
from rightbatch.errors import OptionError, RightbatchError

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a request is made, and for how long.

    Before attempt k + 1 there is a wait of up to `first_wait_seconds` * 2^k, at most
    `most_wait_seconds`: half of it for sure and half by chance, so that many readers do not come
    back at once. No attempt begins after `total_seconds`. Where nobody answers at the address,
    there are `attempts_to_reach`.
    """

    attempts: int = 7
    attempts_to_reach: int = 4
    first_wait_seconds: float = 0.25
    most_wait_seconds: float = 10.0
    total_seconds: float = 300.0

    def wait_seconds(self, failed: int) -> float:
        """The wait after so many failures, from 1."""
        longest = min(self.most_wait_seconds, self.first_wait_seconds * 2.0 ** (failed - 1))
        # Chance here spreads requests in time; no batch depends on it.
        return longest * (0.5 + 0.5 * random.random())  # noqa: S311


PATIENCE = Patience()


def patiently(
    url: str,
    action: Callable[[], Value],
    *,
    options: Mapping[str, Any],
    patience: Patience | None = None,
) -> Value:
    """What `action` gives, tried again where it fails in a way that may pass.

    Raises RemoteError, which names the URL, the attempts, the last failure and what to set.
    """
    patience = patience or PATIENCE
    began = time.monotonic()
    failed = 0
    while True:
        try:
            return action()
        except (RightbatchError, MemoryError, NotImplementedError):
            raise
        except TypeError as error:
            raise _wrong_options(options, error) from error
        except Exception as error:  # libraries of every protocol raise their own
            failed, reason = failed + 1, error
        seconds = time.monotonic() - began
        wait = patience.wait_seconds(failed)
        attempts = patience.attempts_to_reach if is_unreachable(reason) else patience.attempts
        is_over = failed >= attempts or seconds + wait > patience.total_seconds
        if is_over or not is_passing(reason):
            raise failure(
                url, reason, options=options, attempts=failed, seconds=seconds
            ) from reason
        logger.debug("attempt %d of a request failed (%s)", failed, type(reason).__name__)
        time.sleep(wait)


def _wrong_options(options: Mapping[str, Any], error: Exception) -> OptionError:
    named = ", ".join(options) or "none"
    return OptionError(
        f"the library behind the URL refuses the request ({type(error).__name__}); the names of "
        f"the storage_options are: {named}. Look at the address and at those"
    )

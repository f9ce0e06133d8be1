"""What went wrong on the way to remote data, and what to set so that it does not."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rightbatch.data.remote_settings import TIMEOUT
from rightbatch.data.remote_url import HIDDEN, shown_url
from rightbatch.errors import RemoteError

_PASSING_STATUS = (408, 425, 429)
_NOT_IMPLEMENTED = 501
_PASSING_ERRNO = (errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.EPIPE, errno.ECONNRESET)
# Classes of libraries that are not imported for the sake of naming them.
_PASSING_NAMES = (
    *("ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "ClientConnectionError"),
    *("HTTPClientError", "ResponseStreamingError", "IncompleteRead", "IncompleteReadError"),
    *("ResponseParserError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError"),
    *("EndpointConnectionError", "ConnectError", "ReadError", "RemoteProtocolError", "ReadTimeout"),
    *("ConnectTimeout", "ServerTimeoutError", "ChunkedEncodingError", "ProtocolError"),
)
_UNREACHABLE_NAMES = (
    *("ClientConnectorError", "ClientConnectorDNSError", "EndpointConnectionError"),
    *("ConnectError", "ConnectionRefusedError", "gaierror"),
)
_NO_CREDENTIALS_NAMES = (
    *(
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "LocalTokenNotFoundError",
    ),
    *("DefaultCredentialsError", "TokenRetrievalError", "CredentialRetrievalError"),
)
_LEAST_SECRET = 4
_MOST_CHARACTERS = 300


class CutOffError(OSError):
    """A server sent fewer bytes than it was asked for."""


def is_passing(error: BaseException) -> bool:
    """Whether the same request may go well a moment later."""
    status = status_of(error)
    if status is not None:
        return (status >= 500 and status != _NOT_IMPLEMENTED) or status in _PASSING_STATUS
    for found in chain_of(error):
        if isinstance(found, FileNotFoundError | PermissionError) or _is_named(
            found, _NO_CREDENTIALS_NAMES
        ):
            return False
        if isinstance(found, TimeoutError | ConnectionError | CutOffError | socket.gaierror):
            return True
        if _is_named(found, _PASSING_NAMES):
            return True
        if isinstance(found, OSError) and found.errno in _PASSING_ERRNO:
            return True
    return False


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody answers at the address: a wrong name rather than a bad moment."""
    return any(_is_named(found, _UNREACHABLE_NAMES) for found in chain_of(error))


def status_of(error: BaseException) -> int | None:
    """The status that the server answered with, where it is an HTTP error."""
    for found in chain_of(error):
        status = getattr(found, "status", None)
        response: Any = getattr(found, "response", None)
        if status is None and isinstance(response, Mapping):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        elif status is None and response is not None:
            status = getattr(response, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def failure(
    url: str,
    error: BaseException,
    *,
    options: Mapping[str, Any],
    attempts: int,
    seconds: float,
) -> RemoteError:
    """The error that says what was asked of which URL, how often, what failed, and what to set."""
    shown = shown_url(url)
    tried = "asking for it"
    if attempts > 1:
        tried = f"{attempts} attempts within {seconds:.0f} seconds, the last one"
    status, said = status_of(error), _said(error, url, options)
    if any(_is_named(found, _NO_CREDENTIALS_NAMES) for found in chain_of(error)):
        return RemoteError(f"{shown} needs credentials, and there are none ({said}). {_keys(url)}")
    if status in (401, 403) or any(isinstance(e, PermissionError) for e in chain_of(error)):
        return RemoteError(f"{shown} may not be read: the server said {said}. {_keys(url)}")
    if status in (404, 410) or any(isinstance(e, FileNotFoundError) for e in chain_of(error)):
        return RemoteError(f"{shown} is not there ({said}). {where_to_look(url)}")
    if any(isinstance(found, TimeoutError) for found in chain_of(error)):
        return RemoteError(
            f"{shown}: {tried} took too long ({said}). Look at the network, or give requests more "
            f"time: {TIMEOUT}=300 (seconds)"
        )
    if is_unreachable(error):
        return RemoteError(
            f"{shown}: its server can not be reached: {tried} failed with {said}. {_reach(url)}"
        )
    if status is None and not is_passing(error):
        return RemoteError(f"{shown} can not be read: {said}. {where_to_look(url)}")
    return RemoteError(
        f"{shown} can not be read: {tried} failed with {said}. Look at the network and the server, "
        "and go on from the last checkpoint"
    )


def changed(url: str, before: str, now: str) -> RemoteError:
    """The error that an object is not the one that was opened any more."""
    return RemoteError(
        f"{shown_url(url)} has changed since it was opened: its tag was {before} and is {now}. "
        "Open it anew; a run that was begun on the old one does not go on with the new one"
    )


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error and those that led to it."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _is_named(error: BaseException, names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _said(error: BaseException, url: str, options: Mapping[str, Any]) -> str:
    """What the error says, without what may be secret."""
    status = status_of(error)
    text = " ".join(str(error).split())
    text = text.replace(url, shown_url(url))
    for secret in (*_texts(options), urlsplit(url).query):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, HIDDEN)
    kind = type(error).__name__
    text = text[:_MOST_CHARACTERS].rstrip(".")
    described = f"{kind}: {text}" if text else kind
    return described if status is None else f"HTTP {status}, {described}"


def _texts(value: Any) -> Iterator[str]:
    """Every text within storage options."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _keys(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme in ("s3", "s3a"):
        return (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of somebody who may "
            f"read it{_endpoint()}. A bucket that is open to all: storage_options={{'anon': True}}"
        )
    if scheme == "hf":
        return "Set HF_TOKEN, or log in once (hf auth login), as somebody who may read it"
    if scheme in ("gs", "gcs"):
        return "Set GOOGLE_APPLICATION_CREDENTIALS, or storage_options={'token': 'anon'}"
    if scheme in ("http", "https"):
        return (
            "An address that is signed may have expired: ask for a new one. Else give what the "
            "server wants: storage_options={'headers': {'Authorization': …}}"
        )
    return "Give what the server wants as storage_options={…}"


def where_to_look(url: str) -> str:
    """What to look at where nothing is found; without the full stop."""
    scheme = url.partition("://")[0]
    if scheme in ("s3", "s3a"):
        return f"Look at the bucket and the key{_endpoint()}"
    if scheme == "hf":
        return (
            "Valid is hf://datasets/OWNER/NAME/FILE; a data set that is private or gated needs "
            "HF_TOKEN"
        )
    return "Look at the address"


def _reach(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme in ("s3", "s3a"):
        return f"Look at the network{_endpoint()}"
    if scheme == "hf":
        return "Look at the network, and at HF_ENDPOINT where that is set"
    return "Look at the network and the name; behind a proxy set HTTPS_PROXY"


def _endpoint() -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    given = next((f"{name} is {os.environ[name]}" for name in names if os.environ.get(name)), None)
    return f"; {given}" if given else "; AWS_ENDPOINT_URL where the server is not Amazon's"

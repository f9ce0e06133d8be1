"""One HTTP request for the rest of a file, and what the server says to it."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from rightbatch.errors import OptionError
from rightbatch.fetching.attempts import AttemptError, MirrorError, RestartError

_CHUNK_BYTES = 1 << 18
_LONGEST_ASKED_WAIT_SECONDS = 60.0
# Of the client's kind, but about the moment and not about the request.
_PASSING_CODES = (408, 425, 429)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def check_address(address: str, *, option: str) -> None:
    """Raise OptionError, naming `option`, where `address` is no http or https one.

    Nor may it have a password, which messages would show, or a query, which names would end up in.
    """
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_bare = parts.username is None and not parts.query and not parts.fragment
    except (ValueError, AttributeError):
        is_valid = is_bare = False
    if not is_valid or not is_bare or any(mark.isspace() for mark in address):
        raise OptionError(
            f"{option}={address!r} is no address of a folder on the web; give one such as "
            "https://example.org/mnist/, to which the names of the files are appended"
        )


class Response:
    """The body of an answer, which begins at byte `start` of the file.

    `total_bytes` is the size of the whole file, None where the server does not tell.
    `validator` is what tells this state of the file from another one (its entity tag, or else its
    date), None where there is neither.
    """

    def __init__(self, answer: http.client.HTTPResponse, *, asked_start: int) -> None:
        self._answer = answer
        self.start = 0
        headers = answer.headers
        length = headers.get("Content-Length")
        self.total_bytes = int(length) if length is not None and length.isdigit() else None
        if answer.status == http.client.PARTIAL_CONTENT:
            found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if found is None or int(found[1]) != asked_start:
                answer.close()
                raise RestartError("answers with another range than it was asked for")
            self.start = asked_start
            self.total_bytes = None if found[3] == "*" else int(found[3])
        tag = headers.get("ETag", "")
        # A weak tag says alike, not equal byte for byte.
        strong = tag if tag.startswith('"') else None
        self.validator: str | None = strong or headers.get("Last-Modified")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._answer.close()

    def read(self) -> bytes:
        """What has come, 256 KiB at most; nothing at the end, or where the connection ended."""
        try:
            return self._answer.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise AttemptError(_reason(error)) from error


def request_rest(
    address: str,
    *,
    start: int,
    validator: str | None,
    timeout_seconds: float,
    allow_http: bool,
) -> Response:
    """Ask for the file from byte `start` on; with a `validator`, for all of it if it has changed.

    The proxies of the environment are taken. A redirect to plain http is followed where `address`
    itself is http, or `allow_http` says so.

    Raises AttemptError where trying again makes sense, MirrorError where it does not.
    """
    headers = {
        "User-Agent": "rightbatch",
        # The sha256 is that of the bytes as they are published.
        "Accept-Encoding": "identity",
    }
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator is not None:
            headers["If-Range"] = validator
    # The scheme is http or https: the opener below knows no other.
    request = urllib.request.Request(address, headers=headers)  # noqa: S310
    allows_http = allow_http or urlsplit(address).scheme == "http"
    try:
        answer = _opener(allow_http=allows_http).open(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(error) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise MirrorError(f"has no valid certificate: {error.reason.verify_message}") from error
        raise AttemptError(_reason(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise AttemptError(_reason(error)) from error
    return Response(answer, asked_start=start)


def _opener(*, allow_http: bool) -> urllib.request.OpenerDirector:
    """An opener for http and https alone: a redirect can not lead to a file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(allow_http=allow_http),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to where anybody on the way may read along."""

    def __init__(self, *, allow_http: bool) -> None:
        self._allow_http = allow_http

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request to go on with; MirrorError where it must not be followed."""
        scheme = urlsplit(newurl).scheme
        if scheme == "http" and not self._allow_http:
            fp.close()
            raise MirrorError(
                f"redirects to {newurl}, which is plain http; allow_http=True (--allow-http) "
                "follows it"
            )
        if scheme not in ("http", "https"):
            fp.close()
            raise MirrorError(f"redirects to {newurl}, which is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refused(error: urllib.error.HTTPError) -> AttemptError | MirrorError:
    words = " ".join(f"answers {error.code} {error.reason}".split())
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RestartError(words)
    if error.code >= 500 or error.code in _PASSING_CODES:
        return AttemptError(words, wait_seconds=_asked_wait(error.headers.get("Retry-After", "")))
    return MirrorError(words)


def _asked_wait(retry_after: str) -> float:
    with suppress(ValueError):
        return min(_LONGEST_ASKED_WAIT_SECONDS, max(0.0, float(retry_after)))
    return 0.0  # a date, which few servers send


def _reason(error: object) -> str:
    """What went wrong with a connection, in words."""
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "ended the connection without an answer"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"can not be reached or read: {text}"

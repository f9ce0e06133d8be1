"""A real HTTP server on loopback that serves files and, one request at a time, misbehaves."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rightbatch.data.known_sets import KnownFile

# What a fault makes of a request: it answers and says so, or lets the server answer.
Fault = Callable[["Handler"], bool]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault is None or not fault(self):
            self.give()

    def give(self, *, cut_at: int | None = None, with_range: bool | None = None) -> None:
        """Answer as servers do; `cut_at` ends the body, and the connection, early."""
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324  # a mark of the state
        start = self._start(content, tag, with_range)
        if start is not None and start >= len(content):
            self.send_error(416)
            return
        self.send_response(200 if start is None else 206)
        body = content[start or 0 :]
        if start is not None:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        if self.server.tells_tag:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(body if cut_at is None else body[:cut_at])
        self.close_connection = True

    def _start(self, content: bytes, tag: str, with_range: bool | None) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        allowed = self.server.knows_ranges if with_range is None else with_range
        if found is None or not allowed or self.headers.get("If-Range", tag) != tag:
            return None
        return int(found[1])

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base's name
        """Keep the output of the tests clean."""


class Server(ThreadingHTTPServer):
    """Serves `files` by path, notes the `requests`, and takes the `faults` one a request."""

    # Waiting for threads that serve a client that was killed would hang the test.
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults: list[Fault] = []
        self.knows_ranges = self.tells_length = self.tells_tag = True
        self.scheme = "http"

    @property
    def mirror(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def _serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    yield from _serving(Server())


@pytest.fixture
def second_server() -> Iterator[Server]:
    yield from _serving(Server())


@pytest.fixture
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """The same over TLS, and the certificate to trust it by."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no certificate can be made: openssl says {error}")
    server = Server()
    server.scheme = "https"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    for made in _serving(server):
        yield made, certificate


def known_file(name: str, content: bytes) -> KnownFile:
    return KnownFile(name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def as_known() -> Callable[[str, bytes], KnownFile]:
    """The catalogue's entry for a file of this content."""
    return known_file


def cut(at: int) -> Fault:
    def fault(handler: Handler) -> bool:
        handler.give(cut_at=at)
        return True

    return fault


def status(code: int, **headers: str) -> Fault:
    def fault(handler: Handler) -> bool:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return fault


@pytest.fixture
def faults() -> type:
    """The ways to misbehave."""

    class Faults:
        cut = staticmethod(cut)
        status = staticmethod(status)

        @staticmethod
        def without_range(handler: Handler) -> bool:
            handler.give(with_range=False)
            return True

        @staticmethod
        def silent(handler: Handler) -> bool:
            """Take the request and say nothing until the test is over."""
            threading.Event().wait(3)
            return True

        @staticmethod
        def none(_handler: Handler) -> bool:
            return False

    return Faults

"""What the tests of packs and of remote data share.

Of packs all that one holds, and packing that is killed; of remote data a server of S3 with a
proxy in front of it that fails as it is told to.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data import remote_retry
from rightbatch.data.remote_blocks import block_memory
from rightbatch.data.remote_store import close_stores

ContentOf = Callable[[Path], dict[str, bytes]]

_KILLS = 4


@pytest.fixture(scope="session")
def content_of() -> ContentOf:
    """Every file of a pack, the manifest without what tells of its time and sources."""

    def content_of(folder: Path) -> dict[str, bytes]:
        content = {path.name: path.read_bytes() for path in folder.iterdir()}
        described = json.loads(content.pop("manifest.json"))
        del described["created"], described["checksum"]
        return {**content, "manifest": json.dumps(described).encode()}

    return content_of


@pytest.fixture
def pack_with_kills(tmp_path: Path, content_of: ContentOf) -> Callable[[str], None]:
    """Runs a script that packs into the folder it is given: whole, and killed again and again.

    The script prints a line when it begins and "end" when it is done.
    """

    def run(script: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(script)]
        environment = {**os.environ, "PYTHONPATH": str(Path(rb.__file__).parent.parent)}
        began = time.monotonic()
        subprocess.run(
            [*command, str(tmp_path / "whole")],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - began
        generator = np.random.default_rng()
        for _ in range(_KILLS):
            process = subprocess.Popen(
                [*command, str(tmp_path / "killed")],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(generator.random()) * seconds / 5)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        done = subprocess.run(
            [*command, str(tmp_path / "killed")],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.endswith("end\n")
        assert content_of(tmp_path / "killed") == content_of(tmp_path / "whole")
        assert not (tmp_path / "killed.partial").exists()

    return run


@dataclass
class Fault:
    """What becomes of a request: an answer of `status`, one cut after so many bytes, or late."""

    status: int | None = None
    cut_after: int | None = None
    wait_seconds: float = 0.0


@pytest.fixture
def make_fault() -> type[Fault]:
    """The class of faults, for tests to make some."""
    return Fault


class FaultyProxy(ThreadingHTTPServer):
    """A real server in front of another one, which hands on what it gets, or does not.

    `faults` go to the requests whose path ends with a name: one for each, first come first served.
    `requests` are those that came, as (method, path, range).
    """

    daemon_threads = False
    # A client that hangs up is what is being tested.
    allow_reuse_address = True

    def __init__(self, behind: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.before: Callable[[str], None] | None = None
        self.lock = threading.Lock()
        self.released = threading.Event()

    def renew(self) -> None:
        """Forget the faults and the requests, and let those go that are kept waiting."""
        self.released.set()
        self.released = threading.Event()
        self.faults, self.requests, self.before = {}, [], None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reads_of(self, name: str) -> list[str | None]:
        """The ranges that were asked for of the object."""
        return [at for method, path, at in self.requests if method == "GET" and name in path]

    def take(self, path: str) -> Fault | None:
        with self.lock:
            for name, faults in self.faults.items():
                if path.partition("?")[0].endswith(name) and faults:
                    return faults.pop(0)
        return None

    def handle_error(self, request, client_address) -> None:
        """Clients hang up where they have waited too long."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _hand_on(self) -> None:
        proxy = self.server
        with proxy.lock:
            proxy.requests.append((self.command, self.path, self.headers.get("Range")))
        if proxy.before is not None:
            proxy.before(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.take(self.path) or Fault()
        # Ends early where the test is over.
        proxy.released.wait(fault.wait_seconds)
        if fault.status is not None:
            self._answer(fault.status, {}, b"")
            return
        connection = http.client.HTTPConnection(*proxy.behind)
        try:
            headers = {name: value for name, value in self.headers.items() if name != "Connection"}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
            given = {n: v for n, v in answer.getheaders() if n.lower() not in _OF_A_CONNECTION}
            self._answer(answer.status, given, content, cut_after=fault.cut_after)
        finally:
            connection.close()

    def _answer(self, status, headers, content, *, cut_after=None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut_after])
        if cut_after is not None:
            self.close_connection = True

    # The names are those that the standard library looks for.
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _hand_on  # noqa: N815

    def log_message(self, *_) -> None:
        """Nothing."""


_OF_A_CONNECTION = ("transfer-encoding", "connection", "date", "server")


class Bucket:
    """A bucket on a server of S3, with a faulty proxy in front of it."""

    name = "bucket"

    def __init__(self, client, proxy: FaultyProxy) -> None:
        self.client = client
        self.proxy = proxy

    def put(self, key: str, content: bytes) -> str:
        self.client.put_object(Bucket=self.name, Key=key, Body=content, ACL="public-read")
        return self.url(key)

    def upload(self, folder: Path, key: str) -> str:
        """Every file in the folder, or the file itself."""
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                inside = path.relative_to(folder).as_posix() if path != folder else ""
                self.put(f"{key}/{inside}".rstrip("/"), path.read_bytes())
        return self.url(key)

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def http_url(self, key: str) -> str:
        return f"{self.proxy.address}/{self.name}/{key}"

    def forget(self) -> None:
        """As in another process: nothing is in memory."""
        block_memory().clear()


@pytest.fixture(scope="session")
def s3_server():
    """moto's server of S3, over real HTTP."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'rightbatch[s3]'")
    server = pytest.importorskip("moto.server", reason="moto, which serves S3, is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()
    running.stop()


@pytest.fixture(scope="session")
def s3_client(s3_server):
    import boto3

    host, port = s3_server
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",  # noqa: S106  # of a server that asks for none
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=Bucket.name)
    yield client
    client.close()


@pytest.fixture(scope="session")
def s3_proxy(s3_server):
    """One for all tests: making a client of S3 anew takes a third of a second."""
    proxy = FaultyProxy(s3_server)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield proxy
    close_stores()
    proxy.renew()
    proxy.shutdown()
    proxy.server_close()
    thread.join()


@pytest.fixture
def bucket(s3_proxy, s3_client, tmp_path, monkeypatch):
    """An empty bucket, and an environment in which s3:// leads to it; a cache of its own."""
    proxy = s3_proxy
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("RIGHTBATCH_CACHE", str(tmp_path / "cache"))
    # On a machine with other work a request may be lost, which is asked for again.
    monkeypatch.setenv("RIGHTBATCH_TIMEOUT", "10")
    monkeypatch.setattr(remote_retry, "PATIENCE", QUICK)
    made = Bucket(s3_client, proxy)
    yield made
    made.forget()
    proxy.renew()
    for found in s3_client.list_objects_v2(Bucket=Bucket.name).get("Contents", []):
        s3_client.delete_object(Bucket=Bucket.name, Key=found["Key"])


QUICK = remote_retry.Patience(first_wait_seconds=0.001, most_wait_seconds=0.01)

"""hf:// by the Hub's own library, from a server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data import remote_retry
from rightbatch.data.remote_blocks import block_memory
from rightbatch.data.remote_path import RemotePath
from rightbatch.data.remote_store import close_stores
from rightbatch.errors import RemoteError

pytest.importorskip("huggingface_hub", reason="pip install 'rightbatch[huggingface]'")


class Hub(BaseHTTPRequestHandler):
    """One data set, `owner/name`, whose branch main stands at a commit; others are not there."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server
        hub.requests.append((self.path, self.headers.get("Authorization")))
        if hub.refuses:
            self._answer(401, b"{}")
        elif found := re.fullmatch(r"/api/datasets/owner/name(?:/revision/(\w+))?", self.path):
            commit = hub.head if found[1] in (None, "main") else found[1]
            self._answer(200, json.dumps({"id": "owner/name", "sha": commit}).encode())
        elif found := re.fullmatch(r"/datasets/owner/name/resolve/(\w+)/(.+)", self.path):
            content = hub.commits[found[1]][found[2]]
            start, stop = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            total = {"Content-Range": f"bytes {start}-{stop}/{len(content)}"}
            self._answer(206, content[start : stop + 1], total)
        elif found := re.match(r"/api/datasets/owner/name/tree/(\w+)(?:/([^?]*))?", self.path):
            listed = [self._described(found[1], path) for path in hub.commits[found[1]]]
            self._answer(200, json.dumps(listed).encode())
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        commit = self.path.rpartition("/")[2]
        held = self.server.commits[self.server.head if commit == "main" else commit]
        paths = [path for path in held if path in re.split(r"[&=\"\[\],: ]+", asked)]
        listed = [self._described(commit, path) for path in paths]
        self._answer(200, json.dumps(listed).encode())

    def _described(self, commit: str, path: str) -> dict[str, object]:
        commit = self.server.head if commit == "main" else commit
        content = self.server.commits[commit][path]
        oid = hashlib.sha1(content).hexdigest()  # noqa: S324  # as git names it
        return {"type": "file", "path": path, "size": len(content), "oid": oid}

    def _answer(self, status, content, headers=None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("RIGHTBATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(remote_retry, "PATIENCE", remote_retry.Patience(first_wait_seconds=0.001))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    server.requests, server.refuses, server.head, server.commits = [], False, "c0ffee", {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.options = {
        "endpoint": f"http://127.0.0.1:{server.server_address[1]}",
        "token": "hf_not-to-be-shown",
    }
    yield server
    from huggingface_hub.utils import close_session

    close_session()
    block_memory().clear()
    close_stores()
    server.shutdown()
    server.server_close()
    thread.join()


CSV = b"x,y\n1,0\n2,1\n3,0\n"


def test_a_file_of_a_data_set_is_opened(hub):
    hub.commits["c0ffee"] = {"train.csv": CSV}
    data = rb.open("hf://datasets/owner/name/train.csv", target="y", storage_options=hub.options)
    assert data.array("x").tolist() == [1, 2, 3]
    (found,) = data.remote_objects
    assert found.tag == hashlib.sha1(CSV).hexdigest()  # noqa: S324  # as git names it
    assert {token for _, token in hub.requests} == {"Bearer hf_not-to-be-shown"}


def test_a_branch_that_moves_on_changes_nothing_that_is_open(hub, tmp_path):
    for commit, value in (("c0ffee", 1.0), ("decade", 2.0)):
        np.save(tmp_path / "x.npy", np.full((400_000,), value))
        hub.commits[commit] = {"x.npy": (tmp_path / "x.npy").read_bytes()}
    url = "hf://datasets/owner/name/x.npy"
    first = rb.open(url, storage_options=hub.options)
    assert first.rows([0])["x"] == 1.0
    hub.head = "decade"
    assert first.rows([399_999])["x"] == 1.0
    second = rb.open(url, storage_options=hub.options)
    assert second.rows([0, 399_999])["x"].tolist() == [2.0, 2.0]
    assert first.remote_objects[0].tag != second.remote_objects[0].tag


def test_nothing_there_and_no_right_to_it_are_told(hub):
    hub.commits["c0ffee"] = {"train.csv": CSV}
    path = RemotePath("hf://datasets/owner/name/none.csv", hub.options)
    assert not path.exists()
    hub.refuses = True
    with pytest.raises(RemoteError, match="Set HF_TOKEN") as caught:
        rb.open("hf://datasets/owner/name/train.csv", storage_options=hub.options)
    assert "not-to-be-shown" not in str(caught.value)

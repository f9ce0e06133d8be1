"""Remote reading against a plain copy from the same server on loopback.

    python benchmarks/remote.py [--megabytes 256] [--latency 0.02]

A server of its own process gives ranges of files, after a wait of `--latency` seconds a request,
as one far away would. Measured are: the object copied whole by one plain request, which is as fast
as the way there is; the same object read through blocks with an empty cache (cold), and with a full
one (warm, also where its blocks are in memory no more); a copy of the cache's files by themselves,
which is what the disk gives; and an epoch of batches of a pack, cold, warm and from a folder here,
in the order that memory= asks for. Ratios are of seconds; the median of the runs counts.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

import rightbatch as rb
from rightbatch.data.remote_blocks import block_memory
from rightbatch.data.remote_path import RemotePath

_RUNS = 3
_MEMORY = "32MB"


class Ranges(http.server.BaseHTTPRequestHandler):
    """Files of a folder, with ranges and tags."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    latency_seconds = 0.0

    def do_GET(self) -> None:
        """Answer after a while."""
        time.sleep(self.latency_seconds)
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            while start < stop:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def handle(self) -> None:
        """Clients that end hang up."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def serve(folder: str, latency: str) -> None:
    """The server's process: it says its port, and ends with whoever started it."""
    Ranges.folder, Ranges.latency_seconds = Path(folder), float(latency)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def seconds_of(work: Callable[[], object], before: Callable[[], object]) -> float:
    """The median of the runs, each after `before`."""
    taken = []
    for _ in range(_RUNS):
        before()
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        os.environ["RIGHTBATCH_CACHE"] = str(cache)
        rows = chosen.megabytes * 1_000_000 // 4_000
        x = np.random.default_rng(0).random((rows, 1_000), np.float32)
        rb.pack({"x": x, "y": np.arange(rows)}, folder / "pack", target="y")
        del x
        command = [sys.executable, __file__, "--serve", name, str(chosen.latency)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ourselves
        try:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{int(server.stdout.readline())}"
            measure(folder, address, cache, chosen.megabytes)
        finally:
            server.terminate()
            server.wait()


def measure(folder: Path, address: str, cache: Path, megabytes: int) -> None:
    """Every figure, in one table."""
    url = f"{address}/pack/x.npy"

    def plain() -> None:
        with urllib.request.urlopen(url) as answer, (folder / "copy").open("wb") as out:  # noqa: S310  # our own server
            shutil.copyfileobj(answer, out, 1 << 20)

    def read() -> None:
        with RemotePath(url).open() as file:
            while file.read(8 << 20):
                pass

    def copy_blocks() -> None:
        for block in (cache / "blocks").rglob("*-*"):
            block.read_bytes()

    def forget() -> None:
        block_memory().clear()

    def empty() -> None:
        forget()
        shutil.rmtree(cache, ignore_errors=True)

    def epoch(place: str | Path) -> Callable[[], None]:
        def work() -> None:
            for _ in rb.Batches(rb.open(place), 256, memory=_MEMORY, seed=1):
                pass

        return work

    read()
    figures = {
        "plain copy": seconds_of(plain, lambda: None),
        "cold": seconds_of(read, empty),
        "warm": seconds_of(read, forget),
        "the cache's files, read": seconds_of(copy_blocks, lambda: None),
        f"epoch, memory={_MEMORY}, cold": seconds_of(epoch(f"{address}/pack"), empty),
        f"epoch, memory={_MEMORY}, warm": seconds_of(epoch(f"{address}/pack"), forget),
        f"epoch, memory={_MEMORY}, here": seconds_of(epoch(folder / "pack"), lambda: None),
    }
    base = figures["plain copy"]
    for name, seconds in figures.items():
        rate = megabytes / seconds
        print(f"{name:32} {seconds:8.3f} s {rate:8.0f} MB/s {seconds / base:6.2f} x plain copy")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()

"""The cache of blocks: bounded, shared by processes, and never wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data import remote_cache
from rightbatch.data.remote_blocks import BLOCK_BYTES, BlockMemory, block_memory
from rightbatch.data.remote_cache import BlockCache
from rightbatch.data.remote_path import RemotePath
from rightbatch.data.remote_settings import RemoteSettings
from rightbatch.errors import OptionError, RemoteError

KEY = "5ca1ab1e" * 4


def blocks_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*-*") if path.is_file())


def test_a_block_comes_back_and_no_other_does(tmp_path):
    cache = BlockCache(tmp_path, 1 << 20)
    cache.write(KEY, 3, b"content")
    assert cache.read(KEY, 3, 7) == b"content"
    assert cache.read(KEY, 4, 7) is None
    assert cache.read(KEY[::-1], 3, 7) is None
    assert BlockCache(tmp_path, 1 << 20).read(KEY, 3, 7) == b"content"


@pytest.mark.parametrize("place", [0, 5, 8, 16, 20, -1])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path, caplog, place):
    cache = BlockCache(tmp_path, 1 << 20)
    cache.write(KEY, 0, bytes(100))
    path = blocks_in(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    assert cache.read(KEY, 0, 100) is None
    assert "damaged: it is fetched anew" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize("kept", [0, 10, 16, 60])
def test_a_block_that_was_cut_off_is_found(tmp_path, kept):
    cache = BlockCache(tmp_path, 1 << 20)
    cache.write(KEY, 0, bytes(100))
    path = blocks_in(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:kept])
    assert cache.read(KEY, 0, 100) is None


def test_a_damaged_block_of_an_object_is_fetched_again(bucket, tmp_path, caplog):
    content = np.random.default_rng(0).bytes(3 * BLOCK_BYTES)
    bucket.put("x.bin", content)
    path = RemotePath(bucket.url("x.bin"))
    assert path.read_bytes() == content
    blocks = blocks_in(tmp_path / "cache")
    assert len(blocks) == 3
    damaged = bytearray(blocks[1].read_bytes())
    damaged[BLOCK_BYTES // 2] ^= 1
    blocks[1].write_bytes(damaged)
    bucket.forget()
    before = len(bucket.proxy.reads_of("x.bin"))
    assert path.read_bytes() == content
    assert len(bucket.proxy.reads_of("x.bin")) == before + 1
    assert str(blocks[1]) in caplog.text


def test_what_nobody_has_read_for_longest_goes_first(tmp_path):
    size = 1000
    cache = BlockCache(tmp_path, 10 * (size + 16))
    for index in range(10):
        cache.write(KEY, index, bytes(size))
        os.utime(cache._path(KEY, index), ns=(index, index))
    assert cache.read(KEY, 0, size) is not None
    cache.write(KEY, 10, bytes(size))
    left = [index for index in range(11) if cache.read(KEY, index, size) is not None]
    assert left == [0, *range(3, 11)]


def test_the_bound_holds_while_blocks_are_written(tmp_path):
    cache = BlockCache(tmp_path, 64_000)
    for index in range(500):
        cache.write(KEY, index, bytes(1000))
        held = sum(path.stat().st_size for path in blocks_in(tmp_path))
        assert held <= 64_000 + 64_000 // 16 + 1016


def test_a_disk_that_is_full_takes_no_more(tmp_path, monkeypatch):
    cache = BlockCache(tmp_path, 1 << 30)
    cache._between_looks = 1
    cache.write(KEY, 0, bytes(1000))
    disk = remote_cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        remote_cache.shutil, "disk_usage", lambda _: type(disk)(disk.total, disk.total, 0)
    )
    cache.write(KEY, 1, bytes(1000))
    assert blocks_in(tmp_path) == []


def test_a_folder_that_can_not_be_written_is_said_once_and_reading_goes_on(
    bucket, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RIGHTBATCH_CACHE", str(tmp_path / "file"))
    content = bytes(5 * BLOCK_BYTES)
    bucket.put("x.bin", content)
    assert RemotePath(bucket.url("x.bin")).read_bytes() == content
    assert caplog.text.count("can not be written") == 1
    assert "RIGHTBATCH_CACHE" in caplog.text


def test_files_of_a_kill_go_when_they_are_old(tmp_path):
    cache = BlockCache(tmp_path, 1 << 20)
    cache.write(KEY, 0, b"content")
    folder = blocks_in(tmp_path)[0].parent
    old, new = folder / "a-1.0.partial", folder / "a-2.0.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    cache.make_room()
    assert (old.exists(), new.exists()) == (False, True)


def test_size_0_keeps_nothing_on_the_disk(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("RIGHTBATCH_CACHE_SIZE", "0")
    bucket.put("x.bin", b"content")
    assert RemotePath(bucket.url("x.bin")).read_bytes() == b"content"
    assert not (tmp_path / "cache").exists()


def test_an_object_larger_than_the_cache_is_read_all_the_same(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("RIGHTBATCH_CACHE_SIZE", "4MiB")
    content = np.random.default_rng(0).bytes(20 * BLOCK_BYTES + 17)
    bucket.put("x.bin", content)
    path = RemotePath(bucket.url("x.bin"))
    for _ in range(2):
        assert path.read_bytes() == content
        bucket.forget()
    held = sum(block.stat().st_size for block in blocks_in(tmp_path / "cache"))
    assert held <= (4 << 20) + BLOCK_BYTES


@pytest.mark.parametrize(
    ("name", "value"),
    [("RIGHTBATCH_CACHE_SIZE", "much"), ("RIGHTBATCH_TIMEOUT", "0"), ("RIGHTBATCH_TIMEOUT", "x")],
)
def test_settings_that_are_not_valid_are_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=name):
        RemoteSettings.of_environment()


def test_the_cache_lies_where_caches_lie(monkeypatch, tmp_path):
    monkeypatch.delenv("RIGHTBATCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert RemoteSettings.of_environment().cache_folder == tmp_path / "rightbatch"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert RemoteSettings.of_environment().cache_folder == Path.home() / ".cache/rightbatch"


READER = """
    import hashlib, random, sys
    import rightbatch as rb
    from rightbatch.data.remote_blocks import BLOCK_BYTES, block_memory
    from rightbatch.data.remote_path import RemotePath

    url, seed = sys.argv[1], int(sys.argv[2])
    file = RemotePath(url).remote_file()
    chosen = random.Random(seed)
    for _ in range(20):
        at = chosen.randrange(file.size - 3 * BLOCK_BYTES)
        content = file.read_at(at, 3 * BLOCK_BYTES)
        print(at, hashlib.blake2b(content).hexdigest())
        block_memory().clear()
"""


def test_processes_share_a_small_cache_and_read_nothing_wrong(bucket, tmp_path):
    """Three of them read pieces at once, in a cache that has room for a third of the object."""
    import hashlib

    content = np.random.default_rng(0).bytes(24 * BLOCK_BYTES)
    bucket.put("x.bin", content)
    environment = {
        **os.environ,
        "RIGHTBATCH_CACHE_SIZE": "8MiB",
        "PYTHONPATH": str(Path(rb.__file__).parent.parent),
    }
    command = [sys.executable, "-c", textwrap.dedent(READER), bucket.url("x.bin")]
    processes = [
        subprocess.Popen(
            [*command, str(seed)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for seed in range(3)
    ]
    told = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    for out, err in told:
        lines = out.decode().splitlines()
        assert len(lines) == 20
        assert b"damaged" not in err
        for line in lines:
            at, digest = line.split()
            piece = content[int(at) : int(at) + 3 * BLOCK_BYTES]
            assert hashlib.blake2b(piece).hexdigest() == digest
    held = sum(path.stat().st_size for path in blocks_in(tmp_path / "cache"))
    assert held <= (8 << 20) + 3 * (2 << 20)


def test_a_second_process_asks_the_server_for_nothing_but_the_tag(bucket):
    content = np.random.default_rng(0).bytes(3 * BLOCK_BYTES)
    bucket.put("x.bin", content)
    assert RemotePath(bucket.url("x.bin")).read_bytes() == content
    before = len(bucket.proxy.reads_of("x.bin"))
    script = (
        "import sys; from rightbatch.data.remote_path import RemotePath;"
        "print(len(RemotePath(sys.argv[1]).read_bytes()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, bucket.url("x.bin")],
        env={**os.environ, "PYTHONPATH": str(Path(rb.__file__).parent.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) == len(content)
    assert len(bucket.proxy.reads_of("x.bin")) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_with_connections_of_its_own(bucket):
    content = np.random.default_rng(0).bytes(2 * BLOCK_BYTES)
    bucket.put("x.bin", content)
    path = RemotePath(bucket.url("x.bin"))
    assert path.remote_file().read_at(0, 10) == content[:10]
    block_memory().clear()
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run here.
        try:
            os._exit(0 if path.read_bytes() == content else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_bytes() == content


class Counted:
    """An object whose blocks are counted as they are fetched."""

    def __init__(self, blocks: int) -> None:
        self.key = "key"
        self.size = blocks * BLOCK_BYTES - 5
        self.cache = None
        self.fetched: list[tuple[int, int]] = []
        self.fails = False

    def fetch(self, start: int, stop: int) -> bytes:
        time.sleep(0.01)
        if self.fails:
            raise RemoteError("no network")
        self.fetched.append((start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)))
        return bytes(stop - start)

    def stream(self) -> None:
        return None


def test_threads_that_want_the_same_blocks_fetch_them_once():
    memory, counted = BlockMemory(), Counted(12)
    threads = [
        threading.Thread(target=memory.get, args=(counted, range(first, first + 8)))
        for first in (0, 2, 4, 1, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    indexes = sorted(i for first, last in counted.fetched for i in range(first, last))
    assert indexes == list(range(12))


def test_neighbours_come_in_one_request_of_a_bounded_size():
    memory, counted = BlockMemory(), Counted(40)
    memory.get(counted, [0, 1, 2, 7, *range(10, 30)])
    assert sorted(counted.fetched) == [(0, 3), (7, 8), (10, 18), (18, 26), (26, 30)]


def test_memory_is_bounded():
    memory, counted = BlockMemory(4 * BLOCK_BYTES), Counted(20)
    for index in range(20):
        memory.get(counted, [index])
    assert sum(map(len, memory._held.values())) <= 4 * BLOCK_BYTES
    counted.fetched.clear()
    memory.get(counted, [19])
    assert counted.fetched == []
    memory.get(counted, [3])
    assert counted.fetched == [(3, 4)]


def test_a_failure_leaves_nobody_waiting():
    memory, counted = BlockMemory(), Counted(4)
    counted.fails = True
    errors = []

    def read() -> None:
        try:
            memory.get(counted, range(4))
        except RemoteError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 4
    counted.fails = False
    assert len(memory.get(counted, range(4))) == 4

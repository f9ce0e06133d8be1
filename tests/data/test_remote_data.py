"""Data behind URLs are the data that lie here: same samples, fingerprints and batches."""

from __future__ import annotations

import gzip
import pickle
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data import remote_arrays
from rightbatch.data.pack_source import open_to_pack
from rightbatch.data.remote_blocks import BLOCK_BYTES, block_memory
from rightbatch.data.remote_pack import RemotePack
from rightbatch.data.remote_path import RemotePath
from rightbatch.data.table_chunks import ChunkedTable
from rightbatch.errors import DataError, OptionError, RemoteError
from rightbatch.testing import check_dataset

GENERATOR = np.random.default_rng(0)
LENGTH = 3_000
X = GENERATOR.random((LENGTH, 300), np.float32)
Y = GENERATOR.integers(0, 3, LENGTH)
TEXTS = [f"word {row} " * (row % 7) for row in range(LENGTH)]


def table() -> pa.Table:
    return pa.table({"a": np.arange(500), "b": GENERATOR.random(500), "t": ["u", "v"] * 250})


def csv(path: Path) -> Path:
    import pyarrow.csv as pc

    pc.write_csv(table(), path)
    return path


def csv_folder(folder: Path) -> Path:
    folder.mkdir()
    for name in ("1.csv", "2.csv", "10.csv"):
        csv(folder / name)
    return folder


def csv_glob(folder: Path) -> Path:
    return csv_folder(folder) / "*.csv"


def csv_gz(path: Path) -> Path:
    plain = csv(path.with_suffix(".csv"))
    path = path.with_suffix(".csv.gz")
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return path


def parquet(path: Path) -> Path:
    pq.write_table(table(), path.with_suffix(".parquet"), row_group_size=100)
    return path.with_suffix(".parquet")


def npy(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), X)
    return path.with_suffix(".npy")


def fortran_npy(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), np.asfortranarray(X))
    return path.with_suffix(".npy")


def npz(path: Path, save=np.savez) -> Path:
    save(path.with_suffix(".npz"), x=X, y=Y)
    return path.with_suffix(".npz")


def idx(path: Path, ending: str = "") -> Path:
    path = path.with_suffix(f".idx{ending}")
    content = struct.pack(">BBBBII", 0, 0, 8, 2, 100, 7) + GENERATOR.bytes(700)
    path.write_bytes(gzip.compress(content) if ending else content)
    return path


def idx_folder(folder: Path) -> Path:
    folder.mkdir()
    for part, count in (("train", 30), ("t10k", 7)):
        for kind, shape in (("images-idx3", (count, 4, 5)), ("labels-idx1", (count,))):
            content = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
            content += GENERATOR.integers(0, 10, shape).astype(np.uint8).tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)
    return folder


def pack(folder: Path) -> Path:
    rb.pack({"x": X, "y": Y}, folder, target="y")
    return folder


def ragged_pack(folder: Path) -> Path:
    rb.pack({"text": rb.Ragged.from_list(TEXTS), "y": Y}, folder, target="y")
    return folder


def stacked_pack(folder: Path) -> Path:
    columns = {f"x{place}": X[:, place] for place in range(6)}
    rb.pack({**columns, "y": Y}, folder, target="y")
    return folder


SOURCES = {
    "csv": lambda folder: csv(folder / "a.csv"),
    "csv.gz": lambda folder: csv_gz(folder / "a"),
    "csv folder": lambda folder: csv_folder(folder / "a"),
    "csv glob": lambda folder: csv_glob(folder / "a"),
    "parquet": lambda folder: parquet(folder / "a"),
    "npy": lambda folder: npy(folder / "a"),
    "npy, Fortran": lambda folder: fortran_npy(folder / "a"),
    "npz": lambda folder: npz(folder / "a"),
    "npz, compressed": lambda folder: npz(folder / "a", np.savez_compressed),
    "idx": lambda folder: idx(folder / "a"),
    "idx.gz": lambda folder: idx(folder / "a", ".gz"),
    "idx folder": lambda folder: idx_folder(folder / "a"),
    "pack": lambda folder: pack(folder / "a"),
    "pack of stacked columns": lambda folder: stacked_pack(folder / "a"),
    "pack of texts": lambda folder: ragged_pack(folder / "a"),
}
PACKS = [name for name in SOURCES if name.startswith("pack")]
LAZY = [*PACKS, "npy"]


@pytest.fixture
def both(request, bucket, tmp_path):
    """The same data here and behind s3://."""
    path = SOURCES[request.param](tmp_path)
    top = path.parent if path.name == "*.csv" else path
    url = bucket.upload(top, top.name) + ("/*.csv" if path != top else "")
    return rb.open(str(path)), rb.open(url)


def equal(one, other) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, rb.Ragged):
        return bool(one == other)
    return one.dtype == other.dtype and np.array_equal(one, other)


@pytest.mark.parametrize("both", SOURCES, indirect=True)
def test_the_data_are_those_that_lie_here(both):
    here, remote = both
    assert remote.fingerprint == here.fingerprint
    assert remote.columns == here.columns
    assert (len(remote), remote.target, remote.own_parts) == (
        len(here),
        here.target,
        here.own_parts,
    )
    assert remote.files == ()
    assert all(found.url.startswith("s3://") and found.tag for found in remote.remote_objects)
    rows = np.random.default_rng(1).integers(0, len(here), 200)
    assert equal(remote.rows(rows), here.rows(rows))
    assert equal(remote.span(3, 30), here.span(3, 30))
    check_dataset(remote)


ORDERS = [
    {},
    {"shuffle": False},
    {"window": 64},
    {"block": 16, "window": 64},
    {"memory": "8MB"},
    {"memory": "8MB", "shuffle": False},
]


@pytest.mark.parametrize("both", SOURCES, indirect=True)
def test_batches_are_those_of_the_data_that_lie_here(both):
    here, remote = both
    for order in ORDERS:
        name = here.columns[0].name
        is_held = here.region(name) is not None and remote.region(name) is None
        if "memory" in order and is_held:
            continue  # data that are fetched whole need no budget, and no order for one
        ours = rb.Batches(remote, 64, seed=3, **order)
        theirs = rb.Batches(here, 64, seed=3, **order)
        assert ours.order == theirs.order
        pairs = zip(ours, theirs, strict=True)
        assert all(equal(one, other) for one, other in pairs), order


@pytest.mark.parametrize("both", LAZY, indirect=True)
def test_batches_of_what_memory_does_not_hold_are_the_same(both, monkeypatch):
    here, remote = both
    monkeypatch.setattr(remote_arrays, "_HELD_SHARE", 1 << 60)
    assert all(remote.array(column.name) is None for column in remote.columns)
    assert all(remote.ragged(column.name) is None for column in remote.columns)
    for order in ({}, {"shuffle": False}, {"block": 16, "window": 64}, {"memory": "8MB"}):
        for threads in (0, 2):
            ours = rb.Batches(remote, 64, seed=3, threads=threads, **order)
            theirs = rb.Batches(here, 64, seed=3, **order)
            assert ours.order == theirs.order
            assert all(equal(one, other) for one, other in zip(ours, theirs, strict=True)), order
    check_dataset(remote)


def test_entries_of_varying_length_are_read_in_windows_and_not_held(bucket, tmp_path):
    entries = [GENERATOR.bytes(4_000 + 7 * row) for row in range(1_500)]
    columns = {"image": rb.Ragged.from_list(entries), "y": np.arange(1_500) % 2}
    here = rb.pack(columns, tmp_path / "a", target="y")
    remote = rb.open(bucket.upload(tmp_path / "a", "a"))
    ours, theirs = (rb.Batches(data, 16, seed=3, memory="8MB") for data in (remote, here))
    assert ours.order == theirs.order
    assert ours.order.kind == "block-window"
    assert all(equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert remote.ragged_bytes("image") == sum(map(len, entries))
    assert "image" not in remote._held


@pytest.mark.parametrize("both", ["pack", "npy"], indirect=True)
@given(data=st.data())
@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
def test_resuming_anywhere_gives_the_rest(both, data):
    """Stopped on the data that lie here, gone on with behind the URL, and the other way round."""
    here, remote = both if data.draw(st.booleans()) else both[::-1]
    order = data.draw(st.sampled_from([{}, {"block": 8, "window": 40}, {"memory": "9MB"}]))
    batch_size = data.draw(st.integers(40, 300))
    first = rb.Batches(here, batch_size, seed=5, **order)
    whole = list(rb.Batches(here, batch_size, seed=5, with_rows=True, **order))
    taken = data.draw(st.integers(0, len(first) - 1))
    iterator = iter(first)
    for _ in range(taken):
        next(iterator)
    state = first.state_dict()
    iterator.close()
    rest = rb.Batches(remote, batch_size, seed=5, with_rows=True, threads=taken % 3, **order)
    rest.load_state_dict(state)
    found = list(rest)
    assert len(found) == len(whole) - taken
    assert all(equal(one, other) for one, other in zip(found, whole[taken:], strict=True))


@given(rows=st.lists(st.integers(0, 9_999), min_size=1, max_size=60), size=st.integers(1, 40))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_taken_from_any_blocks(bucket, tmp_path, monkeypatch, rows, size):
    """Rows of any size, some of which lie in two blocks."""
    monkeypatch.setattr(remote_arrays, "_HELD_SHARE", 1 << 60)
    values = np.arange(10_000 * size, dtype=np.int64).reshape(10_000, size)
    path = tmp_path / f"{size}.npy"
    if not path.exists():
        np.save(path, values)
        bucket.upload(path, path.name)
    remote = rb.open(bucket.url(path.name))
    assert np.array_equal(remote.rows(rows)["x"], values[rows])
    start, stop = sorted((rows[0], rows[-1]))
    assert np.array_equal(remote.span(start, stop)["x"], values[start:stop])


def test_only_what_is_needed_is_fetched(bucket, tmp_path):
    """Of a pack the manifest, of a large file the blocks of the rows that are asked for."""
    rb.pack({"x": np.zeros((40, BLOCK_BYTES // 4), np.float32), "y": np.arange(40)}, tmp_path / "p")
    data = rb.open(bucket.upload(tmp_path / "p", "p"), target="y")
    assert bucket.proxy.reads_of("x.npy") == []
    assert data.rows([20])["y"].tolist() == [20]
    # The header, and the two blocks in which the row lies.
    assert 1 <= len(bucket.proxy.reads_of("x.npy")) <= 3
    fetched = sum(_bytes(at) for at in bucket.proxy.reads_of("x.npy"))
    assert fetched <= 3 * BLOCK_BYTES


def test_of_a_parquet_file_only_the_chosen_columns_are_fetched(bucket, tmp_path):
    columns = {f"c{place}": GENERATOR.random(100_000) for place in range(20)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=100_000)
    url = bucket.upload(tmp_path / "a.parquet", "a.parquet")
    size = (tmp_path / "a.parquet").stat().st_size
    data = rb.open(url, columns=["c3"])
    assert np.array_equal(data.array("c3"), columns["c3"])
    fetched = sum(_bytes(at) for at in bucket.proxy.reads_of("a.parquet"))
    assert fetched < size / 3


def _bytes(at: str) -> int:
    start, _, stop = at.removeprefix("bytes=").partition("-")
    return int(stop) - int(start) + 1


def test_a_window_of_a_pack_needs_no_more_than_its_memory(bucket, tmp_path, monkeypatch):
    """24 MB are read in windows within 8 MB, and nothing is held whole."""
    rb.pack({"x": np.arange(6_000_000, dtype=np.float32).reshape(6_000, 1_000)}, tmp_path / "p")
    data = rb.open(bucket.upload(tmp_path / "p", "p"))
    whole = []
    monkeypatch.setattr(type(data), "_whole", lambda *_: whole.append(1))
    batches = rb.Batches(data, 100, memory="12MB", seed=1)
    assert batches.order.kind == "block-window"
    seen = np.sort(np.concatenate([x[:, 0] for x in batches]))
    assert np.array_equal(seen, np.arange(6_000, dtype=np.float32) * 1_000)
    assert whole == []


def test_a_stream_of_tokens_is_that_of_a_copy_here(bucket, tmp_path):
    (tmp_path / "t").mkdir()
    for number in range(2):
        (tmp_path / "t" / f"{number}.txt").write_text("to be or not to be, " * 50 + str(number))
    url = bucket.upload(tmp_path / "t", "t")
    np.save(tmp_path / "codes.npy", np.arange(1_000) % 7)
    codes = bucket.upload(tmp_path / "codes.npy", "codes.npy")
    cutting = {"sequence_length": 16, "stride": 8}
    for there, here in (
        (url, tmp_path / "t"),
        (f"{url}/*.txt", str(tmp_path / "t" / "*.txt")),
        (f"{url}/1.txt", tmp_path / "t" / "1.txt"),
        (codes, tmp_path / "codes.npy"),
    ):
        ours, theirs = rb.open(there, **cutting), rb.open(here, **cutting)
        assert ours.fingerprint == theirs.fingerprint
        assert ours.columns == theirs.columns
        assert ours.files == ()
        assert ours.remote_objects
    packed = rb.pack(ours, tmp_path / "p")
    remote = rb.open(bucket.upload(tmp_path / "p", "p"))
    assert remote.overlap == packed.overlap > 0
    assert remote.columns == packed.columns
    with pytest.raises(DataError, match="No text is at"):
        rb.open(bucket.url("none"), **cutting)


def test_a_folder_of_images_is_that_of_a_copy_here(bucket, tmp_path):
    for number in range(30):
        path = tmp_path / "i" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GENERATOR.bytes(100 + number))  # as they are encoded, whatever that is
    url = bucket.upload(tmp_path / "i", "i")
    here, remote = rb.open(tmp_path / "i"), rb.open(url)
    assert remote.fingerprint == here.fingerprint
    assert remote.columns == here.columns
    rows = [29, 3, 17]
    assert equal(remote.rows(rows), here.rows(rows))
    ours, theirs = rb.Batches(remote, 8, seed=1), rb.Batches(here, 8, seed=1)
    assert all(equal(one, other) for one, other in zip(ours, theirs, strict=True))
    bucket.put("i/a/0.png", b"other")
    with pytest.raises(DataError, match=r"a/0\.png\) has changed since the folder was opened"):
        remote.rows([0])


def test_a_large_table_is_packed_in_chunks(bucket, tmp_path):
    url = bucket.upload(csv_folder(tmp_path / "t"), "t")
    data = open_to_pack(f"{url}/*.csv", chunked_bytes=0, target="t", categories="codes")
    assert isinstance(data, ChunkedTable)
    packed = rb.pack(data, tmp_path / "pack")
    assert packed.fingerprint == rb.open(f"{url}/*.csv", target="t").fingerprint
    kept = packed.manifest.options["source_objects"]
    assert [found["url"] for found in kept] == [
        f"{url}/{name}" for name in ("1.csv", "10.csv", "2.csv")
    ]
    assert all(found["tag"] for found in kept)


def test_a_table_that_changes_while_it_is_packed_is_refused(bucket, tmp_path):
    path = csv(tmp_path / "a.csv")
    url = bucket.upload(path, "a.csv")
    data = open_to_pack(url, chunked_bytes=0)
    bucket.put("a.csv", path.read_bytes().replace(b"1", b"2"))
    bucket.forget()
    for block in (tmp_path / "cache").rglob("*-*"):
        block.unlink()
    with pytest.raises(RemoteError, match="has changed since it was opened"):
        rb.pack(data, tmp_path / "pack")


def test_a_pack_that_lacks_a_file_or_has_another_one_is_refused(bucket, tmp_path):
    url = bucket.upload(pack(tmp_path / "p"), "p")
    content = (tmp_path / "p" / "x.npy").read_bytes()
    bucket.put("p/x.npy", content[:-1])
    with pytest.raises(DataError, match=r"x\.npy .* has [\d,]+ bytes, and manifest\.json says"):
        rb.open(url)
    bucket.client.delete_object(Bucket=bucket.name, Key="p/x.npy")
    with pytest.raises(DataError, match=r"x\.npy \(column 'x' .* is missing"):
        rb.open(url)
    bucket.put("p/x.npy", b"?" + content[1:])
    with pytest.raises(DataError, match="does not begin with the header"):
        rb.open(url).rows([1])
    bucket.put("p/manifest.json", b"{}")
    with pytest.raises(DataError, match=r"manifest\.json"):
        rb.open(url)


def test_a_pack_is_verified_where_it_is(bucket, tmp_path):
    url = bucket.upload(pack(tmp_path / "p"), "p")
    assert rb.verify_pack(url) == []
    content = bytearray((tmp_path / "p" / "x.npy").read_bytes())
    content[2_000_000] ^= 1
    bucket.put("p/x.npy", bytes(content))
    bucket.client.delete_object(Bucket=bucket.name, Key="p/y.npy")
    flipped, missing = rb.verify_pack(url)
    assert (flipped.file, missing.file, missing.problem) == (
        "x.npy",
        "y.npy",
        "the file is missing",
    )
    assert flipped.start <= 2_000_000 // X[0].nbytes < flipped.stop
    with pytest.raises(DataError, match=r"s3://bucket/none is no packed data set"):
        rb.verify_pack(bucket.url("none"))


def test_nothing_is_written_to_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="a pack is written to a folder here, and s3://b/p is a"):
        rb.pack("iris", "s3://b/p")
    with pytest.raises(OptionError, match="a run is written to a folder here"):
        rb.fit("softmax", rb.split(rb.open("iris"), val=0.1), epochs=1, out="s3://b/run")
    assert list(tmp_path.iterdir()) == []


def test_a_pack_has_the_duplicates_and_the_source_rows_that_it_was_given(bucket, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n,5\n1,2\n3,4\n")
    rb.pack(path, tmp_path / "p", missing="drop", target="b")
    here, remote = rb.open(tmp_path / "p"), rb.open(bucket.upload(tmp_path / "p", "p"))
    assert isinstance(remote, RemotePack)
    assert equal(remote.known_duplicates, here.known_duplicates)
    assert equal(remote.source_rows, here.source_rows)
    parts = rb.split(remote, val=0.5, seed=1)
    assert parts.duplicate_samples == rb.split(here, val=0.5, seed=1).duplicate_samples


def test_columns_and_target_of_a_pack_are_chosen_as_here(bucket, tmp_path):
    here = stacked_pack(tmp_path / "p")
    url = bucket.upload(here, "p")
    for options in ({"columns": ["x1", "x3"]}, {"target": "x0"}, {"target": -2}):
        ours, theirs = rb.open(url, **options), rb.open(here, **options)
        assert ours.columns == theirs.columns
        assert ours.fingerprint == theirs.fingerprint
    with pytest.raises(DataError, match="Did you mean 'x1'"):
        rb.open(url, columns=["x11"])
    with pytest.raises(OptionError, match="header=True has no meaning"):
        rb.open(url, header=True)


@pytest.mark.parametrize("both", ["pack", "npy", "csv"], indirect=True)
def test_another_process_opens_what_it_is_sent(both):
    here, remote = both
    block_memory().clear()
    sent = pickle.loads(pickle.dumps(remote))  # noqa: S301  # our own
    assert sent.fingerprint == here.fingerprint
    assert equal(sent.rows([5, 1]), here.rows([5, 1]))


def test_files_of_several_kinds_are_not_mixed(bucket, tmp_path):
    bucket.put("m/a.csv", b"a,b\n1,2\n")
    bucket.put("m/b.txt.zip", b"?")
    with pytest.raises(DataError, match=r"s3://bucket/m/\*' matches 2 files.*b\.txt\.zip is no"):
        rb.open(bucket.url("m/*"))
    with pytest.raises(DataError, match="of no kind that can be opened"):
        rb.open(bucket.url("m/b.txt.zip"))


def test_an_empty_object_is_told_as_an_empty_file(bucket):
    bucket.put("a.csv", b"")
    with pytest.raises(DataError, match=r"s3://bucket/a\.csv is empty"):
        rb.open(bucket.url("a.csv"))


def test_a_file_system_without_a_store_of_its_own_is_read_as_well(tmp_path, monkeypatch):
    """fsspec's file system in memory stands for every protocol that has no store of its own."""
    import fsspec

    monkeypatch.setenv("RIGHTBATCH_CACHE_SIZE", "0")
    memory = fsspec.filesystem("memory")
    content = np.arange(300_000)
    np.save(tmp_path / "a.npy", content)
    memory.pipe("/rightbatch/a.npy", (tmp_path / "a.npy").read_bytes())
    try:
        data = rb.open("memory://rightbatch/a.npy")
        assert np.array_equal(data.rows([7, 299_999])["x"], [7, 299_999])
        block_memory().clear()
        file = RemotePath("memory://rightbatch/a.npy").remote_file()
        memory.pipe("/rightbatch/a.npy", bytes(2_400_128))
        with pytest.raises(RemoteError, match="has changed since it was opened"):
            file.read_at(0, 10)
    finally:
        memory.rm("/rightbatch", recursive=True)


@pytest.fixture
def plain_server(tmp_path, monkeypatch):
    """Python's own server of files: it knows no ranges and no tags but times."""
    (tmp_path / "www").mkdir()
    monkeypatch.setenv("RIGHTBATCH_CACHE", str(tmp_path / "cache"))
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www"))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield tmp_path / "www", f"http://127.0.0.1:{server.server_address[1]}", requests
    from rightbatch.data.remote_store import close_stores

    block_memory().clear()
    close_stores()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_without_ranges_is_read_once_from_the_beginning(plain_server):
    folder, address, requests = plain_server
    np.save(folder / "x.npy", X)
    data = rb.open(f"{address}/x.npy")
    assert np.array_equal(data.rows([LENGTH - 1])["x"], X[-1:])
    assert np.array_equal(data.rows([0, 1500])["x"], X[[0, 1500]])
    block_memory().clear()
    assert np.array_equal(data.rows([700])["x"], X[[700]])
    # Looked at, and fetched whole.
    assert len(requests) == 2


def test_a_pack_and_a_folder_of_tables_behind_https_addresses(plain_server):
    folder, address, _ = plain_server
    pack(folder / "p")
    csv_folder(folder / "t")
    for url in (f"{address}/p", f"{address}/p/"):
        assert rb.open(url).fingerprint == rb.open(folder / "p").fingerprint
    for url in (f"{address}/t/", f"{address}/t", f"{address}/t/*.csv"):
        assert rb.open(url).fingerprint == rb.open(folder / "t").fingerprint
    with pytest.raises(DataError, match="Nothing is at"):
        rb.open(f"{address}/none")

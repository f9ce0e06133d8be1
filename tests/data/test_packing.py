"""Packing keeps order and content, in bounded memory, and goes on after whatever stopped it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

import rightbatch as rb
from rightbatch.data import block_checksums, duplicate_search, packing
from rightbatch.data.duplicates import equal_content_groups
from rightbatch.data.packing_folder import PackingFolder

X = np.random.default_rng(0).integers(0, 3, (500, 4)).astype(np.uint8)
Y = np.arange(500) % 7

DTYPES = st.sampled_from(["?", "u1", "<i2", ">i4", "<i8", "<f2", "<f4", "<f8", "S3", "<U2"])


@st.composite
def tables(draw):
    """Named arrays of equal length, of few values, so that equal rows are frequent."""
    length = draw(st.integers(1, 60))
    columns = {}
    for name in draw(st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True)):
        shape = (length, *draw(st.lists(st.integers(1, 3), max_size=2)))
        values = draw(numpy_strategies.arrays(np.uint8, shape, elements=st.integers(0, 1)))
        columns[name] = values.astype(draw(DTYPES))
    return columns


def dataset(columns) -> rb.Dataset:
    from rightbatch.data.array_dataset import ArrayDataset

    return ArrayDataset(columns)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 bytes, spans of 128 and a journal entry for each: many steps in little data."""
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", 64)
    monkeypatch.setattr(packing, "_SPAN_BYTES", 128)
    monkeypatch.setattr(packing, "_SYNC_BYTES", 256)


@given(columns=tables())
def test_order_content_dtypes_and_fingerprint_stay(columns):
    with tempfile.TemporaryDirectory() as folder:
        source = dataset(columns)
        packed = rb.pack(source, Path(folder) / "pack")
        assert packed.columns == source.columns
        assert packed.fingerprint == source.fingerprint
        for name, array in packed.span(0, len(packed)).items():
            assert array.tobytes() == columns[name].tobytes()
        assert rb.verify_pack(Path(folder) / "pack") == []


@given(columns=tables(), bucket_rows=st.sampled_from([1, 2, 7, 2**20]))
def test_the_duplicates_are_those_of_the_groups(columns, bucket_rows):
    before = duplicate_search.BUCKET_ROWS
    duplicate_search.BUCKET_ROWS = bucket_rows
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = dataset(columns)
            rows, firsts = rb.pack(source, Path(folder) / "pack").known_duplicates
    finally:
        duplicate_search.BUCKET_ROWS = before
    groups = equal_content_groups(source)
    first_of_group = np.unique(groups, return_index=True)[1]
    expected = np.flatnonzero(first_of_group[groups] != np.arange(len(groups)))
    assert rows.tolist() == expected.tolist()
    assert firsts.tolist() == first_of_group[groups][expected].tolist()


@pytest.mark.parametrize("kinds", [1, 3])
def test_colliding_keys_are_told_apart(kinds, tmp_path, monkeypatch):
    # All keys are among `kinds`: the buckets of one key are compared piece by piece.
    monkeypatch.setattr(duplicate_search, "BUCKET_ROWS", 8)
    whole = packing.span_keys
    monkeypatch.setattr(
        packing, "span_keys", lambda data, arrays: whole(data, arrays) % np.uint64(kinds)
    )
    source = rb.open((X, Y))
    rows, firsts = rb.pack(source, tmp_path / "pack").known_duplicates
    groups = equal_content_groups(source)
    first_of_group = np.unique(groups, return_index=True)[1]
    expected = np.flatnonzero(first_of_group[groups] != np.arange(len(groups)))
    assert rows.tolist() == expected.tolist()
    assert firsts.tolist() == first_of_group[groups][expected].tolist()


@settings(max_examples=25)
@given(columns=tables(), drawn=st.data())
def test_a_packing_that_stopped_goes_on_to_the_same_files(columns, drawn, content_of):
    source = dataset(columns)
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(block_checksums, "BLOCK_BYTES", 16)
        patch.setattr(packing, "_SPAN_BYTES", 32)
        patch.setattr(packing, "_SYNC_BYTES", drawn.draw(st.sampled_from([1, 64])))
        rb.pack(source, Path(folder) / "whole")
        place = Path(folder) / "stopped"
        whole_append = PackingFolder.append
        for _ in range(drawn.draw(st.integers(1, 3))):
            appends_left = [drawn.draw(st.integers(0, 5))]

            def append(self, arrays, keys, appends_left=appends_left):
                if appends_left[0] == 0:
                    # What a kill leaves: some columns written in part, nothing of it told.
                    first = self.draft.columns[0].array.file
                    with (self.path / first).open("ab") as file:
                        file.write(b"half")
                    raise KeyboardInterrupt
                appends_left[0] -= 1
                whole_append(self, arrays, keys)

            patch.setattr(PackingFolder, "append", append)
            try:
                rb.pack(source, place)
                break
            except KeyboardInterrupt:
                assert not place.exists()
        patch.setattr(PackingFolder, "append", whole_append)
        rb.pack(source, place)
        assert content_of(place) == content_of(Path(folder) / "whole")
        assert rb.verify_pack(place) == []


@pytest.mark.parametrize("damage", ["journal", "journal end", "column", "header", "keys"])
def test_help_files_that_were_damaged_cost_work_and_nothing_else(
    damage, tmp_path, small_blocks, content_of
):
    rb.pack((X, Y), tmp_path / "whole")

    def stop(progress):
        if progress.done_bytes > 3000:
            raise KeyboardInterrupt

    packing_progress = packing._PROGRESS_SECONDS
    try:
        packing._PROGRESS_SECONDS = 0.0
        with pytest.raises(KeyboardInterrupt):
            rb.pack((X, Y), tmp_path / "pack", progress=stop)
    finally:
        packing._PROGRESS_SECONDS = packing_progress
    partial = tmp_path / "pack.partial"
    if damage == "journal":
        (partial / "journal.txt").unlink()
    elif damage == "journal end":
        os.truncate(partial / "journal.txt", (partial / "journal.txt").stat().st_size - 5)
    elif damage == "column":
        os.truncate(partial / "x.npy", 400)
    elif damage == "header":
        content = bytearray((partial / "y.npy").read_bytes())
        content[20] ^= 1
        (partial / "y.npy").write_bytes(content)
    else:
        os.truncate(partial / "content-keys.bin", 100)
    rb.pack((X, Y), tmp_path / "pack")
    assert content_of(tmp_path / "pack") == content_of(tmp_path / "whole")


SCRIPT = """
    import sys
    import numpy as np
    import rightbatch as rb
    from rightbatch.data import block_checksums, packing

    block_checksums.BLOCK_BYTES = 2**16
    packing._SYNC_BYTES = packing._SPAN_BYTES = 2**18
    x = np.random.default_rng(0).integers(0, 255, (40_000, 200)).astype(np.uint8)
    x[30_000:31_000] = x[5_000:6_000]
    print("begin", flush=True)
    rb.pack((x, np.arange(40_000)), sys.argv[1])
    print("end", flush=True)
"""


def test_killed_at_random_moments_it_ends_with_the_same_files(pack_with_kills):
    pack_with_kills(SCRIPT)


def test_a_kill_between_the_last_file_and_the_name_costs_nothing(tmp_path):
    rb.pack(X, tmp_path / "pack")
    (tmp_path / "pack").rename(tmp_path / "pack.partial")
    packed = rb.pack(X, tmp_path / "pack")
    np.testing.assert_array_equal(packed.array("x"), X)
    (tmp_path / "pack").rename(tmp_path / "pack.partial")
    with pytest.raises(rb.OptionError, match="holds a complete pack of other data"):
        rb.pack(X[:9], tmp_path / "pack")
    assert len(rb.pack(X[:9], tmp_path / "pack", overwrite=True)) == 9
    assert not (tmp_path / "pack.partial").exists()


@pytest.mark.parametrize("files", [["packing.json.partial"], ["x.npy", "packing.json"]])
def test_a_kill_at_the_very_first_moment_leaves_a_beginning(files, tmp_path):
    interrupted(X, tmp_path / "pack")
    partial = tmp_path / "pack.partial"
    for path in partial.iterdir():
        if path.name not in files:
            path.unlink()
    if "packing.json.partial" in files:
        (partial / "packing.json.partial").write_text('{"half')
    assert len(rb.pack(X, tmp_path / "pack")) == len(X)


def test_a_kill_while_help_files_were_removed_leaves_no_trace(tmp_path):
    rb.pack(X, tmp_path / "pack")
    names = {path.name for path in (tmp_path / "pack").iterdir()}
    (tmp_path / "pack").rename(tmp_path / "pack.partial")
    (tmp_path / "pack.partial" / "content-keys.bin").write_bytes(b"12345678")
    rb.pack(X, tmp_path / "pack")
    assert {path.name for path in (tmp_path / "pack").iterdir()} == names


def test_the_same_data_are_not_packed_twice(tmp_path):
    rb.pack(X, tmp_path / "pack")
    before = (tmp_path / "pack" / "manifest.json").stat().st_mtime_ns
    (note,) = rb.pack(X, tmp_path / "pack").notes
    assert "nothing was written" in note
    assert (tmp_path / "pack" / "manifest.json").stat().st_mtime_ns == before


def test_blocks_of_another_size_hold_the_same_data(tmp_path, monkeypatch):
    rb.pack(X, tmp_path / "pack")
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", 64)
    assert "nothing was written" in rb.pack(X, tmp_path / "pack").notes[0]


def test_many_columns_take_no_more_open_files_than_few(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    columns = {f"column {number}": np.arange(5) * number for number in range(400)}
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        packed = rb.pack(columns, tmp_path / "pack")
        assert rb.verify_pack(tmp_path / "pack") == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert packed.rows([4])["column 399"].tolist() == [4 * 399]


def test_other_data_replace_a_pack_only_when_asked(tmp_path):
    rb.pack(X, tmp_path / "pack")
    with pytest.raises(rb.OptionError, match=r"fingerprint, length.*--overwrite"):
        rb.pack(X[:10], tmp_path / "pack")
    packed = rb.pack(X[:10], tmp_path / "pack", overwrite=True)
    assert len(packed) == len(rb.open(tmp_path / "pack")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_pack_can_be_replaced_by_a_choice_of_itself(tmp_path):
    rb.pack((X, Y), tmp_path / "pack")
    rb.pack(rb.open(tmp_path / "pack", columns=["x"], target="y"), tmp_path / "other")
    packed = rb.open(tmp_path / "pack", target="x", columns=["y"])
    assert rb.pack(packed, tmp_path / "pack", overwrite=True).target == "x"


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_but_a_pack_is_replaced(overwrite, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    with pytest.raises(rb.OptionError, match="holds no packed data set"):
        rb.pack(X, tmp_path / "folder", overwrite=overwrite)
    (tmp_path / "file").write_text("more")
    with pytest.raises(rb.OptionError, match="is a file"):
        rb.pack(X, tmp_path / "file", overwrite=overwrite)
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "notes.txt").write_text("mine")
    with pytest.raises(rb.OptionError, match="holds other files"):
        rb.pack(X, tmp_path / "new", overwrite=overwrite)
    assert (tmp_path / "folder" / "thesis.txt").exists()
    assert (tmp_path / "new.partial" / "notes.txt").exists()


def test_a_pack_with_files_of_somebody_is_not_replaced(tmp_path):
    rb.pack(X, tmp_path / "pack")
    (tmp_path / "pack" / "thesis.txt").write_text("years of work")
    with pytest.raises(rb.OptionError, match=r"not of the pack \(thesis\.txt\)"):
        rb.pack(X[:9], tmp_path / "pack", overwrite=True)


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "pack").mkdir()
    assert len(rb.pack(X, tmp_path / "pack")) == len(X)


def interrupted(data, folder) -> None:
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rb.pack(data, folder, progress=stop)


def test_an_unfinished_packing_of_other_data_is_begun_anew_only_when_asked(tmp_path):
    interrupted(X, tmp_path / "pack")
    with pytest.raises(rb.OptionError, match=r"unfinished packing of other data.*fingerprint"):
        rb.pack(X + 1, tmp_path / "pack")
    packed = rb.pack(X + 1, tmp_path / "pack", overwrite=True)
    np.testing.assert_array_equal(packed.array("x"), X + 1)


def test_two_at_once_are_kept_apart(tmp_path):
    def second(progress):
        with pytest.raises(rb.OptionError, match="being written by another process"):
            rb.pack(X, tmp_path / "pack")

    assert len(rb.pack(X, tmp_path / "pack", progress=second)) == len(X)


def test_a_source_that_changes_meanwhile_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", X)

    def touch(progress):
        os.utime(tmp_path / "a.npy", ns=(1, 1))

    with pytest.raises(rb.DataError, match=r"a\.npy changed while it was packed"):
        rb.pack(tmp_path / "a.npy", tmp_path / "pack", progress=touch)


def test_the_manifest_says_where_the_data_came_from(tmp_path):
    np.save(tmp_path / "a.npy", X)
    manifest = rb.pack(tmp_path / "a.npy", tmp_path / "pack").manifest
    (file,) = manifest.source_files
    assert file.path == str(tmp_path / "a.npy")
    assert file.bytes == (tmp_path / "a.npy").stat().st_size
    assert manifest.name == str(tmp_path / "a.npy")


def test_a_column_that_is_no_input_has_to_be_settled_first(tmp_path):
    parts = rb.split(rb.open({"a": X, "g": Y, "y": Y}, target="y"), group="g")
    with pytest.raises(rb.OptionError, match="ties samples together"):
        rb.pack(parts.data, tmp_path / "pack")


def test_progress_grows_from_nothing_to_all(tmp_path, small_blocks, monkeypatch):
    monkeypatch.setattr(packing, "_PROGRESS_SECONDS", 0.0)
    told = []
    rb.pack((X, Y), tmp_path / "pack", progress=told.append)
    written = [news.done_bytes for news in told if news.stage == "writing"]
    assert written == sorted(written)
    assert written[0] == 0
    assert written[-1] == told[-1].total_bytes == X.nbytes + Y.nbytes
    assert told[-1].stage == "duplicates"
    assert len(written) > 10


def test_progress_says_what_was_there(tmp_path, small_blocks):
    # The first news comes before the first block, so the second start finds nothing either.
    interrupted((X, Y), tmp_path / "pack")
    told = []
    rb.pack((X, Y), tmp_path / "pack", progress=told.append)
    assert told[0].resumed_bytes == told[0].done_bytes == 0


def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(rb.DiskSpaceError, match=r"needs 18\.0 kB more .* which has 1\.00 kB free"):
        rb.pack((X, Y), tmp_path / "pack")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S607  # wherever the system has it


def test_a_disk_that_is_too_small_is_refused(small_disk):
    large = np.zeros((9, 2**20), np.uint8)
    with pytest.raises(rb.DiskSpaceError, match=r"needs 9\.44 MB more"):
        rb.pack(large, small_disk / "pack")


def test_a_disk_that_becomes_full_keeps_what_is_written(small_disk, monkeypatch):
    monkeypatch.setattr(packing, "_PROGRESS_SECONDS", 0.0)
    large = np.random.default_rng(0).integers(0, 255, (6, 2**20)).astype(np.uint8)
    monkeypatch.setattr(packing, "_SPAN_BYTES", 2**20)
    other = small_disk / "other"

    def fill(progress):
        # Another program takes the rest of the disk.
        if progress.done_bytes >= 2**21 and not other.exists():
            other.write_bytes(bytes(3 * 2**20))

    with pytest.raises(rb.DiskSpaceError, match=r"is full: .* of 6\.29 MB are packed.*goes on"):
        rb.pack(large, small_disk / "pack", progress=fill)
    assert not (small_disk / "pack").exists()
    other.unlink()
    told = []
    packed = rb.pack(large, small_disk / "pack", progress=told.append)
    assert told[0].resumed_bytes >= 2**21
    np.testing.assert_array_equal(packed.array("x"), large)
    assert rb.verify_pack(small_disk / "pack") == []


MEMORY_SCRIPT = """
    import sys
    import numpy as np
    import rightbatch as rb
    from rightbatch.data.column import Column
    from rightbatch.data.dataset import Dataset

    class Made(Dataset):
        '''768 MiB that nobody holds: each span is made when it is asked for.'''

        fingerprint = "made"

        def __init__(self):
            super().__init__(name="made", columns=[
                Column(name="x", dtype=np.dtype(np.uint8), shape=(1024,)),
                Column(name="y", dtype=np.dtype(np.int64)),
            ], target="y")

        def __len__(self):
            return 786_432

        def rows(self, indices):
            raise NotImplementedError

        def span(self, start, stop):
            rows = np.arange(start, stop)
            x = np.zeros((stop - start, 1024), np.uint8)
            x[:, :8] = (rows // 2).view(np.uint8).reshape(-1, 8)
            return {"x": x, "y": rows}

    def held():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

    rb.pack(np.arange(10), sys.argv[1] + "-first")
    before, most = held(), [0]
    packed = rb.pack(
        Made(), sys.argv[1], progress=lambda progress: most.append(held() - before)
    )
    print(max(most), len(packed.known_duplicates[0]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_bounded(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY_SCRIPT), str(tmp_path / "pack")],
        env={**os.environ, "PYTHONPATH": str(Path(rb.__file__).parent.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    most_kib, duplicates = map(int, done.stdout.split())
    assert duplicates == 786_432 // 2
    assert most_kib <= 96 * 1024  # 64 MiB, and a span that the source holds


def test_places_that_can_not_be_written_are_told_in_words(tmp_path):
    source = rb.open({"x": np.arange(5)})
    with pytest.raises(rb.OptionError, match="is no folder that a pack can be written to"):
        rb.pack(source, "/", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(rb.OptionError, match="can not be written"):
        rb.pack(source, tmp_path / "file" / "pack")


def test_parts_are_no_data_to_pack(tmp_path):
    parts = rb.split(rb.open({"x": np.arange(50)}), val=0.2)
    for thing in (parts, parts.train):
        with pytest.raises(rb.OptionError, match="pack the data set, and split the pack"):
            rb.pack(thing, tmp_path / "pack")

"""Packs of columns that vary in length: two files, exact, gone on with, and verified."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data import block_checksums, packed_column, packing
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.dataset import Dataset
from rightbatch.data.duplicates import equal_content_groups
from rightbatch.data.packing_folder import PackingFolder
from rightbatch.data.ragged import Ragged, offsets_of

LENGTHS = np.random.default_rng(0).integers(0, 9, 40)
TEXTS = [f"{row % 7}" + "x" * length for row, length in enumerate(LENGTHS)]


@st.composite
def tables(draw):
    """Named ragged and other columns of few values, so that equal rows are frequent."""
    length = draw(st.integers(1, 40))
    columns = {}
    for name in draw(st.lists(st.text(max_size=4), min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["ragged", "ragged", "bytes", "fixed"]))
        if kind == "fixed":
            columns[name] = np.array(draw(st.lists(st.integers(0, 1), min_size=length)))[:length]
            continue
        sizes = draw(st.lists(st.integers(0, 5), min_size=length, max_size=length))
        shape = draw(st.sampled_from([(), (2,), (3, 1)])) if kind == "ragged" else ()
        dtype = draw(st.sampled_from(["<f4", ">i2", "u1", "?"])) if kind == "ragged" else "u1"
        values = np.arange(sum(sizes) * int(np.prod(shape))) % 2
        columns[name] = Ragged(
            values.astype(dtype).reshape(-1, *shape),
            offsets_of(sizes),
            is_text=kind == "bytes" and draw(st.booleans()),
        )
    return columns


class Streamed(Dataset):
    """Samples that no array holds: what a source that reads files one by one gives."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(name=data.name, columns=data.columns, target=data.target)
        self._data = data

    @property
    def fingerprint(self) -> str:
        return self._data.fingerprint

    def __len__(self) -> int:
        return len(self._data)

    def rows(self, indices):
        return self._data.rows(indices)

    def span(self, start, stop):
        return self._data.span(start, stop)


@given(columns=tables(), is_streamed=st.booleans())
def test_entries_lengths_dtypes_and_fingerprint_stay(columns, is_streamed):
    source = ArrayDataset(columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pack"
        packed = rb.pack(Streamed(source) if is_streamed else source, folder)
        assert packed.columns == source.columns
        assert packed.fingerprint == source.fingerprint
        for column in packed.columns:
            before, after = columns[column.name], packed.span(0, len(packed))[column.name]
            assert before == after if column.is_ragged else before.tobytes() == after.tobytes()
        assert rb.verify_pack(folder) == []
        rows, firsts = packed.known_duplicates
        groups = equal_content_groups(source)
        first_of_group = np.unique(groups, return_index=True)[1]
        expected = np.flatnonzero(first_of_group[groups] != np.arange(len(groups)))
        assert rows.tolist() == expected.tolist()
        assert firsts.tolist() == first_of_group[groups][expected].tolist()


@settings(max_examples=40)
@given(columns=tables(), drawn=st.data())
def test_a_packing_that_stopped_goes_on_to_the_same_files(columns, drawn, content_of):
    source = ArrayDataset(columns)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(block_checksums, "BLOCK_BYTES", 40)
        patch.setattr(packing, "_SPAN_BYTES", 80)
        patch.setattr(packing, "_SYNC_BYTES", drawn.draw(st.sampled_from([1, 100])))
        rb.pack(source, Path(folder) / "whole")
        place = Path(folder) / "stopped"
        whole_append = PackingFolder.append
        for _ in range(drawn.draw(st.integers(1, 3))):
            appends_left = [drawn.draw(st.integers(0, 5))]

            def append(self, arrays, keys, appends_left=appends_left):
                if appends_left[0] == 0:
                    # What a kill leaves: some files written in part, nothing of it told.
                    for column in self.draft.columns[:1]:
                        for stored in column.files.values():
                            with (self.path / stored.file).open("ab") as file:
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


@pytest.mark.parametrize("damage", ["journal", "journal end", "values", "offsets", "header"])
def test_help_files_that_were_damaged_cost_work_and_nothing_else(
    damage, tmp_path, monkeypatch, content_of
):
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", 64)
    monkeypatch.setattr(packing, "_SPAN_BYTES", 128)
    monkeypatch.setattr(packing, "_SYNC_BYTES", 64)
    monkeypatch.setattr(packing, "_PROGRESS_SECONDS", 0.0)
    source = rb.open({"text": Ragged.from_list(TEXTS * 5), "y": np.arange(200)}, target="y")
    rb.pack(source, tmp_path / "whole")

    def stop(progress):
        if progress.done_bytes > 2500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rb.pack(source, tmp_path / "pack", progress=stop)
    partial = tmp_path / "pack.partial"
    if damage == "journal":
        (partial / "journal.txt").unlink()
    elif damage == "journal end":
        os.truncate(partial / "journal.txt", (partial / "journal.txt").stat().st_size - 5)
    elif damage == "header":
        for name in ("text.values.npy", "text.offsets.npy"):
            content = bytearray((partial / name).read_bytes())
            content[20] ^= 1
            (partial / name).write_bytes(content)
    else:
        os.truncate(partial / f"text.{damage}.npy", 300)
    rb.pack(source, tmp_path / "pack")
    assert content_of(tmp_path / "pack") == content_of(tmp_path / "whole")


SCRIPT = """
    import sys
    import numpy as np
    import rightbatch as rb
    from rightbatch.data import block_checksums, packing
    from rightbatch.data.ragged import offsets_of

    block_checksums.BLOCK_BYTES = 2**16
    packing._SYNC_BYTES = packing._SPAN_BYTES = 2**18
    lengths = np.random.default_rng(0).integers(0, 400, 40_000)
    values = np.random.default_rng(1).integers(0, 255, lengths.sum()).astype(np.uint8)
    print("begin", flush=True)
    rb.pack({"b": rb.Ragged(values, offsets_of(lengths)), "n": lengths}, sys.argv[1])
    print("end", flush=True)
"""


def test_killed_at_random_moments_it_ends_with_the_same_files(pack_with_kills):
    pack_with_kills(SCRIPT)


def test_numpy_opens_both_files_and_they_are_mapped(tmp_path):
    packed = rb.pack(Ragged.from_list(TEXTS), tmp_path / "pack")
    values = np.load(tmp_path / "pack" / "x.values.npy", mmap_mode="r")
    offsets = np.load(tmp_path / "pack" / "x.offsets.npy", mmap_mode="r")
    assert Ragged(values, offsets, is_text=True).texts() == TEXTS
    ragged = packed.ragged("x")
    assert not ragged.values.flags.writeable
    region = packed.ragged_region("x")
    assert region.values.path == tmp_path / "pack" / "x.values.npy"
    assert (region.whole_rows, region.length, region.values.offset) == (40, 40, 128)
    assert packed.region("x") is None
    assert packed.array("x") is None


def test_many_ragged_columns_take_no_more_open_files_than_few(tmp_path):
    columns = {f"c{number}": Ragged.from_list([b"a" * number, b"b"]) for number in range(50)}
    packed = rb.pack(columns, tmp_path / "pack")
    assert 2 * len(columns) > packed_column._MOST_OPEN_FILES
    assert packed.rows([0])["c49"][0].tobytes() == b"a" * 49
    assert packed.ragged_region("c49").whole_rows == 2


def test_a_large_entry_is_packed_and_verified_in_pieces(tmp_path, monkeypatch):
    from rightbatch.data import pack_verification

    monkeypatch.setattr(pack_verification, "_PIECE_BYTES", 1000)
    entries = Ragged.from_list([b"a", bytes(range(256)) * 100, b"", b"b" * 3000])
    packed = rb.pack(entries, tmp_path / "pack")
    assert packed.ragged("x") == entries
    assert rb.verify_pack(tmp_path / "pack") == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", 64)
    rb.pack({"t": Ragged.from_list(TEXTS), "y": np.arange(40)}, tmp_path / "pack")
    return tmp_path / "pack"


def flipped(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def block_rows(folder: Path) -> int:
    return json.loads((folder / "manifest.json").read_text())["columns"][0]["values"]["block_rows"]


def test_every_flipped_bit_of_the_values_names_its_entries(folder):
    path, ends = folder / "t.values.npy", np.cumsum([len(text) for text in TEXTS])
    rows = block_rows(folder)
    assert 1 < rows < 10
    for bit in range(0, 8 * path.stat().st_size, 3):
        flipped(path, bit)
        (fault,) = rb.verify_pack(folder)
        assert fault.file == "t.values.npy"
        if bit < 8 * 128:
            assert "header" in fault.problem
        else:
            entry = int(np.searchsorted(ends, bit // 8 - 128, side="right"))
            assert fault.start == entry // rows * rows
            assert fault.start <= entry < fault.stop <= 40
        flipped(path, bit)
    assert rb.verify_pack(folder) == []


def test_every_flipped_bit_of_the_offsets_is_found_and_opens_nothing_wrong(folder):
    path, rows = folder / "t.offsets.npy", block_rows(folder)
    whole = rb.open(folder).ragged("t")
    values = whole.values.copy()
    for bit in range(0, 8 * path.stat().st_size, 5):
        flipped(path, bit)
        (fault,) = rb.verify_pack(folder)
        assert fault.file == "t.offsets.npy"
        if bit >= 8 * 136:
            entry = (bit // 8 - 136) // 8
            assert fault.start == entry // rows * rows
        try:
            ragged = rb.open(folder).ragged("t")
        except rb.DataError as error:
            assert "t.offsets.npy" in str(error)  # noqa: PT017  # some bits leave it ascending
        else:
            assert ragged.offsets[-1] == len(values)
            for row in range(40):
                assert ragged[row].tobytes() in values.tobytes()
        flipped(path, bit)


def test_offsets_that_point_outside_are_refused_where_the_data_are_opened(folder):
    path = folder / "t.offsets.npy"
    content = path.read_bytes()
    for row, end, problem in [
        (39, 2**40, "the last one is 1,099,511,627,776"),
        (5, 2**62, "entry 6 ends at"),
        (5, -8, "entry 5 ends at -8, before its beginning"),
    ]:
        damaged = bytearray(content)
        damaged[136 + 8 * row : 144 + 8 * row] = int(end).to_bytes(8, "little", signed=True)
        path.write_bytes(damaged)
        with pytest.raises(rb.DataError, match=rf"t\.offsets\.npy .* damaged: {problem}"):
            rb.open(folder)


@pytest.mark.parametrize("name", ["t.values.npy", "t.offsets.npy"])
def test_files_that_are_cut_off_or_missing_are_told(name, folder):
    path = folder / name
    kept = path.stat().st_size - 30
    os.truncate(path, kept)
    faults = rb.verify_pack(folder)
    (cut,) = (fault for fault in faults if "cut off" in fault.problem)
    ends = np.cumsum([len(text) for text in TEXTS])
    lost = np.searchsorted(ends, kept - 128, side="right") if "values" in name else 40 - 4
    assert cut.start <= lost < cut.stop == 40
    assert lost - cut.start < block_rows(folder)
    with pytest.raises(rb.DataError, match=rf"{name} .* is truncated"):
        rb.open(folder)
    path.unlink()
    assert str(rb.verify_pack(folder)[0]) == f"{name}, rows 0 up to 40: the file is missing"
    with pytest.raises(rb.DataError, match=rf"{name} .* is missing"):
        rb.open(folder)


def test_entries_that_are_all_empty_have_a_file_that_is_looked_at(tmp_path):
    packed = rb.pack(Ragged.from_list([b"", b""]), tmp_path / "pack")
    assert packed.rows([1, 0])["x"].texts() == ["", ""]
    assert rb.verify_pack(tmp_path / "pack") == []
    assert len(np.load(tmp_path / "pack" / "x.values.npy")) == 0
    with (tmp_path / "pack" / "x.values.npy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(rb.DataError, match=r"x\.values\.npy .* not of 128 bytes"):
        rb.open(tmp_path / "pack")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("is_text", lambda column: column.update(is_text="yes")),
        ("texts are uint8", lambda column: column["values"].update(dtype="<f4")),
        ("block_ends", lambda column: column["values"].update(block_ends=[3, 2])),
        ("block_ends", lambda column: column["values"]["block_ends"].append(10**9)),
        ("block_ends", lambda column: column["values"]["block_ends"].pop()),
        ("block_ends", lambda column: column["values"].update(block_ends=[])),
        ("shape", lambda column: column["values"].update(shape=[-1])),
        ("shape", lambda column: column["offsets"].update(shape=[41])),
        ("shape", lambda column: column["offsets"].update(shape=[40, 1])),
        ("dtype", lambda column: column["offsets"].update(dtype="<i4")),
        ("checksums", lambda column: column["offsets"]["checksums"].pop()),
        ("file", lambda column: column["offsets"].update(file="../t.npy")),
        ("columns", lambda column: column["offsets"].update(file="T.VALUES.npy")),
        ("extra", lambda column: column["values"].update(extra=1)),
        ("values", lambda column: column.update(values=None)),
    ],
)
def test_a_manifest_that_lies_about_it_is_refused(field, change, folder):
    import hashlib

    path = folder / "manifest.json"
    described = json.loads(path.read_text())
    described.pop("checksum")
    change(described["columns"][0])
    head = (json.dumps(described, indent=1).removesuffix("\n}") + ',\n "checksum": ').encode()
    digest = hashlib.blake2b(head, digest_size=16).hexdigest()
    path.write_bytes(head + f'"{digest}"\n}}\n'.encode())
    with pytest.raises(rb.DataError, match=field):
        rb.open(folder)


def test_a_source_that_breaks_its_promise_is_refused(tmp_path):
    class Wrong(Streamed):
        def span(self, start, stop):
            return {"x": Ragged.from_list([b"a"] * (stop - start + 1))}

    with pytest.raises(rb.DataError, match="a Ragged of 2 entries"):
        rb.pack(Wrong(rb.open(Ragged.from_list([b"a", b"b"]))), tmp_path / "pack")


def test_a_source_that_reads_is_read_once_but_for_a_look_at_its_sizes(tmp_path):
    spans = []

    class Counted(Streamed):
        def span(self, start, stop):
            spans.append((start, stop))
            return super().span(start, stop)

    entries = Ragged(np.zeros(3000 * 20_000, np.uint8), np.arange(3001) * 20_000)
    rb.pack(Counted(rb.open(entries)), tmp_path / "pack")
    assert spans[0] == (0, 64)
    assert spans[1][0] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans[1:]))
    # About 8 MiB at a time.
    assert max(stop - start for start, stop in spans) * 20_000 < 2**24


def test_runs_in_other_processes_map_the_files_themselves(folder):
    import pickle

    data = rb.open(folder)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301  # our own
    assert again.ragged("t") == data.ragged("t")
    assert len(pickle.dumps(data)) < 20_000


def test_lines_of_shakespeare_are_packed_as_text(real_data, tmp_path):
    lines = (real_data / "tinyshakespeare" / "input.txt").read_text().splitlines()
    packed = rb.pack({"line": Ragged.from_list(lines)}, tmp_path / "pack")
    assert packed.columns[0].is_text
    assert packed.ragged("line").texts() == lines
    assert rb.verify_pack(tmp_path / "pack") == []
    (batch, rows), *_ = rb.Batches(packed, 64, seed=1, with_rows=True)
    assert batch.texts() == [lines[row] for row in rows]


def test_photographs_are_packed_as_bytes_and_decoded_by_a_function(real_data, tmp_path):
    paths = sorted((real_data / "flowers").rglob("*.jpg"))[::12][:200]
    contents = [path.read_bytes() for path in paths]
    labels = [path.parent.name for path in paths]
    packed = rb.pack({"jpeg": Ragged.from_list(contents), "y": labels}, tmp_path / "pack")
    assert rb.verify_pack(tmp_path / "pack") == []
    assert [entry.tobytes() for entry in packed.ragged("jpeg")] == contents
    image_module = pytest.importorskip("PIL.Image")
    import io

    def decode(jpegs):
        images = [image_module.open(io.BytesIO(jpeg.tobytes())) for jpeg in jpegs]
        return np.stack([np.asarray(image.convert("RGB").resize((32, 32))) for image in images])

    data = rb.open(tmp_path / "pack", target="y").transform(decode)
    seen = 0
    for images, _, rows in rb.Batches(data, 32, with_rows=True, threads=2):
        expected = decode([np.frombuffer(contents[row], np.uint8) for row in rows])
        np.testing.assert_array_equal(images, expected)
        seen += len(images)
    assert seen == len(paths)


def test_the_same_data_are_not_packed_twice_and_others_are_refused(folder):
    same = {"t": Ragged.from_list(TEXTS), "y": np.arange(40)}
    assert "nothing was written" in rb.pack(same, folder).notes[-1]
    with pytest.raises(rb.OptionError, match="other data"):
        rb.pack({**same, "t": Ragged.from_list(TEXTS[::-1])}, folder)
    assert rb.pack({**same, "t": Ragged.from_list(TEXTS[::-1])}, folder, overwrite=True)
    assert rb.verify_pack(folder) == []


def test_columns_are_chosen_and_renamed_files_do_not_collide(tmp_path):
    columns = {
        "t": Ragged.from_list(["a", "bc"]),
        "t.values": np.arange(2),
        "T": Ragged.from_list([[1], []]),
    }
    rb.pack(columns, tmp_path / "pack")
    data = rb.open(tmp_path / "pack", columns=["T", "t.values"], target="t")
    assert data.target == "t"
    assert data.rows([1, 0])["t"].texts() == ["bc", "a"]
    assert data.rows([0])["t.values"].tolist() == [0]
    assert data.ragged("T").lengths.tolist() == [1, 0]

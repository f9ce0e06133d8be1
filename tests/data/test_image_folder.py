"""A folder of class folders as a data set: its rows, what it leaves out, what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.image_folder import ImageFolder


@pytest.fixture
def folder(tmp_path, pictures):
    return pictures.folder(tmp_path / "pets", 9)


def test_rows_are_the_files_in_the_order_of_their_names(folder):
    data = rb.open(folder)
    files = sorted(folder.glob("*/*"))
    assert [data.file_name(row) for row in range(9)] == [
        str(path.relative_to(folder)) for path in files
    ]
    assert data.target == "class"
    assert data.column("class").categories == ("cat", "dog", "newt")
    assert data.array("class").tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    taken = data.rows(np.array([7, 0, 7]))
    assert [entry.tobytes() for entry in taken["image"]] == [
        files[row].read_bytes() for row in (7, 0, 7)
    ]
    assert taken["class"].tolist() == [2, 0, 2]


def test_images_without_class_folders_have_no_target(tmp_path, pictures):
    for number in range(3):
        (tmp_path / f"{number}.JPEG").write_bytes(pictures.encoded(pictures.make(number)))
    data = rb.open(tmp_path)
    assert (len(data), data.target, [column.name for column in data.columns]) == (
        3,
        None,
        ["image"],
    )
    assert data.file_name(2) == "2.JPEG"


def test_a_target_and_columns_may_be_named(folder):
    assert rb.open(folder, columns=["image"]).target == "class"
    assert [column.name for column in rb.open(folder, target="class").inputs] == ["image"]
    with pytest.raises(rb.DataError, match=r"no target 'label'.*image, class"):
        rb.open(folder, target="label")
    with pytest.raises(rb.OptionError, match=r"header=True has no meaning for .*of images"):
        rb.open(folder, header=True)


def test_what_is_no_image_is_left_out_by_name(folder):
    before = rb.open(folder).fingerprint
    (folder / "SHA256SUMS").write_text("…")
    (folder / ".DS_Store").write_text("…")
    (folder / "cat" / "notes.txt").write_text("…")
    (folder / "empty").mkdir()
    (folder / ".thumbnails").mkdir()
    data = rb.open(folder)
    assert len(data) == 9
    assert data.fingerprint == before
    assert data.notes == (
        "Left out folders that hold no image: empty.",
        "Left out 4 entries that are no image by name: .DS_Store, .thumbnails, SHA256SUMS, "
        "cat/notes.txt.",
    )


def test_images_beside_class_folders_are_refused(folder, pictures):
    (folder / "a.jpg").write_bytes(pictures.encoded(pictures.make(1)))
    with pytest.raises(rb.DataError, match=r"a.jpg beside the folder cat, which holds images too"):
        rb.open(folder)


def test_a_folder_above_the_class_folders_says_where_they_are(folder, tmp_path):
    (tmp_path / "pets").rename(tmp_path / "train")
    with pytest.raises(rb.DataError, match=r"pack|CSV|train"):
        rb.open(tmp_path)
    with pytest.raises(rb.DataError, match=re.escape(f"open {tmp_path}/train")):
        ImageFolder(tmp_path)


def test_the_fingerprint_is_of_names_and_sizes(folder, tmp_path):
    first = rb.open(folder).fingerprint
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert rb.open(moved).fingerprint == first
    path = moved / "cat" / "000.jpg"
    content = path.read_bytes()
    path.write_bytes(content + b"\x00")
    longer = rb.open(moved).fingerprint
    path.rename(path.with_name("001.jpg"))
    path.with_name("001.jpg").write_bytes(content)
    assert len({first, longer, rb.open(moved).fingerprint}) == 3


def test_a_file_that_is_gone_or_changed_is_named(folder):
    data = rb.open(folder)
    path = folder / "dog" / "001.jpg"
    path.write_bytes(b"other")
    with pytest.raises(rb.DataError, match=r"row 3 \(dog/001.jpg\) has changed.*5"):
        data.rows([3])
    path.unlink()
    with pytest.raises(rb.DataError, match=r"row 3 \(dog/001.jpg\) can not be read: No such file"):
        data.span(2, 5)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_names_that_are_no_utf8_are_read(tmp_path):
    home = os.fsencode(tmp_path) + b"/cat"
    os.mkdir(home)  # noqa: PTH102  # Path takes no bytes
    with open(home + b"/\xff.jpg", "wb") as file:  # noqa: PTH123  # the same
        file.write(b"abc")
    assert rb.open(tmp_path).rows([0])["image"][0].tobytes() == b"abc"


def test_a_pack_holds_the_encoded_bytes_and_goes_on_with_the_folder(folder, tmp_path):
    data = rb.open(folder)
    packed = rb.pack(data, tmp_path / "pack")
    assert packed.fingerprint == data.fingerprint
    assert packed.span(0, 9)["image"] == data.span(0, 9)["image"]
    assert packed.column("class").categories == data.column("class").categories


def test_only_what_a_remote_path_has_is_asked_of_a_folder(folder):
    class Remote:
        """A path that is no `pathlib.Path`, with the few methods that are promised."""

        def __init__(self, path):
            self._path = path
            self.name = path.name
            self.is_dir, self.is_file = path.is_dir, path.is_file
            self.stat, self.read_bytes = path.stat, path.read_bytes

        def iterdir(self):
            return map(Remote, self._path.iterdir())

        def __truediv__(self, name):
            return Remote(self._path / name)

        def __str__(self):
            return f"remote:{self._path}"

    data, local = ImageFolder(Remote(folder)), rb.open(folder)
    assert data.fingerprint == local.fingerprint
    assert data.span(0, 9)["image"] == local.span(0, 9)["image"]


def test_the_size_of_all_files_is_known_without_reading_them(folder):
    data = rb.open(folder)
    assert data.ragged_bytes("image") == sum(path.stat().st_size for path in folder.glob("*/*"))
    assert data.ragged_bytes("class") is None


def test_opening_loads_neither_torch_nor_pillow(folder):
    code = (
        "import sys, rightbatch as rb; rb.open(sys.argv[1]);"
        "print([name for name in ('torch', 'PIL', 'simplejpeg') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n"

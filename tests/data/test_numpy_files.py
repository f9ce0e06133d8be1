"""`.npy` and `.npz` files."""

from __future__ import annotations

import gc
import io
import zipfile

import numpy as np
import pytest

import rightbatch.data as rb
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.transforms import scale


def test_npy_is_mapped_and_not_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 3), np.float32))
    data = rb.open(path)
    written = np.load(path, mmap_mode="r+")
    written[2, 1] = 5
    written.flush()
    assert data.rows(np.array([2]))["x"].tolist() == [[0, 5, 0]]
    assert type(data.span(0, 1)["x"]) is np.ndarray


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i2", ">u4", "?", "u1", "<f2"])
def test_npy_of_any_order_and_endianness_comes_back_native(tmp_path, order, dtype):
    values = np.asarray(np.arange(12).reshape(4, 3) % 2, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    data = rb.open(tmp_path / "a.npy")
    opened = data.span(0, 4)["x"]
    assert opened.dtype.isnative
    assert opened.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(opened, values)
    np.testing.assert_array_equal(data.rows(np.array([3, 0, 3]))["x"], values[[3, 0, 3]])


def test_text_becomes_codes(tmp_path):
    np.save(tmp_path / "a.npy", np.array(["dog", "cat", "dog"]))
    data = rb.open(tmp_path / "a.npy")
    assert data.span(0, 3)["x"].tolist() == [1, 0, 1]
    assert data.column("x").categories == ("cat", "dog")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_opens_one_column_a_member(tmp_path, save):
    x, y = np.arange(20.0).reshape(5, 4), np.array([0, 1, 0, 1, 1])
    save(tmp_path / "a.npz", features=np.asfortranarray(x), label=y, words=np.array(list("abcab")))
    data = rb.open(tmp_path / "a.npz", target="label")
    whole = data.span(0, 5)
    np.testing.assert_array_equal(whole["features"], x)
    np.testing.assert_array_equal(whole["label"], y)
    assert data.column("words").categories == ("a", "b", "c")


def test_npz_members_that_are_stored_are_mapped(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.full(4, 1234567, dtype=np.int64))
    data = rb.open(path)
    content = path.read_bytes()
    position = content.index((1234567).to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.seek(position)
        file.write((7).to_bytes(8, "little"))
    assert data.span(0, 2)["x"].tolist() == [7, 1234567]


def test_a_mapped_file_is_known_where_transforms_are_attached(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(400.0).reshape(100, 4))
    data = rb.open(path)
    attached = data.transform(scale(0.5))
    assert attached.region("x") == data.region("x") is not None
    path.write_bytes(path.read_bytes()[:-800])
    for one in (data, attached):
        with pytest.raises(DataError, match=r"a\.npy ends before row 75.*it was cut off since"):
            one.span(0, 100)


@pytest.mark.parametrize("compressed", [False, True])
def test_stored_and_compressed_have_one_fingerprint(tmp_path, compressed):
    x = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "a.npy", x)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", x=np.asfortranarray(x))
    opened = rb.open(tmp_path / "a.npz"), rb.open(tmp_path / "a.npy"), rb.open({"x": x})
    assert len({data.fingerprint for data in opened}) == 1


def test_positions_and_columns_choose_members(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.arange(3) * 2, c=np.arange(3) * 3)
    data = rb.open(tmp_path / "a.npz", target=0, columns=["c"])
    assert [column.name for column in data.columns] == ["c", "a"]
    assert data.target == "a"


def test_objects_are_refused_naming_the_member(tmp_path):
    np.savez(tmp_path / "a.npz", good=np.arange(2), bad=np.array([{}, []], dtype=object))
    with pytest.raises(DataError, match=r"a\.npz: the member 'bad\.npy' holds Python objects"):
        rb.open(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.array([{}, []], dtype=object))
    with pytest.raises(DataError, match=r"a\.npy holds Python objects.*save it as numbers"):
        rb.open(tmp_path / "a.npy")


def test_a_bad_member_that_is_not_chosen_does_no_harm(tmp_path):
    np.savez(tmp_path / "a.npz", good=np.arange(2), bad=np.array([{}, []], dtype=object))
    assert len(rb.open(tmp_path / "a.npz", columns=["good"])) == 2


@pytest.mark.parametrize("cut", [0, 3, 20, 90, 140])
def test_a_cut_npy_is_refused(tmp_path, cut):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(10))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"a\.npy"):
        rb.open(path)


def test_a_cut_or_long_npy_says_how_many_bytes(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(10))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(DataError, match=r"is truncated: its header promises 80 bytes.*and 72"):
        rb.open(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match=r"left over: its header promises 80 bytes.*and 81"):
        rb.open(path)


def member(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_a_header_that_promises_too_much_is_refused_before_allocating(tmp_path):
    content = member(np.zeros(10, np.uint8)).replace(b"(10,), }", b"(10**9,)}")
    for shape in (b"(10,), }" + b" " * 13, b"(10, 9999999999999), }"):
        content = member(np.zeros(10, np.uint8)).replace(b"(10,), }" + b" " * 13, shape, 1)
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
        if b"9999" in shape:
            with pytest.raises(DataError, match=r"'x\.npy'"):
                rb.open(tmp_path / "a.npz")
        else:
            assert len(rb.open(tmp_path / "a.npz")) == 10


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_cut_npz_is_refused(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, x=np.random.default_rng(0).random(1000))
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"a\.npz is no readable \.npz"):
            rb.open(path)


def test_a_damaged_compressed_member_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(1000.0))
    whole = bytearray(path.read_bytes())
    whole[400:420] = bytes(20)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"a\.npz"):
        rb.open(path)


def test_other_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(DataError, match=r"'notes\.txt' is no \.npy array"):
        rb.open(tmp_path / "a.npz")


def test_an_archive_without_members_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    with pytest.raises(DataError, match="holds no arrays"):
        rb.open(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), ()])
def test_zero_samples_and_single_values_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(DataError, match=r"zero samples|single value"):
        rb.open(tmp_path / "a.npy")


def test_different_lengths_name_the_columns(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(4))
    with pytest.raises(DataError, match=r"'x' has 3, 'y' has 4 samples"):
        rb.open(tmp_path / "a.npz")


def test_an_unknown_target_lists_the_members(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), label=np.zeros(3))
    with pytest.raises(DataError, match=r"'lable'\. Did you mean 'label'\?.*x, label"):
        rb.open(tmp_path / "a.npz", target="lable")


def test_a_missing_policy_has_no_meaning_here(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(OptionError, match="missing='drop' has no meaning"):
        rb.open(tmp_path / "a.npy", missing="drop")


def test_refusals_leave_no_file_open(tmp_path, files_open):
    np.savez(tmp_path / "objects.npz", x=np.zeros(3), bad=np.array([{}], dtype=object))
    np.savez(tmp_path / "lengths.npz", x=np.zeros(3), y=np.zeros(4))
    np.savez(tmp_path / "nan.npz", x=np.zeros(3), y=np.array([0, np.nan, 1]))
    for name in ("objects", "lengths", "nan"):
        with pytest.raises(DataError):
            rb.open(tmp_path / f"{name}.npz", target="y" if name == "nan" else None)
    gc.collect()
    assert files_open(tmp_path) == []

"""Arrays out of pickles of every protocol, and attacks that must leave no trace."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import DataError
from rightbatch.training.array_pickle import parse_array_pickle, read_array_pickle

ARRAYS = {
    "W1": np.arange(6, dtype=np.float64).reshape(2, 3),
    "b1": np.array([1, -2, 3], np.int64),
    "W2": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2)),
    "b2": np.array([0.5, 1.5], ">f8"),
    "flags": np.array([True, False]),
    "bytes": np.frombuffer(bytes(range(256)), np.uint8),
    "none": np.zeros((0, 4)),
    "number": np.array(2.5),
    "scalar": np.float32(0.25),
}
# What Python 2 wrote for {"W1": numpy.array([[1.0, 2.0]])}, by protocol.
VALUES = np.array([[1.0, 2.0]])
DATA = VALUES.tobytes()
PYTHON_2 = {
    0: b"(dp0\nS'W1'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\n"
    b"tp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I1\nI2\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\n"
    b"Rp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS" + repr(DATA)[1:].encode() + b"\n"
    b"p15\ntp16\nbs.",
    1: b"}q\x00U\x02W1q\x01cnumpy.core.multiarray\n_reconstruct\nq\x02(cnumpy\nndarray\nq\x03"
    b"(K\x00tq\x04U\x01bq\x05tq\x06Rq\x07(K\x01(K\x01K\x02tq\x08cnumpy\ndtype\nq\x09(U\x02f8q\x0a"
    b"K\x00K\x01tq\x0bRq\x0c(K\x03U\x01<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
    b"I00\nU\x10" + DATA + b"q\x0ftq\x10bs.",
    2: b"\x80\x02}q\x00U\x02W1q\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
    b"q\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x01K\x02\x86q\x08cnumpy\ndtype\nq\x09"
    b"U\x02f8q\x0aK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\x0dNNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tq\x0eb\x89T\x10\x00\x00\x00" + DATA + b"q\x0ftq\x10bs.",
}


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def without_frame(content: bytes) -> bytes:
    assert content[2:3] == pickle.FRAME
    return content[:2] + content[11:]


def of_old_numpy(content: bytes, protocol: int) -> bytes:
    """The pickle as NumPy 1 wrote it."""
    if protocol < 4:
        return content.replace(b"numpy._core.", b"numpy.core.")
    for module in ("multiarray", "numeric"):
        new, old = f"numpy._core.{module}".encode(), f"numpy.core.{module}".encode()
        content = content.replace(
            b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old
        )
    return without_frame(content)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("is_old", [False, True], ids=["as installed", "old names"])
def test_what_python_3_writes_is_read(protocol: int, is_old: bool, tmp_path: Path) -> None:
    content = pickle.dumps(ARRAYS, protocol)
    if is_old:
        content = of_old_numpy(content, protocol)
        assert b"numpy._core" not in content
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    assert_equal(read_array_pickle(path), {name: np.asarray(a) for name, a in ARRAYS.items()})


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_what_python_2_wrote_is_read(protocol: int) -> None:
    content = PYTHON_2[protocol]
    expected = pickle.loads(content, encoding="latin1")  # noqa: S301  # our own bytes: the control
    np.testing.assert_array_equal(expected["W1"], VALUES)
    assert_equal(parse_array_pickle(content), {"W1": VALUES})


@pytest.mark.parametrize("protocol", range(6))
def test_an_array_that_stands_in_the_file_once_may_have_two_names(protocol: int) -> None:
    zeros = np.zeros(3)
    found = parse_array_pickle(pickle.dumps({"b1": zeros, "b2": zeros}, protocol))
    assert_equal(found, {"b1": zeros, "b2": zeros})


@given(
    data=st.data(),
    protocol=st.integers(0, 5),
    dtype=st.sampled_from(["?", "i1", "<u2", ">i4", "u8", "f2", "<f4", ">f8"]),
    shape=st.lists(st.integers(0, 4), max_size=3),
)
def test_any_numbers_come_back_as_they_were(data, protocol, dtype, shape) -> None:
    size = int(np.prod(shape))
    raw = data.draw(st.binary(min_size=8 * size, max_size=8 * size))
    values = np.frombuffer(raw, np.uint8)[: size * np.dtype(dtype).itemsize]
    array = (values % 2 if dtype == "?" else values).view(dtype).reshape(shape)
    found = parse_array_pickle(pickle.dumps({"a": array}, protocol))["a"]
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert found.shape == array.shape


# Attacks -------------------------------------------------------------------------------------


class Calling:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def text(words: str) -> bytes:
    return b"\x8c" + bytes([len(words)]) + words.encode()


def attacks(trace: Path) -> dict[str, tuple[bytes, str]]:
    """Programs that make the file `trace` when Python's own machine runs them, and their name."""
    touch = f"touch {trace}"
    system = b"cos\nsystem\n(" + f"S'{touch}'\n".encode() + b"tR."
    opening = f"open({str(trace)!r}, 'w').close()"
    nested = {"W1": [ARRAYS["W1"], {"deep": (Calling(os.system, touch),)}]}
    return {
        "os.system, protocol 0": (system, r"os\.system"),
        "os.system, protocol 5": (pickle.dumps(Calling(os.system, touch), 5), r"posix\.system"),
        "eval": (pickle.dumps(Calling(eval, opening)), r"builtins\.eval"),
        "exec": (pickle.dumps(Calling(exec, opening), 0), r"__builtin__\.exec|builtins\.exec"),
        "deep inside": (pickle.dumps(nested), r"posix\.system"),
        "a reduce that imports": (
            pickle.dumps(Calling(__import__, "os"), 2),
            r"__import__",
        ),
        "a name put together on the stack": (
            b"\x80\x04" + text("os") + text("system") + b"\x93" + text(touch) + b"\x85R.",
            r"os\.system",
        ),
        "a path through an allowed module": (
            b"\x80\x04"
            + text("numpy")
            + text("f2py.os.system")
            + b"\x93"
            + text(touch)
            + b"\x85R.",
            r"numpy\.f2py\.os\.system",
        ),
        "numpy's own loader": (
            b"cnumpy\nload\n(" + f"S'{trace}'\n".encode() + b"tR.",
            r"numpy\.load",
        ),
        "an instance": (
            b"(" + f"S'{touch}'\n".encode() + b"ios\nsystem\n.",
            r"INST",
        ),
        "an object": (b"(cos\nsystem\n" + f"S'{touch}'\n".encode() + b"o.", r"os\.system"),
    }


NAMES = list(attacks(Path("trace")))


@pytest.mark.parametrize("attack", NAMES)
def test_nothing_of_an_attack_runs_and_its_name_is_told(attack: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content, name = attacks(trace)[attack]
    with pytest.raises(DataError, match=name) as refused:
        parse_array_pickle(content)
    assert "Nothing of it was run" in str(refused.value)
    assert not trace.exists()


@pytest.mark.parametrize("attack", ["os.system, protocol 0", "eval", "an instance", "deep inside"])
def test_the_attacks_are_real_ones(attack: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickle.loads(attacks(trace)[attack][0])  # noqa: S301  # the control: it makes an empty file
    assert trace.exists()


class Remembering(pickle.Pickler):
    """Writes every array as a persistent id, as torch does with storages."""

    def persistent_id(self, thing: Any) -> Any:
        return ("storage", "os.system") if isinstance(thing, np.ndarray) else None


def persistent(protocol: int) -> bytes:
    file = io.BytesIO()
    if protocol == 0:
        return b"(dp0\nS'W1'\nPos.system\ns."
    Remembering(file, protocol).dump({"W1": [ARRAYS["W1"]]})
    return file.getvalue()


class Stateful:
    """An object whose state would be set by code."""

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("the state was set")

    def __init__(self) -> None:
        self.anything = 1


REFUSED: dict[str, tuple[bytes, str]] = {
    "persistent id": (persistent(0), "PERSID"),
    "nested persistent id": (persistent(2), "BINPERSID"),
    "registered functions": (b"\x80\x02\x82\x01.", "EXT1"),
    "registered functions, 2": (b"\x80\x02\x83\x01\x00.", "EXT2"),
    "registered functions, 4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "objects in an array": (pickle.dumps({"W1": np.array([{}, []], object)}), "'O8'"),
    "records": (pickle.dumps({"W1": np.zeros(2, "f4,i4")}), "'V8'"),
    "text array": (pickle.dumps({"W1": np.array(["a"])}), "'U1'"),
    "complex numbers": (pickle.dumps({"W1": np.array([1j])}), "'c16'"),
    "long floats": (pickle.dumps({"W1": np.array([1], "g")}), "'f16'"),
    "dates": (pickle.dumps({"W1": np.array(["2020-01-01"], "M8[D]")}), "'M8'"),
    "a class": (pickle.dumps({"W1": Path("a")}), "pathlib"),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
    "a set": (pickle.dumps({"W1": {1}}, 4), "EMPTY_SET"),
    "out-of-band bytes": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "the call of a text": (b"\x80\x04" + text("os.system") + b")R.", "a value of the type str"),
    "the call of a dict": (b"})R.", "a value of the type dict"),
    "the state of a dict": (b"}}b.", "sets the state of a value of the type dict"),
    "the state of a function": (b"cnumpy\nndarray\n}b.", "sets the state of NumPy's ndarray"),
    "the attributes of an array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"}S'__setstate__'\ncnumpy\nndarray\nsb.",
        "sets the state of an array to a value of the type dict",
    ),
    "another class to reconstruct": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        "NumPy's reconstruct with NumPy's dtype",
    ),
    "a codec": (b"c_codecs\nencode\n(Vabc\nS'zip'\ntR.", "NumPy's encode"),
    "a dtype that is a program": (b"cnumpy\ndtype\n(S\"{'names': ['a']}\"\ntR.", "names"),
    "a list": (pickle.dumps([1, 2]), "a value of the type list"),
    "an array alone": (pickle.dumps(np.eye(2)), "holds an array; valid is a dict"),
    "a number in the dict": (pickle.dumps({"W1": 3}), "a value of the type int under 'W1'"),
    "a list in the dict": (pickle.dumps({"W1": [[1.0]]}), "a value of the type list under 'W1'"),
    "an array that was never filled": (
        b"}S'W1'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntRs.",
        "holds an array under 'W1'",
    ),
    "a number as a key": (b"}I1\nNs.", "is a key"),
    "a later protocol": (b"\x80\x06N.", "protocol 6"),
    "an unknown opcode": (b"\xff.", "xff"),
    "nothing": (b"", "cut off"),
    "not a pickle": (b"PK\x03\x04 a zip file", "PERSID|damaged"),
    "no end": (pickle.dumps({"W1": np.eye(2)})[:-1], "cut off"),
    "an empty stack": (b"t.", "mark"),
    "a mark as the result": (b"(.", "empty stack"),
    "what was not remembered": (b"h\x05.", "not remembered"),
    "an invalid escape": (rb"S'\q'" + b"\n.", "damaged|holds"),
    "a broken text": (b"X\x02\x00\x00\x00\xff\xff.", "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_everything_but_a_dict_of_arrays_is_refused_by_name(case: str) -> None:
    content, name = REFUSED[case]
    with pytest.raises(DataError, match=name):
        parse_array_pickle(content)


def test_a_state_that_code_would_set_is_refused() -> None:
    with pytest.raises(DataError, match="Stateful"):
        parse_array_pickle(pickle.dumps({"W1": Stateful()}))


@given(content=st.binary(max_size=60), place=st.integers(0, 400), is_inserted=st.booleans())
def test_damaged_files_are_refused_or_read_and_nothing_else(content, place, is_inserted) -> None:
    whole = pickle.dumps({"W1": np.arange(6.0).reshape(2, 3), "b1": np.zeros(3)}, place % 6)
    place %= len(whole)
    rest = whole[place:] if is_inserted else whole[place + len(content) :]
    try:
        found = parse_array_pickle(whole[:place] + content + rest)
    except DataError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())


BOMBS = r"""
import json, pickle, resource, struct, sys
import numpy as np
from rightbatch.errors import DataError
from rightbatch.training.array_pickle import parse_array_pickle

def text(words): return b"X" + struct.pack("<I", len(words)) + words
array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
         b"(I1\n(%stcnumpy\ndtype\n(S'f8'\nI0\nI1\ntRI00\nS'%s'\ntb")
laughs = b")" + b"q\x00h\x00\x86" * 100
one = array % (b"I131072\n", b"x" * (8 * 131072))
many = b"".join(b"h\x01" + text(b"W%d" % n) + b"h\x00s0" for n in range(30_000))
bombs = {
    "a huge shape": b"}S'W1'\n" + array % (b"I1000000\nI1000000\n", b"12345678") + b"s.",
    "a shape beyond all numbers": b"}S'W1'\n" + array % (b"I%d\n" % 10**3000, b"12345678") + b"s.",
    "a huge empty shape": b"}S'W1'\n" + array % (b"I0\nI%d\n" % (2**62), b"") + b"s.",
    "promised bytes": b"\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "promised text": b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "promised bytearray": b"\x96" + struct.pack("<Q", 2**63 + 5) + b"x.",
    "a promised number": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a negative length": b"T" + struct.pack("<i", -5) + b"x.",
    "a promised frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "digits": b"L" + b"9" * 2_000_000 + b"L\n.",
    "laughs as a value": b"}S'W1'\n" + laughs + b"s.",
    "laughs as a key": b"}" + laughs + b"Ns.",
    "laughs as a shape": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + laughs
        + b"S'b'\ntR.",
    "lists": b"]" * 5_000_000,
    "marks": b"(" * 5_000_000,
    "depth": b"]" * 100_000 + b"a" * 99_999 + b".",
    "a text encoded again and again": b"]" + text(b"x" * 500_000) + b"q\x000"
        + b"c_codecs\nencode\nq\x010" + b"h\x01(h\x00U\x06latin1tRa" * 20_000 + b".",
    "one array under many names": b"}q\x010" + one + b"q\x000h\x01" + b"0" + many + b"h\x01.",
    "a memory with a huge place": b"Nr\xff\xff\xff\xff.",
}
for content in bombs.values():  # what the machine itself makes is what counts
    assert len(content) < 2**25
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = {}
for name, content in bombs.items():
    try:
        parse_array_pickle(content)
        found[name] = "read"
    except DataError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_memory_bombs_are_refused_within_a_limit_of_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOMBS], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found) == 19
    assert "numbers what it remembers" in found["a memory with a huge place"]
    for name, told in found.items():
        assert told != "read", name
        assert len(told) < 1000, name
    assert "steps" in found["lists"]
    assert "far more bytes than the file holds" in found["a text encoded again and again"]
    assert "one and the same" in found["one array under many names"]
    assert "8,000,000,000,000 bytes" in found["a huge shape"]


def numbered(place: int) -> bytes:
    return b"(dS'W1'\np%d\n0." % place


@pytest.mark.parametrize("place", [-1, -(2**61), 2**61 - 1, 10**7, 10**3000])
def test_memories_are_numbered_as_a_pickler_numbers_them(place: int) -> None:
    with pytest.raises(DataError, match="numbers what it remembers"):
        parse_array_pickle(numbered(place))


def test_numbers_that_share_a_place_take_no_time() -> None:
    # The hash of k (2**61 - 1) is 0: a hundred thousand of them took minutes.
    content = b"(dN" + b"".join(b"p%d\n" % (k * (2**61 - 1)) for k in range(1, 50_000)) + b"0."
    with pytest.raises(DataError, match="numbers what it remembers"):
        parse_array_pickle(content)


def test_one_name_as_text_and_as_bytes_is_refused() -> None:
    with pytest.raises(DataError, match="'W1' twice, as text and as bytes"):
        parse_array_pickle(pickle.dumps({"W1": np.eye(2), b"W1": np.zeros((2, 2))}, 4))
    assert list(parse_array_pickle(pickle.dumps({b"W1": np.eye(2)}, 4))) == ["W1"]

"""`rightbatch pack`: a folder that the other verbs take, or the faults of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.cli.progress import PackDisplay, pack_display
from rightbatch.data import block_checksums
from rightbatch.data.packing import PackProgress


def test_it_packs_and_says_what(rightbatch, tmp_path) -> None:
    done = rightbatch("pack", "digits", tmp_path / "pack")
    assert done.code == 0
    assert "1,797 samples, 2 columns, 935 kB" in done.out
    assert "Duplicates: none" in done.out
    assert "MB/s" in done.out
    assert "Packing digits: 1,797 samples, 2 columns, 934 kB" in done.err
    assert rb.open(tmp_path / "pack").fingerprint == rb.open("digits").fingerprint


def test_the_json_has_the_keys_that_the_help_names(rightbatch, tmp_path) -> None:
    done = rightbatch("pack", "iris", tmp_path / "pack", "--json", "--quiet")
    report = json.loads(done.out)
    assert done.err == ""
    assert set(report) == {
        *("folder", "samples", "columns", "bytes", "duplicates", "seconds", "bytes_per_second"),
        *("fingerprint", "target", "already_packed", "notes"),
    }
    shown = rightbatch("pack", "--help").out
    assert all(key in shown for key in report)
    assert (report["samples"], report["duplicates"], report["target"]) == (150, 1, "target")
    again = json.loads(rightbatch("pack", "iris", tmp_path / "pack", "--json").out)
    assert again["already_packed"] is True
    assert "nothing was written" in again["notes"][0]


def test_the_other_verbs_take_the_folder(rightbatch, tmp_path) -> None:
    rightbatch("pack", "breast_cancer", tmp_path / "pack")
    arguments = ("--standardize", "--epochs", 1, "--json", "--quiet", "--out")
    trained = [
        json.loads(rightbatch("train", data, *arguments, tmp_path / name).out)
        for data, name in (("breast_cancer", "a"), (tmp_path / "pack", "b"))
    ]
    assert trained[0]["test_loss"] == trained[1]["test_loss"]


def test_reading_options_are_those_of_the_other_verbs(rightbatch, tmp_path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("size,colour,price\n1,red,3\n,blue,4\n3,red,5\n")
    done = rightbatch(
        *("pack", table, tmp_path / "pack", "--target", "price", "--missing", "drop"),
        *("--columns", "size,colour", "--categories", "one-hot", "--json"),
    )
    assert done.code == 0, done.err
    packed = rb.open(tmp_path / "pack")
    assert packed.columns[0].name == "size"
    assert packed.target == "price"
    assert len(packed) == 2
    assert any("Dropped" in note for note in json.loads(done.out)["notes"])


def test_splitting_options_are_not_taken(rightbatch, tmp_path) -> None:
    done = rightbatch("pack", "iris", tmp_path / "pack", "--val", 0.1)
    assert done.code == 2
    assert "No such option" in done.err


@pytest.mark.parametrize("arguments", [(), ("iris",)])
def test_data_and_folder_are_needed(arguments, rightbatch) -> None:
    done = rightbatch("pack", *arguments)
    assert done.code == 2
    assert "Name the DATA to pack and the FOLDER to write" in done.err


def test_other_data_in_the_place_are_replaced_on_request(rightbatch, tmp_path) -> None:
    rightbatch("pack", "iris", tmp_path / "pack")
    refused = rightbatch("pack", "wine", tmp_path / "pack")
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert rightbatch("pack", "wine", tmp_path / "pack", "--overwrite").code == 0
    assert len(rb.open(tmp_path / "pack")) == 178


def test_a_whole_pack_is_verified(rightbatch, tmp_path) -> None:
    rightbatch("pack", "digits", tmp_path / "pack")
    done = rightbatch("pack", "--verify", tmp_path / "pack")
    assert done.code == 0
    assert "is whole: 935 kB read" in done.out
    report = json.loads(rightbatch("pack", "--verify", tmp_path / "pack", "--json").out)
    assert (report["whole"], report["faults"]) == (True, [])


def test_a_flipped_bit_is_named_with_its_rows(rightbatch, tmp_path) -> None:
    rightbatch("pack", "digits", tmp_path / "pack")
    path = tmp_path / "pack" / "image.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    done = rightbatch("pack", "--verify", tmp_path / "pack")
    assert done.code == 3
    assert "image.npy, rows 0 up to 1,797: the values are not as they were written" in done.out
    assert "is damaged: 1 fault." in done.out
    done = rightbatch("pack", "--verify", tmp_path / "pack", "--json")
    assert done.code == 3
    report = json.loads(done.out)
    assert report["whole"] is False
    assert set(report["faults"][0]) == {"file", "start", "stop", "problem"}


@pytest.mark.parametrize("more", [("iris",), ("--overwrite",), ("--target", "y")])
def test_verifying_takes_nothing_else(more, rightbatch, tmp_path) -> None:
    done = rightbatch("pack", *more, "--verify", tmp_path)
    assert done.code == 2
    assert "--verify takes the packed folder alone" in done.err


def test_what_is_no_pack_is_not_verified(rightbatch, tmp_path) -> None:
    done = rightbatch("pack", "--verify", tmp_path)
    assert done.code == 3
    assert "is no packed data set" in done.err


SCRIPT = """
    import sys, time
    from rightbatch.cli.main import run
    from rightbatch.data import block_checksums, packing
    from rightbatch.data.packing_folder import PackingFolder

    block_checksums.BLOCK_BYTES = packing._SPAN_BYTES = 2**14
    append = PackingFolder.append

    def slow(self, arrays, keys):
        append(self, arrays, keys)
        print("block", flush=True)
        time.sleep(0.05)

    PackingFolder.append = slow
    sys.exit(run(sys.argv[1:]))
"""


def test_ctrl_c_keeps_what_is_packed_and_says_how_to_go_on(
    rightbatch, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", 2**14)  # as the script has it
    source = tmp_path / "a b.npy"
    np.save(source, np.random.default_rng(0).random((20_000, 10)))
    folder = tmp_path / "pack"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), "pack", str(source), str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(rb.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert f"pack.partial is kept; go on with: rightbatch pack '{source}' {folder}" in errors
    refused = rightbatch("inspect", folder)
    assert refused.code == 3
    assert "packing did not finish" in refused.err
    done = rightbatch("pack", source, folder)
    assert done.code == 0
    assert "Going on: " in done.err
    np.testing.assert_array_equal(rb.open(folder).array("x"), np.load(source))


def news(done: int, seconds: float, *, stage: str = "writing", resumed: int = 0) -> PackProgress:
    return PackProgress(
        stage=stage, done_bytes=done, total_bytes=100_000_000, resumed_bytes=resumed,
        seconds=seconds,
    )  # fmt: skip


def test_off_a_terminal_the_first_blocks_say_how_long_it_takes(capsys) -> None:
    display = PackDisplay(None)
    for done, seconds in ((0, 0.0), (10_000_000, 0.5), (20_000_000, 2.0), (30_000_000, 3.0)):
        display(news(done, seconds))
    assert capsys.readouterr().err == "Writing takes about 8 s more, at 10.0 MB a second\n"


def test_a_packing_that_goes_on_says_what_is_there(capsys) -> None:
    display = PackDisplay(None)
    display(news(40_000_000, 0.0, resumed=40_000_000))
    display(news(60_000_000, 2.0, resumed=40_000_000))
    assert capsys.readouterr().err.splitlines() == [
        "Going on: 40.0 MB are packed already",
        "Writing takes about 4 s more, at 10.0 MB a second",
    ]


def test_quiet_shows_nothing() -> None:
    with pack_display(quiet=True) as display:
        assert display is None

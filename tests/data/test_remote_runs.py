"""Training on remote data, from Python and from the command line: kept, resumed, noticed."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import rightbatch as rb
from rightbatch.cli.main import run
from rightbatch.errors import RemoteError, ResumeError
from rightbatch.training.run_folder import RunFolder

SECRET = "not-to-be-shown"  # noqa: S105  # what the fixture sets


def table(seed: int = 0, rows: int = 400) -> bytes:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 3))
    y = (x.sum(axis=1) > 0).astype(int)
    lines = ["a,b,c,y", *(f"{a},{b},{c},{k}" for (a, b, c), k in zip(x, y, strict=True))]
    return "\n".join(lines).encode()


@pytest.fixture
def url(bucket):
    return bucket.put("t/train.csv", table())


def fit(url, out, **options):
    parts = rb.split(rb.open(url, target="y"), val=0.2, seed=1).transform(rb.standardize())
    given = {"batch_size": 32, "learning_rate": 0.1, "seed": 1, **options}
    return rb.fit("mlp:8", parts, out=out, **given)


def test_a_run_keeps_the_address_and_the_tag(url, bucket, tmp_path):
    fit(url, tmp_path / "run", epochs=1)
    kept = RunFolder(tmp_path / "run").read_config()["data"]
    tag = bucket.client.head_object(Bucket=bucket.name, Key="t/train.csv")["ETag"]
    assert kept["objects"] == [{"url": url, "tag": tag, "bytes": len(table())}]


def test_a_run_is_that_on_a_copy_here_and_goes_on_with_it(url, tmp_path):
    (tmp_path / "copy.csv").write_bytes(table())
    there = fit(url, tmp_path / "there", epochs=4)
    here = fit(tmp_path / "copy.csv", tmp_path / "here", epochs=4)
    assert [row["train_loss"] for row in there.history] == [
        row["train_loss"] for row in here.history
    ]
    fit(tmp_path / "copy.csv", tmp_path / "both", epochs=2)
    both = fit(url, tmp_path / "both", epochs=4, resume=True)
    assert [row["val_loss"] for row in both.history] == [row["val_loss"] for row in there.history]


def test_an_object_that_changed_is_noticed_when_a_run_goes_on(url, bucket, tmp_path):
    fit(url, tmp_path / "run", epochs=1)
    bucket.put("t/train.csv", table(seed=1))
    with pytest.raises(
        ResumeError, match=r"t/train\.csv has changed since .*run was begun: its tag"
    ):
        fit(url, tmp_path / "run", epochs=2, resume=True)


def test_an_object_of_another_tag_and_the_same_samples_is_told(url, bucket, tmp_path, caplog):
    fit(url, tmp_path / "run", epochs=1)
    bucket.put("t/train.csv", table() + b"\n")
    assert fit(url, tmp_path / "run", epochs=2, resume=True).epochs == 2
    assert "The fingerprint of the data is the same" in caplog.text


def test_a_changed_image_of_the_same_size_is_told_when_a_run_goes_on(bucket, tmp_path, caplog):
    for number in range(12):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(file, "BMP")
        bucket.put(f"i/{'ab'[number % 2]}/{number:02}.bmp", file.getvalue())
    folder = bucket.url("i")

    def go_on(epochs, **options):
        parts = rb.split(rb.open(folder), val=2, seed=1).transform(rb.decode_images(4))
        options = {"batch_size": 4, "learning_rate": 0.1, "out": tmp_path / "run", **options}
        return rb.fit("logistic", parts, epochs=epochs, **options)

    go_on(1)
    kept = RunFolder(tmp_path / "run").read_config()["data"]["objects"]
    assert [found["url"].rpartition("/i/")[2] for found in kept][:2] == ["a/00.bmp", "a/02.bmp"]
    bucket.put("i/b/01.bmp", file.getvalue())
    go_on(2, resume=True)
    assert "b/01.bmp has changed since" in caplog.text


def test_prediction_reads_remote_data(url, tmp_path):
    fit(url, tmp_path / "run", epochs=3)
    there = rb.predict(tmp_path / "run", url, batch_size=100, out=tmp_path / "p.npy")
    (tmp_path / "copy.csv").write_bytes(table())
    here = rb.predict(tmp_path / "run", tmp_path / "copy.csv", batch_size=100)
    assert (there.loss, there.correct) == (here.loss, here.correct)
    assert (tmp_path / "p.npy").exists()


def said(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_verbs_take_addresses(url, bucket, tmp_path, capsys):
    code, out, _ = said(capsys, "inspect", url, "--target", "y", "--json")
    assert (code, json.loads(out)["samples"]) == (0, 400)
    code, out, _ = said(capsys, "pack", bucket.url("t/*.csv"), tmp_path / "p", "--target", "y")
    assert code == 0
    assert "400 samples" in out
    packed = bucket.upload(tmp_path / "p", "packed")
    options = ["--standardize", "--epochs", 2, "--json", "--quiet", "--out"]
    code, out, _ = said(capsys, "train", url, "--target", "y", *options, tmp_path / "a")
    code_packed, out_packed, _ = said(capsys, "train", packed, *options, tmp_path / "b")
    assert (code, code_packed) == (0, 0)
    assert json.loads(out)["train_loss"] == json.loads(out_packed)["train_loss"]
    for arguments in (
        ["train", "--resume", tmp_path / "a", "--epochs", 3, "--quiet"],
        ["predict", tmp_path / "a", "--quiet"],
        ["predict", tmp_path / "a", packed, "--part", "all", "--quiet"],
    ):
        code, _, err = said(capsys, *arguments)
        assert code == 0, err


def test_a_run_of_the_command_line_does_not_go_on_with_a_changed_object(
    url, bucket, tmp_path, capsys
):
    said(capsys, "train", url, "--target", "y", "--epochs", 1, "--out", tmp_path / "run")
    bucket.put("t/train.csv", table(seed=1))
    code, _, err = said(capsys, "train", "--resume", tmp_path / "run", "--epochs", 2)
    assert code == ResumeError.exit_code
    assert "has changed since" in err


def test_what_fails_on_the_way_has_the_exit_code_of_data(bucket, capsys, monkeypatch):
    code, _, err = said(capsys, "inspect", bucket.url("none.csv"))
    assert code == RemoteError.exit_code == 3
    assert "Nothing is at s3://bucket/none.csv" in err
    assert "Traceback" not in err


def test_no_secret_is_written_anywhere(bucket, url, tmp_path, capsys):
    signed = bucket.http_url("t/train.csv") + "?X-Amz-Signature=abcdef0123&X-Amz-Credential=me"
    for number, address in enumerate((url, signed)):
        out = tmp_path / f"run{number}"
        page = ["--report", tmp_path / "page.html"] if number else []
        code, shown, told = said(
            capsys, "train", address, "--target", "y", "--epochs", 1, "--out", out, *page
        )
        assert code == 0, told
        written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
        written += [path.read_bytes() for path in tmp_path.glob("*.html")]
        everything = b"".join(written) + shown.encode() + told.encode()
        assert SECRET.encode() not in everything
        assert b"abcdef0123" not in everything
    assert b"t/train.csv?" in (tmp_path / "run1/config.json").read_bytes()
    code, _, err = said(capsys, "train", "--resume", tmp_path / "run1", "--epochs", 2)
    # moto reads the address without its signature as well; another server would refuse it.
    assert code == 0 or "name them: rightbatch train DATA --resume" in err


def test_a_run_whose_address_has_expired_says_how_to_name_a_new_one(
    bucket, tmp_path, capsys, make_fault
):
    bucket.put("t/train.csv", table())
    signed = bucket.http_url("t/train.csv") + "?X-Amz-Signature=abcdef0123"
    said(capsys, "train", signed, "--target", "y", "--epochs", 1, "--out", tmp_path / "run")
    bucket.proxy.faults["train.csv"] = [make_fault(status=403)] * 10
    code, _, err = said(capsys, "train", "--resume", tmp_path / "run", "--epochs", 2)
    assert code == 3
    assert re.search(r"may not be read.*ask for a new one", err, re.DOTALL)
    bucket.proxy.faults.clear()
    again = signed.replace("abcdef", "fedcba")
    code, _, err = said(capsys, "train", again, "--resume", tmp_path / "run", "--epochs", 2)
    assert code == 0, err

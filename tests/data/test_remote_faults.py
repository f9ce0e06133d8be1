"""Servers that fail: asked again where that helps, an error that says what to set where not."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data import remote_retry
from rightbatch.data.remote_path import RemotePath
from rightbatch.errors import DataError, MissingDependencyError, OptionError, RemoteError

BLOCK = 1 << 20


@pytest.fixture(params=["s3", "http"])
def stored(request, bucket):
    """An object of 3.5 blocks behind each protocol, and its content."""
    content = np.random.default_rng(0).bytes(7 * BLOCK // 2)
    bucket.put("x.bin", content)
    url = bucket.url("x.bin") if request.param == "s3" else bucket.http_url("x.bin")
    return RemotePath(url), content


@pytest.mark.parametrize(
    "faults",
    [
        [{"status": 500}, {"status": 503}, {"status": 429}],
        [{"cut_after": 0}, {"cut_after": 100_000}],
        [{"status": 502}, {"cut_after": 1}, {"status": 504}],
    ],
    ids=["errors", "cut", "both"],
)
def test_what_passes_is_asked_for_again(stored, bucket, make_fault, faults):
    path, content = stored
    path.stat()
    bucket.proxy.faults["x.bin"] = [make_fault(**each) for each in faults]
    assert path.read_bytes() == content
    assert bucket.proxy.faults["x.bin"] == []
    assert len(bucket.proxy.reads_of("x.bin")) >= 1 + len(faults)


def test_what_passes_when_opening_is_asked_for_again(stored, bucket, make_fault):
    path, content = stored
    bucket.proxy.faults["x.bin"] = [make_fault(status=500), make_fault(status=503)]
    assert path.stat().st_size == len(content)


def test_a_server_that_goes_on_failing_is_given_up(stored, bucket, make_fault):
    path, _ = stored
    path.stat()
    bucket.proxy.faults["x.bin"] = [make_fault(status=503) for _ in range(100)]
    with pytest.raises(RemoteError) as caught:
        path.read_bytes()
    assert f"{path} can not be read: 7 attempts within" in str(caught.value)
    assert "HTTP 503" in str(caught.value)
    assert len(bucket.proxy.faults["x.bin"]) == 100 - 7


def test_a_server_that_is_slow_is_asked_again_and_then_named(
    stored, bucket, make_fault, monkeypatch
):
    path, content = stored
    path.stat()
    monkeypatch.setenv("RIGHTBATCH_TIMEOUT", "0.3")
    bucket.proxy.faults["x.bin"] = [make_fault(wait_seconds=20)]
    slow = RemotePath(path.url)
    slow.stat()
    assert slow.read_bytes() == content
    bucket.forget()
    bucket.proxy.faults["x.bin"] = [make_fault(wait_seconds=20) for _ in range(10)]
    monkeypatch.setattr(remote_retry, "PATIENCE", remote_retry.Patience(attempts=2))
    with pytest.raises(RemoteError, match=r"2 attempts .* too long .*RIGHTBATCH_TIMEOUT=300"):
        RemotePath(path.url).stat()


def test_an_object_that_changes_between_two_reads_is_refused(stored, bucket):
    path, content = stored
    file = path.remote_file()
    assert file.read_at(0, 100) == content[:100]
    bucket.put("x.bin", content[::-1])
    with pytest.raises(
        RemoteError, match=r"has changed since it was opened: its tag was .* and is"
    ):
        file.read_at(3 * BLOCK, 10)
    # Opened anew, it is the new one, and nothing of the old one is left in it.
    assert RemotePath(path.url).read_bytes() == content[::-1]


def test_an_object_that_became_shorter_is_refused(stored, bucket):
    path, content = stored
    file = path.remote_file()
    bucket.put("x.bin", content[:1000])
    with pytest.raises(RemoteError, match="has changed since it was opened"):
        file.read_at(3 * BLOCK, 10)


def test_an_object_that_changes_while_it_is_read_never_comes_mixed(stored, bucket):
    path, content = stored
    versions = [content, content[::-1]]
    turn = 0

    def change(asked: str) -> None:
        nonlocal turn
        if asked.endswith("x.bin"):
            turn += 1
            bucket.put("x.bin", versions[turn % 2])

    bucket.proxy.before = change
    refusals = []
    for _ in range(5):
        bucket.forget()
        try:
            found = RemotePath(path.url).read_bytes()
        except RemoteError as error:
            refusals.append(str(error))
        else:
            assert found in versions
    assert all("has changed" in refusal for refusal in refusals)


def test_an_object_that_is_deleted_is_named(stored, bucket):
    path, _ = stored
    path.stat()
    bucket.client.delete_object(Bucket=bucket.name, Key="x.bin")
    with pytest.raises(RemoteError, match=r"x\.bin is not there"):
        path.read_bytes()


def test_nothing_there_says_where_to_look(bucket):
    with pytest.raises(
        DataError, match=r"Nothing is at s3://bucket/none\.csv.*AWS_ENDPOINT_URL is"
    ):
        rb.open(bucket.url("none.csv"))
    with pytest.raises(DataError, match=r"No file matches s3://bucket/none/\*\.csv"):
        rb.open(bucket.url("none/*.csv"))
    with pytest.raises(DataError, match=r"Nothing is at s3://no-such-bucket/a\.csv"):
        rb.open("s3://no-such-bucket/a.csv")


def test_a_refusal_says_which_keys_to_set(bucket, make_fault):
    bucket.put("a.csv", b"x,y\n1,2\n")
    bucket.proxy.faults["a.csv"] = [make_fault(status=403)]
    with pytest.raises(RemoteError, match=r"s3://bucket/a\.csv may not be read.*AWS_ACCESS_KEY_ID"):
        rb.open(bucket.url("a.csv"))
    bucket.proxy.faults["a.csv"] = [make_fault(status=401)]
    with pytest.raises(RemoteError, match=r"HTTP 401.*'Authorization'"):
        rb.open(bucket.http_url("a.csv"))


def test_no_credentials_are_told_from_wrong_ones(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(RemoteError, match=r"needs credentials, and there are none.*AWS_PROFILE"):
        rb.open(bucket.url("a.csv"))


def test_a_server_that_nobody_reaches_is_named(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"4 attempts.*AWS_ENDPOINT_URL is http://127\.0\.0\.1:9"):
        rb.open(bucket.url("a.csv"))
    with pytest.raises(RemoteError, match=r"can not be reached: 4 attempts.*HTTPS_PROXY"):
        rb.open("http://127.0.0.1:9/a.csv")


def test_what_is_secret_stands_in_no_message(bucket, make_fault):
    bucket.put("a.csv", b"x,y\n1,2\n")
    options = {"headers": {"Authorization": "Bearer hunter2-hunter2"}}
    for status in (403, 404, 500):
        bucket.proxy.faults["a.csv"] = [make_fault(status=status)] * 10
        signed = bucket.http_url("a.csv") + "?X-Amz-Signature=abcdef0123"
        with pytest.raises(DataError) as caught:
            rb.open(signed, storage_options=options)
        said = str(caught.value)
        assert "hunter2" not in said
        assert "abcdef" not in said
        assert "a.csv?…" in said
    path = RemotePath(signed, options)
    assert "hunter2" not in repr(path)
    assert "abcdef" not in repr(path) + str(path) + path.name


def test_a_missing_extra_is_named(monkeypatch):
    import fsspec

    def missing(protocol, **_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rightbatch\[s3\]'"):
        rb.open("s3://bucket/a.csv", storage_options={"anon": True})
    with pytest.raises(MissingDependencyError, match=r"pip install 'rightbatch\[huggingface\]'"):
        rb.open("hf://datasets/a/b/c.csv", storage_options={"token": False})


def test_storage_options_are_for_urls_alone():
    with pytest.raises(OptionError, match="storage_options are for data behind a URL"):
        rb.open("iris", storage_options={"anon": True})


def test_a_network_that_fails_is_no_bad_sample(bucket, make_fault, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(1 << 18))
    data = rb.open(bucket.upload(tmp_path / "x.npy", "x.npy"))
    batches = rb.Batches(
        data, 64, block=16, window=64, on_bad_sample="quarantine", max_bad=1000, seed=1
    )
    bucket.proxy.faults["x.npy"] = [make_fault(status=500)] * 1000
    bucket.forget()
    remove_blocks(tmp_path)
    with pytest.raises(RemoteError, match="7 attempts"):
        list(batches)
    assert batches.bad_samples == ()


def test_no_thread_of_a_loader_is_left_behind_by_a_failing_server(bucket, make_fault, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(1 << 18))
    data = rb.open(bucket.upload(tmp_path / "x.npy", "x.npy"))
    batches = rb.Batches(data, 64, block=16, window=64)
    bucket.proxy.faults["x.npy"] = [make_fault(status=500)] * 1000
    bucket.forget()
    remove_blocks(tmp_path)
    with pytest.raises(RemoteError):
        list(batches)
    left = [thread.name for thread in threading.enumerate() if "rightbatch" in thread.name]
    assert left == []


def remove_blocks(tmp_path):
    for block in (tmp_path / "cache" / "blocks").rglob("*-*"):
        block.unlink()

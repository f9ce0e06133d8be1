"""One file from mirrors that fail in every way that servers do."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rightbatch.errors import DiskSpaceError, DownloadError, OptionError
from rightbatch.fetching import download as module
from rightbatch.fetching.download import DownloadOptions, download

CONTENT = random.Random(0).randbytes(3_000_000)  # noqa: S311  # bytes of no meaning
QUICK = DownloadOptions(timeout_seconds=5, rounds=3, first_wait_seconds=0.01)


@pytest.fixture
def fetched(server, as_known, tmp_path: Path) -> Callable[..., bytes]:
    """Download /a from the server (and others), and give what lies in the folder then."""
    server.files["/a"] = CONTENT

    def run(*others: object, options: DownloadOptions = QUICK, **more: object) -> bytes:
        addresses = [f"{each.mirror}a" for each in (server, *others)]
        download(as_known("a", CONTENT), tmp_path, addresses, options, **more)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        return (tmp_path / "a").read_bytes()

    return run


def ranges(server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


def test_a_whole_file_takes_one_request(server, fetched):
    told = []
    assert fetched(told=told.append) == CONTENT
    assert ranges(server) == [None]
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


def test_a_cut_is_gone_on_with_at_its_byte_and_for_this_state_of_the_file_alone(
    server, faults, fetched
):
    server.faults = [faults.cut(2_000_000)]
    assert fetched() == CONTENT
    assert ranges(server) == [None, "bytes=2000000-"]
    tag = f'"{hashlib.md5(CONTENT).hexdigest()}"'  # noqa: S324  # the server's mark of the state
    assert server.requests[1][1]["If-Range"] == tag


def test_what_a_failed_call_left_is_gone_on_with_by_the_next(server, faults, fetched, tmp_path):
    server.faults = [faults.cut(700_000), *[faults.status(404)] * 3]
    with pytest.raises(DownloadError, match=r"answers 404.*700,000 bytes are kept"):
        fetched()
    assert (tmp_path / "a.partial").read_bytes() == CONTENT[:700_000]
    server.faults.clear()
    assert fetched() == CONTENT
    assert ranges(server)[-1] == "bytes=700000-"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=6), knows_ranges=st.booleans())
def test_wherever_it_is_cut_the_file_is_whole_in_the_end(
    server, faults, as_known, tmp_path_factory, cuts, knows_ranges
):
    content = CONTENT[:40_000]
    server.files["/b"] = content
    server.knows_ranges = knows_ranges
    server.faults = [faults.cut(at) for at in cuts]
    folder = tmp_path_factory.mktemp("cuts")
    patient = DownloadOptions(rounds=len(cuts) + 1, first_wait_seconds=0)
    download(as_known("b", content), folder, [f"{server.mirror}b"], patient)
    assert (folder / "b").read_bytes() == content


def test_server_errors_are_asked_again_and_then_it_works(server, faults, fetched, caplog):
    server.faults = [faults.status(500), faults.status(503)]
    with caplog.at_level(logging.WARNING):
        assert fetched() == CONTENT
    assert len(server.requests) == 3
    assert "answers 500" in caplog.text
    assert "asking again in" in caplog.text


def test_a_server_is_given_the_time_it_asks_for(server, faults, fetched, caplog):
    server.faults = [faults.status(429, Retry_After="0.3")]
    assert fetched() == CONTENT
    assert "asking again in 0.3 seconds" in caplog.text


def test_a_server_without_ranges_sends_it_all_again(server, faults, fetched):
    server.knows_ranges = False
    server.faults = [faults.cut(2_000_000)]
    assert fetched() == CONTENT
    assert ranges(server) == [None, "bytes=2000000-"]


def test_a_server_that_tells_neither_length_nor_tag_will_do(server, faults, fetched):
    server.tells_length = server.tells_tag = False
    server.faults = [faults.cut(2_000_000)]
    assert fetched() == CONTENT
    assert "If-Range" not in server.requests[1][1]


def test_a_file_that_changed_meanwhile_is_not_glued(server, faults, fetched, tmp_path):
    """The published state comes back: the half of another state is not kept."""
    server.files["/a"] = other = bytes(len(CONTENT))

    def publish(handler) -> bool:
        server.files["/a"] = CONTENT
        return False

    server.faults = [faults.cut(2_000_000), publish]
    assert fetched() == CONTENT
    assert other != CONTENT
    # By its tag it is told in the second request: there is no third.
    assert ranges(server) == [None, "bytes=2000000-"]


def test_a_file_that_was_glued_without_a_tag_is_told_by_its_sha256(server, faults, fetched):
    server.tells_tag = False
    server.files["/a"] = bytes(len(CONTENT))

    def publish(handler) -> bool:
        server.files["/a"] = CONTENT
        return False

    server.faults = [faults.cut(2_000_000), publish]
    assert fetched() == CONTENT
    assert ranges(server) == [None, "bytes=2000000-", None]


def test_a_wrong_digest_is_deleted_and_the_next_mirror_asked(
    server, second_server, fetched, caplog
):
    server.files["/a"] = bytes(len(CONTENT))
    second_server.files["/a"] = CONTENT
    assert fetched(second_server) == CONTENT
    # Nothing of the wrong one is gone on with.
    assert ranges(second_server) == [None]
    assert "gave another file: its sha256 is" in caplog.text


def test_nothing_of_a_wrong_file_is_left(server, fetched, tmp_path):
    server.files["/a"] = bytes(len(CONTENT))
    with pytest.raises(DownloadError, match="gave another file"):
        fetched()
    assert list(tmp_path.iterdir()) == []


def test_wrong_everywhere_names_each_mirror_and_what_it_did(
    server, second_server, fetched, tmp_path
):
    server.files["/a"] = bytes(len(CONTENT))
    with pytest.raises(DownloadError) as refusal:
        fetched(second_server)
    told = str(refusal.value)
    assert f"{server.mirror}a gave another file: its sha256 is" in told
    assert f"{second_server.mirror}a answers 404" in told
    assert "--mirror URL" in told
    assert list(tmp_path.iterdir()) == []
    # What will not change is not asked again.
    assert len(server.requests) == len(second_server.requests) == 1


def test_a_wrong_mirror_that_also_cuts_does_not_go_on_for_ever(server, faults, fetched):
    server.files["/a"] = bytes(len(CONTENT))
    server.faults = [faults.cut(2_000_000), faults.none] * 20
    with pytest.raises(DownloadError, match="gave another file"):
        fetched()
    assert len(server.requests) <= 4


@pytest.mark.parametrize("longer", [True, False])
def test_a_file_of_another_size_is_refused_before_it_is_downloaded(server, fetched, longer):
    server.files["/a"] = CONTENT + b"x" if longer else CONTENT[:-1]
    with pytest.raises(DownloadError, match=r"has another file: [\d,]+ bytes, and 3,000,000"):
        fetched()


def test_a_body_without_end_is_stopped(server, fetched, tmp_path):
    server.tells_length = False
    server.files["/a"] = CONTENT * 2
    with pytest.raises(DownloadError, match="more than 3,000,000 bytes came"):
        fetched()
    assert list(tmp_path.iterdir()) == []


def test_a_cut_is_taken_over_by_the_second_mirror(server, second_server, faults, fetched):
    second_server.files["/a"] = CONTENT
    server.faults = [faults.cut(2_000_000), faults.status(500)]
    assert fetched(second_server) == CONTENT
    assert ranges(second_server) == ["bytes=2000000-"]
    # A tag of one server says nothing to another.
    assert "If-Range" not in second_server.requests[0][1]


def test_a_silent_server_is_left_after_the_time_out(server, second_server, faults, fetched):
    second_server.files["/a"] = CONTENT
    server.faults = [faults.silent]
    quick = DownloadOptions(timeout_seconds=0.2, first_wait_seconds=0.01)
    assert fetched(second_server, options=quick) == CONTENT


def test_a_server_that_trickles_is_left_too(server, second_server, fetched, caplog):
    second_server.files["/a"] = CONTENT
    over = threading.Event()

    def trickle(handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        for byte in CONTENT[:300]:
            if over.wait(0.05):
                break
            handler.wfile.write(bytes([byte]))
        return True

    server.faults = [trickle]
    assert fetched(second_server, options=DownloadOptions(timeout_seconds=1)) == CONTENT
    over.set()
    assert "is slower than 1,024 bytes a second" in caplog.text


def test_a_mirror_that_is_down_is_named(server, second_server, fetched):
    address = second_server.mirror
    second_server.socket.close()
    server.files.clear()
    with pytest.raises(DownloadError) as refusal:
        fetched(second_server)
    assert f"{address}a can not be reached or read: Connection refused" in str(refusal.value)


def test_a_partial_that_is_too_long_or_spoiled_is_begun_anew(server, fetched, tmp_path):
    (tmp_path / "a.partial").write_bytes(bytes(len(CONTENT) + 1))
    (tmp_path / "a.partial.json").write_text("[")
    assert fetched() == CONTENT
    (tmp_path / "a").rename(tmp_path / "a.partial")
    (tmp_path / "a.partial").write_bytes(bytes(2_999_999))
    assert fetched() == CONTENT
    assert ranges(server) == [None, "bytes=2999999-", None]


def test_a_partial_that_is_whole_needs_no_request(server, fetched, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT)
    assert fetched() == CONTENT
    assert server.requests == []


def test_a_range_that_can_not_be_given_is_begun_anew(server, faults, fetched, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT[:100])
    server.faults = [faults.status(416)]
    assert fetched() == CONTENT
    server.faults = [faults.status(416)] * 9
    (tmp_path / "a").unlink()
    with pytest.raises(DownloadError, match="answers 416"):
        fetched()


def test_another_range_than_asked_for_is_not_believed(server, fetched, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT[:100])

    def wrong(handler) -> bool:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        return True

    server.faults = [wrong]
    assert fetched() == CONTENT


def test_a_redirect_is_followed_with_its_range(server, second_server, faults, fetched, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT[:100])
    second_server.files["/elsewhere"] = CONTENT
    server.faults = [faults.status(302, Location=f"{second_server.mirror}elsewhere")]
    assert fetched() == CONTENT
    assert ranges(second_server) == ["bytes=100-"]


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/a"])
def test_a_redirect_to_what_is_no_web_address_is_refused(server, faults, fetched, place):
    server.faults = [faults.status(302, Location=place)] * 9
    with pytest.raises(DownloadError, match=r"(?i)redirect(s|ion) to .*(is no web|not allowed)"):
        fetched()


def test_redirects_in_a_circle_end(server, faults, fetched):
    server.faults = [faults.status(302, Location=f"{server.mirror}a")] * 50
    with pytest.raises(DownloadError, match="infinite loop"):
        fetched()


def test_a_redirect_to_plain_http_is_followed_on_request_alone(
    tls_server, server, faults, as_known, tmp_path, monkeypatch
):
    secure, certificate = tls_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.files["/a"] = secure.files["/b"] = CONTENT
    known = as_known("a", CONTENT)
    download(as_known("b", CONTENT), tmp_path, [f"{secure.mirror}b"], QUICK)
    secure.faults = [faults.status(302, Location=f"{server.mirror}a")]
    with pytest.raises(DownloadError, match=r"redirects to http://.*plain http.*--allow-http"):
        download(known, tmp_path, [f"{secure.mirror}a"], QUICK)
    assert server.requests == []
    secure.faults = [faults.status(302, Location=f"{server.mirror}a")]
    allowed = DownloadOptions(allow_http=True)
    download(known, tmp_path, [f"{secure.mirror}a"], allowed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == CONTENT


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server, as_known, tmp_path):
    secure, _ = tls_server
    secure.files["/a"] = CONTENT
    with pytest.raises(DownloadError, match="has no valid certificate: self-signed"):
        download(as_known("a", CONTENT), tmp_path, [f"{secure.mirror}a"], QUICK)
    assert secure.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_disk_that_becomes_full_is_told(server, fetched, tmp_path):
    (tmp_path / "a.partial").symlink_to("/dev/full")
    with pytest.raises(DiskSpaceError, match=r"The disk is full: .*a\.partial has"):
        fetched()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds=0 is not valid"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds=nan is not valid"),
        ({"rounds": 0}, "rounds=0 is not valid"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        DownloadOptions(**options)


def test_the_pauses_grow(monkeypatch, server, faults, fetched):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.faults = [faults.status(500)] * 9
    with pytest.raises(DownloadError, match="answers 500"):
        fetched(options=DownloadOptions(rounds=8, first_wait_seconds=1))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]

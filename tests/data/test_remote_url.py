"""URLs: what is one, what is shown of it, and its pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.data.remote_path import RemotePath
from rightbatch.data.remote_url import child_of, is_url, name_of, parent_of, shown_url

SECRET = "5ecretT0ken"  # noqa: S105  # looked for below


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@host/a.csv",
        f"https://{SECRET}@host/a.csv",
        f"s3://key:{SECRET}@bucket/a.csv",
        f"https://host/a.csv?X-Amz-Credential=x&X-Amz-Signature={SECRET}",
        f"https://host/a.csv?se=2026&sp=r&sig={SECRET}",
        f"https://host/a.csv?{SECRET}",
        f"https://host/a.csv?api_key={SECRET}#part",
        f"https://host/a.csv?access_token={SECRET}&v=1",
    ],
)
def test_what_is_secret_is_not_shown(url):
    assert SECRET not in shown_url(url)
    path = RemotePath(url, {"token": SECRET})
    assert SECRET not in f"{path} {path!r} {path.name} {path.suffix} {path.parent} {path.parts}"
    assert path.name == "a.csv"


@pytest.mark.parametrize(
    "url",
    ["s3://b/k?versionId=1", "https://host/a.csv?download=1", "hf://datasets/a/b@main/c.csv"],
)
def test_what_is_not_is(url):
    assert shown_url(url) == url


def test_a_signed_folder_has_signed_children():
    url = child_of("https://host/pack?sig=1", "manifest.json")
    assert url == "https://host/pack/manifest.json?sig=1"
    assert (RemotePath("https://host/pack?sig=1") / "x.npy").url == "https://host/pack/x.npy?sig=1"


words = st.text("abc-_.0", min_size=1, max_size=5).filter(lambda word: word.strip("."))


@given(pieces=st.lists(words, min_size=2, max_size=4), scheme=st.sampled_from(["s3", "https"]))
def test_parent_and_name_take_a_url_apart(pieces, scheme):
    url = f"{scheme}://{'/'.join(pieces)}"
    assert is_url(url)
    assert child_of(parent_of(url), name_of(url)) == url


def test_paths_here_are_no_urls():
    for text in ("a.csv", "/a/b", "C:\\a.csv", "file:///a.csv", "a:b", "://x"):
        assert not is_url(text)
        assert shown_url(text) == text

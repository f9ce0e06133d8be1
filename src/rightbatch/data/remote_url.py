"""URLs of data: what is one, what may be shown of it, and how its pieces hang together."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import parse_qsl

from rightbatch.errors import OptionError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# A parameter of such a name signs the request or names who asks.
_SECRET = re.compile(r"sig|token|key|cred|secret|pass|auth|code", re.IGNORECASE)
HIDDEN = "…"


def is_url(text: str) -> bool:
    """Whether the text names something remote, rather than a path here.

    >>> is_url("s3://bucket/a.csv"), is_url("C:/a.csv"), is_url("file:///a.csv")
    (True, False, False)
    """
    return _URL.match(text) is not None and not text.startswith("file://")


def shown_url(url: str) -> str:
    """The URL without what may be secret: a user with password, and a query that signs.

    >>> shown_url("https://me:pw@host/a.csv?X-Amz-Signature=12ab"), shown_url("s3://b/k?versionId=1")
    ('https://host/a.csv?…', 's3://b/k?versionId=1')
    >>> shown_url("s3://bucket/2019-0?.csv")
    's3://bucket/2019-0?.csv'
    """
    if not is_url(url):
        return url
    # By hand: the standard library would write memory:///a as memory:/a.
    scheme, _, rest = url.partition("://")
    rest, _, fragment = rest.partition("#")
    rest, question, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    if "@" in host and (scheme in ("http", "https") or ":" in host.split("@")[0]):
        host = host.rpartition("@")[2]
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    # A query without names (?TOKEN) may be a secret as a whole; elsewhere ? stands in patterns.
    is_bare = scheme in ("http", "https") and "=" not in query
    if is_bare or any(_SECRET.search(name) for name in names):
        query = HIDDEN if query else ""
    shown = f"{scheme}://{host}{slash}{path}{question if query else ''}{query}"
    return f"{shown}#{fragment}" if fragment else shown


def path_of(url: str) -> str:
    """The URL without query and fragment.

    >>> path_of("https://host/a/b.csv?version=2")
    'https://host/a/b.csv'
    """
    if url.partition("://")[0] in ("http", "https"):
        return url.partition("#")[0].partition("?")[0]
    return url.partition("?versionId=")[0]


def name_of(url: str) -> str:
    """The last piece of the URL's path.

    >>> name_of("s3://bucket/taxi/2019-01.csv"), name_of("https://host/a.csv.gz?sig=1")
    ('2019-01.csv', 'a.csv.gz')
    """
    scheme, _, rest = path_of(url).partition("://")
    return posixpath.basename(rest.rstrip("/")) or scheme


def parent_of(url: str) -> str:
    """The URL without its last piece; that of a host or bucket is itself.

    >>> parent_of("s3://bucket/taxi/a.csv"), parent_of("s3://bucket")
    ('s3://bucket/taxi', 's3://bucket')
    """
    scheme, _, rest = path_of(url).partition("://")
    return f"{scheme}://{posixpath.dirname(rest.rstrip('/')) or rest}"


def child_of(url: str, name: str) -> str:
    """The URL of what is called `name` inside; a query, as one that signs, goes along.

    >>> child_of("https://host/pack?version=1", "manifest.json")
    'https://host/pack/manifest.json?version=1'
    """
    path = path_of(url)
    return f"{path.rstrip('/')}/{name.lstrip('/')}{url[len(path) :]}"


def refuse_url(path: Path, what: str) -> None:
    """Raise OptionError where `path`, to which `what` is to be written, was given as a URL.

    >>> refuse_url(Path("runs/a"), "a run")
    """
    # A Path has made one slash of the two.
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", path.as_posix())
    if found is not None:
        raise OptionError(
            f"{what} is written to a folder here, and {path.as_posix().replace(':/', '://', 1)} is "
            f"a URL: name a folder, and copy it there with the tools of {found[1]}"
        )

"""The files of the dashboard, as they are in static/: read once, at the first request for one.

They say nothing about this cluster, so whoever reaches the port may have them (guard.py). The
policy that goes with them lets a page run the scripts of this node and talk to this node, and
nothing else.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

import msgspec
import xxhash

from everwrite.server.http.asked import Asked
from everwrite.server.http.options import NOTHING, parse
from everwrite.server.http.problems import Header, no_such_path

ROOT = b"/ui/"

TYPES = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "svg": b"image/svg+xml",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
SECURITY: tuple[Header, ...] = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Page(msgspec.Struct, frozen=True):
    """One file."""

    kind: bytes
    body: bytes
    packed: bytes
    """The same, compressed."""
    tag: bytes


@cache
def pages() -> dict[bytes, Page]:
    """Return all files by their paths behind /ui/; the empty one is the page itself."""
    found = {}
    for file in files("everwrite.server.ui").joinpath("static").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            tag = b'"%s"' % xxhash.xxh3_128_hexdigest(body).encode()
            found[file.name.encode()] = Page(kind, body, gzip.compress(body, 6, mtime=0), tag)
    found[b""] = found[b"index.html"]
    return found


async def serve_page(asked: Asked) -> None:
    """Answer with a file."""
    parse(asked.query, NOTHING)
    page = pages().get(asked.path[len(ROOT) :])
    if page is None:
        raise no_such_path(asked.path.decode("latin-1"))
    headers = [
        *SECURITY,
        (b"etag", page.tag),
        (b"cache-control", b"no-cache"),
        (b"vary", b"accept-encoding"),
    ]
    if asked.headers.get(b"if-none-match") == page.tag:
        await asked.reply(304, headers)
        return
    headers.append((b"content-type", page.kind))
    body = page.body
    if b"gzip" in asked.headers.get(b"accept-encoding", b""):
        headers.append((b"content-encoding", b"gzip"))
        body = page.packed
    await asked.reply(200, headers, body)


async def lead_there(asked: Asked) -> None:
    """Answer /ui with the way to /ui/."""
    parse(asked.query, NOTHING)
    await asked.reply(308, [(b"location", ROOT)])

"""HTTP where the native protocol is spoken, and the other way round: which port was meant.

A node has both, 200 apart unless it was told otherwise. The first bytes of HTTP, read as a frame's
length, are over a gigabyte: so they are never those of a frame, and may be looked for first.
"""

from __future__ import annotations

import re

import msgspec

from everwrite.core.errors import ProtocolError

HTTP_ABOVE = 200
"""From the native port to that of HTTP, unless a node was told another one."""

REDIS_ABOVE = 100
"""The same for the Redis protocol."""

_REQUEST = re.compile(rb"(?:GET|PUT|POST|HEAD|DELETE|PATCH|OPTIONS|TRACE|CONNECT|PRI) ")
_OURS = b"urn:everwrite:"


def answered_in_http(data: bytes, port: int) -> ProtocolError | None:
    """Return what is wrong if the first bytes of whoever was dialled are HTTP; None: they are
    not. ``port`` is the one that was dialled, 0 if that is not known.
    """
    if not data.startswith(b"HTTP/"):
        return None
    native = port - HTTP_ABOVE
    usual = f", {native} if neither was chosen" if native > 0 else ""
    if _OURS in data:
        return ProtocolError(
            "That is the HTTP port of an Everwrite node. Its native port, which nodes and "
            f"clients in Python use, is {HTTP_ABOVE} below{usual}.",
            hint="Use the native port here.",
        )
    return ProtocolError(
        "A web server answers there, not the native port of an Everwrite node.",
        hint="Is the address right?",
    )


def asked_in_http(data: bytes, http_port: int) -> bytes | None:
    """Return an answer to whose first bytes ask for something over HTTP; None: they do not.
    ``http_port`` is where this node is to be asked so; 0: nowhere.
    """
    if not _REQUEST.match(data):
        return None
    where = f"its HTTP port is {http_port}." if http_port else "it has no HTTP port."
    body = msgspec.json.encode(
        {
            "type": "urn:everwrite:problem:protocol",
            "title": "Protocol",
            "status": 400,
            "detail": f"This is the native port of an Everwrite node; {where}",
            "code": "protocol",
            "retryable": False,
            "outcome": "none",
            "acked": 0,
            "required": 0,
            "hint": "Nothing was done.",
        }
    )
    head = (
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if data.startswith(b"HEAD ") else body)

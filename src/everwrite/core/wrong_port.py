"""HTTP or Redis where the native protocol is spoken, and the other way round: which port was meant.

A node has all three, a hundred apart unless it was told otherwise. The first bytes of HTTP, and of
an error of Redis, read as a frame's length, are over half a gigabyte: so they are never those of a
frame, and may be looked for first. A frame's first byte is a NUL, with which no command begins.
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
_COMMAND = re.compile(rb"\*[0-9]{1,6}\r\n\$|(?i:PING|HELLO|AUTH|INFO)\b")
"""As Redis clients begin; and what people type into a telnet."""
_OURS = b"urn:everwrite:"
NATIVE_ON_REDIS = b"-ERR this is the Redis port of an Everwrite node"
"""How the Redis front begins its answer to a native frame."""


def answered_otherwise(data: bytes, port: int) -> ProtocolError | None:
    """Return what is wrong if the first bytes of whoever was dialled are HTTP, or an error of the
    Redis protocol; None: they are neither. ``port`` is the one that was dialled, 0 if that is not
    known.
    """
    if data.startswith(b"-"):
        if data.startswith(NATIVE_ON_REDIS):
            return _another("Redis", REDIS_ABOVE, port)
        return ProtocolError(
            "A Redis server answers there, not the native port of an Everwrite node.",
            hint="Is the address right?",
        )
    if not data.startswith(b"HTTP/"):
        return None
    if _OURS in data:
        return _another("HTTP", HTTP_ABOVE, port)
    return ProtocolError(
        "A web server answers there, not the native port of an Everwrite node.",
        hint="Is the address right?",
    )


def _another(what: str, above: int, port: int) -> ProtocolError:
    native = port - above
    usual = f", {native} if neither was chosen" if native > 0 else ""
    return ProtocolError(
        f"That is the {what} port of an Everwrite node. Its native port, which nodes and "
        f"clients in Python use, is {above} below{usual}.",
        hint="Use the native port here.",
    )


def asked_in_redis(data: bytes, redis_port: int) -> bytes | None:
    """Return an answer to whose first bytes are a command of Redis; None: they are not.
    ``redis_port`` is where this node takes those; 0: nowhere.
    """
    if not _COMMAND.match(data):
        return None
    where = f"its Redis port is {redis_port}" if redis_port else "it has no Redis port"
    return f"-ERR this is the native port of an Everwrite node; {where}\r\n".encode()


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

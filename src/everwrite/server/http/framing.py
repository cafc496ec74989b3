"""Where a request ends, as RFC 9112 has it: whoever stands before a node must find the same end.

A proxy that takes another length for the right one lets the rest of a body in as a request that it
has never looked at. So what leaves any doubt is refused before anything is done, and the connection
ends: behind such a head nobody knows where the next one begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from everwrite.core.errors import RequestError, Unsupported
from everwrite.server.http.problems import Header, Refusal

CHUNKED = -1
"""The length of a body that says at its end where that is."""

VERSIONS = ("1.1", "1.0")
WITH_BODY = (b"PUT", b"POST")
"""Of these a client of HTTP/1.0 must say how long they are (RFC 1945, 8.3 and 7.2.2)."""


def body_length(version: str, method: bytes, headers: Sequence[Header]) -> int:
    """Return how many bytes the body of a request has, or CHUNKED; raise a Refusal where that is in
    doubt. The names of headers are in lower case; the parser has seen to it that there is one
    Content-Length at most, that it is a number, and none beside a Transfer-Encoding.
    """
    if version not in VERSIONS:
        raise _refusal(505, "This node speaks HTTP/1.1 (and 1.0).", unsupported=True)
    codings = b",".join(value for name, value in headers if name == b"transfer-encoding")
    if codings:
        _check_codings(version, codings)
        return CHUNKED
    for name, value in headers:
        if name == b"content-length":
            return int(value.strip().lstrip(b"0") or b"0")  # Python reads no thousands of digits
    if version == "1.0" and method in WITH_BODY:
        text = f"A {method.decode()} of HTTP/1.0 needs a Content-Length."
        raise _refusal(411, text)
    return 0


def chunks_and_upgrade() -> Refusal:
    """Return the refusal for chunks behind a head that asks for another protocol, which the parser
    would take for requests.
    """
    text = "A body in chunks cannot go with an Upgrade, which this node has none of."
    return _refusal(501, text, unsupported=True)


def _check_codings(version: str, codings: bytes) -> None:
    """Raise a Refusal for what is not just chunks (RFC 9112, 6.1 and 6.3)."""
    names = [name.strip().lower() for name in codings.split(b",")]
    if version == "1.0":
        raise _refusal(400, "HTTP/1.0 knows no Transfer-Encoding.")
    if names[-1] != b"chunked" or names.count(b"chunked") > 1:
        raise _refusal(400, "A Transfer-Encoding ends with chunked, and has it once.")
    if len(names) > 1:
        raise _refusal(501, "The only Transfer-Encoding here is chunked.", unsupported=True)


def _refusal(status: int, text: str, *, unsupported: bool = False) -> Refusal:
    kind = Unsupported if unsupported else RequestError
    return Refusal(status, kind(text, hint="Nothing was done."))

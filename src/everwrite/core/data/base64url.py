"""Bytes as text: contexts, and names that are no text, as all fronts and hints write them.

Base64url without its padding: it goes into a URL, a header and a shell as it is.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_TEXT = re.compile(rb"[A-Za-z0-9_-]*={0,2}")


def encode64(data: bytes) -> bytes:
    """Return base64url without padding.

    >>> encode64(b"\\xff\\xfe")
    b'__4'
    """
    return urlsafe_b64encode(data).rstrip(b"=")


def decode64(text: bytes) -> bytes:
    """Return the bytes of base64url, with or without its padding; ValueError if it is none.

    >>> decode64(b"__4"), decode64(b"__4=")
    (b'\\xff\\xfe', b'\\xff\\xfe')
    """
    if not _TEXT.fullmatch(text):  # else what is no letter of it would be passed over
        raise ValueError("no base64url")
    bare = text.rstrip(b"=")
    return urlsafe_b64decode(bare + b"=" * (-len(bare) % 4))

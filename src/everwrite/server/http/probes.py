"""Whether the process runs is told to whoever asks, also where there is no room for more clients: a
supervisor that hears otherwise ends a node that is only full. Of those who are one too many so many
are heard at a time as are told why they are refused (REFUSED_MAX in connection.py).
"""

from __future__ import annotations

import re

PROBE_S = 1.0
"""Who is one too many has so long to ask that; then he hears that he is."""

_ASKS_LIVE = re.compile(rb"(GET|HEAD) /health/live HTTP/1\.[01]\r\n")
_HEAD = (
    b"HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: 13\r\n"
    b"connection: close\r\n\r\n"
)


def live(data: bytes) -> bytes | None:
    """Return the answer to what comes first of a connection; None: it asks something else.

    >>> live(b"GET /health/live HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")[-13:]
    b'{"live":true}'
    """
    found = _ASKS_LIVE.match(data)
    if found is None:
        return None
    return _HEAD if found[1] == b"HEAD" else _HEAD + b'{"live":true}'

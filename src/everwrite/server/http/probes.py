"""Whether the process runs is told to whoever asks, also where there is no room for more clients: a
supervisor that hears otherwise ends a node that is only full.

Those who are one too many have REFUSED_MAX places together, to ask that or to read why they are
refused. A newcomer is given one in any case, for in a storm of clients that come again the
supervisor is a newcomer, too: those who were told go first, then those who say nothing, in the
order in which they came.
"""

from __future__ import annotations

from typing import Protocol

REFUSED_MAX = 64
"""A flood of those for whom there is no room must not cost the descriptors that are left."""
PROBE_S = 1.0
"""Who is one too many has so long to ask that; then he hears that he is."""

_HEAD = (
    b"HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: 13\r\n"
    b"connection: close\r\n\r\n"
)
_ANSWERS = {
    b"%s /health/live HTTP/1.%d\r\n" % (method, minor): _HEAD + body
    for method, body in ((b"GET", b'{"live":true}'), (b"HEAD", b""))
    for minor in (0, 1)
}
"""By the line that asks."""


def live(said: bytes) -> bytes | None:
    """Return the answer to what came first of a connection; None: it asks something else; nothing:
    its line has not ended yet.

    >>> live(b"GET /health/live HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")[-13:]
    b'{"live":true}'
    >>> live(b"GET /hea")
    b''
    """
    for line, answer in _ANSWERS.items():
        if said.startswith(line):
            return answer
        if line.startswith(said):
            return b""
    return None


class Newcomer(Protocol):
    """A connection for which there is no room."""

    def turn_away(self) -> None: ...

    def leave(self) -> None: ...


class Refused:
    """Those for whom there is no room and who have not gone yet, the oldest first."""

    def __init__(self) -> None:
        self.asking: dict[Newcomer, None] = {}
        """They may still ask whether the process runs;"""
        self.told: dict[Newcomer, None] = {}
        """and these were told something, and are to close."""

    def take(self, newcomer: Newcomer) -> None:
        """Let one more ask, in the place of another where all are taken."""
        if len(self.asking) + len(self.told) >= REFUSED_MAX:
            if not self.told:
                next(iter(self.asking)).turn_away()
            oldest = next(iter(self.told))
            self.gone(oldest)
            oldest.leave()
        self.asking[newcomer] = None

    def tell(self, newcomer: Newcomer) -> None:
        """It is told something now."""
        del self.asking[newcomer]
        self.told[newcomer] = None

    def gone(self, newcomer: Newcomer) -> None:
        """It needs no place any more, if it had one."""
        self.asking.pop(newcomer, None)
        self.told.pop(newcomer, None)

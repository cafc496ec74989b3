"""What comes over a connection, cut at the ends of messages and heads.

The parser takes all that it is given. What it is given is cut here, so that a head is as long as it
is, in however many segments it came, and so that nobody reads a request before the one in front of
it is answered.
"""

from __future__ import annotations

from everwrite.server.http.framing import CHUNKED

_EMPTY_LINE = b"\r\n\r\n"
"""Heads and bodies in chunks end with it, and the parser takes no other line ends."""


class Portions:
    """Says how much may be fed at once. ``begin_body`` tells what comes after a head."""

    __slots__ = ("_left", "_tail")

    def __init__(self) -> None:
        self._left = CHUNKED
        """What a body of known length still lacks; where lines say it (heads, chunks): CHUNKED."""
        self._tail = b""
        """The last bytes fed: an empty line may come in two segments."""

    def begin_body(self, length: int) -> None:
        """The head is whole, and a body of so many bytes follows, or one in chunks."""
        self._left = length or CHUNKED

    @property
    def whole(self) -> bool:
        """Whether a body of known length was fed as a whole."""
        return self._left == CHUNKED

    def next(self, data: bytes, at: int) -> int:
        """Return up to where ``data`` may be fed from ``at`` on; it counts as fed."""
        if self._left != CHUNKED:
            size = min(self._left, len(data) - at)
            self._left = self._left - size or CHUNKED
            return at + size
        seam = self._tail + data[at : at + 3]
        found = seam.find(_EMPTY_LINE)
        if found >= 0:
            end = at + found + 4 - len(self._tail)
        else:
            found = data.find(_EMPTY_LINE, at)
            end = found + 4 if found >= 0 else len(data)
        self._tail = b"" if found >= 0 else (self._tail + data[max(at, end - 3) : end])[-3:]
        return end

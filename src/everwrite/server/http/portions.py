"""What comes over a connection, cut at the ends of messages and heads.

The parser takes all that it is given. What it is given is cut here, so that a head is as long as it
is, in however many segments it came, and so that nobody reads a request before the one in front of
it is answered.

A body in chunks is followed chunk by chunk, by what each says of its length: what is in them may
look like anything. Should the parser see another end than is seen here, it refuses what is behind
it (``HttpConnection.on_message_begin``).
"""

from __future__ import annotations

import re

from everwrite.server.http.framing import CHUNKED

_EMPTY_LINE = b"\r\n\r\n"
"""Heads and trailers end with it, and the parser takes no other line ends."""
_SIZE = re.compile(rb"0*([0-9a-fA-F]{1,16})")
_SIZE_BYTES_MAX = 64
"""So much is kept of the line that says how long a chunk is: its digits come first."""
_UNKNOWN = 1 << 62
"""No length: the parser stops at that line."""

_LINES, _LENGTH, _CHUNKS = range(3)


class Portions:
    """Says how much may be fed at once. ``begin_body`` tells what comes after a head."""

    __slots__ = ("_left", "_line", "_now", "_tail", "chunks")

    def __init__(self) -> None:
        self._now = _LINES
        """What comes: lines up to an empty one, a body of known length, or one in chunks."""
        self._left = 0
        """What that body, or this chunk and its line end, still lacks."""
        self._line = b""
        """The first bytes of the line before a chunk, as far as they came."""
        self._tail = b""
        """The last bytes fed: an empty line may come in two segments."""
        self.chunks = 0
        """How many chunks there were, since somebody has set this to 0."""

    def begin_body(self, length: int) -> None:
        """The head is whole, and a body of so many bytes follows, or one in chunks."""
        if length == CHUNKED:
            self._now, self._left, self._line = _CHUNKS, 0, b""
        elif length:
            self._now, self._left = _LENGTH, length

    @property
    def whole(self) -> bool:
        """Whether a body of known length was fed as a whole."""
        return self._now != _LENGTH

    def next(self, data: bytes, at: int) -> int:
        """Return up to where ``data`` may be fed from ``at`` on; it counts as fed."""
        if self._now == _LENGTH:
            size = min(self._left, len(data) - at)
            self._left -= size
            if not self._left:
                self._now = _LINES
            return at + size
        if self._now == _CHUNKS:
            at = self._through_chunks(data, at)
            if self._now == _CHUNKS:
                return at
        return self._to_empty_line(data, at)

    def _to_empty_line(self, data: bytes, at: int) -> int:
        seam = self._tail + data[at : at + 3]
        found = seam.find(_EMPTY_LINE)
        if found >= 0:
            end = at + found + 4 - len(self._tail)
        else:
            found = data.find(_EMPTY_LINE, at)
            end = found + 4 if found >= 0 else len(data)
        self._tail = b"" if found >= 0 else (self._tail + data[max(at, end - 3) : end])[-3:]
        return end

    def _through_chunks(self, data: bytes, at: int) -> int:
        """Go to the end of the data, or behind the line of the last chunk, where trailers begin."""
        size = len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at)
            line = self._line + data[at : end if end >= 0 else size][:_SIZE_BYTES_MAX]
            if end < 0:
                self._line = line[:_SIZE_BYTES_MAX]
                return size
            at, self._line = end + 1, b""
            self.chunks += 1
            said = _SIZE.match(line)
            length = int(said[1], 16) if said else _UNKNOWN
            if not length:
                self._now, self._tail = _LINES, b"\r\n"
                return at
            self._left = length + 2
        return at

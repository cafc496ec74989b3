"""The end of a connection whose other end still sends: what it is told must reach it.

A socket that is closed while something in it is unread resets the connection, and the other end
loses the answer on its way: whoever is refused in the middle of its body would see a broken
connection and not why, nor when to come again. So our side ends first, what still comes is dropped,
and the socket is closed when the other end has closed its own; after LEAVE_S or LEAVE_BYTES_MAX in
any case (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LEAVE_S = 5.0
LEAVE_BYTES_MAX = 4 << 20
"""A few of the largest values. Whoever sends more of what nobody takes is told nothing."""


class Parting(asyncio.Transport):
    """A transport that ends so. To all who hold it, it is closed from ``close`` on."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        silent: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._silent = silent
        """Says whether nothing more is to come from the other end."""
        self._since: float | None = None
        self.dropped = 0
        """What came of this request and nobody takes."""

    def close(self) -> None:
        if self.is_closing():
            return
        if self._silent():
            self._transport.close()
            return
        self._since = self._loop.time()
        self._transport.write_eof()
        self._transport.resume_reading()

    def leave(self) -> None:
        """End it at once, whatever still comes; what was written goes out first, if it can."""
        self._transport.close()

    def drop(self, size: int) -> None:
        """So much came that nobody takes."""
        self.dropped += size
        if self.dropped > LEAVE_BYTES_MAX:
            self._transport.abort()

    def look(self, now: float) -> None:
        """From time to time: see that it comes to an end."""
        if self._since is not None and now - self._since > LEAVE_S:
            self._transport.abort()

    @property
    def over(self) -> bool:
        """Whether nothing more goes out."""
        return self._transport.is_closing()

    # -- as it is ----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._since is not None or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

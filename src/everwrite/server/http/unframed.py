"""The way back of a request of HTTP/1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class Unframed:
    """The way back of a request of HTTP/1.0, which knows no chunks (RFC 9112, 6.1): an answer of
    which nobody has said how long it is ends with its connection.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._unframed = False

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer, the head first."""
        if message["type"] == "http.response.start":
            names = [name.lower() for name, _ in message.get("headers", ())]
            self._unframed = b"content-length" not in names
            if self._unframed:
                self._cycle.chunked_encoding = False
        elif self._unframed and message["type"] == "http.response.body":
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)

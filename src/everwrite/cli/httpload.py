"""The HTTP API as a load generator asks it: a bucket with get and put over kept-alive connections.

It does as little as can be done in Python for one request, so that it is the nodes that are
measured: heads made beforehand, httptools to read the answers, one request at a time on each
connection. Requests take turns over all nodes; a connection that breaks is opened anew.

Costs: about 30 us per request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from everwrite.core.errors import DeadlineExceeded, Unreachable, error_from_code

TIMEOUT_S = 10.0
"""Over the deadline of every request: the node answers first, if it answers at all."""


class Found(NamedTuple):
    """What a read found."""

    values: list[bytes]
    context: bytes


class Stored(NamedTuple):
    """What a write came to."""

    context: bytes
    siblings: int


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.up = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.up = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.up = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unreachable("The connection broke.", outcome="unknown"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers, self.body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    async def ask(self, request: bytes) -> None:
        """Send a request and return when its answer is whole."""
        if self._transport is None:
            raise Unreachable("There is no connection.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class HttpBucket:
    """A bucket over so many connections to these URLs, shared out among them."""

    def __init__(self, urls: list[str], name: str, connections: int, secret: bytes) -> None:
        self._addresses = [_address(url) for url in urls]
        self._path = f"/v1/kv/{name}/".encode()
        auth = b"authorization: Bearer " + secret + b"\r\n" if secret else b""
        self._hosts = [b"host: %s:%d\r\n" % (h.encode(), p) + auth for h, p in self._addresses]
        self._free: deque[tuple[Wire, int]] = deque(
            (Wire(), number % len(urls)) for number in range(connections)
        )
        self._all = [wire for wire, _ in self._free]
        self._freed = asyncio.Semaphore(connections)

    async def get(self, key: str) -> Found:
        """Read a key: all its values as one, unless there are several."""
        wire = await self._ask(b"GET %s%s HTTP/1.1\r\n", key, b"\r\n")
        if wire.status == 404:
            return Found([], b"")
        if wire.status not in (200, 300):
            raise _error(wire)
        return Found([wire.body], wire.headers.get(b"causal-context", b""))

    async def put(self, key: str, value: bytes, *, context: bytes = b"") -> Stored:
        """Write a key."""
        seen = b"causal-context: %s\r\n" % context if context else b""
        rest = b"%scontent-length: %d\r\n\r\n%s" % (seen, len(value), value)
        wire = await self._ask(b"PUT %s%s HTTP/1.1\r\n", key, rest)
        if wire.status != 204:
            raise _error(wire)
        headers = wire.headers
        return Stored(headers[b"causal-context"], int(headers[b"siblings"]))

    def close(self) -> None:
        """Hang up on all nodes."""
        for wire in self._all:
            wire.close()

    async def _ask(self, line: bytes, key: str, rest: bytes) -> Wire:
        async with self._freed:
            wire, node = self._free.popleft()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    if not wire.up:
                        wire = await self._connect(wire, node)
                    request = line % (self._path, key.encode()) + self._hosts[node] + rest
                    await wire.ask(request)
            except TimeoutError as error:
                wire.close()
                raise DeadlineExceeded("No answer in time.", outcome="unknown") from error
            except OSError as error:
                raise Unreachable(f"No connection: {error}.") from error
            finally:
                self._free.append((wire, node))
            return wire

    async def _connect(self, old: Wire, node: int) -> Wire:
        wire = Wire()
        self._all[self._all.index(old)] = wire
        await asyncio.get_running_loop().create_connection(lambda: wire, *self._addresses[node])
        return wire


def _address(url: str) -> tuple[str, int]:
    split = urlsplit(url)
    return split.hostname or "", split.port or 80


def _error(wire: Wire) -> Exception:
    problem = msgspec.json.decode(wire.body) if wire.body else {}
    return error_from_code(problem.get("code", ""))(
        problem.get("detail", f"Status {wire.status}."), outcome=problem.get("outcome", "unknown")
    )

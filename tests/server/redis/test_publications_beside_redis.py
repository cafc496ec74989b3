"""Publications, asked of a real Redis server and of a node: the same bytes, in the same order."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S
from tests.server.redis.real_redis import SOCKET, beside, real
from tests.server.redis.redis_api import one, port_of
from tests.server.redis.test_requests import packed

pytestmark = beside

PUBLICATIONS = """
PING
UNSUBSCRIBE
PUNSUBSCRIBE
SUNSUBSCRIBE
UNSUBSCRIBE none other
SUBSCRIBE
SUBSCRIBE a b a
PING
PING hi
GET x
MULTI
NOSUCH
SUBSCRIBE
other PUBLISH a one
other PUBLISH none one
other PUBLISH a
other SPUBLISH a two
PSUBSCRIBE ab* ?
other PUBLISH a three
other PUBLISH abc four
SSUBSCRIBE a
other SPUBLISH a five
other PUBLISH a six
other PUBSUB NUMPAT
other PUBSUB NUMPAT x
other PUBSUB NUMSUB a b none
other PUBSUB NUMSUB
other PUBSUB SHARDNUMSUB a b
other PUBSUB CHANNELS b*
other PUBSUB CHANNELS x y
other PUBSUB SHARDCHANNELS
other PUBSUB NOSUCH
other PUBSUB
UNSUBSCRIBE b none
PUNSUBSCRIBE ab*
other PUBLISH a seven
other PUBLISH b eight
UNSUBSCRIBE
UNSUBSCRIBE
PUNSUBSCRIBE ?
SUNSUBSCRIBE
GET x
PUBLISH a nine
SUBSCRIBE a
RESET
PUBLISH a ten
SUBSCRIBE a
QUIT
"""
"""Lines of one connection, and of another one beside it."""


class Line:
    """A connection spoken by hand: what comes of a command is all until the end of a PING."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, *words: str, last: bool = False) -> bytes:
        sent = packed(*(word.encode() for word in words))
        self.writer.write(sent if last else sent + packed(b"PING", b"-end-"))
        async with asyncio.timeout(PATIENCE_S):
            return await (self._reader.read() if last else self._reader.readuntil(b"-end-\r\n"))


@pytest.mark.parametrize("protocol", ["2", "3"])
@in_loop
async def test_publications_come_as_redis_brings_them(tmp_path: Path, protocol: str) -> None:
    async with real(tmp_path), one() as (runtime, _):
        theirs = functools.partial(asyncio.open_unix_connection, tmp_path / SOCKET)
        ours = functools.partial(asyncio.open_connection, "127.0.0.1", port_of(runtime))
        found: list[list[tuple[str, bytes]]] = []
        for opened in (theirs, ours):
            line, other = Line(*await opened()), Line(*await opened())
            await line.ask("HELLO", protocol)
            said = []
            for each in PUBLICATIONS.strip().splitlines():
                first, *words = each.split()
                if first == "MULTI" and protocol == "3":
                    continue  # it would keep the PING
                if first == "other":
                    said.append((each, await other.ask(*words)))
                    said.append((f"heard of {each}", await line.ask("PING")))
                else:
                    said.append((each, await line.ask(*each.split(), last=first == "QUIT")))
                if first == "RESET":
                    await line.ask("HELLO", protocol)
            found.append(said)
            for each_line in (line, other):
                each_line.writer.close()

    assert found[1] == found[0]

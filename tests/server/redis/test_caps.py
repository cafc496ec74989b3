"""What one connection may make a node hold, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S, eventually
from tests.server.redis.redis_api import one, port_of, raw
from tests.server.redis.test_requests import packed

from everwrite.server.redis import slots, strings
from everwrite.server.redis.command import PART
from everwrite.server.redis.connection import STRANGER_UNREAD_BYTES


@pytest.mark.parametrize("secret", [b"hush", b""], ids=["stranger", "client"])
@in_loop
async def test_a_stranger_that_reads_nothing_is_answered_little(secret: bytes) -> None:
    async with one(secret=secret) as (runtime, _):
        assert runtime.redis is not None
        front, count = runtime.redis.front, 8000
        for listener in runtime.redis._sockets:  # so that the kernel takes nearly nothing
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        mine = socket.socket()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mine.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(mine, ("127.0.0.1", port_of(runtime)))
        await loop.sock_sendall(mine, packed(b"FOO") * count)

        async def rests() -> bool:
            (served,) = front.connections.values()
            unread = served.transport.get_write_buffer_size()
            if not secret:  # all that it is to be told fits
                return unread > 4 * STRANGER_UNREAD_BYTES
            return served._pipeline.stopped  # a pause in its reading alone says less

        await eventually(rests, "it is answered no more")
        (served,) = front.connections.values()
        assert not secret or served.transport.get_write_buffer_size() < 3 * STRANGER_UNREAD_BYTES

        reader, writer = await asyncio.open_connection(sock=mine)  # all of it comes, once it reads
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(count):
                assert (await reader.readline())[:4] == (b"-NOA" if secret else b"-ERR")
        writer.close()


@in_loop
async def test_what_the_commands_of_a_connection_read_together_has_a_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strings, "HELD_IN_ALL_MAX", 6 * PART * 3 // 2)
    async with one() as (runtime, client):
        await client.set("k", b"x" * 6)
        mget = packed(b"MGET", *[b"k"] * (PART + 1))  # what its first part finds is held
        whole = b"*%d\r\n" % (PART + 1) + b"$6\r\nxxxxxx\r\n" * (PART + 1)

        found = await raw(runtime, mget * 2 + packed(b"APPEND", b"k", b"") + mget)

        assert found.startswith(whole)
        second, third = found[len(whole) :].split(b":6\r\n")
        assert second.startswith(b"-ERR these commands read over 1152 bytes")
        assert third == whole, "and what was read for those is held no more"


@in_loop
async def test_a_batch_with_too_long_answers_is_carried_out_and_reads_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "BATCH_BYTES_MAX", 100)
    async with one() as (runtime, client):
        await client.set("k", b"x" * 200)
        get, append = packed(b"GET", b"k"), packed(b"APPEND", b"k", b"y")

        found = await raw(runtime, packed(b"MULTI") + get + append + get + packed(b"EXEC"))

        *_, head, first, second, third = found.splitlines()
        assert head == b"*3"
        assert first.startswith(b"-ERR it was carried out, but the answers of a batch")
        assert second.startswith(b"-ERR it was carried out, but the answers of a batch")
        assert third.startswith(b"-ERR not read")
        assert await client.get("k") == b"x" * 200 + b"y"

"""What stands around a body: it says nothing, and has an end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, raw

from everwrite.server.http import connection
from everwrite.server.runtime import Runtime

HEAD = (
    b"PUT " + KEY.encode() + b" HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
)


@in_loop
async def test_trailers_say_nothing_however_they_come() -> None:
    async with one() as (runtime, client):
        end = b"0\r\nContent-Type: text/html\r\nMeta-Evil: yes\r\n\r\n"

        head = HEAD.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)

        answer = await raw(runtime, head + b"1\r\nv\r\n" + end)

        assert answer.startswith(b"HTTP/1.1 204 ")
        found = await client.get(KEY)
        assert "html" not in found.headers["content-type"]
        assert "meta-evil" not in found.headers


@pytest.mark.parametrize("endless", [b"a: b\r\n", b"5;" + b"x" * 60, b"0" * 9])
@in_loop
async def test_what_goes_beside_a_body_has_an_end(endless: bytes) -> None:
    """Else it would fill the memory, since no cap of bodies counts it."""
    async with one() as (runtime, _):
        start = HEAD + (b"0\r\n" if endless.startswith(b"a") else b"")

        with pytest.raises(ConnectionError):
            await raw(runtime, start, *[endless * 1000] * 100)


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (b"HTTP/1.0", b"transfer-encoding: chunked\r\n", 400),
        (b"HTTP/1.0", b"", 411),
        (b"HTTP/1.1", b"transfer-encoding: gzip, chunked\r\n", 501),
        (b"HTTP/1.1", b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", 501),
        (b"HTTP/1.1", b"transfer-encoding: chunked, chunked\r\n", 400),
        (b"HTTP/1.1", b"transfer-encoding: gzip\r\n", 400),
        (b"HTTP/1.1", b"transfer-encoding: chunked;q=1\r\n", 400),
        (b"HTTP/0.9", b"transfer-encoding: chunked\r\n", 505),
        (b"HTTP/2.0", b"transfer-encoding: chunked\r\n", 505),
    ],
)
@in_loop
async def test_a_body_whose_end_is_in_doubt_changes_nothing(
    line: bytes, headers: bytes, status: int
) -> None:
    async with one() as (runtime, client):
        await client.put(KEY, content=b"before")
        # A DELETE of HTTP/1.0 has no body: there is no doubt where it ends.
        for method in (b"PUT",) if status == 411 else (b"PUT", b"DELETE"):
            ask = b"%s %s %s\r\nhost: localhost\r\n" % (method, KEY.encode(), line)

            answer = await raw(runtime, ask + headers + b"\r\n1\r\nv\r\n0\r\n\r\n")

            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert answer.count(b"\r\n\r\n") == 1, "what follows is no request"
            assert b'"outcome":"none"' in answer
            assert (await client.get(KEY)).content == b"before"


@in_loop
async def test_an_old_client_that_says_how_long_its_body_is_is_served() -> None:
    async with one() as (runtime, client):
        put = b"PUT " + KEY.encode() + b" HTTP/1.0\r\nhost: localhost\r\n"

        answer = await raw(runtime, put + b"content-length: 0001\r\n\r\nv")

        assert answer.startswith(b"HTTP/1.1 204 ")
        assert (await client.get(KEY)).content == b"v"


@pytest.mark.parametrize("pause_s", [0.0, 0.02], ids=["at once", "in pieces"])
@in_loop
async def test_the_body_of_who_asks_for_another_protocol_is_the_value(pause_s: float) -> None:
    """Java's HttpClient asks so with the first request of each connection, puts as well."""
    async with one() as (runtime, client):
        upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
        upgrade += b"http2-settings: AAMAAABk\r\n"
        value = b"GET /v1/kv/carts/bob HTTP/1.1\r\n\r\n"
        put = HEAD.replace(b"transfer-encoding: chunked\r\n", upgrade)
        put = put[:-2] + b"content-length: %d\r\n\r\n" % len(value)
        end = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"

        answer = await raw(runtime, put, value[:9], value[9:] + end, pause_s=pause_s)

        assert answer.startswith(b"HTTP/1.1 204 ")
        assert answer.count(b"HTTP/1.1 404 ") == 1
        assert len(answer.split(b"\r\nrequest-id: ")) == 3, "two answers"
        assert (await client.get(KEY)).content == value

        chunks = HEAD.replace(b"transfer", upgrade + b"transfer") + b"1\r\nv\r\n0\r\n\r\n"
        assert (await raw(runtime, chunks)).startswith(b"HTTP/1.1 501 ")
        assert (await client.get(KEY)).content == value


@in_loop
async def test_chunks_of_one_byte_are_a_body() -> None:
    async with one() as (_, client):

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20_000):
                yield b"x"

        assert (await client.put(KEY, content=pieces())).status_code == 204
        assert (await client.get(KEY)).content == b"x" * 20_000


@in_loop
async def test_a_length_of_thousands_of_digits_is_refused() -> None:
    async with one() as (runtime, _):
        length = b"content-length: " + b"0" * 5000 + b"3\r\n"

        answer = await raw(
            runtime,
            b"PUT " + KEY.encode() + b" HTTP/1.1\r\nhost: localhost\r\n" + length + b"\r\nabc",
        )

        assert answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(("over", "status"), [(0, b"200"), (1, b"431")])
@pytest.mark.parametrize("size", [1 << 20, 1, 1000, connection.HEAD_BYTES_MAX])
@pytest.mark.parametrize("before", [b"", b"\r\n\r\n0123456789"], ids=["alone", "behind a put"])
@in_loop
async def test_a_head_is_as_long_as_it_is_in_however_many_segments(
    over: int, status: bytes, size: int, before: bytes
) -> None:
    async with one() as (runtime, _):
        head = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-long: "
        head += b"y" * (connection.HEAD_BYTES_MAX + over - len(head) - 4) + b"\r\n\r\n"
        if before:
            put = HEAD.replace(b"transfer-encoding: chunked", b"content-length: %d" % len(before))
            head = put + before + head

        told = await _in_pieces(runtime, head, size)

        assert told[-1] == status
        assert told[:-1] == ([b"204"] if before else [])


async def _in_pieces(runtime: Runtime, sent: bytes, size: int) -> list[bytes]:
    """Hand a new connection what comes in segments of this size; return the statuses it answers.

    Over a real socket the kernel would put segments together again as it likes.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    assert runtime.http is not None
    made: list[connection.HttpConnection] = []

    def make() -> connection.HttpConnection:
        assert runtime.http is not None
        server = runtime.http._server
        made.append(connection.HttpConnection(server.config, server.server_state, {}))
        return made[0]

    await loop.connect_accepted_socket(make, theirs)
    for at in range(0, len(sent), size):
        if not made[0].transport.is_closing():
            made[0].data_received(sent[at : at + size])
    told = b""
    while part := await loop.sock_recv(ours, 1 << 16):
        told += part
    ours.close()
    return [part[:3] for part in told.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("length", [b"0", b"3", b"0 ", b"3 ", b" 03\t"])
@in_loop
async def test_a_length_may_have_space_around_it(length: bytes) -> None:
    async with one() as (runtime, client):
        head = b"PUT %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" % KEY.encode()
        value = b"tea"[: int(length)]

        answer = await raw(runtime, head + b"content-length:%s\r\n\r\n%s" % (length, value))

        assert answer.startswith(b"HTTP/1.1 204 ")
        assert (await client.get(KEY)).content == value

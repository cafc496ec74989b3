"""Requests behind each other on one connection: each is read, done and answered in its turn."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, raw, under_way
from tests.server.nodes import eventually

from everwrite.server.http import connection

HOST = b"host: localhost\r\n"


@in_loop
async def test_requests_in_a_row_are_answered_in_a_row() -> None:
    async with one() as (runtime, client):
        await client.put(KEY, content=b"v")
        get = b"GET " + KEY.encode() + b" HTTP/1.1\r\n" + HOST
        answer = await raw(runtime, (get + b"\r\n") * 4 + get + b"connection: close\r\n\r\n")

        assert answer.count(b"HTTP/1.1 200 OK") == 5
        assert answer.endswith(b"\r\n\r\nv")


@in_loop
async def test_any_number_of_requests_that_come_at_once_are_answered_in_their_order() -> None:
    async with one() as (runtime, client):
        await client.put(KEY, content=b"v")
        sent = [b"n%d" % number for number in range(300)]
        gets = [
            b"GET " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"request-id: " + name + b"\r\n"
            for name in sent
        ]
        gets[-1] += b"connection: close\r\n"

        answer = await raw(runtime, b"\r\n".join(gets) + b"\r\n")

        heads = [part.partition(b"\r\n\r\n")[0] for part in answer.split(b"HTTP/1.1 ")[1:]]
        assert [head[:6] for head in heads] == [b"200 OK"] * 300
        assert [head.partition(b"request-id: ")[2].partition(b"\r")[0] for head in heads] == sent


@in_loop
async def test_puts_behind_each_other_are_one_value_each_however_they_are_cut() -> None:
    async with one() as (runtime, client):
        values = [b"a\r\n\r\n", b"", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"d" * 100]
        ask = b""
        for number, value in enumerate(values):
            for way in (b"c", b"l"):
                ask += b"PUT /v1/kv/%s/%d HTTP/1.1\r\n%s" % (way, number, HOST)
                if way == b"l":
                    ask += b"content-length: %d\r\n\r\n" % len(value) + value
                else:
                    chunk = b"%x\r\n%s\r\n" % (len(value), value) if value else b""
                    ask += b"transfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
        ask += b"GET / HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"

        for size in (len(ask), 1, 3, 7, 64):
            pieces = (ask[at : at + size] for at in range(0, len(ask), size))
            answer = await raw(runtime, *pieces)

            assert answer.count(b"HTTP/1.1 204 ") == 2 * len(values)
            assert answer.count(b"HTTP/1.1 404 ") == 1
            for number, value in enumerate(values):
                for way in ("c", "l"):
                    key = f"/v1/kv/{way}/{number}"
                    found = await client.get(key)
                    assert found.content == value
                    await client.delete(key)


@in_loop
async def test_who_asks_ahead_is_not_read_from_until_it_is_answered() -> None:
    async with one() as (runtime, client):
        assert runtime.http is not None
        get = b"GET " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        held = runtime.http.place._hand_in
        runtime.http.place._hand_in = lambda: None  # type: ignore[method-assign]
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(get * 50_000)
        await under_way(runtime, 1)
        (waiting,) = runtime.http._server.server_state.connections
        assert isinstance(waiting, connection.HttpConnection)

        async def paused() -> bool:
            return not waiting.transport.is_reading()

        await eventually(paused, "nothing more is read")
        assert 0 < waiting.kept_bytes < len(get) * 50_000 / 2, "one read"
        assert runtime.http.place.under_way == 1

        runtime.http.place._hand_in = held  # type: ignore[method-assign]
        held()
        for _ in range(100):
            assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
        writer.close()


@pytest.mark.parametrize(
    "nonsense",
    [b"\x00nonsense\r\n\r\n", b"PUT http://localhost HTTP/1.1\r\n" + HOST + b"\r\n"],
    ids=["no HTTP", "no path"],
)
@in_loop
async def test_nonsense_behind_a_put_that_is_under_way_is_no_answer_to_it(nonsense: bytes) -> None:
    async with one() as (runtime, client):
        assert runtime.http is not None
        held = runtime.http.place._hand_in
        runtime.http.place._hand_in = lambda: None  # type: ignore[method-assign]
        put = b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"content-length: 1\r\n\r\nv"
        answering = asyncio.ensure_future(raw(runtime, put + nonsense))
        await under_way(runtime, 1)
        runtime.http.place._hand_in = held  # type: ignore[method-assign]
        held()

        first, second = (await answering).split(b"HTTP/1.1 ", 2)[1:]
        assert first.startswith(b"204 ")
        assert second.startswith(b"400 ")
        assert (await client.get(KEY)).content == b"v"

"""The room of all bodies together: nobody holds it for long who does not use it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, problem, under_way
from tests.server.nodes import eventually

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.errors import Overloaded
from everwrite.server import parting
from everwrite.server.http import asked, connection

HOST = b"host: localhost\r\n"
BATCH = (
    b"POST /v1/batch HTTP/1.1\r\n" + HOST + b"content-type: application/x-ndjson\r\n"
    b"content-length: 130000\r\n\r\n"
)
PUT = b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"content-length: 13000\r\n\r\n"


@in_loop
async def test_all_bodies_together_have_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked.Budget, "__init__", lambda self: _budget(self, 50_000))
    async with one() as (_, client):

        async def pieces():  # type: ignore[no-untyped-def]
            for _ in range(4):
                yield b"a" * 30_000
                await asyncio.sleep(0.01)

        refused = await client.put(KEY, content=pieces())
        found = problem(refused, 429, "overloaded")
        assert (found["outcome"], found["retryable"]) == ("none", True)
        assert refused.headers["retry-after"] == "1"
        assert (await client.put(KEY, content=b"small")).status_code == 204


@in_loop
async def test_a_body_holds_its_room_until_its_request_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asked.Budget, "__init__", lambda self: _budget(self, 50_000))
    async with one() as (runtime, client):
        assert runtime.http is not None
        hand_in = runtime.http.place._hand_in
        runtime.http.place._hand_in = lambda: None  # type: ignore[method-assign]
        waiting = asyncio.ensure_future(client.put(KEY, content=b"a" * 30_000))
        await under_way(runtime, 1)

        refused = await client.put("/v1/kv/carts/bob", content=b"b" * 30_000)

        assert problem(refused, 429, "overloaded")["outcome"] == "none"
        runtime.http.place._hand_in = hand_in  # type: ignore[method-assign]
        hand_in()
        assert (await waiting).status_code == 204
        assert (await client.put("/v1/kv/carts/bob", content=b"b" * 30_000)).status_code == 204


@in_loop
async def test_who_is_refused_again_and_again_on_one_connection_hears_why_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asked.Budget, "__init__", lambda self: _budget(self, 50_000))
    size = VALUE_BYTES_MAX
    times = 2 * parting.LEAVE_BYTES_MAX // size
    put = b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n" % size
    async with one() as (_, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        for _again in range(times):
            writer.write(put)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 429 ")
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(b"x" * size)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("begun", [PUT, BATCH], ids=["values", "lines"])
@in_loop
async def test_who_sends_slowly_gives_way(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked.Budget, "__init__", lambda self: _budget(self, 50_000))
    async with one() as (runtime, client):
        assert runtime.http is not None
        budget = runtime.http.front._budget
        slow = []
        for _ in range(4):
            slow.append(await asyncio.open_connection("127.0.0.1", client.base_url.port))
            slow[-1][1].write(begun + b"x" * 12_000)

        async def full() -> bool:
            return budget.held == 48_000

        await eventually(full, "they hold the room")
        refused = await client.put("/v1/kv/carts/bob", content=b"v" * 20_000)
        problem(refused, 429, "overloaded")

        monkeypatch.setattr(asked, "SLOW_S", 0.0)
        taken = await client.put("/v1/kv/carts/bob", content=b"v" * 20_000)
        assert taken.status_code == 204
        assert runtime.peers.guests >= 3, "no more of them go than need be"
        assert budget.held == 24_000
        for reader, _ in slow[:2]:
            told = await asyncio.wait_for(reader.read(), 5)
            assert told.startswith(b"HTTP/1.1 408 " if begun == PUT else b"HTTP/1.1 200 ")
        for _, writer in slow:
            writer.close()


@in_loop
async def test_a_line_for_which_there_is_no_room_is_not_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asked.Budget, "__init__", lambda self: _budget(self, 50_000))
    async with one() as (runtime, client):
        assert runtime.http is not None
        budget, hand_in = runtime.http.front._budget, runtime.http.place._hand_in
        runtime.http.place._hand_in = lambda: None  # type: ignore[method-assign]
        first, second = _line("bob", 10_000), _line("carol", 30_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        head = BATCH.replace(b"130000", b"%d" % len(first + second))
        writer.write(head + first + second[:12_000])
        await under_way(runtime, 1)
        large = asyncio.ensure_future(client.put(KEY, content=b"a" * 20_000))
        await under_way(runtime, 2)
        assert budget.held == len(first.strip()) + 12_000 + 20_000
        writer.write(second[12_000:28_000])

        async def waits() -> bool:
            return any(part.waits for part in budget._parts)

        await eventually(waits, "the second line waits for room")
        monkeypatch.setattr(asked, "SLOW_S", 0.0)
        held = budget.held
        refused = await client.put("/v1/kv/carts/dan", content=b"v" * 10_000)

        problem(refused, 429, "overloaded")
        assert budget.held == held
        monkeypatch.setattr(asked, "SLOW_S", 5.0)
        runtime.http.place._hand_in = hand_in  # type: ignore[method-assign]
        hand_in()
        assert (await large).status_code == 204
        writer.write(second[28_000:])
        answered = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert answered.count(b'"status":204') == 2
        writer.close()


@pytest.mark.parametrize("ends", [True, False])
def test_room_is_taken_only_from_a_request_that_ends(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "SLOW_S", 0.0)
    budget = asked.Budget(100)
    part = asked.Part(lambda: ends)
    budget.take(80, part)
    part.since -= 1

    if ends:
        budget.take(50)
        assert (budget.held, budget.finish(part)) == (50, 0)
    else:
        with pytest.raises(Overloaded):
            budget.take(50)
        assert (budget.held, budget.finish(part)) == (80, 80)


@in_loop
async def test_a_line_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STREAM_S", 0.5)
    async with one() as (_, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(BATCH)

        async def drip() -> None:
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.ensure_future(drip())
        await asyncio.wait_for(reader.read(), 8)
        dripping.cancel()
        writer.close()


def _line(key: str, size: int) -> bytes:
    put = {"op": "put", "bucket": "carts", "key": key, "value": "x" * size}
    return msgspec.json.encode(put) + b"\n"


def _budget(budget: asked.Budget, most: int) -> None:
    budget.held, budget.most, budget._parts = 0, most, {}

"""Writes of one key that are sent ahead: they go together, and are answered as one by one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S
from tests.server.redis.asked import note_asked
from tests.server.redis.redis_api import one, port_of, raw, three
from tests.server.redis.test_requests import packed

from everwrite.core.errors import QuorumNotMet
from everwrite.core.messages.requests import Put
from everwrite.server.driver import STALL_MS
from everwrite.server.redis.pipeline import RUNNING_MAX
from everwrite.server.redis.place import RedisPlace

COUNT = 500


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[Put]:
    """Return the puts that are handed in."""
    return note_asked(monkeypatch, Put)


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "pipeline"])
@in_loop
async def test_many_increments_of_one_key_are_a_few_puts(puts: list[Put], batch: bool) -> None:
    async with one() as (_, client):
        line = client.pipeline(transaction=batch)
        for _ in range(COUNT):
            line.incr("n")
        line.get("n")
        line.incr("n")

        *found, read, last = await line.execute()

        assert found == list(range(1, COUNT + 1))
        assert (read, last) == (b"%d" % COUNT, COUNT + 1)
        assert len(puts) < 4 + COUNT // (RUNNING_MAX // 2)


@in_loop
async def test_increments_through_three_nodes_all_count_and_run_on(puts: list[Put]) -> None:
    async with three() as (_, clients):
        lines = [each.pipeline(transaction=False) for each in clients]
        for at, line in enumerate(lines):
            for _ in range(COUNT):
                line.incr("n")
            found = await line.execute()
            assert found == list(range(at * COUNT + 1, (at + 1) * COUNT + 1))
        for client in clients:
            assert await client.get("n") == b"%d" % (3 * COUNT)
        assert len(puts) < 3 * (4 + COUNT // (RUNNING_MAX // 2))


@in_loop
async def test_changes_of_several_keys_and_types_are_answered_in_their_order() -> None:
    async with three() as (_, (first, second, _)):
        line = first.pipeline(transaction=False)
        for at in range(40):
            line.incrby("a", 2)
            line.hset("h", f"f{at % 20}", str(at))
            line.sadd("s", f"e{at % 10}")
            line.hincrby("h", "count", 1)
            line.decr("b")
        line.hget("h", "f3")
        line.scard("s")

        found = await line.execute()

        assert found[0:200:5] == [2 * (at + 1) for at in range(40)]
        assert found[1:200:5] == [1] * 20 + [0] * 20
        assert found[2:200:5] == [1] * 10 + [0] * 30
        assert found[3:200:5] == list(range(1, 41))
        assert found[4:200:5] == [-1 - at for at in range(40)]
        assert found[200:] == [b"23", 10]
        assert await second.hlen("h") == 21


@in_loop
async def test_one_that_cannot_be_done_takes_none_with_it(puts: list[Put]) -> None:
    async with one() as (runtime, client):
        top = b"9223372036854775806"
        asked = [
            packed(b"SET", b"n", top),
            packed(b"INCR", b"n"),
            packed(b"INCR", b"n"),
            packed(b"DECR", b"n"),
            packed(b"SADD", b"n", b"x"),
            packed(b"INCRBY", b"n", b"x"),
            packed(b"INCR", b"n"),
            packed(b"GET", b"n"),
            packed(b"HSET", b"h", b"f", b"text"),
            packed(b"HINCRBY", b"h", b"f", b"1"),
            packed(b"HINCRBY", b"h", b"g", b"1"),
            packed(b"HSET", b"h", b"x" * 1025, b"1"),
            packed(b"INCR", b"h"),
            packed(b"HSET", b"h", b"f", b"2"),
            packed(b"HINCRBY", b"h", b"f", b"1"),
        ]

        found = (await raw(runtime, b"".join(asked))).split(b"\r\n")

        too_long = (
            b"-ERR A path of 1 names and 1025 bytes is not possible. "
            b"Nothing was done. Use 8 names, 1024 bytes, or less."
        )
        wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value"
        assert found == [
            b"+OK",
            b":9223372036854775807",
            b"-ERR increment or decrement would overflow",
            b":9223372036854775806",
            wrong,
            b"-ERR value is not an integer or out of range",
            b":9223372036854775807",
            b"$19",
            b"9223372036854775807",
            b":1",
            b"-ERR hash value is not an integer",
            b":1",
            too_long,
            wrong,
            b":0",
            b":3",
            b"",
        ]
        assert len(await client.hgetall("h")) == 2


@in_loop
async def test_of_a_put_that_failed_each_of_its_commands_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask, asked = RedisPlace.ask, 0

    def failing(place: RedisPlace, message: Any, call: Any, at: int = -1) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            error = QuorumNotMet("No.", hint="Repeat it.", outcome="partial")
            place._loop.call_soon(call.heard, at, error)
        else:
            ask(place, message, call, at)

    async with one() as (runtime, _):
        monkeypatch.setattr(RedisPlace, "ask", failing)
        found = await raw(runtime, packed(b"INCR", b"n") * 10 + packed(b"GET", b"n"))

        lines = found.split(b"\r\n")
        assert lines[0] == b":1"
        assert len(lines) == 13
        assert all(line.startswith(b"-QUORUM_NOT_MET") for line in lines[1:10])
        assert lines[10:] == [b"$1", b"1", b""]


@in_loop
async def test_what_waits_knows_what_was_answered_before(puts: list[Put]) -> None:
    async with one() as (runtime, _):
        await raw(runtime, packed(b"INCR", b"n") * 10)

        first, *behind = puts
        assert not first.context
        assert behind
        assert all(put.context for put in behind)
        assert len({put.op for put in puts}) == len({put.rid for put in puts}) == len(puts)


@in_loop
async def test_many_values_of_one_key_are_a_few_puts_and_the_last_one_stands(
    puts: list[Put],
) -> None:
    async with three() as (nodes, clients):
        asked = [packed(b"SET", b"k", b"%d" % at) for at in range(COUNT)]
        asked[COUNT // 2] = packed(b"MSET", b"k", b"x", b"other", b"1", b"k", b"y")
        asked[COUNT // 3] = packed(b"SETEX", b"k", b"100", b"z")

        found = await raw(nodes.running["n1"], b"".join([*asked, packed(b"GET", b"k")]))

        last = b"%d" % (COUNT - 1)
        assert found == b"+OK\r\n" * COUNT + b"$%d\r\n%b\r\n" % (len(last), last)
        assert len(puts) < 8 + COUNT // (RUNNING_MAX // 2)
        assert await clients[1].mget("k", "other") == [last, b"1"]
        assert await clients[2].ttl("k") == -1


@in_loop
async def test_values_of_one_key_stand_in_their_order_though_one_of_them_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = RedisPlace.ask

    def again(place: RedisPlace, message: Any, *more: Any) -> None:
        if type(message) is Put and message.value == b"1":  # its coordinator asks the others first
            message = replace(message, retry=True)
        ask(place, message, *more)

    monkeypatch.setattr(RedisPlace, "ask", again)
    async with three() as (nodes, clients):
        asked = [packed(b"SET", b"k", value) for value in (b"1", b"2")]

        assert await raw(nodes.running["n1"], b"".join(asked)) == b"+OK\r\n+OK\r\n"

        assert await clients[1].get("k") == b"2"


@in_loop
async def test_of_values_that_go_together_each_is_told_what_became_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = RedisPlace.ask
    asked: list[bytes | None] = []

    def refused(place: RedisPlace, message: Any, *more: Any) -> None:
        if type(message) is Put:
            asked.append(message.value)
            if len(asked) > 1:
                raise QuorumNotMet("No.", outcome="none")
        ask(place, message, *more)

    monkeypatch.setattr(RedisPlace, "ask", refused)
    async with one() as (runtime, client):
        found = await raw(runtime, b"".join(packed(b"SET", b"k", b"%d" % at) for at in range(4)))

        assert asked == [b"0", b"3"]
        assert [each.split(b" ")[0] for each in found.split(b"\r\n")[:-1]] == [
            b"+OK",
            *[b"-QUORUM_NOT_MET"] * 3,
        ]
        assert await client.get("k") == b"0"


@in_loop
async def test_a_pause_of_the_process_makes_no_doubt_of_what_comes_after_it() -> None:
    async with one() as (runtime, client):
        await client.set("n", 2**63 - 2)
        asked = [packed(b"INCR", b"n"), packed(b"INCR", b"n"), packed(b"DECR", b"n")]
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))

        writer.write(b"".join(asked))
        time.sleep(1.5 * STALL_MS / 1000)  # noqa: ASYNC251 (the pause: the node is in this loop)
        async with asyncio.timeout(PATIENCE_S):
            found = [await reader.readline() for _ in asked]

        top = 2**63 - 1
        overflow = b"-ERR increment or decrement would overflow\r\n"
        assert found == [b":%d\r\n" % top, overflow, b":%d\r\n" % (top - 1)]
        writer.close()

"""One connection that sends ahead: order, what it may hold, and what it is told of a part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.client.fake_node import in_loop, until
from tests.server.nodes import PATIENCE_S
from tests.server.redis.asked import note_asked
from tests.server.redis.redis_api import one, raw
from tests.server.redis.test_requests import packed

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.errors import Overloaded
from everwrite.server import sockets
from everwrite.server.redis import connection as connections
from everwrite.server.redis import front as fronts
from everwrite.server.redis import pipeline as pipelines
from everwrite.server.redis import slots
from everwrite.server.redis.command import PART, Args
from everwrite.server.redis.measures import RedisMeasures
from everwrite.server.redis.place import RedisPlace
from everwrite.server.redis.session import Session
from everwrite.server.redis.table import NAMES


@in_loop
async def test_a_set_behind_a_long_mset_is_the_later_one() -> None:
    async with one() as (runtime, _):
        pairs = [word for at in range(2 * PART) for word in (b"k%d" % at, b"old")]
        last = b"k%d" % (2 * PART - 1)

        found = await raw(
            runtime,
            packed(b"MSET", *pairs) + packed(b"SET", last, b"new") + packed(b"GET", last),
        )

        assert found == b"+OK\r\n+OK\r\n$3\r\nnew\r\n"


@in_loop
async def test_a_quit_that_waits_ends_a_batch_behind_it_unanswered() -> None:
    async with one() as (runtime, _):
        behind = packed(b"MULTI") + packed(b"GET", b"a") + packed(b"EXEC")

        found = await raw(runtime, packed(b"KEYS", b"*") + packed(b"QUIT") + behind)

        assert found == b"*0\r\n+OK\r\n"


@in_loop
async def test_answers_over_the_limit_behind_a_command_that_waits_do_not_stop_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipelines, "UNSENT_BYTES_MAX", 64)
    async with one() as (runtime, _):
        behind = packed(b"EXEC") * 20  # answered as they come, before KEYS has begun

        found = await raw(runtime, packed(b"KEYS", b"*") + packed(b"KEYS", b"a") + behind)

        assert found == b"*0\r\n*0\r\n" + b"-ERR EXEC without MULTI\r\n" * 20


@in_loop
async def test_an_argument_that_is_too_long_spoils_a_batch() -> None:
    async with one() as (runtime, client):
        long = b"x" * (VALUE_BYTES_MAX + 1)
        batch = packed(b"SET", b"a", b"1") + packed(b"SET", b"b", long)

        found = await raw(runtime, packed(b"MULTI") + batch + packed(b"EXEC"))

        assert found.splitlines()[-1].startswith(b"-EXECABORT")
        assert await client.exists("a") == 0


@in_loop
async def test_whoever_wants_no_answers_gets_none_of_any_kind() -> None:
    async with one() as (runtime, _):
        off, on = packed(b"CLIENT", b"REPLY", b"OFF"), packed(b"CLIENT", b"REPLY", b"ON")
        skip = packed(b"CLIENT", b"REPLY", b"SKIP")
        kinds = [
            packed(b"FOO"),
            packed(b"GET"),
            packed(b"GET", b"a"),
            packed(b"INCR", b"a") + packed(b"GET", b"a"),
            packed(b"MULTI") + packed(b"GET", b"a") + packed(b"EXEC"),
            skip,
        ]

        assert await raw(runtime, off + b"".join(kinds) + on) == b"+OK\r\n"
        for kind in kinds[:3]:
            assert await raw(runtime, skip + kind + packed(b"PING")) == b"+PONG\r\n"
        batch = await raw(runtime, packed(b"MULTI") + skip + packed(b"EXEC") + packed(b"PING"))
        assert batch == b"+OK\r\n+QUEUED\r\n"


@in_loop
async def test_a_command_of_which_a_part_was_done_does_not_say_that_nothing_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check, asked = RedisPlace.check_room, 0

    def full(place: RedisPlace, count: int) -> None:
        nonlocal asked
        asked += count
        if asked > PART:
            raise Overloaded("It is full.", hint="Nothing was done.")
        check(place, count)

    async with one() as (runtime, client):
        monkeypatch.setattr(RedisPlace, "check_room", full)
        asked = -PART  # each is looked at with its part, and by itself
        pairs = [word for at in range(2 * PART) for word in (b"k%d" % at, b"1")]
        found = await raw(runtime, packed(b"MSET", *pairs))
        asked = PART
        none = await raw(runtime, packed(b"MSET", *pairs))
        monkeypatch.undo()

        part = b"A part of the command was done. Send it again, and the rest is done."
        nothing = b"Nothing was done. Wait a moment, and ask for less at a time."
        assert found == b"-OVERLOADED It is full. %b\r\n" % part
        assert none == b"-OVERLOADED It is full. %b\r\n" % nothing
        assert await client.exists("k0", f"k{PART}") == 1


@in_loop
async def test_an_answer_that_has_one_value_many_times_is_not_made() -> None:
    async with one() as (runtime, client):
        await client.hset("h", "f", b"x" * 500_000)
        await client.sadd("s", b"x" * 500_000)

        found = await raw(
            runtime,
            packed(b"HMGET", b"h", *[b"f"] * 100),
            packed(b"SRANDMEMBER", b"s", b"-100"),
        )

        assert found.count(b"-ERR the answer has over 33554432 bytes") == 2
        assert len(found) < 200


@in_loop
async def test_others_are_answered_before_a_long_batch_is_laid_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, make = 0, slots.Slot.__init__

    def noted(slot: slots.Slot, *args: Any) -> None:
        nonlocal made
        made += isinstance(args[3], slots.Batch)
        make(slot, *args)

    monkeypatch.setattr(slots.Slot, "__init__", noted)
    async with one() as (runtime, _):
        assert runtime.redis is not None
        count, port = 8 * pipelines.TURN_STARTS, runtime.redis.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        other_reader, other = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE_S):
            writer.write(packed(b"MULTI") + packed(b"PING") * count)
            await reader.readexactly(len(b"+OK\r\n" + b"+QUEUED\r\n" * count))
            writer.write(packed(b"EXEC"))
            await until(lambda: made)
            other.write(packed(b"PING"))
            assert await other_reader.readline() == b"+PONG\r\n"
            then = made

            end = b"*%d\r\n" % count + b"+PONG\r\n" * count
            assert await reader.readexactly(len(end)) == end
        assert then < made == count
        writer.close()
        other.close()


@in_loop
async def test_a_stranger_has_its_time_also_if_it_is_not_read_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "LOOK_S", 3600.0)  # the test looks instead, by a clock of its own
    async with one(secret=b"hush") as (runtime, _):
        assert runtime.redis is not None
        front = runtime.redis.front
        reader, writer = await asyncio.open_connection("127.0.0.1", runtime.redis.port)
        writer.write(packed(b"AUTH", b"hush") + packed(b"AUTH", b"hash") + packed(b"GET", b"a"))
        async with asyncio.timeout(PATIENCE_S):
            lines = [await reader.readline() for _ in range(3)]
            assert lines[1].startswith(b"-WRONGPASS")
            assert lines[2] == b"$-1\r\n"  # it is known as before
            (mine,) = front.connections.values()
            mine.session.unknown_since = born = front.now() - connections.AUTH_S
            writer.write(packed(b"RESET"))
            await reader.readline()
            assert mine.session.unknown_since > born
            mine.session.unknown_since = born
            writer.write(packed(b"RESET"))
            await reader.readline()
            assert mine.session.unknown_since == born  # it was a stranger already
        mine.hold()
        mine.look(mine.session.unknown_since + connections.AUTH_S + 1)

        assert mine.transport.is_closing()
        writer.close()


@in_loop
async def test_a_steady_stream_of_commands_is_not_taken_for_one_that_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "LOOK_S", 3600.0)  # the test looks instead, by a clock of its own
    async with one() as (runtime, _):
        assert runtime.redis is not None
        front = runtime.redis.front
        reader, writer = await asyncio.open_connection("127.0.0.1", runtime.redis.port)
        writer.write(packed(b"PING") + b"*1\r\n$4\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await reader.readline()
            (mine,) = front.connections.values()
            # The half of a command that is there came long ago: for that there is no way from
            # outside but to wait so long.
            mine._since -= 2 * connections.COMMAND_S
            writer.write(b"PING\r\n*1\r\n$4\r\n")
            assert await reader.readline() == b"+PONG\r\n"
            mine.look(front.now())
            writer.write(b"PING\r\n*1\r\n$4\r\n")
            assert await reader.readline() == b"+PONG\r\n"
            mine.look(front.now() + connections.COMMAND_S + 1)

            assert (await reader.read()).startswith(b"-ERR that took too long")
        writer.close()


@in_loop
async def test_one_connection_leaves_room_for_the_messages_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 0

    def look(place: RedisPlace) -> None:
        nonlocal most
        most = max(most, place.under_way)

    note_asked(monkeypatch, then=look)
    async with one() as (runtime, _):
        count = 16
        many = packed(b"EXISTS", *[b"k%d" % at for at in range(PART)])

        found = await raw(runtime, many * count)

        assert found == b":0\r\n" * count
        assert PART < most <= pipelines.UNDER_WAY_MAX


@pytest.mark.parametrize("late", [False, True], ids=["as it begins", "as its answer is written"])
@in_loop
async def test_an_error_that_a_command_did_not_expect_is_its_answer_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    def broken(session: Session, args: Args, keys: list[bytes]) -> Any:
        if late:
            return object()  # what no answer can be
        raise ValueError("nobody has thought of this")

    odd = NAMES[b"ECHO"]._replace(run=broken)
    monkeypatch.setattr(fronts, "NAMES", {**NAMES, b"ECHO": odd})
    async with one() as (runtime, client):
        wrong = packed(b"ECHO", b"a")
        batch = packed(b"MULTI") + packed(b"SET", b"a", b"1") + wrong + packed(b"EXEC")

        found = await raw(runtime, wrong + packed(b"PING") + batch + packed(b"PING"))

        lines = found.splitlines()
        assert [line[:1] for line in lines] == [b"-", b"+"] + [b"+"] * 3 + [b"*", b"+", b"-", b"+"]
        assert lines[0].startswith(b"-ERR The node met an error in 'echo'")
        assert await client.get("a") == b"1"


@in_loop
async def test_a_reply_that_a_command_did_not_expect_is_an_error_and_frees_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(session: Session, data: bytes, reply: Any) -> Any:
        raise ValueError("nobody has thought of this")

    direct = NAMES[b"GET"].direct
    assert direct is not None
    odd = NAMES[b"GET"]._replace(direct=direct._replace(tell=broken))
    monkeypatch.setattr(fronts, "NAMES", {**NAMES, b"GET": odd})
    async with one() as (runtime, _):
        found = await raw(runtime, packed(b"GET", b"a") + packed(b"SET", b"a", b"1"))

        assert found.startswith(b"-ERR The node met an error in 'get'")
        assert found.endswith(b"\r\n+OK\r\n")


@in_loop
async def test_an_error_of_our_own_while_commands_begin_does_not_hold_up_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add, broken = RedisMeasures.add, True

    def once(measures: RedisMeasures, command: str, *more: Any) -> None:
        nonlocal broken
        if command == "ping" and broken:
            broken = False
            raise ValueError("nobody has thought of this")
        add(measures, command, *more)

    monkeypatch.setattr(RedisMeasures, "add", once)
    async with one() as (runtime, _):
        found = await raw(runtime, packed(b"KEYS", b"*") + packed(b"PING") + packed(b"GET", b"a"))

        assert not broken
        assert found == b"*0\r\n+PONG\r\n$-1\r\n"

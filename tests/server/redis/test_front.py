"""One node from outside, by its socket: order, caps, who may ask, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S, Nodes, Raw, eventually, still_serves
from tests.server.redis.redis_api import one, port_of, raw
from tests.server.redis.test_requests import packed

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.errors import ConfigError
from everwrite.server.redis import connection as connections
from everwrite.server.redis.pipeline import QUEUED_MAX
from everwrite.server.redis.requests import STRANGER_ARGS_MAX, STRANGER_BULK_MAX
from everwrite.server.settings import ServeOptions
from everwrite.server.sockets import ACCEPTS_PER_TURN


@in_loop
async def test_answers_come_in_the_order_of_their_commands() -> None:
    async with one() as (runtime, _):
        sent = [packed(b"SET", b"k%d" % (at % 7), b"%d" % at) for at in range(50)]
        mixed = [
            each
            for at, put in enumerate(sent)
            for each in (put, packed(b"GET", b"k%d" % (at % 7)), packed(b"PING", b"%d" % at))
        ]

        found = await raw(runtime, b"".join(mixed))

        expected = b"".join(
            b"+OK\r\n" + 2 * (b"$%d\r\n%d\r\n" % (len(str(at)), at)) for at in range(50)
        )
        assert found == expected


@in_loop
async def test_more_commands_than_are_read_ahead_are_all_answered() -> None:
    async with one() as (runtime, _):
        count = 3 * QUEUED_MAX

        found = await raw(runtime, packed(b"INCR", b"a") * count)

        assert found == b"".join(b":%d\r\n" % (at + 1) for at in range(count))


@in_loop
async def test_inline_commands_are_answered() -> None:
    async with one() as (runtime, _):
        found = await raw(runtime, b'SET "a b" \'1\'\r\nget "a b"\nPING\r\n\r\nQUIT\r\nPING\r\n')

        assert found == b"+OK\r\n$1\r\n1\r\n+PONG\r\n+OK\r\n"


@in_loop
async def test_what_is_no_command_ends_the_connection_and_no_other() -> None:
    async with one() as (runtime, client):
        found = await raw(runtime, packed(b"SET", b"a", b"1") + b"*1\r\n:5\r\n" + packed(b"PING"))

        assert found == b"+OK\r\n-ERR Protocol error: expected '$', got ':'\r\n"
        assert await client.get("a") == b"1"
        assert await still_serves(runtime)


@in_loop
async def test_a_page_in_a_browser_can_do_nothing() -> None:
    async with one() as (runtime, client):
        form = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n"

        found = await raw(runtime, form)

        assert found.startswith(b"-ERR this is the Redis port")
        assert await client.exists("a") == 0


@in_loop
async def test_a_value_that_is_too_long_is_refused_and_the_connection_goes_on() -> None:
    async with one() as (runtime, client):
        value = b"x" * (VALUE_BYTES_MAX + 1)

        found = await raw(runtime, packed(b"SET", b"a", value) + packed(b"EXISTS", b"a"))

        assert found.startswith(b"-ERR an argument of 'SET' 'a' has 1048577 bytes")
        assert found.endswith(b":0\r\n")
        assert await client.set("a", value[1:])
        assert await client.get("a") == value[1:]


@in_loop
async def test_a_key_that_cannot_be_is_refused() -> None:
    async with one() as (runtime, _):
        found = await raw(runtime, packed(b"GET", b"k" * 1025) + packed(b"SET", b"", b"1"))

        assert found.split(b"\r\n")[:2] == [
            b"-ERR a key of 1025 bytes is not possible here, use 1 to 1024",
            b"-ERR a key of 0 bytes is not possible here, use 1 to 1024",
        ]


@in_loop
async def test_commands_are_checked_as_redis_does() -> None:
    async with one() as (runtime, _):
        found = await raw(
            runtime,
            packed(b"GET") + packed(b"FOO", b"a", b"b") + packed(b"SET", b"a", b"1", b"QX"),
            packed(b"BRPOP", b"a", b"0") + packed(b"SELECT", b"16") + packed(b"INCRBY", b"a", b"x"),
            packed(b"SCAN", b"1" * 5000) + packed(b"CONFIG", b"GET", *[b"*"] * 65),
        )

        lines = found.split(b"\r\n")
        assert lines[0] == b"-ERR wrong number of arguments for 'get' command"
        assert lines[1] == b"-ERR unknown command 'FOO', with args beginning with: 'a' 'b' "
        assert lines[2] == b"-ERR syntax error"
        assert lines[3].startswith(b"-ERR 'BRPOP' is not supported: two clients")
        assert lines[3].endswith(b"see docs/redis.md")
        assert lines[4] == b"-ERR DB index is out of range"
        assert lines[5] == b"-ERR value is not an integer or out of range"
        assert lines[6] == b"-ERR invalid cursor"
        assert lines[7] == b"-ERR CONFIG GET takes at most 64 patterns here"


@in_loop
async def test_who_does_not_know_the_secret_may_not_ask() -> None:
    async with one(secret=b"hush") as (runtime, _):
        right, wrong = packed(b"AUTH", b"hush"), packed(b"AUTH", b"default", b"hash")
        read = packed(b"GET", b"a")

        found = await raw(runtime, read + packed(b"FOO") + wrong + read + right + read)

        assert [line.partition(b" ")[0] for line in found.splitlines()] == [
            b"-NOAUTH",
            b"-NOAUTH",
            b"-WRONGPASS",
            b"-NOAUTH",
            b"+OK",
            b"$-1",
        ]
        hello = packed(b"HELLO", b"3", b"AUTH", b"default", b"hush")
        assert (await raw(runtime, hello)).startswith(b"%7\r\n")
        assert (await raw(runtime, packed(b"HELLO", b"3"))).startswith(b"-NOAUTH")
        assert (await raw(runtime, packed(*[b"x"] * 11))).startswith(b"-ERR Protocol error")
        multi = packed(b"MULTI") + packed(b"EXEC")
        assert (await raw(runtime, multi)).count(b"-NOAUTH") == 2


@in_loop
async def test_who_says_the_secret_last_in_a_turn_may_send_at_length_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "TURN_S", 0.0)  # a turn is one command
    async with one(secret=b"hush") as (runtime, _):
        long = packed(b"MSET", *[b"k", b"x" * (STRANGER_BULK_MAX + 1)] * STRANGER_ARGS_MAX)
        for say in ((b"AUTH", b"hush"), (b"HELLO", b"2", b"AUTH", b"default", b"hush")):
            assert (await raw(runtime, packed(*say) + long)).endswith(b"\r\n+OK\r\n")


@in_loop
async def test_who_says_the_secret_anew_while_others_of_its_commands_run_may_send_at_length() -> (
    None
):
    async with one(secret=b"hush") as (runtime, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        auth = packed(b"AUTH", b"hush")
        writer.write(auth + packed(b"KEYS", b"*") + packed(b"RESET") + auth)
        async with asyncio.timeout(PATIENCE_S):
            lines = [await reader.readline() for _ in range(4)]
            assert lines == [b"+OK\r\n", b"*0\r\n", b"+RESET\r\n", b"+OK\r\n"]
            writer.write(packed(b"SET", b"a", b"x" * (STRANGER_BULK_MAX + 1)))
            assert await reader.readline() == b"+OK\r\n"
        writer.close()


@in_loop
async def test_answers_that_nobody_reads_stop_what_comes_behind() -> None:
    async with one() as (runtime, client):
        size = VALUE_BYTES_MAX // 4
        await client.set("a", b"x" * size)
        service = runtime.redis
        assert service is not None
        known = set(service.front.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        count = 300
        writer.write(packed(b"GET", b"a") * count)

        async def stands_still() -> bool:
            mine = [service.front.connections[n] for n in service.front.connections.keys() - known]
            return bool(mine) and mine[0]._pipeline.stopped and not service.place.under_way

        await eventually(stands_still, "nothing more is begun")
        mine = service.front.connections[max(service.front.connections)]
        assert mine.kept_bytes < 200 * size
        answer = b"$%d\r\n%b\r\n" % (size, b"x" * size)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(count * len(answer)) == answer * count
        writer.close()


@in_loop
async def test_who_reads_nothing_or_never_ends_a_command_is_cut_off() -> None:
    async with one(secret=b"hush") as (runtime, _):
        assert runtime.redis is not None
        front = runtime.redis.front
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        writer.write(b"*1\r\n$4\r\nPI")

        async def came() -> bool:
            return any(each._requests.inside for each in front.connections.values())

        await eventually(came, "half a command has come")
        (mine,) = front.connections.values()
        now = front.now()
        mine.look(now + connections.AUTH_S - 1)
        assert not mine.transport.is_closing()
        mine.look(now + connections.AUTH_S + 1)

        async def gone() -> bool:
            return not front.connections

        await eventually(gone, "the stranger is gone")
        writer.close()


@in_loop
async def test_a_node_that_stops_answers_what_is_under_way() -> None:
    async with Nodes() as nodes:
        runtime = await nodes.start("n1", redis_port=0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        writer.write(packed(b"SET", b"a", b"1") * 20)
        assert await reader.readexactly(5) == b"+OK\r\n"

        await nodes.stop("n1")

        async with asyncio.timeout(PATIENCE_S):
            rest = await reader.read()
        assert rest == b"+OK\r\n" * 19
        writer.close()


@in_loop
async def test_a_port_in_use_is_said_before_anything_is_started() -> None:
    async with Nodes() as nodes:
        runtime = await nodes.start("n1", redis_port=0)

        with pytest.raises(ConfigError, match="Cannot listen for Redis") as failed:
            await nodes.start("n2", redis_port=port_of(runtime))

        assert "--redis-port" in failed.value.hint


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="redis_port = 65536"):
        ServeOptions(redis_port=65536)


@in_loop
async def test_redis_clients_and_others_see_the_same_keys() -> None:
    async with one() as (runtime, client):
        await client.set("a", "1")
        async with await Raw.enter(runtime) as native:
            answer = await native.ask("status")

        assert answer["node"]["name"] == "n1"
        assert answer["node"]["redis"] == f"127.0.0.1:{port_of(runtime)}"
        assert answer["node"]["http"] is None


@in_loop
async def test_a_flood_of_newcomers_is_let_in_many_at_a_time() -> None:
    async with one() as (runtime, client):
        await client.ping()
        assert runtime.redis is not None
        front, most = runtime.redis.front, 0
        before = then = front.connections_made
        with ExitStack() as made:
            for _ in range(ACCEPTS_PER_TURN):  # each waits in the kernel: the loop has no turn
                newcomer = made.enter_context(socket.create_connection(("127.0.0.1", front.port)))
                newcomer.setblocking(False)
            async with asyncio.timeout(PATIENCE_S):
                while front.connections_made < before + ACCEPTS_PER_TURN:
                    await asyncio.sleep(0)
                    most, then = max(most, front.connections_made - then), front.connections_made

        assert 1 < most <= ACCEPTS_PER_TURN  # when the kernel has each ready, nobody promises


@in_loop
async def test_a_sum_of_fractions_that_is_no_number_any_more_is_refused() -> None:
    async with one() as (_, client):
        await client.set("n", "9e307")
        await client.hset("h", "f", "-9e307")
        for asked in (["INCRBYFLOAT", "n", "9e307"], ["HINCRBYFLOAT", "h", "f", "-9e307"]):
            with pytest.raises(ResponseError, match="increment would produce NaN"):
                await client.execute_command(*asked)

        assert await client.get("n") == b"9e307"
        assert await client.hget("h", "f") == b"-9e307"
        assert await client.incrbyfloat("n", -9e307) == 0


@in_loop
async def test_a_read_may_give_its_key_another_end_or_none() -> None:
    async with one() as (_, r):
        await r.set("a", "v", ex=50)
        for words, least_ms, most_ms in (
            ([], 40_000, 50_000),
            (["EX", "100"], 90_000, 100_000),
            (["PX", "30000"], 20_000, 30_000),
            (["PERSIST"], -1, -1),
            (["EX", "70"], 60_000, 70_000),
        ):
            assert await r.execute_command("GETEX", "a", *words) == b"v"
            assert least_ms <= await r.pttl("a") <= most_ms
        assert await r.execute_command("GETEX", "a", "EXAT", "1") == b"v"
        assert await r.exists("a") == 0
        assert await r.execute_command("GETEX", "a", "EX", "10") is None

"""Nodes asked by redis-py: strings, times to live, batches, hashes, sets, in both protocols."""

from __future__ import annotations

import asyncio
import threading

import pytest
import redis
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S, eventually
from tests.server.redis.redis_api import client_of, one, port_of, three

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


@PROTOCOLS
@in_loop
async def test_strings(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        assert await r.set("a", "1") is True
        assert await r.get("a") == b"1"
        assert await r.get("none") is None
        assert await r.set("a", "2", nx=True) is None
        assert await r.set("b", "2", xx=True) is None
        assert await r.set("a", "2", get=True) == b"1"
        assert await r.setnx("b", "3") == 1
        assert await r.setnx("b", "4") == 0
        assert await r.getset("b", "5") == b"3"
        assert await r.getdel("b") == b"5"
        assert await r.exists("a", "b", "a") == 2
        assert await r.mset({"c": "1", "d": "2"}) is True
        assert await r.mget("c", "none", "d") == [b"1", None, b"2"]
        assert await r.append("c", "xyz") == 4
        assert await r.strlen("c") == 4
        assert await r.getrange("c", 1, -2) == b"xy"
        assert await r.type("c") == b"string"
        assert await r.delete("a", "c", "c", "none") == 2
        assert await r.get("a") is None
        with pytest.raises(redis.ResponseError, match="syntax error"):
            await r.execute_command("SET", "a", "1", "EX", "10", "KEEPTTL")


@PROTOCOLS
@in_loop
async def test_times_to_live(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        assert await r.ttl("a") == -2
        await r.set("a", "1")
        assert await r.ttl("a") == -1
        assert await r.expire("a", 100)
        assert 95 < await r.ttl("a") <= 100
        assert await r.expire("a", 1000)
        assert 995_000 < await r.pttl("a") <= 1_000_000
        assert await r.expire("a", 50)
        assert 45 < await r.ttl("a") <= 50
        assert not await r.expire("a", 10, gt=True)
        assert not await r.expire("a", 10, nx=True)
        await r.set("a", "2", keepttl=True)
        assert 45 < await r.ttl("a") <= 50
        await r.set("short", "1", px=1000)
        assert await r.set("short", "2", keepttl=True)  # less than the shortest end is left
        assert await r.append("a", "3") == 2
        assert 45 < await r.ttl("a") <= 50
        assert await r.incr("a") == 24
        assert 45 < await r.ttl("a") <= 50
        seconds, _ = await r.time()
        assert seconds + 45 <= await r.expiretime("a") <= seconds + 51
        assert await r.persist("a")
        assert await r.ttl("a") == -1
        assert await r.get("a") == b"24"
        assert await r.getex("a", ex=20) == b"24"
        assert 15 < await r.ttl("a") <= 20
        await r.set("a", "4")
        assert await r.ttl("a") == -1
        assert await r.expire("a", -1)
        assert await r.exists("a") == 0
        await r.psetex("b", 300, "5")
        left_ms = await r.pttl("b")
        assert left_ms == -2 or 0 < left_ms <= 1000  # it may be over by now
        with pytest.raises(redis.ResponseError, match="invalid expire time in 'setex'"):
            await r.execute_command("SETEX", "c", "0", "6")
        await r.set("c", "6")
        with pytest.raises(redis.ResponseError, match="ends within"):
            await r.expire("c", 11 * 365 * 86_400)

        async def over() -> bool:
            return await r.get("b") is None

        await eventually(over, "the key has ended")


@PROTOCOLS
@in_loop
async def test_numbers(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        assert await r.incr("a") == 1
        assert await r.incrby("a", 41) == 42
        assert await r.decrby("a", 2) == 40
        assert await r.decr("a") == 39
        assert await r.get("a") == b"39"
        assert await r.type("a") == b"string"
        await r.set("a", "10")
        assert await r.incr("a") == 11
        assert await r.expire("a", 100)
        assert await r.incr("a") == 12
        assert 95 < await r.ttl("a") <= 100
        assert await r.incrbyfloat("a", 0.5) == 12.5
        assert await r.get("a") == b"12.5"
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await r.incr("a")
        await r.set("b", 2**63 - 1)
        with pytest.raises(redis.ResponseError, match="overflow"):
            await r.incr("b")


@PROTOCOLS
@in_loop
async def test_batches(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        async with r.pipeline() as batch:
            batch.set("a", "1").get("a").expire("a", 100).ttl("a").incr("n").get("none")
            assert await batch.execute() == [True, b"1", True, 100, 1, None]
        async with r.pipeline() as batch:
            batch.set("a", "1").execute_command("INCRBY", "a", "x").get("a")
            answers = await batch.execute(raise_on_error=False)
            assert answers[::2] == [True, b"1"]
            assert isinstance(answers[1], redis.ResponseError)
        async with r.pipeline() as batch:
            batch.set("a", "2").execute_command("BRPOP", "a", "0")
            with pytest.raises(redis.ResponseError, match="not supported"):
                await batch.execute()
        assert await r.get("a") == b"1"
        async with r.pipeline(transaction=False) as line:
            for at in range(500):
                line.set(f"k{at}", at)
            for at in range(500):
                line.get(f"k{at}")
            answers = await line.execute()
            assert answers[500:] == [b"%d" % at for at in range(500)]


@PROTOCOLS
@in_loop
async def test_hashes(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        assert await r.hset("h", mapping={"a": "1", "b": "2"}) == 2
        assert await r.hset("h", mapping={"b": "3", b"\xff": b"\xfe"}) == 1
        assert await r.hget("h", "b") == b"3"
        assert await r.hget("h", "none") is None
        assert await r.hgetall("h") == {b"a": b"1", b"b": b"3", b"\xff": b"\xfe"}
        assert await r.hmget("h", "a", "none") == [b"1", None]
        assert await r.hlen("h") == 3
        assert await r.hkeys("h") == [b"a", b"b", b"\xff"]
        assert await r.hvals("h") == [b"1", b"3", b"\xfe"]
        assert await r.hexists("h", "a")
        assert await r.hsetnx("h", "a", "9") == 0
        assert await r.hsetnx("h", "c", "9") == 1
        assert await r.hincrby("h", "c", 3) == 12
        assert await r.hincrby("h", "n", 3) == 3
        assert await r.hdel("h", "a", "none", "c") == 2
        assert [each async for each in r.hscan_iter("h", match="n*")] == [(b"n", b"3")]
        assert await r.type("h") == b"hash"
        assert await r.expire("h", 100)
        assert await r.hset("h", "d", "4") == 1
        assert 95 < await r.ttl("h") <= 100
        assert await r.persist("h")
        assert await r.hlen("h") == 4
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await r.get("h")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await r.sadd("h", "a")
        assert await r.set("h", "1") is True
        assert await r.get("h") == b"1"
        assert await r.delete("h") == 1
        assert await r.hgetall("h") == {}


@PROTOCOLS
@in_loop
async def test_sets(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        assert await r.sadd("s", "a", "b", "a") == 2
        assert await r.sadd("s", "b", "c") == 1
        assert set(await r.smembers("s")) == {b"a", b"b", b"c"}
        assert await r.scard("s") == 3
        assert await r.sismember("s", "a") == 1
        assert await r.smismember("s", ["a", "x"]) == [1, 0]
        assert await r.srem("s", "a", "x") == 1
        assert await r.sadd("t", "c", "d") == 2
        assert set(await r.sunion("s", "t")) == {b"b", b"c", b"d"}
        assert set(await r.sinter("s", "t")) == {b"c"}
        assert set(await r.sdiff("s", "t")) == {b"b"}
        assert await r.srandmember("s") in {b"b", b"c"}
        assert {each async for each in r.sscan_iter("s")} == {b"b", b"c"}
        assert await r.type("s") == b"set"
        assert await r.srem("s", "b", "c") == 2
        assert await r.exists("s") == 0
        await r.set("x", "1")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await r.sadd("x", "a")


@PROTOCOLS
@in_loop
async def test_a_database_is_looked_through(protocol: int) -> None:
    async with three() as (nodes, _), client_of(nodes.running["n1"], protocol=protocol) as r:
        names = {b"user:%d" % at for at in range(120)}
        await r.mset(dict.fromkeys(names, "1"))
        await r.set("other", "1")
        await r.delete("user:7")
        names.remove(b"user:7")

        assert {key async for key in r.scan_iter("user:*", count=7)} == names
        assert set(await r.keys("user:1?")) == {b"user:1%d" % at for at in range(10)}
        assert await r.dbsize() == 120
        assert await r.randomkey() in names | {b"other"}
        assert [key async for key in r.scan_iter(_type="hash")] == []
        async with client_of(nodes.running["n2"], db=1) as second:
            await second.set("mine", "1")
            assert await second.keys() == [b"mine"]
        await r.flushdb()
        assert await r.dbsize() == 0
        async with client_of(nodes.running["n3"], db=1) as second:
            assert await second.get("mine") == b"1"
            await second.flushall()
            assert await second.get("mine") is None


@PROTOCOLS
@in_loop
async def test_the_server_says_what_it_is(protocol: int) -> None:
    async with one() as (runtime, _):  # noqa: SIM117 - the node ends last
        async with client_of(runtime, protocol=protocol, client_name="me") as r:
            assert (await r.info())["redis_version"].startswith("7.")
            assert "redis_version" not in await r.info("clients")
            assert await r.client_getname() in ("me", b"me")
            assert [each["name"] for each in await r.client_list() if each["name"]] == ["me"]
            assert await r.config_get("save") == {"save": ""}
            assert await r.command_count() > 100
            assert (await r.command())["get"]["arity"] == 2
            assert await r.echo("hi") == b"hi"
            with pytest.raises(redis.ResponseError, match="unknown subcommand"):
                await r.execute_command("CLIENT", "MAINT_NOTIFICATIONS", "ON")
            mine = await r.client_id()
            assert await r.client_kill_filter(_id=str(mine), skipme=False) == 1
            with pytest.raises(redis.ConnectionError):
                await r.ping()
            assert await r.client_id() != mine


def test_a_client_that_blocks_is_served_too() -> None:
    ready, over = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with one() as (runtime, _):
            ports.append(port_of(runtime))
            ready.set()
            await asyncio.to_thread(over.wait, PATIENCE_S)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        with redis.Redis(port=ports[0], decode_responses=True) as r:
            assert r.set("a", "é")
            assert r.get("a") == "é"
            with r.pipeline() as batch:
                assert batch.set("b", "1").get("b").execute() == [True, "1"]
    finally:
        over.set()
        thread.join()


@in_loop
async def test_increments_of_all_nodes_at_once_all_count() -> None:
    async with three() as (_, clients):
        await clients[0].set("n", 100)
        await asyncio.gather(*(client.incr("n") for client in clients for _ in range(20)))

        async def all_count() -> bool:
            return {await client.get("n") for client in clients} == {b"160"}

        await eventually(all_count, "60 increments are seen on top of what was set")


@in_loop
async def test_what_a_connection_wrote_it_reads_whichever_node_is_down() -> None:
    async with three() as (nodes, clients):
        first = clients[0]
        await first.set("a", "1")
        await nodes.stop("n3")
        for at in range(50):
            await first.set("a", at)
            assert await first.get("a") == b"%d" % at
        assert await clients[1].get("a") == b"49"

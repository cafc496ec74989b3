"""What is told to those who watch a server, look up commands, or go by slots."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import client_of, one, port_of, three

from everwrite.server.redis import measures
from everwrite.server.redis.clustering import SLOTS, slot_of
from everwrite.server.redis.measures import SLOW_MAX, SLOW_NS, RedisMeasures
from everwrite.server.redis.table import TABLE

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


def test_slow_commands_are_kept_the_last_ones_first() -> None:
    measures = RedisMeasures()
    measures.add("get", SLOW_NS, True)
    for at in range(SLOW_MAX + 5):
        measures.add("set", SLOW_NS + 1000 * (at + 1), True)

    assert len(measures.slow) == SLOW_MAX
    assert [each.number for each in measures.slow][:2] == [SLOW_MAX + 4, SLOW_MAX + 3]
    assert measures.slow[0].took_us == SLOW_NS // 1000 + SLOW_MAX + 5
    assert {each.command for each in measures.slow} == {"set"}


def test_a_histogram_has_each_command_once() -> None:
    measures = RedisMeasures()
    for took_us, well in ((3, True), (100, True), (100, False), (900, True)):
        measures.add("get", took_us * 1000, well)
    measures.add("set", 5000, True)

    assert measures.histograms() == {"get": (4, {4: 1, 128: 3, 1024: 4}), "set": (1, {8: 1})}


@PROTOCOLS
@in_loop
async def test_slowlog(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    slow_ns = 3_600_000_000_000  # an hour: what the test itself asks is never slow
    monkeypatch.setattr(measures, "SLOW_NS", slow_ns)
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        assert runtime.redis is not None
        await r.slowlog_reset()
        for at in range(12):
            runtime.redis.front.measures.add("get", slow_ns + (at + 1) * 1_000_000, True)
        assert await r.slowlog_len() == 12
        assert len(await r.slowlog_get()) == 10
        (first,) = await r.slowlog_get(1)
        assert (first["command"], first["duration"]) == (b"GET", slow_ns // 1000 + 12_000)
        assert len(await r.slowlog_get(-1)) == 12
        await r.slowlog_reset()
        assert await r.slowlog_len() == 0


@PROTOCOLS
@in_loop
async def test_latency_memory_and_acl(protocol: int) -> None:
    async with one(secret=b"hush") as (runtime, _):  # noqa: SIM117 - the node ends last
        async with client_of(runtime, protocol=protocol, password="hush") as r:
            await r.set("a", "x" * 1000)
            assert 1000 < await r.memory_usage("a") < 1200
            assert await r.object("IDLETIME", "a") == 0  # a real Redis counts seconds
            found = await r.execute_command("LATENCY", "HISTOGRAM", "SET", "nosuch")
            told = found if isinstance(found, dict) else dict([found])
            assert list(told) == [b"set"]
            of = told[b"set"]
            assert (of if isinstance(of, dict) else dict(zip(of[::2], of[1::2], strict=True)))[
                b"calls"
            ] == 1
            assert b"SLOWLOG has" in await r.execute_command("LATENCY", "DOCTOR")
            assert await r.acl_whoami() in ("default", b"default")
            (line,) = await r.acl_list()
            assert "nopass" not in str(line)
            assert "hush" not in str(line)
            with pytest.raises(ResponseError, match="one user"):
                await r.execute_command("ACL", "SETUSER", "x")


@in_loop
async def test_categories_hold_the_commands_that_say_so() -> None:
    async with one() as (_, r):
        names = {each: set(await r.acl_cat(each)) for each in ("read", "write", "hyperloglog")}
        assert names["hyperloglog"] == {"pfadd", "pfcount", "pfmerge"}
        assert {"get", "pfcount", "hgetall", "dyn.get"} <= names["read"]
        assert {"set", "pfadd", "eval", "expire", "dyn.put"} <= names["write"]
        assert not names["read"] & names["write"]
        listed = await r.execute_command("COMMAND LIST", "FILTERBY", "ACLCAT", "hyperloglog")
        assert {each.decode() for each in listed} == names["hyperloglog"]


@PROTOCOLS
@in_loop
async def test_each_command_is_described(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        connection = await r.connection_pool.get_connection()  # as it came, not as it is parsed
        await connection.send_command("COMMAND")
        entries = {each[0].decode(): each for each in await connection.read_response()}
        await connection.send_command("COMMAND", "DOCS")
        docs = _map(await connection.read_response())
        await r.connection_pool.release(connection)

        assert set(entries) == set(docs) == {each.name for each in TABLE.values()}
        assert {len(each) for each in entries.values()} == {10}
        get = entries["get"]
        assert (get[1], set(get[2]), get[3:6]) == (2, {b"readonly", b"fast"}, [1, 1, 1])
        assert b"movablekeys" in entries["evalsha"][2]
        assert entries["evalsha"][3:6] == [0, 0, 0]
        for name in ("dyn.get", "dyn.put", "dyn.explain", "pfadd", "sintercard"):
            assert len(entries[name][8]) == 1, "where its keys are"
            assert _map(docs[name])["summary"]
        assert {each[0] for each in entries["slowlog"][9]} == {
            b"slowlog|get",
            b"slowlog|len",
            b"slowlog|reset",
            b"slowlog|help",
        }
        assert _map(docs["dyn.get"])["group"] == b"own"


def _map(answer: Any) -> dict[str, Any]:
    if isinstance(answer, list):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    return {name.decode(): value for name, value in answer.items()}


@in_loop
async def test_help_tells_the_subcommands() -> None:
    async with one() as (_, r):
        for name in ("CLIENT", "SCRIPT", "CLUSTER", "OBJECT", "SLOWLOG", "ACL", "CONFIG"):
            lines = await r.execute_command(name, "HELP")
            assert lines[0].startswith(name.encode())
            assert b"HELP" in lines


@PROTOCOLS
@in_loop
async def test_clients_are_listed_and_ended(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        async with client_of(runtime, client_name="other") as other:
            await other.ping()
            theirs = await other.client_id()
            listed = {each["id"]: each for each in await r.client_list()}
            assert listed[str(theirs)]["name"] == "other"
            assert listed[str(theirs)]["laddr"].endswith(f":{port_of(runtime)}")
            assert len(await r.client_list(client_id=[str(theirs), "999"])) == 1
            assert len(await r.client_list(_type="normal")) == len(listed)

            assert await r.client_kill_filter(_type="pubsub") == 0
            assert await r.client_kill_filter(laddr="1.2.3.4:5") == 0
            assert await r.client_kill_filter(_id=str(theirs), _type="normal") == 1
            with pytest.raises(redis.ConnectionError):
                await other.ping()
        assert await r.client_kill_filter(user="default", skipme=True) == 0


# -- slots -----------------------------------------------------------------------------------------


def test_slots_are_those_of_redis() -> None:
    # by `redis-cli cluster keyslot`, of a cluster of Redis 7.0.15
    known = {b"123456789": 12739, b"foo": 12182, b"{user1000}.x": 3443, b"foo{}{bar}": 8363}
    assert {key: slot_of(key) for key in known} == known


@in_loop
async def test_a_client_that_goes_by_slots_is_served_by_the_node_it_asked() -> None:
    async with three() as (nodes, _):
        port = port_of(nodes.running["n2"])
        async with redis.RedisCluster(host="127.0.0.1", port=port) as cluster:
            for at in range(20):
                await cluster.set(f"a:{at}", at)
            assert [await cluster.get(f"a:{at}") for at in range(20)] == [
                b"%d" % at for at in range(20)
            ]
            assert [each.port for each in cluster.get_nodes()] == [port]
            assert await cluster.cluster_keyslot("foo") == 12182
            info = await cluster.cluster_info()
            assert (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", "1")


@PROTOCOLS
@in_loop
async def test_a_node_says_that_all_slots_are_its_own(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        me = await r.execute_command("CLUSTER", "MYID")
        assert len(me) == 40
        ((first, last, node),) = await r.execute_command("CLUSTER", "SLOTS")
        assert (first, last, node) == (0, SLOTS - 1, [b"127.0.0.1", port_of(runtime), me, []])
        (shard,) = await r.execute_command("CLUSTER", "SHARDS")
        assert _map(shard)["slots"] == [0, SLOTS - 1]
        nodes = await r.execute_command("CLUSTER", "NODES")
        assert nodes
        assert await r.execute_command("READONLY") in (True, b"OK")
        with pytest.raises(ResponseError, match="everwrite plan"):
            await r.execute_command("CLUSTER", "MEET", "127.0.0.1", 1)


@in_loop
async def test_keys_of_a_slot_are_counted_and_told() -> None:
    async with one() as (_, r):
        keys = [f"a{{x}}{at}" for at in range(5)]
        await r.mset(dict.fromkeys([*keys, "other"], 1))
        slot = slot_of(b"x")
        assert await r.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 5
        found = await r.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3)
        assert len(set(found)) == 3
        assert {each.decode() for each in found} < set(keys)
        with pytest.raises(ResponseError, match="Invalid slot"):
            await r.execute_command("CLUSTER", "COUNTKEYSINSLOT", SLOTS)

"""Publish and subscribe by real sockets where room is short: who is cut off, slowed or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S, eventually, until
from tests.server.redis.redis_api import client_of, one, port_of, raw, three
from tests.server.redis.test_channels import _patience, heard, hub_of, subscribed
from tests.server.redis.test_requests import packed

from everwrite.server.redis import hub as hubs
from everwrite.server.redis.connection import RedisConnection
from everwrite.server.redis.hub import Hub
from everwrite.server.redis.place import RedisPlace
from everwrite.server.redis.slots import Slot
from everwrite.server.redis.subscriptions import CHANNEL

__all__ = ["_patience"]  # a fixture of all tests here, too


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return what gives the hubs another limit."""
    return partial(monkeypatch.setattr, hubs)


@pytest.fixture
def in_core(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many were with the core, whenever one more was."""
    found: list[int] = []
    begin = Hub._begin

    def noted(hub: Hub, message: Any) -> None:
        begin(hub, message)
        found.append(len(hub._in_core))

    monkeypatch.setattr(Hub, "_begin", noted)
    return found


@in_loop
async def test_a_subscriber_that_does_not_read_is_cut_off_and_nobody_else() -> None:
    async with three() as (nodes, clients):
        runtimes = list(nodes.running.values())
        hub = hub_of(runtimes[0])
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(runtimes[0]))
        writer.write(packed(b"SUBSCRIBE", b"a"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        payload = b"x" * 500_000
        async with subscribed(runtimes[0], "a") as reads, subscribed(runtimes[1], "a") as far:

            async def both() -> bool:
                return await clients[2].publish("a", "") == 3

            await eventually(both, "all three are there")
            sent = 0
            while not hub.cut_off:
                assert await clients[2].publish("a", payload) in (2, 3)
                assert (await heard(reads, 1))[0] in (b"", payload)
                assert (await heard(far, 1))[0] in (b"", payload)
                sent += 1
                assert sent < 200, "it was never cut off"

            assert await clients[2].publish("a", "last") == 2
            while await heard(reads, 1) != [b"last"]:
                pass
            while await heard(far, 1) != [b"last"]:
                pass
            assert hub.cut_off == 1
            assert sent * len(payload) > hubs.UNREAD_PUSHED_MAX
        assert len(hub.subscriptions.subscribers(CHANNEL, b"a")) <= 1
        writer.close()


@in_loop
async def test_publications_leave_each_turn_of_the_loop_to_others_too(
    limit: Callable[[str, int], None],
) -> None:
    limit("TURN_NS", 0)
    async with one() as (runtime, client):
        hub = hub_of(runtime)
        count = 20 * hubs.STEPS
        lines = [client_of(runtime).connection_pool.make_connection() for _ in range(4)]
        for line in lines:
            await line.connect()
            patterns = [b"*" * (at + 1) for at in range(count // 4 // len(lines) * len(lines))]
            await line.send_command("PSUBSCRIBE", *patterns)
        wanted = len(lines) * len(patterns)
        await until(lambda: sum(hub.subscriptions.counts) == wanted, "all are subscribed")
        steps: list[int] = []
        over = asyncio.Event()

        def look() -> None:
            steps.append(hub.delivered)
            if not over.is_set():
                asyncio.get_running_loop().call_soon(look)

        look()
        assert await client.publish("a", "x") == wanted
        over.set()
        for line in lines:
            await line.disconnect()

        most = max(after - before for before, after in pairwise(steps))
        assert 0 < most <= hubs.STEPS


@in_loop
async def test_what_comes_from_others_and_has_no_room_is_dropped_and_counted(
    limit: Callable[[str, int], None],
) -> None:
    limit("LINE_BYTES_MAX", 100)
    async with three() as (nodes, clients):
        runtimes = list(nodes.running.values())
        async with subscribed(runtimes[0], "a") as pubsub:
            assert await clients[1].publish("a", "x" * 200) == 0
            assert await clients[0].publish("a", "y" * 200) == 1  # its publisher waits for it
            assert await clients[1].publish("a", "z") == 1

            assert await heard(pubsub, 2) == [b"y" * 200, b"z"]
            assert hub_of(runtimes[0]).crowded == 1


@in_loop
async def test_many_publishers_are_slowed_down_by_those_whom_they_reach_and_lose_nothing(
    limit: Callable[[str, int], None], in_core: list[int]
) -> None:
    limit("IN_CORE_MAX", 8)
    limit("TURN_NS", 0)
    async with one() as (runtime, _), subscribed(runtime, "a") as pubsub:
        count, publishers = 60, 6
        sent = b"".join(packed(b"PUBLISH", b"a", b"%d" % at) for at in range(count))
        found = await asyncio.gather(*(raw(runtime, sent) for _ in range(publishers)))

        assert found == [b":1\r\n" * count] * publishers
        assert len(await heard(pubsub, count * publishers)) == count * publishers
        assert 1 < max(in_core) <= 8
        assert hub_of(runtime).channels.counted.full == 0


@in_loop
async def test_what_publications_hold_in_the_core_counts_for_each_node_that_gets_them(
    limit: Callable[[str, int], None], in_core: list[int]
) -> None:
    limit("IN_CORE_BYTES_MAX", 1000)
    async with three() as (nodes, _):
        first, second, _third = nodes.running.values()
        async with subscribed(first, "a"), subscribed(second, "a"):
            found = await raw(first, packed(b"PUBLISH", b"a", b"x" * 300) * 50)

    assert found == b":2\r\n" * 50
    assert 1 < max(in_core) <= 2  # 602 bytes each


@in_loop
async def test_an_error_at_one_subscriber_is_that_subscribers_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    push = RedisConnection.push
    failed: list[RedisConnection] = []

    def failing(connection: RedisConnection, data: bytes) -> int:
        if not failed:
            failed.append(connection)
            raise RuntimeError("odd")
        return push(connection, data)

    async with one() as (runtime, r), subscribed(runtime, "a"), subscribed(runtime, "a") as second:
        monkeypatch.setattr(RedisConnection, "push", failing)
        assert await r.publish("a", "x") == 1
        assert await r.publish("a", "y") == 1

        assert await heard(second, 2) == [b"x", b"y"]
        assert [each.transport.is_closing() for each in failed] == [True]
        assert hub_of(runtime).cut_off == 1
        assert "RuntimeError" in caplog.text


@in_loop
async def test_an_error_while_a_publisher_is_answered_is_that_publishers_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hear = Slot.heard
    failed: list[Slot] = []

    def failing(slot: Slot, at: int, reply: Any) -> None:
        if slot.name == "publish" and not failed:
            failed.append(slot)
            raise RuntimeError("odd")
        hear(slot, at, reply)

    monkeypatch.setattr(Slot, "heard", failing)
    async with one() as (runtime, r):
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        writer.write(packed(b"PUBLISH", b"a", b"x"))
        await until(lambda: failed, "its publisher was to be told")

        assert await r.publish("a", "y") == 0
        assert "RuntimeError" in caplog.text
        assert not runtime.driver._broken
        writer.close()


@in_loop
async def test_more_publishers_than_can_wait_are_refused(limit: Callable[[str, int], None]) -> None:
    limit("WAITING_MAX", 3)
    async with one() as (runtime, _):
        found = await raw(runtime, packed(b"PUBLISH", b"a", b"x") * 5)

    assert [line.split(b" ")[0] for line in found.splitlines()] == [b":0"] * 3 + [
        b"-OVERLOADED",
        b"-OVERLOADED",
    ]


@in_loop
async def test_a_publication_waits_for_what_its_connection_wrote_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[Any] = []
    ask = RedisPlace.ask
    monkeypatch.setattr(RedisPlace, "ask", lambda place, *args: held.append(args))
    async with one() as (runtime, _):
        assert runtime.redis is not None
        hub, place = runtime.redis.hub, runtime.redis.place
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        writer.write(packed(b"SET", b"k", b"v") + packed(b"PUBLISH", b"a", b"x") * 3)

        await until(lambda: held, "the write was asked for")
        assert hub.channels.counted.published == 0
        ask(place, *held[0])
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(17) == b"+OK\r\n" + b":0\r\n" * 3
        writer.close()


@in_loop
async def test_the_metrics_say_what_became_of_publications() -> None:
    async with three(http_port=0) as (nodes, clients):
        runtimes = list(nodes.running.values())
        async with subscribed(runtimes[0], "a", patterns=("*",)):
            await clients[1].publish("a", "x")
            told = [(await each.exposition.render(""))[0].decode() for each in runtimes[:2]]

    for line in (
        'everwrite_publications_total{way="came"} 1.0',
        "everwrite_redis_delivered_total 2.0",
        "everwrite_redis_subscribers_cut_off_total 0.0",
        'everwrite_redis_subscriptions{kind="channel"} 1.0',
        'everwrite_redis_subscriptions{kind="pattern"} 1.0',
    ):
        assert line in told[0], line
    for line in (
        'everwrite_publications_total{way="published"} 1.0',
        'everwrite_publications_total{way="sent"} 1.0',
        'everwrite_publications_dropped_total{why="full"} 0.0',
        "everwrite_publications_unanswered_total 0.0",
    ):
        assert line in told[1], line

"""Publish and subscribe by real sockets: what connections hear, over nodes, and who is cut off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S, Nodes, eventually
from tests.server.redis.redis_api import client_of, one, port_of, raw, three
from tests.server.redis.test_requests import packed

from everwrite.core import channels, handshake
from everwrite.core.channels import CHANNEL_BYTES_MAX
from everwrite.server.redis.hub import Hub
from everwrite.server.redis.replies import Simple
from everwrite.server.runtime import Runtime

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nodes that this machine holds up be counted all the same: who is late is tested with
    cores in memory (tests/core/test_channels.py).
    """
    for name in ("ANSWER_MS", "LISTEN_MS", "FORGET_MS"):
        monkeypatch.setattr(channels, name, round(PATIENCE_S * 1000))


def hub_of(runtime: Runtime) -> Hub:
    assert runtime.redis is not None
    return runtime.redis.hub


@asynccontextmanager
async def subscribed(
    runtime: Runtime, *channels: str, patterns: tuple[str, ...] = (), protocol: int = 3
) -> AsyncIterator[Any]:
    """A subscriber who has been told so."""
    async with client_of(runtime, protocol=protocol) as client, client.pubsub() as pubsub:
        if channels:
            await pubsub.subscribe(*channels)
        if patterns:
            await pubsub.psubscribe(*patterns)
        for _ in range(len(channels) + len(patterns)):
            message = await pubsub.get_message(timeout=PATIENCE_S)
            assert message["type"] in ("subscribe", "psubscribe")
        yield pubsub


async def heard(pubsub: Any, count: int) -> list[bytes]:
    """Return what so many messages say."""
    found: list[bytes] = []
    while len(found) < count:
        message = await pubsub.get_message(timeout=PATIENCE_S)
        assert message is not None, f"nothing more came after {found}"
        if message["type"] in ("message", "pmessage"):
            found.append(message["data"])
    return found


# -- one connection --------------------------------------------------------------------------------


@in_loop
async def test_a_subscribed_connection_of_resp2_takes_few_commands() -> None:
    async with one() as (runtime, _):
        sent = [
            packed(b"SUBSCRIBE", b"a"),
            packed(b"get", b"x"),
            packed(b"HELLO", b"3"),
            packed(b"PING"),
            packed(b"PING", b"hi"),
            packed(b"UNSUBSCRIBE"),
            packed(b"GET", b"x"),
            packed(b"PING"),
        ]
        only = (
            b"only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
            b"context\r\n"
        )

        found = await raw(runtime, b"".join(sent))

        assert found == (
            b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
            + b"".join(b"-ERR Can't execute '%b': %b" % (each, only) for each in (b"get", b"hello"))
            + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n*2\r\n$4\r\npong\r\n$2\r\nhi\r\n"
            b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n$-1\r\n+PONG\r\n"
        )


@in_loop
async def test_in_resp3_publications_are_pushed_among_the_answers_to_any_command() -> None:
    async with one() as (runtime, _):
        found = await raw(
            runtime,
            packed(b"HELLO", b"3") + packed(b"SUBSCRIBE", b"a"),
            packed(b"SET", b"k", b"v") + packed(b"PUBLISH", b"a", b"x") + packed(b"GET", b"k"),
        )

        pushed = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
        answers = found[found.index(b">3\r\n$9\r\nsubscribe") :].replace(pushed, b"", 1)
        assert found.count(pushed) == 1
        assert answers == b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n+OK\r\n:1\r\n$1\r\nv\r\n"


@in_loop
async def test_reset_ends_all_subscriptions() -> None:
    async with one() as (runtime, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        writer.write(packed(b"SUBSCRIBE", b"a") + packed(b"PSUBSCRIBE", b"*") + packed(b"RESET"))
        writer.write(packed(b"GET", b"x"))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"+RESET\r\n$-1\r\n")

        assert await client.publish("a", "x") == 0
        assert await client.pubsub_channels() == []
        assert await client.pubsub_numpat() == 0
        writer.close()


@in_loop
async def test_whoever_wants_no_answers_still_hears_what_is_published() -> None:
    async with one() as (runtime, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        off = packed(b"CLIENT", b"REPLY", b"OFF")
        writer.write(off + packed(b"GET", b"x") + packed(b"SUBSCRIBE", b"a"))
        async with asyncio.timeout(PATIENCE_S):
            told = await reader.readuntil(b":1\r\n")
            assert await client.publish("a", "hi") == 1
            message = await reader.readuntil(b"hi\r\n")

        assert told == b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        assert message == b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
        writer.close()


@in_loop
async def test_subscriptions_have_no_place_in_a_batch() -> None:
    async with one() as (runtime, _):
        found = await raw(runtime, packed(b"MULTI") + packed(b"SUBSCRIBE", b"a") + packed(b"EXEC"))

        assert found.splitlines()[1:] == [
            b"-ERR SUBSCRIBE is not possible between MULTI and EXEC here",
            b"-EXECABORT Transaction discarded because of previous errors.",
        ]


@in_loop
async def test_who_does_not_know_the_secret_neither_hears_nor_says_anything() -> None:
    async with one(secret=b"hush") as (runtime, _):
        names = (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE")
        sent = [packed(name, b"a") for name in names] + [packed(b"PUBLISH", b"a", b"x")]

        found = await raw(runtime, b"".join(sent) + packed(b"PUBSUB", b"CHANNELS"))

        assert [line[:7] for line in found.splitlines()] == [b"-NOAUTH"] * 6
        assert not hub_of(runtime).subscriptions


@in_loop
async def test_a_name_that_is_too_long_is_refused_by_all() -> None:
    async with one() as (runtime, _):
        long = b"x" * (CHANNEL_BYTES_MAX + 1)
        names = (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE")

        found = await raw(
            runtime, *[packed(name, long) for name in names], packed(b"PUBLISH", long, b"x")
        )

        assert found.count(b"has at most 1024 bytes here") == 4


@PROTOCOLS
@in_loop
async def test_sharded_channels_are_channels_of_their_own(protocol: int) -> None:
    async with three() as (nodes, clients):  # noqa: SIM117 - the node ends last
        async with client_of(nodes.running["n1"], protocol=protocol) as first:
            async with first.pubsub() as pubsub:
                await pubsub.execute_command("SSUBSCRIBE", "a")
                await pubsub.psubscribe("*")
                for _ in range(2):
                    await pubsub.parse_response(timeout=PATIENCE_S)

                assert await clients[1].execute_command("SPUBLISH", "a", "x") == 1
                assert await clients[1].publish("a", "y") == 1
                assert await pubsub.parse_response() == [b"smessage", b"a", b"x"]
                assert await pubsub.parse_response() == [b"pmessage", b"*", b"a", b"y"]
                assert await clients[0].execute_command("PUBSUB", "SHARDCHANNELS") == [b"a"]
                numsub = await clients[0].execute_command("PUBSUB", "SHARDNUMSUB", "a", "b")
                assert numsub == [b"a", 1, b"b", 0]
                assert await clients[0].pubsub_channels() == []


@in_loop
async def test_what_is_pushed_comes_behind_the_answers_that_were_there_and_before_later_ones() -> (
    None
):
    async with one() as (runtime, _):
        assert runtime.redis is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
        writer.write(packed(b"PING"))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readline()
            (mine,) = runtime.redis.front.connections.values()
            mine._pipeline.say(Simple("BEFORE"))  # all within one turn of the loop
            mine.push(b"pushed\r\n")
            mine._pipeline.say(Simple("BETWEEN"))
            mine.push(b"again\r\n")
            mine._pipeline.say(Simple("BEHIND"))

            found = [await reader.readline() for _ in range(5)]

        assert found == [
            b"+BEFORE\r\n",
            b"pushed\r\n",
            b"+BETWEEN\r\n",
            b"again\r\n",
            b"+BEHIND\r\n",
        ]
        writer.close()


# -- over nodes ------------------------------------------------------------------------------------


@PROTOCOLS
@in_loop
async def test_each_hears_what_each_publishes_in_its_order_by_whatever_nodes(protocol: int) -> None:
    async with three() as (nodes, clients):
        runtimes = list(nodes.running.values())
        count = 100
        async with (
            subscribed(runtimes[0], "news", protocol=protocol) as a,
            subscribed(runtimes[1], "news", "other", protocol=protocol) as b,
            subscribed(runtimes[1], patterns=("n*s", "x*"), protocol=protocol) as c,
        ):

            async def say(who: int) -> None:
                for at in range(count):
                    assert await clients[who].publish("news", f"{who}:{at}") == 3

            async with asyncio.TaskGroup() as saying:
                for who in range(3):
                    saying.create_task(say(who))
            for pubsub in (a, b, c):
                found = await heard(pubsub, 3 * count)
                for who in range(3):
                    mine = [each for each in found if each.startswith(b"%d:" % who)]
                    assert mine == [b"%d:%d" % (who, at) for at in range(count)]
            assert await clients[2].publish("nobody", "x") == 0


@PROTOCOLS
@in_loop
async def test_a_pipeline_of_publications_keeps_its_order(protocol: int) -> None:
    async with three() as (nodes, _):
        runtimes = list(nodes.running.values())
        count = 500
        async with (
            subscribed(runtimes[0], "a", protocol=protocol) as near,
            subscribed(runtimes[1], "a", protocol=protocol) as far,
            client_of(runtimes[0], protocol=protocol) as publisher,
            publisher.pipeline(transaction=False) as line,
        ):
            for at in range(count):
                line.publish("a", at)
            assert await line.execute() == [2] * count

            for pubsub in (near, far):
                assert await heard(pubsub, count) == [b"%d" % at for at in range(count)]


@PROTOCOLS
@in_loop
async def test_whoever_hears_of_a_write_finds_it(protocol: int) -> None:
    """As Celery's backend does: SETEX and PUBLISH in a batch, and the key is read by who hears."""
    async with three() as (nodes, clients):
        runtimes = list(nodes.running.values())
        async with subscribed(runtimes[1], "done", protocol=protocol) as pubsub:
            for at in range(50):
                async with clients[0].pipeline() as batch:
                    batch.execute_command("SETEX", "result", 100, at).publish("done", at)
                    assert await batch.execute() == [True, 1]
                (said,) = await heard(pubsub, 1)
                assert await clients[1].get("result") == said == b"%d" % at
                await pubsub.subscribe(f"task:{at}")
                await pubsub.unsubscribe(f"task:{at}")


def test_a_client_that_blocks_hears_what_is_published() -> None:
    def told(pubsub: Any) -> dict[str, Any]:
        message: dict[str, Any] | None = pubsub.get_message(timeout=PATIENCE_S)
        assert message is not None
        return message

    ready, over = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with three() as (nodes, _):
            ports.extend(port_of(runtime) for runtime in nodes.running.values())
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        for protocol in (2, 3):
            with (
                redis.Redis(port=ports[0], protocol=protocol) as far,
                redis.Redis(port=ports[1], protocol=protocol) as near,
                near.pubsub() as pubsub,
            ):
                pubsub.subscribe("a")
                assert told(pubsub)["type"] == "subscribe"
                assert far.publish("a", "hi") == 1
                assert told(pubsub)["data"] == b"hi"
                pubsub.unsubscribe()
                assert told(pubsub)["type"] == "unsubscribe"
                assert near.publish("a", "hi") == far.publish("a", "hi") == 0
    finally:
        over.set()
        thread.join()


@in_loop
async def test_a_subscriber_that_dies_leaves_nothing_behind() -> None:
    async with three() as (nodes, clients):
        runtimes = list(nodes.running.values())
        hub = hub_of(runtimes[0])
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(runtimes[0]))
        writer.write(packed(b"SUBSCRIBE", b"a", b"b") + packed(b"PSUBSCRIBE", b"*"))

        async def there() -> bool:
            return await clients[1].publish("a", "x") == 2

        await eventually(there, "two subscriptions are there")
        writer.transport.abort()

        async def gone() -> bool:
            return await clients[1].publish("a", "x") == 0

        await eventually(gone, "nobody is there")
        assert not hub.subscriptions
        assert hub.subscriptions.counts == [0, 0, 0]


@in_loop
async def test_a_node_that_goes_takes_its_subscribers_with_it_and_no_others() -> None:
    async with three() as (nodes, clients):
        runtimes = list(nodes.running.values())
        async with subscribed(runtimes[0], "a") as kept, subscribed(runtimes[2], "a"):
            assert await clients[1].publish("a", "before") == 2
            await nodes.stop("n3")

            assert await clients[1].publish("a", "after") == 1

            assert await heard(kept, 2) == [b"before", b"after"]


@in_loop
async def test_a_node_of_an_older_version_stays_connected_and_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Nodes(redis_port=0) as nodes:
        await nodes.grow("n1", "n2")
        monkeypatch.setattr(handshake, "SPEAKS_CHANNELS", 0)
        await nodes.grow("n3")
        first, second, third = nodes.running.values()
        links = dict(third.peers._links)
        async with (
            subscribed(first, "a") as here,
            subscribed(third, "a"),
            client_of(second) as publisher,
        ):
            assert await publisher.publish("a", "x") == 1
            assert await heard(here, 1) == [b"x"]

        assert third.node.channels._peers == {}
        for node in (first, second):
            assert third.node.local.me not in node.node.channels._peers
        assert dict(third.peers._links) == links


# -- caps ------------------------------------------------------------------------------------------


@in_loop
async def test_a_node_that_stops_answers_those_who_publish() -> None:
    async with one() as (runtime, client), subscribed(runtime, "a"):
        hub = hub_of(runtime)
        runtime.driver.heard = lambda heard: None
        asked = asyncio.create_task(client.publish("a", "x"))

        async def waits() -> bool:
            return bool(hub._in_core)

        await eventually(waits, "it waits for its answer")
        hub.close()

        with pytest.raises(redis.ResponseError, match=r"UNAVAILABLE .* may have happened"):
            await asked

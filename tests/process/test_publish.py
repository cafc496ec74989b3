"""Publishers and subscribers of real nodes: kill -9 and a pause of one harm nobody elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from tests.process.clusters import cluster, eventually, in_loop, seen_down
from tests.process.test_redis import client_of

from everwrite.cli.devplan import Node

pytestmark = pytest.mark.process

CHANNEL = "news"


@asynccontextmanager
async def subscriber(node: Node) -> AsyncIterator[Any]:
    async with client_of(node) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        message = await pubsub.get_message(timeout=10)
        assert message["type"] == "subscribe"
        yield pubsub


async def numbers(pubsub: Any, last: int) -> list[int]:
    """Return what is heard until this number comes."""
    found: list[int] = []
    async with asyncio.timeout(30):
        while not found or found[-1] != last:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                found.append(int(message["data"]))
    return found


def all_counted_came(found: list[int], counted: list[int], last: int) -> None:
    """See that publications came once each, in order, to the last one, and no other is missing than
    what was not counted: a node that was silent for long is passed over, and a busy machine may
    hold one up so long.
    """
    once = found[found.index(0) + found.count(0) :]  # 0 was published several times
    assert once == sorted(set(once))
    assert set(found) <= {0, *once}
    assert once[-1] == last
    assert set(counted) <= set(once)


async def reach(client: redis.Redis, count: int, number: int) -> None:
    """Publish this number again and again until so many are reached."""

    async def all_reached() -> bool:
        return await client.publish(CHANNEL, number) == count

    await eventually(all_reached, f"{count} subscribers are reached")


@in_loop
async def test_a_kill_of_a_node_costs_the_subscribers_of_others_nothing(tmp_path: Path) -> None:
    async with (
        cluster(tmp_path, fsync=False, partitions=64) as made,
        client_of(made.node(1)) as publisher,
        subscriber(made.node(1)) as near,
        subscriber(made.node(2)) as far,
    ):
        async with client_of(made.node(3)) as client, client.pubsub() as dies:
            await dies.subscribe(CHANNEL)
            await reach(publisher, 3, 0)
            counted = []  # by all who were there; who answers late is not
            for at in range(1, 299):
                if at == 100:
                    made.kill(3)
                if await publisher.publish(CHANNEL, at) == (3 if at < 100 else 2):
                    counted.append(at)
            await reach(publisher, 2, 299)

        found = await numbers(near, 299)
        assert found[found.index(1) :] == list(range(1, 300))
        assert set(found[: found.index(1)]) == {0}
        all_counted_came(await numbers(far, 299), counted, 299)

        await made.restart(3)
        async with subscriber(made.node(3)) as again, client_of(made.node(3)) as other:
            await reach(publisher, 3, 300)
            await reach(other, 3, 301)
            for pubsub in (near, far, again):
                assert (await numbers(pubsub, 301))[-1] == 301


@in_loop
async def test_a_node_that_stands_still_holds_up_no_publisher_for_long(tmp_path: Path) -> None:
    async with (
        cluster(tmp_path, fsync=False, partitions=64) as made,
        client_of(made.node(1)) as publisher,
        subscriber(made.node(2)) as far,
        subscriber(made.node(3)) as stands,
    ):
        await reach(publisher, 2, 0)
        made.pause(3)
        loop = asyncio.get_running_loop()
        began = loop.time()
        counted = []
        for at in range(1, 199):
            count = await publisher.publish(CHANNEL, at)
            assert count <= 1
            if count:
                counted.append(at)
        took = loop.time() - began
        await reach(publisher, 1, 199)
        all_counted_came(await numbers(far, 199), counted, 199)
        assert took < 20  # had each waited for it, 40 s: the first one does
        await seen_down(made, 1, "n3")
        await made.resume(3)

        await reach(publisher, 2, 200)
        heard = await numbers(stands, 200)
        assert heard == sorted(heard)
        once = [at for at in heard if at not in (0, 199, 200)]  # these were published several times
        assert len(once) == len(set(once))

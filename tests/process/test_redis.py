"""kill -9 of a node under Redis clients of the others: no error after one retry, nothing lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from tests.process.clusters import cluster, in_loop

from everwrite.cli.devplan import Node

pytestmark = pytest.mark.process

CLIENTS = 6
BEFORE, AFTER = 30, 60


def client_of(node: Node) -> redis.Redis:
    """Return a client that makes one retry of whatever failed."""
    host, _, port = node.redis.rpartition(":")
    return redis.Redis(
        host=host,
        port=int(port),
        retry=Retry(ConstantBackoff(0.1), 1),
        retry_on_error=[redis.RedisError],
    )


@in_loop
async def test_a_kill_of_another_node_fails_no_command_after_one_retry(tmp_path: Path) -> None:
    async with cluster(tmp_path, fsync=False, partitions=64) as made:
        killed = asyncio.Event()
        ready = asyncio.Barrier(CLIENTS + 1)

        async def work(number: int) -> None:
            async with client_of(made.node(1 + number % 2)) as r:
                for at in range(BEFORE + AFTER):
                    key = f"{number}:{at % 10}"
                    assert await r.set(key, at, ex=1000)
                    assert await r.get(key) == b"%d" % at
                    await r.incr("all")
                    if at == BEFORE:
                        await ready.wait()
                        await killed.wait()

        async with asyncio.TaskGroup() as workers:
            for number in range(CLIENTS):
                workers.create_task(work(number))
            await ready.wait()
            killed.set()
            made.kill(3)

        async with client_of(made.node(2)) as r:
            assert int(await r.get("all")) >= CLIENTS * (BEFORE + AFTER)
            last = [f"{number}:{at}" for number in range(CLIENTS) for at in range(10)]
            found = await r.mget(last)
            assert [int(value) for value in found] == [
                next(at for at in range(BEFORE + AFTER - 1, 0, -1) if at % 10 == int(key[-1]))
                for key in last
            ]

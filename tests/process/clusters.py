"""Clusters of real processes for a test: started with it, gone with it, however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import everwrite
from everwrite import AsyncClient
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.reports import Status
from everwrite.client.sync import new_loop

PATIENCE_S = 30.0
LOOK_EVERY_S = 0.05
TEST_S = 80.0


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine that may take its time."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.wait_for(test(*arguments, **named), TEST_S))

    return run


@asynccontextmanager
async def cluster(
    directory: Path,
    *,
    nodes: int = 3,
    fsync: bool = True,
    started: bool = True,
    partitions: int = 256,
) -> AsyncIterator[DevCluster]:
    """A cluster on RocksDB that has started and formed; its nodes are called n1, n2, ..."""
    with DevCluster.create(
        directory / "cluster", nodes=nodes, fsync=fsync, partitions=partitions
    ) as made:
        if started:
            await made.start()
        yield made


async def eventually(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Return once a condition holds; fails, saying what was waited for, if that takes too long."""
    end = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(LOOK_EVERY_S)


async def statuses(made: DevCluster) -> list[Status]:
    """Return what all running nodes say; those that do not answer are left out."""
    answers = (await made.statuses(made.running())).values()
    return [answer for answer in answers if answer is not None]


async def all_hints_home(made: DevCluster) -> None:
    """Return once all nodes see each other and no hint waits anywhere."""

    async def home() -> bool:
        answers = await statuses(made)
        up = all(peer.state != "down" for answer in answers for peer in answer.nodes)
        return up and len(answers) == len(made.nodes) and not any(a.hints.waiting for a in answers)

    await eventually(home, "all hints are home")


async def seen_down(made: DevCluster, by: int, name: str) -> None:
    """Return once a node takes another one for down."""

    async def down() -> bool:
        status = await made.status(by)
        states = {peer.name: peer.state for peer in status.nodes} if status is not None else {}
        return states.get(name) == "down"

    await eventually(down, f"n{by} sees that {name} is down")


async def all_owners_agree(made: DevCluster, bucket: str, keys: Iterable[str]) -> None:
    """Return once the owners of each key hold the same bytes; nothing is asked that repairs."""
    apart = list(keys)
    async with await connect(made) as db:

        async def agree() -> bool:
            apart[:] = [key for key in apart if not await _same(db, bucket, key)]
            return not apart

        await eventually(agree, f"the owners of {apart[:5]} ... hold the same")


async def _same(db: AsyncClient, bucket: str, key: str) -> bool:
    copies = await db.replicas(bucket, key)
    return len({(copy.status, copy.record) for copy in copies}) == 1


async def connect(made: DevCluster, *numbers: int, retries: int = 1) -> AsyncClient:
    """Return a client that knows these nodes (or all), as the benchmark uses it: one retry."""
    nodes = [made.node(number) for number in numbers] or made.nodes
    return await everwrite.connect([node.address for node in nodes], retries=retries)

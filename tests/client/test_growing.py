"""A client of real nodes that come and go under its load: nothing fails, nothing is read wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S, Nodes, eventually, rule

import everwrite
from everwrite.client import AsyncClient
from everwrite.core.messages.members import LEAVING, REMOVED

KEYS = 40
WORKERS = 4


class Load:
    """Workers that read their keys, check them, and write them anew; ``turns`` counts it."""

    def __init__(self, db: AsyncClient) -> None:
        self._things = db.bucket("things")
        self._over = False
        self.turns = 0

    async def work(self, worker: int) -> None:
        keys = [f"{worker}-{number}" for number in range(KEYS)]
        written: dict[str, int] = {}
        while not self._over:
            for key in keys:
                found = await self._things.get(key)
                assert found.value == written.get(key), key  # it is this worker's alone
                written[key] = self.turns
                await self._things.put(key, self.turns, context=found.context)
                self.turns += 1

    async def goes_on(self) -> None:
        """Return when all keys were read and written again a few times."""
        goal = self.turns + 3 * KEYS * WORKERS

        async def reached() -> bool:
            return self.turns >= goal

        await eventually(reached, "the load goes on")

    @classmethod
    @asynccontextmanager
    async def on(cls, db: AsyncClient) -> AsyncIterator[Load]:
        """Run it while the block runs; the first error of a worker ends the block."""
        load = cls(db)
        async with asyncio.TaskGroup() as workers:
            for worker in range(WORKERS):
                workers.create_task(load.work(worker))
            await load.goes_on()
            yield load
            await load.goes_on()
            load._over = True


async def leave(nodes: Nodes, name: str, by: str) -> None:
    """Let a node hand everything over and go."""
    runtime = nodes.running[name]
    rule(nodes.running[by], runtime.node.local.members.me, LEAVING)
    await asyncio.wait_for(runtime.left, 3 * PATIENCE_S)
    await nodes.stop(name)


def connected(db: AsyncClient) -> set[str]:
    return {connection.name for connection in db._cluster._pool.connections()}


@in_loop
async def test_under_load_nodes_come_and_all_first_ones_leave_the_only_seed_among_them() -> None:
    async with Nodes() as nodes:
        (seed, *_) = await nodes.grow("n1", "n2", "n3")
        async with (
            await everwrite.connect(seed.address, retries=1) as db,
            Load.on(db) as load,
        ):
            began = asyncio.get_running_loop().time()
            await nodes.grow("n4", "n5", "n6")
            await load.goes_on()
            for name in ("n1", "n2", "n3"):
                await leave(nodes, name, by="n6")
                await load.goes_on()
            took = asyncio.get_running_loop().time() - began

            async def follows() -> bool:
                return connected(db) == {"n4", "n5", "n6"}

            await eventually(follows, "the client is connected to those that are there")
            asked = db.counters.refreshes

        # Each of six changes may make it ask twice at the short interval, the moves at the long.
        assert asked <= 2 * 6 + took / everwrite.Timing().moved_s + 2


@in_loop
async def test_under_load_a_node_is_removed_by_force() -> None:
    async with Nodes() as nodes:
        first, *_, gone = await nodes.grow("n1", "n2", "n3", "n4")
        async with (
            await everwrite.connect(first.address, retries=1) as db,
            Load.on(db) as load,
        ):
            rule(first, gone.node.local.members.me, REMOVED)
            await asyncio.wait([gone.failed], timeout=PATIENCE_S)
            await nodes.stop("n4")
            await load.goes_on()
            await nodes.settled()

            async def follows() -> bool:
                return connected(db) == {"n1", "n2", "n3"}

            await eventually(follows, "the client is connected to those that are there")


@in_loop
async def test_a_node_that_waits_for_the_operator_is_known_and_owns_nothing() -> None:
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3")
        await nodes.start("n4", join=(first.address,), stage=True)
        await nodes.met()
        async with await everwrite.connect(first.address) as db:
            view = await db.ask("view", node="n4")

            names = {member["id"]: member["name"] for member in view["members"]}
            owners = {names[candidate["id"]] for candidate in view["candidates"]}
            assert owners == {"n1", "n2", "n3"}
            assert set(names.values()) == {"n1", "n2", "n3", "n4"}
            assert db._cluster.view.hex() == view["digest"]

"""Values that end, on real nodes and disks: hidden at their end, and later gone without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, eventually

import everwrite
from everwrite.core.copies import ENDS, TOMBSTONES
from everwrite.core.records import OWN
from everwrite.server.runtime import Runtime
from everwrite.server.state import after

NAMES = ("n1", "n2", "n3")
SLOT_MS = 200


def hurry(nodes: list[Runtime]) -> None:
    """Let what has ended be purged within a second, and not within minutes."""
    for runtime in nodes:
        local = runtime.node.local
        local.copies.slot_ms = SLOT_MS
        local.config = replace(local.config, expiry_slot_ms=SLOT_MS, expiry_margin_ms=SLOT_MS)
        runtime.node.expiry._due_ms = 0


def listed(runtime: Runtime) -> list[bytes]:
    """Return all that is on a node's disk as a copy, or in a list of copies."""
    store = runtime.driver.disk.store
    pairs = [
        pair for prefix in (OWN, ENDS, TOMBSTONES) for pair in store.scan(prefix, after(prefix), 9)
    ]
    return [key for key, _ in pairs]


@in_loop
@pytest.mark.parametrize("engine", ["sqlite", "rocksdb"])
async def test_what_has_ended_is_gone_from_every_disk_and_touched_in_time_it_stays(
    engine: str, tmp_path: Path
) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES, engine=engine)
        hurry(nodes)
        async with await everwrite.connect(cluster.url()) as db:
            carts = db.bucket("carts")
            await carts.put("bob", b"v", ttl=3, w=3)
            await carts.touch("bob", ttl=600, w=3)
            await carts.put("alice", b"v", ttl=3, w=3)
            assert [len(listed(runtime)) for runtime in nodes] == [4, 4, 4]

            async def ended() -> bool:
                return not (await carts.get("alice")).values

            await eventually(ended, "it ends")

            async def gone() -> bool:
                return all(len(listed(runtime)) == 2 for runtime in nodes)

            await eventually(gone, "nothing is left of it")
            assert all(runtime.driver.disk.store.get(OWN + KEY) is None for runtime in nodes)
            assert (await carts.get("alice")).quality.absent == "never"
            assert (await carts.get("bob")).value == b"v"
            assert {runtime.node.local.counters.read_repairs for runtime in nodes} == {0}
            assert sum(len(runtime.node.local.requests) for runtime in nodes) < 20


@in_loop
async def test_what_ended_while_a_node_was_down_is_gone_after_its_start(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES)
        hurry(nodes)
        async with await everwrite.connect(cluster.url()) as db:
            await db.bucket("carts").put("alice", b"v", ttl=3, w=3)
            await cluster.stop("n3")

            async def gone() -> bool:
                return not any(listed(runtime) for runtime in cluster.running.values())

            await eventually(gone, "the others purge it")
            back = await cluster.start("n3", join=(nodes[0].address,))
            assert listed(back)
            hurry([back])
            await eventually(gone, "it is purged after the start, too")
            assert (await db.bucket("carts").get("alice")).quality.absent == "never"

"""Tombstones on real nodes: collected from every disk, and shown while they wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, Raw, eventually

import everwrite
from everwrite.core.copies import TOMBSTONES
from everwrite.core.records import FLOORS, OWN
from everwrite.server.runtime import Runtime

LIFE_MS = 300
NAMES = ("n1", "n2", "n3")


def hurry(nodes: list[Runtime]) -> None:
    """Let tombstones live for a second, and not for minutes."""
    for runtime in nodes:
        local = runtime.node.local
        local.config = replace(local.config, store_life_ms=LIFE_MS, collect_every_ms=50)
        runtime.node.collect.soon()


async def told_by(cluster: Nodes, name: str, **arguments: Any) -> dict[str, Any]:
    """Return what a node says of its tombstones."""
    async with await Raw.enter(cluster.running[name]) as raw:
        return await raw.ask("tombstones", **arguments)


async def deleted(nodes: list[Runtime]) -> None:
    """Put and delete a key on all its owners."""
    async with await everwrite.connect(nodes[0].address) as db:
        carts = db.bucket("carts")
        await carts.put("alice", b"old", w=3)
        await carts.delete("alice", context=(await carts.get("alice")).context, w=3)


def copies(nodes: list[Runtime]) -> int:
    """Return on how many disks there is anything of the key."""
    stores = [runtime.driver.disk.store for runtime in nodes]
    keys = [prefix + KEY for prefix in (OWN, TOMBSTONES)]
    return sum(store.get(key) is not None for store in stores for key in keys)


@in_loop
async def test_a_deleted_key_is_gone_from_every_disk_and_can_be_put_anew(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES)
        await deleted(nodes)
        assert copies(nodes) == 6
        told = [await told_by(cluster, name) for name in NAMES]
        (row,) = [row for answer in told for row in answer["rows"]]
        assert (row["bucket"], row["key"]) == ("carts", "alice")
        hurry(nodes)

        async def gone() -> bool:
            return copies(nodes) == 0

        await eventually(gone, "the tombstone is collected")
        assert all(runtime.driver.disk.store.get(FLOORS) for runtime in nodes)
        async with await everwrite.connect(nodes[0].address) as db:
            carts = db.bucket("carts")
            assert (await carts.get("alice")).quality.absent == "never"
            await carts.put("alice", b"new")
            assert (await carts.get("alice")).values == [b"new"]

    async with Nodes(tmp_path) as cluster:
        again = await cluster.start("n1")
        assert again.node.local.floors


@in_loop
async def test_each_node_names_those_that_it_sees_to_and_one_whose_key_is_damaged(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES)
        first = nodes[0].node.collect
        damaged = next(key for n in range(256) if first.leads(key := bytes((n,)) + bytes(7)))
        nodes[0].driver.disk.store.write([(TOMBSTONES + damaged, b"\0" * 8)])
        keys = [f"k{number}" for number in range(40)]
        async with await everwrite.connect(nodes[0].address) as db:
            carts = db.bucket("carts")
            for key in keys:
                put = await carts.put(key, b"v", w=3)
                await carts.delete(key, context=put.context, w=3)

        told = [row for name in NAMES for row in (await told_by(cluster, name, limit=41))["rows"]]
        assert sorted(row["key"] for row in told if row["bucket"] == "carts") == sorted(keys)
        assert [row["bucket"] for row in told if row["bucket"] != "carts"] == ["?"]
        few = await told_by(cluster, NAMES[0], limit=3)
        assert len(few["rows"]) == 3


@in_loop
async def test_who_is_down_is_named_by_what_waits_for_it(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES)
        await deleted(nodes)
        running = dict(zip(NAMES, nodes, strict=True))
        (leader,) = [name for name in NAMES if running[name].node.collect.leads(KEY)]
        away = next(name for name in NAMES if name != leader)
        await cluster.stop(away)

        async def named() -> bool:
            answer = await told_by(cluster, leader, collect=True)
            whys = [row["why"] for row in answer["rows"]]
            return bool(answer["down"] == away and whys == [f"{away} is down"])

        await eventually(named, "the leader says who is down")

"""What an old disk may bring back once tombstones were collected without it: nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, end, eventually, rule
from tests.server.test_collecting import NAMES, copies, hurry

import everwrite
from everwrite.core.errors import Fenced
from everwrite.core.messages.members import REMOVED
from everwrite.core.records import FLOORS, OWN
from everwrite.core.tombstones.confirm import Floors, encode_floors
from everwrite.server.rejoin import ASIDE
from everwrite.server.runtime import Runtime
from everwrite.storage.store import open_store


async def put(nodes: list[Runtime]) -> None:
    async with await everwrite.connect(nodes[0].address) as db:
        await db.bucket("carts").put("alice", b"old", w=3)


async def collected(nodes: list[Runtime]) -> None:
    """Delete the key, and return when nothing of it is left on these nodes."""
    async with await everwrite.connect(nodes[0].address) as db:
        carts = db.bucket("carts")
        await carts.delete("alice", context=(await carts.get("alice")).context)
    hurry(nodes)

    async def gone() -> bool:
        return copies(nodes) == 0

    await eventually(gone, "the tombstone is collected")


@in_loop
async def test_a_disk_that_was_put_back_is_refused_once_a_tombstone_went(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES)
        await put(nodes)
        shutil.copytree(tmp_path / "n3", tmp_path / "backup")  # while it runs: a snapshot
        await collected(nodes)
        await cluster.stop("n3")
        shutil.rmtree(tmp_path / "n3")
        shutil.copytree(tmp_path / "backup", tmp_path / "n3")

        back = await cluster.start("n3", join=(nodes[0].address,))

        error = await end(back)
        assert isinstance(error, Fenced)
        assert "a backup or a snapshot was put back" in error.message
        await cluster.stop("n3")
        async with await everwrite.connect(nodes[0].address) as db:
            assert (await db.bucket("carts").get("alice")).values == []


@pytest.mark.parametrize("heard", [0, 9], ids=["", "and had heard of one that came to nothing"])
@in_loop
async def test_a_removed_directory_offers_nothing_once_a_tombstone_went(
    tmp_path: Path, heard: int
) -> None:
    async with Nodes(tmp_path) as cluster:
        nodes = await cluster.grow(*NAMES, "n4")
        await put(nodes)
        away = next(
            name
            for name in NAMES[1:]
            if cluster.running[name].driver.disk.store.get(OWN + KEY) is not None
        )
        gone = cluster.running[away].node.local.members.me
        await cluster.stop(away)
        with open_store(tmp_path / away, "sqlite") as store:
            store.write([(FLOORS, encode_floors(Floors(heard, {})))])
        rule(nodes[0], gone, REMOVED)
        await cluster.settled()
        left = list(cluster.running.values())
        await collected(left)

        back = await cluster.start(away, name="", join=(nodes[0].address,), rejoin_as_new=True)
        cluster.running[back.node.local.members.me.name] = cluster.running.pop(away)
        await cluster.met()
        await cluster.settled()

        assert copies([*left, back]) == 0
        assert back.driver.disk.store.get(ASIDE + OWN + KEY) is not None
        async with await everwrite.connect(cluster.url()) as db:
            assert (await db.bucket("carts").get("alice", r=3)).values == []

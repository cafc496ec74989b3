"""The tree of real nodes: made anew after kill -9 under load, taken over from a clean stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.process.clusters import all_hints_home, cluster, connect, eventually, in_loop
from tests.process.load import Load

from everwrite.cli.devcluster import DevCluster
from everwrite.server.trees import TREES
from everwrite.storage.store import open_store

pytestmark = pytest.mark.process


async def whole(made: DevCluster, number: int) -> int:
    """Return how many leaves a node has made anew, once its tree is whole."""
    made_anew = -1

    async def is_whole() -> bool:
        nonlocal made_anew
        status = await made.status(number)
        if status is None or status.disk.leaves_wrong:
            return False
        made_anew = status.disk.leaves_made
        return True

    await eventually(is_whole, f"the tree of n{number} is whole")
    return made_anew


async def stop(made: DevCluster, number: int, *, spoil: bool = False) -> bytes:
    """Stop a node in good order and return the tree that it leaves; ``spoil`` takes it away."""
    await asyncio.to_thread(made.stop, number)
    with open_store(made.directory / f"node{number}") as store:
        saved = store.get(TREES)
        assert isinstance(saved, bytes)
        if spoil:
            store.write([(TREES, None)])
    return saved


@in_loop
async def test_a_tree_kept_through_kills_and_load_is_what_a_rebuild_makes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        async with await connect(made) as db, Load(db) as load:
            await load.more(1000)
            made.kill(2)
            await load.more(1000)
            await made.restart(2)
            await load.more(2000)
        await all_hints_home(made)
        assert await whole(made, 2) > 0, "there was no tree after the kill"
        await stop(made, 2)

        await made.restart(2)
        assert await whole(made, 2) == 0, "the tree was there after the clean stop"
        kept = await stop(made, 2, spoil=True)
        await made.restart(2)
        assert await whole(made, 2) > 0
        anew = await stop(made, 2)
        assert anew == kept

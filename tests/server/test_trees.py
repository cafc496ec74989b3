"""What tree and quarantine take from one run of a node to the next, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, Raw, a_put, eventually

from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import OWN
from everwrite.core.trees.quarantine import SPOILT
from everwrite.server.runtime import Runtime
from everwrite.server.trees import TREES
from everwrite.storage.engine import Engine
from everwrite.storage.store import open_store


async def put(runtime: Runtime, *keys: bytes) -> None:
    async with await Raw.enter(runtime) as raw:
        for number, key in enumerate(keys, 1):
            answer = await raw.call(a_put(key=key, rid=number, op=b"op%d" % number))
            assert type(answer) is PutReply


def leaves(runtime: Runtime) -> list[int]:
    trees = runtime.node.local.trees
    return [trees.leaf(leaf) for leaf in range(trees.size)]


def change(directory: Path, change: Any) -> None:
    """Do something to a stopped node's engine, behind its back."""
    with open_store(directory, "sqlite") as store:
        engine: Engine = store.engine
        change(engine)


async def whole(runtime: Runtime) -> None:
    async def is_whole() -> bool:
        return not runtime.node.local.trees.any_wrong

    await eventually(is_whole, "the tree is whole")


KEYS = [data_key(b"carts", b"%d" % number) for number in range(20)]


@in_loop
async def test_a_clean_restart_takes_the_tree_and_reads_no_copy(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        first = await nodes.start("n1")
        await put(first, *KEYS)
        before = leaves(first)
        assert any(before)
        await nodes.stop("n1")

        again = await nodes.start("n1")
        assert not again.node.local.trees.any_wrong
        assert leaves(again) == before
        assert again.node.walk.keys == 0


@pytest.mark.scenario(58)
@in_loop
async def test_what_a_stop_has_left_is_off_the_disk_once_the_node_runs(tmp_path: Path) -> None:
    """So a crash of the next run cannot bring an old tree back."""
    async with Nodes(tmp_path) as nodes:
        first = await nodes.start("n1")
        await put(first, KEY)
        await nodes.stop("n1")

        again = await nodes.start("n1")
        assert again.driver.disk.store.get(TREES) is None


@pytest.mark.scenario(58)
@in_loop
async def test_without_a_tree_it_is_made_anew_while_the_node_serves(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        first = await nodes.start("n1")
        await put(first, *KEYS)
        before = leaves(first)
        await nodes.stop("n1")
        change(tmp_path / "n1", lambda engine: engine.write([(TREES, None)]))

        again = await nodes.start("n1")
        await whole(again)
        assert leaves(again) == before
        assert again.node.walk.keys == len(KEYS)


@pytest.mark.scenario(58)
@in_loop
async def test_a_damaged_tree_is_made_anew(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        first = await nodes.start("n1")
        await put(first, *KEYS)
        before = leaves(first)
        await nodes.stop("n1")

        def spoil(engine: Engine) -> None:
            sealed = engine.get(TREES)
            assert sealed is not None
            engine.write([(TREES, sealed[:-1] + bytes((sealed[-1] ^ 1,)))])

        change(tmp_path / "n1", spoil)
        again = await nodes.start("n1")
        await whole(again)
        assert leaves(again) == before


@in_loop
async def test_a_damaged_copy_is_found_listed_and_outlives_a_restart_on_the_list(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        first = await nodes.start("n1")
        await put(first, *KEYS)
        await nodes.stop("n1")

        def spoil(engine: Engine) -> None:
            sealed = engine.get(OWN + KEYS[3])
            assert sealed is not None
            engine.write([(TREES, None), (OWN + KEYS[3], sealed[:-1] + b"?")])

        change(tmp_path / "n1", spoil)
        again = await nodes.start("n1")
        await whole(again)
        async with await Raw.enter(again) as raw:
            told = await raw.ask("status")
        assert told["disk"]["damaged"] == 1
        (named,) = told["disk"]["damaged_keys"]
        assert (named["bucket"], named["key"]) == ("carts", "3")
        assert again.driver.disk.store.get(SPOILT + KEYS[3])
        await nodes.stop("n1")

        last = await nodes.start("n1")
        assert list(last.node.quarantine.since) == [KEYS[3]]


@in_loop
async def test_a_damaged_copy_is_mended_from_the_other_owners(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3")
        first = nodes.running["n1"]
        await put(first, KEY)
        await nodes.stop("n1")

        def spoil(engine: Engine) -> None:
            sealed = engine.get(OWN + KEY)
            assert sealed is not None
            engine.write([(TREES, None), (OWN + KEY, sealed[:-1] + b"?")])

        change(tmp_path / "n1", spoil)
        again = await nodes.start("n1", join=(nodes.running["n2"].address,))

        async def is_mended() -> bool:
            return again.node.quarantine.mended == 1 and not again.node.local.trees.any_wrong

        await eventually(is_mended, "the copy is mended")
        mine, others = (nodes.running[name].driver.disk.store for name in ("n1", "n2"))
        copy, other = mine.get(OWN + KEY), others.get(OWN + KEY)
        assert isinstance(copy, bytes)
        assert isinstance(other, bytes)
        assert copy[8:] == other[8:]

"""A node that is told to stop while an owner is late for a put that was answered: that owner gets
its copy, from a stand-in or from the node itself after its next start.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, PATIENCE_S, Nodes, Raw, a_put, eventually

from everwrite.core.hints.kept import split_hint
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import HINT, OWN
from everwrite.server import handing, runtime
from everwrite.server.runtime import Runtime
from everwrite.storage.store import open_store


def hinted_for(directory: Path) -> set[bytes]:
    """Return for whom a stopped node's directory has a copy of the key."""
    with open_store(directory, "sqlite") as store:
        payload = store.get(HINT + KEY)
    return set(split_hint(payload)[1]) if isinstance(payload, bytes) else set()


async def order_of(nodes: Nodes) -> list[Runtime]:
    """Return all nodes as the key prefers them."""
    by_id = {runtime.node.local.me: runtime for runtime in nodes.running.values()}
    first = next(iter(by_id.values())).node.local.routes.placement
    return [by_id[node] for node in first.preference[first.partition_of(KEY)]]


async def answered_with_one_late(nodes: Nodes, *deaf: int) -> list[Runtime]:
    """Put with w=2 at the first owner, while these of the order hear nothing of it."""
    order = await order_of(nodes)
    coordinator = order[0]
    for place in deaf:
        order[place].driver.deaf_to |= {coordinator.node.local.me}
    async with await Raw.enter(coordinator) as raw:
        assert isinstance(await raw.call(a_put(b"v", KEY, w=2)), PutReply)
    assert coordinator.node.owes
    return order


def name(runtime: Runtime) -> str:
    return runtime.node.local.members.me.name


@in_loop
async def test_with_nobody_to_stand_in_the_hint_is_on_the_disk_when_the_node_is_gone(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3")
        first, _, late = await answered_with_one_late(nodes, 2)

        await nodes.stop(name(first))

        assert hinted_for(tmp_path / name(first)) == {late.node.local.me}
        late.driver.deaf_to.clear()
        others = tuple(each.address for each in nodes.running.values())
        await nodes.start(name(first), join=others)

        async def home() -> bool:
            return late.driver.disk.store.get(OWN + KEY) is not None

        await eventually(home, "the late owner gets its copy")


@in_loop
async def test_a_stand_in_takes_the_hint_before_the_node_is_gone(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3", "n4")
        first, _, late, spare = await answered_with_one_late(nodes, 2)

        await nodes.stop(name(first))

        payload = spare.driver.disk.store.get(HINT + KEY)
        assert isinstance(payload, bytes)
        assert set(split_hint(payload)[1]) == {late.node.local.me}
        assert hinted_for(tmp_path / name(first)) == set()


@in_loop
async def test_where_the_stand_in_is_silent_too_the_node_waits_a_while_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "HAND_ON_S", 0.1)
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3", "n4")
        first, _, late, _ = await answered_with_one_late(nodes, 2, 3)

        await nodes.stop(name(first))

        assert hinted_for(tmp_path / name(first)) == {late.node.local.me}


@in_loop
async def test_a_node_that_owes_nothing_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("HAND_ON_S", "KEEP_S"):
        monkeypatch.setattr(handing, limit, 1e9)
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2", "n3")

        await nodes.stop("n1")
        await nodes.stop("n2")


@in_loop
async def test_an_fsync_that_a_client_waits_for_is_over_before_its_line_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "HAND_ON_S", PATIENCE_S)
    async with Nodes(tmp_path) as nodes:
        node = await nodes.start("n1")
        store = node.driver.disk.store
        sync, begun, may_end = store.sync, threading.Event(), threading.Event()

        def slow() -> None:
            begun.set()
            may_end.wait(PATIENCE_S)
            sync()

        monkeypatch.setattr(store, "sync", slow)
        async with await Raw.enter(node) as raw:
            raw.send(a_put(w=1, dw=1))

            async def syncs() -> bool:
                return begun.is_set()

            await eventually(syncs, "the put is written, and is fsynced")
            assert not node.driver.rests
            stopping = asyncio.ensure_future(nodes.stop("n1"))

            async def told() -> bool:
                return node.node.local.stopping

            await eventually(told, "the node is told to stop")
            may_end.set()

            assert isinstance(await raw.next(), PutReply)
            await stopping


@in_loop
async def test_what_fails_on_the_way_to_the_end_leaves_no_disk_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> None:
        raise RuntimeError("on purpose")

    async with Nodes(tmp_path) as nodes:
        node = await nodes.start("n1")
        monkeypatch.setattr(runtime, "hand_on", fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            await nodes.stop("n1")
        monkeypatch.undo()

        again = await nodes.start("n1")
        assert again.node.local.me == node.node.local.me


@in_loop
async def test_that_something_is_done_is_seen_with_the_tick_that_does_it(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        driver = (await nodes.start("n1")).driver
        done: list[bool] = []
        waiting = asyncio.ensure_future(handing._until(driver, lambda: bool(done), 60))
        await asyncio.sleep(0)

        done.append(True)
        driver.soon()
        for _ in range(4):  # the tick, then whoever waits for it, and their waiter: no timer
            await asyncio.sleep(0)

        assert waiting.done() and waiting.result()
        assert driver.ticked is None
        assert not await handing._until(driver, lambda: False, 0.01)

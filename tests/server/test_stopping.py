"""A node that is told to stop while an owner is late for a put that was answered: that owner gets
its copy, from a stand-in or from the node itself after its next start.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, Raw, a_put, eventually

from everwrite.core.hints.kept import split_hint
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import HINT, OWN
from everwrite.server import handing
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

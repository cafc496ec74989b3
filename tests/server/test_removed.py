"""Members that are no more: removed nodes are told so and stop, and leavers end well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    PATIENCE_S,
    Nodes,
    Raw,
    a_put,
    copies,
    end,
    errors,
    eventually,
    rule,
)

from everwrite.core.cluster.members import decode_known
from everwrite.core.errors import Fenced
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import LEAVING, REMOVED, News
from everwrite.core.messages.requests import PutReply
from everwrite.server import peers
from everwrite.server.runtime import Runtime


@pytest.mark.scenario(67)
@in_loop
async def test_a_removed_node_that_comes_back_is_refused_and_told_so_and_keeps_its_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, two, three = await nodes.grow("n1", "n2", "n3")
        async with await Raw.enter(three) as raw:
            assert isinstance(await raw.call(a_put(w=3)), PutReply)
        gone = three.node.local.members.me
        await nodes.stop("n3")
        before = copies(tmp_path / "n3")
        rule(one, gone, REMOVED)
        await known_to(two, gone.node_id)

        error = await end(await nodes.start("n3", join=(one.address,)))
        await nodes.stop("n3")

        assert isinstance(error, Fenced)
        assert f"Node 'n3' ({gone.node_id.hex()}) was removed from its cluster" in error.message
        assert "Nothing of its data was touched" in error.message
        assert "everwrite serve --rejoin-as-new" in error.hint
        assert "was removed from its cluster for good" in errors(caplog)
        assert before
        assert copies(tmp_path / "n3") == before
        with pytest.raises(Fenced, match="was removed from its cluster for good"):
            await nodes.start("n3")
        assert gone.node_id not in two.node.local.members


@in_loop
async def test_a_removed_node_is_refused_by_whom_it_dials_and_by_who_dials_it(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")
        gone = two.node.local.members.me
        await nodes.stop("n2")
        rule(one, gone, REMOVED)

        async def kept() -> bool:
            data = one.driver.disk.store.get(MEMBERS)
            assert isinstance(data, bytes)
            return any(each.standing == REMOVED for each in decode_known(data).rulings)

        await eventually(kept, "the removal is on the disk")
        await nodes.stop("n1")

        back = await nodes.start("n2", port=gone.port)  # it dials where n1 was
        await nodes.start("n1", join=(f"127.0.0.1:{gone.port}",))

        assert isinstance(await end(back), Fenced)


@in_loop
async def test_a_running_node_that_hears_that_it_was_removed_stops(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")

        rule(one, two.node.local.members.me, REMOVED)
        error = await end(two)

        assert isinstance(error, Fenced)
        assert "was removed from its cluster for good" in error.message
        assert not two.left.done()
        assert not one.failed.done()


@in_loop
async def test_a_removed_node_that_hears_no_gossip_is_told_when_its_lines_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "LOOK_EVERY_S", 0.1)
    async with Nodes() as nodes:
        one, two = await nodes.grow("n1", "n2")
        monkeypatch.setattr(two.node.rounds, "_took", lambda *_: None)
        two.node._from_nodes[News] = lambda *_: None

        rule(one, two.node.local.members.me, REMOVED)

        assert isinstance(await end(two), Fenced)


@in_loop
async def test_a_node_that_left_in_good_order_ends_without_an_error(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")
        async with await Raw.enter(two) as raw:
            assert isinstance(await raw.call(a_put(w=1)), PutReply)

        rule(one, two.node.local.members.me, LEAVING)
        async with asyncio.timeout(2 * PATIENCE_S):
            await two.left

        assert not two.failed.done()
        assert not one.failed.done()
        await nodes.stop("n2")
        assert copies(tmp_path / "n2") == []
        with pytest.raises(Fenced, match="has left its cluster"):
            await nodes.start("n2")


@in_loop
async def test_a_node_that_has_left_ends_well_even_if_it_is_told_that_it_is_out() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        node.node.rounds.left = True

        node.driver.fatal(Fenced("You are out."))

        assert node.left.done()
        assert not node.failed.done()


async def known_to(node: Runtime, removed: bytes) -> None:
    """Return when a node has heard that another was removed."""

    async def heard() -> bool:
        return node.node.local.members.removed(removed)

    await eventually(heard, "the removal is heard of")

"""A directory whose node was removed comes back under a new identity, and nothing on it is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, Raw, a_put, copies, end, eventually, rule

import everwrite
from everwrite.core.errors import ConfigError, DeniedError, Fenced
from everwrite.core.messages.members import REMOVED, Member
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import OWN
from everwrite.server.runtime import Runtime


async def removed(nodes: Nodes, directory: Path) -> tuple[Runtime, Member]:
    """Let n3 of three nodes take a write that nobody else has, and remove it while it is away;
    return one of the others and what n3 was.
    """
    one, two, three = await nodes.grow("n1", "n2", "n3")
    async with await everwrite.connect(three.address) as db:
        await db.ask("partition", {"from": ["n1", "n2"]}, node="n3")
    async with await Raw.enter(three) as raw:
        assert isinstance(await raw.call(a_put(b'["only here"]', w=1)), PutReply)
    gone = three.node.local.members.me
    await nodes.stop("n3")
    assert [key for key, _ in copies(directory / "n3")] == [OWN + KEY]
    rule(one, gone, REMOVED)

    async def heard() -> bool:
        return two.node.local.members.removed(gone.node_id)

    await eventually(heard, "the removal is heard of")
    return one, gone


@pytest.mark.scenario(67)
@in_loop
async def test_what_only_a_removed_node_had_goes_to_its_owners(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await removed(nodes, tmp_path)
        await nodes.grow("n4")

        weight = {"weight": 1e-9}  # too little to own anything, whatever the ids are
        back = await nodes.start("n3", name="n5", join=(one.address,), rejoin_as_new=True, **weight)
        nodes.running["n5"] = nodes.running.pop("n3")
        await nodes.met()
        await nodes.settled()

        assert back.node.local.routes.owned == 0
        for name in ("n1", "n2", "n4"):
            assert nodes.running[name].driver.disk.store.get(OWN + KEY) is not None
        await nodes.stop("n5")
        assert copies(tmp_path / "n3") == []


@pytest.mark.scenario(67)
@in_loop
async def test_a_removed_node_comes_back_as_a_new_one_with_what_only_it_had(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, gone = await removed(nodes, tmp_path)
        assert isinstance(await end(await nodes.start("n3", join=(one.address,))), Fenced)
        await nodes.stop("n3")

        back = await nodes.start("n3", name="", join=(one.address,), rejoin_as_new=True)

        me = back.node.local.members.me
        assert me.node_id != gone.node_id
        assert me.name == f"n3-{me.node_id.hex()[:6]}"
        assert (me.incarnation, me.zone, me.weight) == (1, me.name, 1.0)
        assert json.loads((tmp_path / "n3" / "everwrite.json").read_text())["node_id"] == (
            me.node_id.hex()
        )
        nodes.running[me.name] = nodes.running.pop("n3")
        await nodes.met()
        await nodes.settled()
        async with await everwrite.connect(nodes.url()) as db:
            assert (await db.bucket("carts").get("alice", r=3)).value == b'["only here"]'

            async def repaired() -> bool:
                return len({copy.record for copy in await db.replicas("carts", "alice")}) == 1

            await eventually(repaired, "the read has mended the other copies")
        assert gone.node_id not in one.node.local.members


@in_loop
async def test_until_they_have_met_the_cluster_the_copies_count_nowhere_and_stay_as_they_were(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await removed(nodes, tmp_path)
        before = copies(tmp_path / "n3")

        back = await nodes.start("n3", name="", join=(one.address,), rejoin_as_new=True)

        local = back.node.local
        assert local.serves == 0
        assert local.keeps == 1 << local.routes.placement.partition_of(KEY)
        assert not back.node.ready
        store = back.driver.disk.store
        assert [(OWN + KEY, store.get(OWN + KEY))] == before


@in_loop
async def test_the_option_may_stay_where_a_supervisor_starts_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await removed(nodes, tmp_path)
        options = {"name": "", "join": (one.address,), "rejoin_as_new": True}
        first = await nodes.start("n3", **options)
        me = first.node.local.members.me
        await nodes.stop("n3")

        again = await nodes.start("n3", **options)

        assert again.node.local.me == me.node_id
        assert again.node.local.members.me.incarnation == 2
        assert "--rejoin-as-new is left aside" in caplog.text


@in_loop
async def test_a_node_that_was_removed_again_rejoins_again(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await removed(nodes, tmp_path)
        options = {"name": "", "join": (one.address,), "rejoin_as_new": True}
        first = await nodes.start("n3", **options)
        rule(one, first.node.local.members.me, REMOVED)
        await end(first)
        await nodes.stop("n3")

        second = await nodes.start("n3", **options)

        assert second.node.local.me != first.node.local.me
        assert second.node.local.members.me.incarnation == 1


@in_loop
async def test_a_node_that_nobody_removed_may_rejoin_and_hears_what_becomes_of_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await nodes.grow("n1", "n2")
        await nodes.stop("n2")

        back = await nodes.start("n2", name="n2b", join=(one.address,), rejoin_as_new=True)

        assert back.node.local.members.me.name == "n2b"
        assert "stays a member until `everwrite plan remove n2`" in caplog.text


@in_loop
async def test_a_name_that_a_member_has_is_refused_and_the_directory_is_as_it_was(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")
        me = two.node.local.me
        await nodes.stop("n2")

        with pytest.raises(DeniedError, match="There is a node named 'n2' already"):
            await nodes.start("n2", join=(one.address,), rejoin_as_new=True)

        again = await nodes.start("n2", join=(one.address,))
        assert again.node.local.me == me


@in_loop
async def test_a_directory_of_another_cluster_is_refused_and_is_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its copies and hints would be another cluster's."""
    async with Nodes(tmp_path / "ours") as ours, Nodes(tmp_path / "theirs") as theirs:
        (one,) = await ours.grow("n1")
        (other,) = await theirs.grow("n2")
        me = other.node.local.me
        await theirs.stop("n2")

        with pytest.raises(DeniedError, match="belongs to cluster") as caught:
            await theirs.start("n2", name="", join=(one.address,), rejoin_as_new=True)

        assert caught.value.hint.endswith("Nothing was changed.")
        assert caught.value.hint.count("Nothing was changed.") == 1
        assert "everwrite plan remove" not in caplog.text, "it would remove a healthy member"

        again = await theirs.start("n2")
        assert again.node.local.me == me


@in_loop
async def test_a_new_directory_has_nobody_who_could_rejoin(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (one,) = await nodes.grow("n1")

        with pytest.raises(ConfigError, match="no node in this data directory") as caught:
            await nodes.start("n2", join=(one.address,), rejoin_as_new=True)

        assert "Leave out --rejoin-as-new" in caught.value.hint

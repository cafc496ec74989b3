"""What a node tells clients of its members, and people of who owns and serves what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes, Raw

from everwrite.client.view import View, parse_view
from everwrite.core.cluster.holdings import all_bits
from everwrite.core.data.keys import data_key
from everwrite.core.errors import UnavailableError
from everwrite.core.messages.members import IN, LEAVING, News, Ruling
from everwrite.server import ring
from everwrite.server.admin import Admin
from everwrite.server.runtime import Runtime

KEY = {"bucket": "things", "key": "k"}


def told(node: Runtime) -> View:
    """Return a node's view as a client reads it."""
    return parse_view(msgspec.json.encode(Admin(node).view({})))


def owners_of_key(node: Runtime) -> tuple[int, tuple[bytes, ...]]:
    placement = node.node.local.routes.placement
    partition = placement.partition_of(data_key(b"things", b"k"))
    return partition, placement.owners(partition)


def serve(node: Runtime, partition: int, serving: list[bytes]) -> None:
    """Let a node believe that just these serve a partition, until it hears of its members again."""
    local = node.node.local
    count = local.cluster.partitions
    placement = local.routes.placement
    serves = {
        member.node_id: all_bits(
            other
            for other in range(count)
            if (
                member.node_id in serving
                if other == partition
                else member.node_id in placement.owners(other)
            )
        )
        for member in local.members
    }
    local.serves = serves[local.me]
    local.routes.hold(serves)


async def ring_of(node: Runtime) -> dict[str, Any]:
    async with await Raw.enter(node) as raw:
        return await raw.ask("ring")


def roles(node: Runtime) -> list[tuple[str, str, str | None]]:
    found = Admin(node).locate(KEY)
    return [(row["name"], row["role"], row["serves_for"]) for row in found["preference"]]


@in_loop
async def test_a_view_at_rest_moves_nothing_and_its_placement_is_the_nodes() -> None:
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3")

        view = told(first)

        assert view.digest == first.node.local.routes.placement.digest
        assert {node.name for node in view.nodes.values()} == {"n1", "n2", "n3"}
        assert not view.moving
        assert view.stamp >= 1


@in_loop
async def test_a_view_names_who_serves_where_that_is_not_just_the_owners() -> None:
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3", "n4")
        partition, (one, two, three) = owners_of_key(first)
        (other,) = {member.node_id for member in first.node.local.members} - {one, two, three}

        serve(first, partition, [one, three, other])
        moving = told(first).moving
        serve(first, partition, [one, three])
        short = Admin(first)._make_view()["moving"]

        assert moving == {partition: (one, other, three)}
        assert short == {str(partition): [one.hex(), three.hex()]}


@in_loop
async def test_zone_and_weight_of_a_candidate_are_those_it_is_ruled_to_have() -> None:
    async with Nodes() as nodes:
        first, second = await nodes.grow("n1", "n2")
        me = second.node.local.members.me
        ruling = Ruling(me.node_id, me.name, IN, "rack 7", 2.5, 99, b"plan")
        first.node.rounds.publish(News([], [ruling]))

        view = Admin(first).view({})

        ruled = {node["id"]: (node["zone"], node["weight"]) for node in view["candidates"]}
        assert ruled[me.node_id.hex()] == ("rack 7", 2.5)
        assert view["stamp"] == 99
        assert told(first).digest == first.node.local.routes.placement.digest


@in_loop
async def test_a_leaving_node_is_no_candidate_and_keeps_its_address() -> None:
    async with Nodes() as nodes:
        first, second = await nodes.grow("n1", "n2")
        me = second.node.local.members.me
        ruling = Ruling(me.node_id, me.name, LEAVING, "", 1.0, 99, b"plan")
        first.node.rounds.publish(News([], [ruling]))

        view = told(first)

        assert [node.node_id for node in view.placement.candidates] == [first.node.local.me]
        assert view.nodes[me.node_id].port == me.port


@in_loop
async def test_a_node_that_is_ruled_in_before_it_is_heard_of_breaks_no_answer() -> None:
    async with Nodes() as nodes:
        first = await nodes.start("n1")
        unheard = Ruling(b"unheard!", "n9", IN, "rack", 1.0, 99, b"plan")
        first.node.rounds.publish(News([], [unheard]))

        view, ring = told(first), await ring_of(first)

        assert view.digest == first.node.local.routes.placement.digest
        assert b"unheard!" not in view.nodes
        assert {node["name"]: node["to_gain"] for node in ring["nodes"]}["n9"] == 16
        assert ("n9", "filling", None) in roles(first)


@in_loop
async def test_who_knows_the_view_is_told_that_it_is_the_same_until_something_changes() -> None:
    async with Nodes() as nodes:
        first, second = await nodes.grow("n1", "n2")
        admin = Admin(first)
        version = admin.view({})["version"]

        assert admin.view({"known": version}) == {"same": version}
        assert Admin(second).view({"known": version}) == {"same": version}
        assert "members" in admin.view({"known": "another"})

        me = second.node.local.members.me
        ruling = Ruling(me.node_id, me.name, IN, "rack 7", 2.5, 99, b"plan")
        first.node.rounds.publish(News([], [ruling]))
        assert admin.view({"known": version})["version"] != version


@in_loop
async def test_a_node_that_does_not_know_its_cluster_tells_no_view() -> None:
    async with Nodes() as nodes:
        first = await nodes.start("n1")
        first.node.ready = False

        with pytest.raises(UnavailableError, match="does not know its cluster yet"):
            Admin(first).view({})


# -- locate and ring -------------------------------------------------------------------------------


@in_loop
async def test_locate_names_owners_and_fallbacks_at_rest() -> None:
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3", "n4")

        found = Admin(first).locate(KEY)["preference"]

        assert [row["role"] for row in found] == ["owner"] * 3 + ["fallback"]
        assert [row["keeps"] for row in found] == [True] * 3 + [False]
        assert {row["serves_for"] for row in found} == {None}


@in_loop
async def test_locate_names_an_owner_that_is_filling_and_who_serves_for_it() -> None:
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3", "n4")
        name = {member.node_id: member.name for member in first.node.local.members}
        partition, (one, two, three) = owners_of_key(first)
        (other,) = set(name) - {one, two, three}

        serve(first, partition, [one, three, other])

        assert roles(first) == [
            (name[one], "owner", None),
            (name[two], "filling", None),
            (name[other], "serves", name[two]),
            (name[three], "owner", None),
        ]


@in_loop
async def test_a_ring_counts_what_each_node_serves_and_is_to_gain() -> None:
    async with Nodes() as nodes:
        await nodes.grow("n1", "n2", "n3")
        await nodes.grow("n4")
        ring = await ring_of(nodes.running["n1"])

        counted = [(node["owned"], node["serves"], node["to_gain"]) for node in ring["nodes"]]
        assert all(owned == serves and not to_gain for owned, serves, to_gain in counted)
        assert sum(owned for owned, _, _ in counted) == 3 * ring["partitions"]


@in_loop
async def test_a_ring_is_told_in_slices_once_for_all_who_ask_and_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring, "SLICE_NS", 0)
    monkeypatch.setattr(ring, "ROWS_AT_ONCE", 1)
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3")
        turns = count_turns(monkeypatch)

        answers = await asyncio.gather(*(ring_of(first) for _ in range(3)))

        placement = first.node.local.routes.placement
        ids = [bytes.fromhex(node["id"]) for node in answers[0]["nodes"]]
        told = [[ids[at] for at in row] for row in answers[0]["preference"]]
        assert told == [list(row) for row in placement.preference]
        assert answers[1:] == answers[:1] * 2
        assert placement.partitions <= len(turns) <= placement.partitions + 4, "16, not 48"
        turns.clear()
        assert await ring_of(first) == answers[0]
        assert len(turns) == 1


@in_loop
async def test_a_ring_that_changes_while_it_is_told_is_told_as_it_is_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring, "SLICE_NS", 0)
    monkeypatch.setattr(ring, "ROWS_AT_ONCE", 1)
    async with Nodes() as nodes:
        first, *_ = await nodes.grow("n1", "n2", "n3")
        old = first.node.local.routes.placement.digest.hex()

        def change(turns: int) -> None:
            if turns == 5:
                unheard = Ruling(b"unheard!", "n9", IN, "rack", 1.0, 99, b"plan")
                first.node.rounds.publish(News([], [unheard]))

        count_turns(monkeypatch, change)
        new = await ring_of(first)

        placement = first.node.local.routes.placement
        assert new["view"] == placement.digest.hex() != old
        assert [len(row) for row in new["preference"]] == [4] * placement.partitions


def count_turns(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None] = lambda turns: None
) -> list[None]:
    """Return a list that grows by one for each slice in which a ring is told."""
    turns: list[None] = []
    go_on = ring.Ring._go_on

    def counted(self: ring.Ring) -> None:
        turns.append(None)
        at(len(turns))
        go_on(self)

    monkeypatch.setattr(ring.Ring, "_go_on", counted)
    return turns

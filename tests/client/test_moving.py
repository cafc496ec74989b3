"""A client while partitions move: whom it asks, when it leaves a read to a node, how often it asks
for the view.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.client.fake_node import HASTY, STOIC, FakeCluster, FakeNode, in_loop, refreshed, until

import everwrite
from everwrite.client.view import parse_view
from everwrite.core.data.versions import encode
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import FOUND, NOT_HERE, Ask, Fetch, FetchReply, Get, Put, Told


def partition_of(cluster: FakeCluster, key: str = "k") -> int:
    return cluster.placement.partition_of(cluster.data_key(key))


def a_move(cluster: FakeCluster, key: str = "k") -> tuple[FakeNode, list[FakeNode]]:
    """Let the last node leave, and serve a key for its first owner; return that owner, and who
    serves."""
    leaving = cluster.nodes[-1]
    cluster.members, cluster.others = cluster.nodes[:-1], [leaving]
    filling, *there = cluster.owners_of(key)
    serving = [leaving, *there]
    cluster.moving = {partition_of(cluster, key): serving}
    return filling, serving


def copy_to(nodes: list[FakeNode], cluster: FakeCluster, key: str = "k") -> None:
    """Give nodes the copy that an owner has."""
    data = cluster.data_key(key)
    record = next(node.records[data] for node in cluster.nodes if data in node.records)
    for node in nodes:
        node.records[data] = record


def not_here(asked: Any) -> list[AnyMessage] | None:
    return [FetchReply(asked.rid, NOT_HERE, b"")] if isinstance(asked, Fetch) else None


def fetched_by(cluster: FakeCluster) -> set[str]:
    return {node.name for node in cluster.nodes if node.requests(Fetch)}


def count(cluster: FakeCluster, kind: type[AnyMessage]) -> int:
    return sum(len(node.requests(kind)) for node in cluster.nodes)


# -- whom it asks ----------------------------------------------------------------------------------


@in_loop
async def test_reads_ask_only_nodes_that_serve_though_they_are_no_owners() -> None:
    async with FakeCluster(4) as cluster:
        filling, serving = a_move(cluster)
        async with await everwrite.connect(cluster.url, timing=STOIC) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            copy_to(serving, cluster)

            values = [(await things.get("k")).value for _ in range(6)]

        assert values == [b"v"] * 6
        assert fetched_by(cluster) == {node.name for node in serving}
        assert not filling.requests(Fetch)
        assert count(cluster, Get) == 0


@in_loop
async def test_a_put_goes_to_a_node_that_serves_before_an_owner_that_does_not_yet() -> None:
    async with FakeCluster(4) as cluster:
        _, serving = a_move(cluster)
        async with await everwrite.connect(cluster.url, timing=STOIC) as db:
            await db.bucket("things").put("k", b"v")

        assert len(serving[0].requests(Put)) == 1
        assert count(cluster, Put) == 1


@in_loop
async def test_where_fewer_serve_than_there_are_copies_a_node_does_the_read() -> None:
    async with FakeCluster(4) as cluster:
        _, serving = a_move(cluster)
        cluster.moving = {partition_of(cluster): serving[1:]}
        async with await everwrite.connect(cluster.url, timing=STOIC) as db:
            things = db.bucket("things")
            await things.put("k", b"v")

            found = await things.get("k")

        assert found.value == b"v"
        assert count(cluster, Fetch) == 0
        assert count(cluster, Get) == 1


@in_loop
async def test_where_nobody_serves_yet_a_node_does_the_read() -> None:
    async with FakeCluster() as cluster:
        cluster.moving = {partition_of(cluster): []}
        async with await everwrite.connect(cluster.url, timing=STOIC) as db:
            await db.bucket("things").get("k")

        assert count(cluster, Fetch) == 0


@in_loop
async def test_a_leaving_node_that_alone_is_up_hands_requests_on() -> None:
    async with FakeCluster(4) as cluster:
        leaving = cluster.nodes[3]
        cluster.members, cluster.others = cluster.nodes[:3], [leaving]
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            for node in cluster.members:
                await node.kill()
            await until(lambda: db.counters.losses >= 3)

            await db.bucket("things").put("k", b"v")

        assert len(leaving.requests(Put)) == 1


@in_loop
async def test_a_copy_that_counts_for_nothing_is_shown_as_such() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=STOIC) as db:
        await db.bucket("things").put("k", b"v")
        strange = cluster.owners_of("k")[0]
        record = encode(strange.records[cluster.data_key("k")])
        strange.reply = lambda asked: [FetchReply(asked.rid, NOT_HERE, record)]

        first, *others = await db.replicas("things", "k")

        assert (first.node, first.status, first.values) == (strange.name, "not_here", [b"v"])
        assert [copy.status for copy in others] == ["found", "found"]


@in_loop
async def test_copies_are_shown_of_owners_and_of_who_serves_for_them() -> None:
    async with FakeCluster(4) as cluster:
        filling, serving = a_move(cluster)
        filling.reply = not_here
        async with await everwrite.connect(cluster.url, timing=STOIC) as db:
            await db.bucket("things").put("k", b"v")
            copy_to(serving, cluster)

            copies = {copy.node: copy.status for copy in await db.replicas("things", "k")}

        expected = {node.name: "found" for node in serving}
        assert copies == {filling.name: "not_here", **expected}


# -- when its map is old ---------------------------------------------------------------------------


def answering(status: int, record: bytes, *, fallback: bool) -> Callable[[Any], Any]:
    """Return a reply to each Fetch."""

    def reply(asked: Any) -> list[AnyMessage] | None:
        if not isinstance(asked, Fetch):
            return None
        return [FetchReply(asked.rid, status, record, b"", fallback)]

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        answering(NOT_HERE, b"", fallback=False),
        answering(NOT_HERE, b"a copy that counts for nothing", fallback=False),
        answering(FOUND, b"a copy that counts as a stand-in's", fallback=True),
    ],
    ids=["nothing", "an old copy", "a stand-in's copy"],
)
@in_loop
async def test_a_node_that_serves_no_more_makes_the_read_a_nodes_and_the_view_new(
    reply: Callable[[Any], Any],
) -> None:
    async with FakeCluster(4) as cluster:
        filling, serving = a_move(cluster)
        told, cluster.moving = cluster.moving, {}
        filling.reply = reply
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            copy_to(serving, cluster)
            cluster.moving = told

            values = [(await things.get("k")).value for _ in range(3)]
            await refreshed(db, 2)
            gets = count(cluster, Get)
            asked = len(filling.requests(Fetch))
            values += [(await things.get("k")).value for _ in range(6)]

        assert values == [b"v"] * 9
        assert asked == 1  # until the view came, nodes did the reads of the partition
        assert len(filling.requests(Fetch)) == asked
        assert count(cluster, Get) == gets


@in_loop
async def test_during_a_long_move_the_view_is_not_asked_for_at_every_request() -> None:
    timing = msgspec.structs.replace(STOIC, moved_s=0.1, refresh_s=0.01)
    keys = [f"k{number}" for number in range(100)]
    async with FakeCluster() as cluster:
        for node in cluster.nodes:
            node.reply = not_here
        async with await everwrite.connect(cluster.url, timing=timing) as db:
            things = db.bucket("things")
            loop = asyncio.get_running_loop()
            began, reads = loop.time(), 0
            while db.counters.refreshes < 6 or reads < 1000:
                cluster.moving = {reads % 64: cluster.nodes}  # each time another view
                await asyncio.gather(*(things.get(key) for key in keys))
                reads += len(keys)
            took = loop.time() - began
            refreshes, fetches = db.counters.refreshes, count(cluster, Fetch)

        assert refreshes <= 2 + took / timing.moved_s
        # A partition that was asked for in vain is left to the nodes until the view comes.
        assert fetches <= 2 * len(keys) * refreshes


@in_loop
async def test_a_partition_that_was_short_of_nodes_is_read_directly_again_after_the_move() -> None:
    async with FakeCluster(4) as cluster:
        _, serving = a_move(cluster)
        cluster.moving = {partition_of(cluster): serving[1:]}
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            await things.get("k")
            cluster.moving = {}
            assert count(cluster, Fetch) == 0

            await things.get("k")
            await refreshed(db, 2)
            await things.get("k")

        assert count(cluster, Fetch) == 2


@in_loop
async def test_a_doubt_that_the_view_does_not_confirm_ends_with_it() -> None:
    async with FakeCluster() as cluster:
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            first = cluster.owners_of("k")
            for node in first:
                node.reply = not_here
            await things.get("k")
            for node in first:
                node.reply = None
            await refreshed(db, 2)
            fetches = count(cluster, Fetch)

            await things.get("k")

        assert count(cluster, Fetch) == fetches + 2


# -- which view counts -----------------------------------------------------------------------------


def with_old_views(cluster: FakeCluster, old: list[FakeNode]) -> None:
    """Let these nodes tell what the cluster tells now, whatever changes later."""
    answer = cluster.view()

    def reply(asked: Any) -> list[AnyMessage] | None:
        if isinstance(asked, Ask) and asked.verb == "view":
            return [Told(asked.rid, answer)]
        return None

    for node in old:
        node.reply = reply


@in_loop
async def test_a_view_that_is_older_than_ours_is_passed_over() -> None:
    async with FakeCluster(4) as cluster:
        cluster.members = cluster.nodes[:3]
        with_old_views(cluster, cluster.nodes[1:3])
        cluster.members, cluster.stamp = list(cluster.nodes), 2
        first, joined = cluster.nodes[0], cluster.nodes[3]
        url = f"127.0.0.1:{first.port}"
        async with await everwrite.connect(url, timing=HASTY) as db:
            await joined.greeted.get()
            for before in range(1, 4):
                db._cluster.refresh_soon()
                await refreshed(db, before + 1)

            await db.ask("status", node=joined.name)

            assert sum(len(node.requests(Ask)) for node in cluster.nodes[1:3]) == 2
            assert db.counters.losses == 0
            assert joined.greeted.empty()


@in_loop
async def test_an_older_view_that_all_nodes_tell_is_gone_by() -> None:
    async with FakeCluster(3) as cluster:
        cluster.stamp = 9
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            gone = cluster.nodes[2]
            await gone.greeted.get()
            cluster.stamp, cluster.members = 2, cluster.nodes[:2]  # restored from a backup

            while gone.connections:
                db._cluster.refresh_soon()
                await asyncio.sleep(0)
            await db.bucket("things").put("k", b"v")

        assert db.counters.refreshes >= 3


def test_while_partitions_move_the_placement_is_not_computed_anew() -> None:
    cluster = FakeCluster(4)
    before = parse_view(cluster.view())
    cluster.moving = {3: cluster.nodes[:3]}

    after = parse_view(cluster.view(), before)

    assert after.placement is before.placement
    assert after.serving(3) == tuple(node.node_id for node in cluster.nodes[:3])
    assert after.serving(4) == after.placement.owners(4)


def test_the_answer_that_nothing_has_changed_is_the_view_itself() -> None:
    told = {**json.loads(FakeCluster().view()), "version": "abc"}
    before = parse_view(json.dumps(told).encode())

    assert parse_view(b'{"same": "abc"}', before) is before


@pytest.mark.parametrize("answer", [b'{"same": "abc"}', b'{"same": ""}', b'{"same": 5}'])
def test_the_answer_that_nothing_has_changed_is_no_view_for_who_has_another(answer: bytes) -> None:
    before = parse_view(FakeCluster().view())

    with pytest.raises(everwrite.ProtocolError):
        parse_view(answer, before)


@pytest.mark.parametrize("moving", [{"x": []}, {"3": ["zz"]}, {"3": "n1"}, [1], None])
def test_a_map_that_cannot_be_is_a_protocol_error(moving: Any) -> None:
    told = {**json.loads(FakeCluster().view()), "moving": moving}

    with pytest.raises(everwrite.ProtocolError):
        parse_view(json.dumps(told).encode())


def test_a_node_that_is_ruled_in_and_not_heard_of_takes_its_place_all_the_same() -> None:
    told = json.loads(FakeCluster(4).view())
    unheard = told["members"].pop()

    view = parse_view(json.dumps(told).encode())

    assert view.digest
    assert view.name(bytes.fromhex(unheard["id"])) == unheard["id"]
    assert bytes.fromhex(unheard["id"]) not in view.nodes

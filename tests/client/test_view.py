"""The view: members to placement to routes, and how it is kept fresh."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.client.fake_node import HASTY, STALE_VIEW, FakeCluster, FakeNode, Mood, in_loop, until

import everwrite
from everwrite.client.limits import Timing
from everwrite.client.view import parse_view
from everwrite.core.data.keys import data_key
from everwrite.core.errors import ProtocolError
from everwrite.core.messages.requests import (
    Ask,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Quality,
)


def view_of(nodes: int, **changed: Any) -> bytes:
    """Return what a node tells of a cluster of this size, with some of it changed."""
    told = json.loads(FakeCluster(nodes).view())
    return json.dumps({**told, **changed}).encode()


@given(st.binary(max_size=300))
def test_what_is_no_view_is_a_protocol_error(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_view(answer)


@pytest.mark.parametrize(
    "changed",
    [
        {"partitions": 100},
        {"partitions": 0},
        {"partitions": 1 << 17},
        {"replicas": 0},
        {"replicas": "3"},
        {"members": []},
        {"members": [{"id": "zz", "name": "n", "host": "h", "port": 1}]},
        {"members": [{"id": "00" * 8, "name": "n", "host": "h", "port": "x"}]},
        {"candidates": [{"id": "00" * 8, "zone": "", "weight": -1}]},
        {"cluster_id": 5},
    ],
)
def test_a_view_that_cannot_be_is_a_protocol_error(changed: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_view(view_of(3, **changed))


@pytest.mark.parametrize(("nodes", "quorum"), [(1, 1), (2, 2), (3, 2), (5, 2)])
def test_the_default_r_is_a_majority_of_the_copies_there_can_be(nodes: int, quorum: int) -> None:
    assert parse_view(view_of(nodes)).quorum == quorum


def test_fields_of_a_newer_version_are_ignored() -> None:
    assert parse_view(view_of(3, mood="sunny")).digest


def test_a_placement_that_the_nodes_compute_in_another_way_is_not_gone_by() -> None:
    assert parse_view(view_of(3, digest="00" * 8)).digest == b""


@given(key=st.binary(min_size=1, max_size=64))
def test_the_hot_paths_partition_is_the_placements(key: bytes) -> None:
    placement = parse_view(view_of(3)).placement
    data = data_key(b"things", key)

    partition = int.from_bytes(data[:2], "big") >> placement.shift

    assert partition == placement.partition_of(data)


@in_loop
async def test_without_a_common_placement_nodes_do_the_routing() -> None:
    async with FakeCluster() as cluster:
        cluster.digest = "00" * 8
        async with await everwrite.connect(cluster.url) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            found = await things.get("k")

            assert found.value == b"v"
            asked = [ask for node in cluster.nodes for ask in node.requests(Get, Put, Fetch)]
            assert [type(ask) for ask in asked if not ask.view] == [Put, Get] or len(asked) == 2
            assert not any(ask.view for ask in asked)


@in_loop
async def test_a_stale_view_is_refreshed_and_the_read_answered_meanwhile() -> None:
    async with FakeCluster(4) as cluster:
        joined = cluster.nodes[3]
        cluster.members = cluster.nodes[:3]
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            cluster.members = list(cluster.nodes)

            found = await things.get("k")
            await joined.greeted.get()
            await db.ask("status", node=joined.name)  # the client, too, knows that it is connected
            await until(lambda: db.in_flight == 0)
            key = cluster.key_of(joined)
            await things.put(key, b"v")

            assert found.value == b"v"
            assert len(joined.requests(Put)) == 1


@pytest.mark.parametrize("kind", [Put, Get])
@in_loop
async def test_a_node_that_forwarded_says_so_and_the_view_is_refreshed(kind: type) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        things = db.bucket("things")
        for node in cluster.nodes:
            node.reply = stale_answers

        await (things.put("k", b"v") if kind is Put else things.get("k", r=2))

        await until(lambda: db.counters.refreshes == 2)


def stale_answers(asked: Any) -> list[Any] | None:
    if isinstance(asked, Put):
        return [PutReply(asked.rid, b"", 2, 0, 0, 1, 2, True)]
    if isinstance(asked, Get):
        return [GetReply(asked.rid, [], b"", Quality(2, 0, 2, "never"), True)]
    return None


@in_loop
async def test_many_stale_answers_ask_for_the_members_once() -> None:
    timing = replace(HASTY, refresh_s=0.5)  # by then all answers have come, however slowly
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=timing) as db:
        for node in cluster.nodes:
            node.reply = lambda asked: (
                [FetchReply(asked.rid, STALE_VIEW, b"")] if isinstance(asked, Fetch) else None
            )

        await asyncio.gather(*(db.bucket("things").get(f"k{i}") for i in range(50)))

        await until(lambda: db.counters.refreshes > 1)
        for _ in range(10):
            await db.ask("status")

        assert db.counters.refreshes == 2


@in_loop
async def test_a_member_that_left_is_hung_up_on() -> None:
    async with FakeCluster(4) as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        left = cluster.nodes[3]
        await left.greeted.get()
        cluster.members = cluster.nodes[:3]

        await db.bucket("things").get("k")
        await until(lambda: not left.connections)

        await db.bucket("things").put(cluster.key_of(cluster.nodes[0]), b"v")
        assert not left.requests(Put)


@in_loop
async def test_a_member_that_moved_is_found_at_its_new_address() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        moved: FakeNode = cluster.nodes[2]
        await moved.greeted.get()
        await moved.kill()
        moved.port = 0
        await moved.start()

        await moved.greeted.get()
        await db.ask("status", node=moved.name)


@in_loop
async def test_a_seed_that_cannot_tell_the_members_is_followed_by_the_next() -> None:
    async with FakeCluster(2) as cluster:
        lame, well = cluster.nodes
        lame.reply = lambda _: []
        timing = everwrite.Timing(tick_s=0.005, view_s=0.3)

        async with await everwrite.connect(cluster.url, timing=timing) as db:
            await db.bucket("things").get("k", r=1)

        assert well.requests(Ask)


@in_loop
async def test_connect_gives_up_at_its_timeout() -> None:
    async with FakeCluster() as cluster:
        for node in cluster.nodes:
            node.mood = Mood.SILENT

        with pytest.raises(everwrite.DeadlineExceeded, match=r"within 0\.1 s"):
            await everwrite.connect(cluster.url, timeout=0.1)


@in_loop
async def test_one_node_down_does_not_keep_connect_waiting() -> None:
    async with FakeCluster() as cluster:
        await cluster.nodes[1].kill()
        waits = Timing(settle_s=3600.0, dial_s=3600.0)

        async with asyncio.timeout(8):
            async with await everwrite.connect(cluster.url, timing=waits) as db:
                await db.bucket("things").put("k", b"v")

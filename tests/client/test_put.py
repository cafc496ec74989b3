"""Puts and deletes that nothing hinders: where they go, what they carry, what they come to."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from tests.client.fake_node import FakeCluster, FakeNode, Mood, in_loop, until

import everwrite
from everwrite.core.errors import QuorumNotMet
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Fetch, Get, GetReply, Put, PutReply, Quality


def puts(cluster: FakeCluster) -> list[Put]:
    return [ask for node in cluster.nodes for ask in node.requests(Put)]


@in_loop
async def test_a_put_goes_to_the_first_owner_of_its_key() -> None:
    async with FakeCluster(5) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")

        for number in range(20):
            key = f"key{number}"
            await things.put(key, b"v")

            assert cluster.owners_of(key)[0].requests(Put)[-1].key == cluster.data_key(key)
        assert len(puts(cluster)) == 20


@in_loop
async def test_no_two_puts_have_the_same_op() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")

        stored = await asyncio.gather(*(things.put(f"k{number}", b"v") for number in range(600)))

        ops = {asked.op for asked in puts(cluster)}
        assert len(ops) == 600
        assert {len(op) for op in ops} == {12}
        assert not any(asked.retry for asked in puts(cluster))
        assert not any(each.retried for each in stored)


@in_loop
async def test_what_a_put_came_to_is_told_in_full() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        cluster.nodes[0].reply = lambda asked: [PutReply(asked.rid, b"c", 2, 1, 3, 4, 2)]

        stored = await db.bucket("things").put("k", b"v")

        assert stored == everwrite.Stored(
            context=b"c", owners=2, fallbacks=1, durable=3, siblings=4, required=2
        )


@in_loop
async def test_a_put_carries_its_options() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things", n=3, w=1, dw=1, strict=True)

        await things.put("k", b"v")
        await things.put("k", b"v", n=2, w=2, dw=0, strict=False)

        asked = [(ask.n, ask.w, ask.dw, ask.strict) for ask in puts(cluster)]
        assert asked == [(3, 1, 1, True), (2, 2, 0, False)]


@in_loop
async def test_a_context_supersedes_what_was_read_and_nothing_else() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"a")
        found = await things.get("k")
        await things.put("k", b"b")

        await things.put("k", b"c", context=found.context)

        assert sorted((await things.get("k")).values) == [b"b", b"c"]


@in_loop
async def test_a_delete_leaves_what_its_context_has_not_seen() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"a")
        found = await things.get("k")
        await things.put("k", b"b")

        await things.delete("k", context=found.context)

        assert (await things.get("k")).values == [b"b"]


@in_loop
async def test_update_merges_siblings_and_writes_one_value() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        carts = db.bucket("things", merge=everwrite.union_of_items)
        await carts.put("k", ["pen"])
        await carts.put("k", ["ink"])

        await carts.update("k", lambda cart: [*cart, "tea"])

        assert (await carts.get("k")).values == [["ink", "pen", "tea"]]


@in_loop
async def test_update_of_nothing_starts_from_none_and_to_none_deletes() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")

        await things.update("k", lambda value: (value or 0) + 1)
        one = (await things.get("k")).value
        await things.update("k", lambda _: None)

        assert one == 1
        assert (await things.get("k")).quality.absent == "deleted"


@in_loop
async def test_each_owners_own_copy_can_be_seen() -> None:
    async with FakeCluster(5) as cluster, await everwrite.connect(cluster.url) as db:
        await db.bucket("things").put("k", ["v"])
        owners = cluster.owners_of("k")
        owners[1].records.clear()
        owners[2].mood = Mood.BUSY

        replicas = await db.replicas("things", "k")

        assert [(copy.node, copy.status, copy.values) for copy in replicas] == [
            (owners[0].name, "found", [["v"]]),
            (owners[1].name, "absent", []),
            (owners[2].name, "busy", []),
        ]
        assert len([ask for node in cluster.nodes for ask in node.requests(Fetch)]) == 3


@in_loop
async def test_an_owner_that_is_down_has_a_line_among_the_replicas() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        await db.bucket("things").put("k", b"v")
        gone: FakeNode = cluster.owners_of("k")[0]
        await gone.kill()
        await until(lambda: db.counters.losses >= 1)

        replicas = await db.replicas("things", "k")

        assert [copy.status for copy in replicas] == ["down", "found", "found"]


@in_loop
async def test_a_delete_that_only_stand_ins_have_heard_of_has_not_succeeded() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things", strict=True)  # a node coordinates the read
        for node in cluster.nodes:
            node.reply = partial(nothing, Quality(1, 1, 2, "unknown"))

        with pytest.raises(QuorumNotMet) as caught:
            await things.delete("k")

        assert caught.value.outcome == "none"
        assert (caught.value.acked, caught.value.required) == (1, 2)
        assert not puts(cluster)


@in_loop
async def test_a_delete_of_which_enough_owners_know_nothing_has_succeeded() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        for node in cluster.nodes:
            node.reply = partial(nothing, Quality(2, 0, 2, "unknown"))

        assert (await db.bucket("things", strict=True).delete("k")).owners == 0
        assert not puts(cluster)


def nothing(quality: Quality, asked: AnyMessage) -> list[AnyMessage] | None:
    return [GetReply(asked.rid, [], b"", quality)] if isinstance(asked, Get) else None

"""Reads that the client coordinates, and when it leaves them to a node (client/read.py)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.client.fake_node import HASTY, STOIC, FakeCluster, FakeNode, Mood, in_loop

import everwrite
from everwrite.core.messages.requests import (
    ABSENT,
    BUSY,
    FOUND,
    REFUSED,
    UNREADABLE,
    Failure,
    Fetch,
    FetchReply,
    Get,
    PutReply,
)


def fetches(cluster: FakeCluster) -> list[tuple[str, bool]]:
    """Return who was asked for a copy (False) or a digest (True)."""
    return [(node.name, ask.digest) for node in cluster.nodes for ask in node.requests(Fetch)]


def gets(cluster: FakeCluster) -> int:
    return sum(len(node.requests(Get)) for node in cluster.nodes)


@in_loop
async def test_a_read_asks_one_owner_for_its_copy_and_another_for_its_digest() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"v")

        found = await things.get("k")

        assert found.value == b"v"
        assert sorted(digest for _, digest in fetches(cluster)) == [False, True]
        assert gets(cluster) == 0


@in_loop
async def test_owners_take_turns_at_sending_the_copy() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")

        for _ in range(9):
            await things.get("k")

        copies = [name for name, digest in fetches(cluster) if not digest]
        assert sorted(copies) == ["n1"] * 3 + ["n2"] * 3 + ["n3"] * 3


@in_loop
async def test_the_quality_of_an_agreed_answer_is_r_owners() -> None:
    async with FakeCluster(5) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        stored = await things.put("k", b"v")

        found = await things.get("k")

        assert (found.quality.owners, found.quality.fallbacks, found.quality.required) == (2, 0, 2)
        assert found.context == stored.context


@in_loop
async def test_absent_says_whether_the_key_was_ever_written() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        never = await things.get("k")
        stored = await things.put("k", b"v")
        await things.delete("k", context=stored.context)

        deleted = await things.get("k")

        assert not never
        assert (never.value, never.quality.absent) == (None, "never")
        assert not deleted
        assert (deleted.value, deleted.quality.absent) == (None, "deleted")
        assert gets(cluster) == 1, "only a tombstone is something that R owners can agree on"


@in_loop
async def test_nothing_at_r_owners_is_left_to_a_node_that_asks_all() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        for node in cluster.owners_of("k")[:2]:
            node.reply = lambda asked: (
                [FetchReply(asked.rid, ABSENT, b"")] if isinstance(asked, Fetch) else None
            )

        answers = [await things.get("k") for _ in range(3)]

        assert [found.value for found in answers] == [b"v"] * 3


@in_loop
async def test_siblings_that_all_owners_agree_on_need_no_coordinator() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things", merge=everwrite.union_of_items)
        await things.put("k", ["pen"])
        await things.put("k", ["ink"])

        found = await things.get("k")

        assert sorted(found.values) == [["ink"], ["pen"]]
        assert found.value == ["ink", "pen"]
        assert gets(cluster) == 0


@pytest.mark.scenario(44)
@in_loop
async def test_differing_owners_are_merged_and_repaired_by_a_node() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        first = await things.put("k", b"old")
        key = cluster.data_key("k")
        behind = dict(cluster.owners(key)[1].records)
        await things.put("k", b"new", context=first.context)
        cluster.owners(key)[1].records = behind

        answers = [await things.get("k") for _ in range(3)]

        assert [found.values for found in answers] == [[b"new"]] * 3
        assert gets(cluster) == 1  # the first that met both copies repaired them


@in_loop
async def test_absent_at_one_owner_is_a_difference() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        cluster.owners_of("k")[0].records.clear()

        answers = [await things.get("k") for _ in range(3)]

        assert [found.values for found in answers] == [[b"v"]] * 3


@pytest.mark.parametrize("status", [UNREADABLE, BUSY, REFUSED, 99])
@in_loop
async def test_an_owner_that_cannot_say_is_never_taken_for_absent(status: int) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        for node in cluster.owners_of("k")[:2]:
            node.reply = lambda asked: (
                [FetchReply(asked.rid, status, b"")] if isinstance(asked, Fetch) else None
            )

        found = await things.get("k")

        assert found.values == [b"v"]
        assert gets(cluster) == 1


@in_loop
async def test_a_stand_ins_copy_is_not_counted_as_an_owners() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        for node in cluster.nodes:
            node.reply = lambda asked, node=node: as_fallback(node, asked)

        found = await things.get("k")

        assert found.values == [b"v"]
        assert gets(cluster) == 1


def as_fallback(node: FakeNode, asked: Any) -> list[Any] | None:
    if not isinstance(asked, Fetch):
        return None
    honest = node.honest_answer(asked)
    assert isinstance(honest, FetchReply)
    return [FetchReply(honest.rid, honest.status, honest.record, honest.context, True)]


@in_loop
async def test_an_owner_that_answers_twice_is_still_one_owner() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timeout=0.1) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        liar, other = cluster.owners_of("k")[:2]
        other.mood = Mood.SILENT
        cluster.owners_of("k")[2].mood = Mood.SILENT
        liar.reply = lambda asked: (
            [liar.honest_answer(asked)] * 2 if isinstance(asked, Fetch) else []
        )

        with pytest.raises(everwrite.DeadlineExceeded):
            await asyncio.gather(*(things.get("k") for _ in range(3)))

        assert db.counters.strays == 2


@in_loop
async def test_a_broken_connection_moves_a_read_to_a_node_at_once() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        things = db.bucket("things")
        await things.put("k", b"v")
        cluster.owners_of("k")[0].mood = Mood.DROPS

        answers = await asyncio.gather(*(things.get("k") for _ in range(6)))

        assert [found.values for found in answers] == [[b"v"]] * 6
        assert db.counters.failovers >= 1


@in_loop
async def test_a_silent_owner_delays_a_read_by_one_hedge_only() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        things = db.bucket("things")
        await things.put("k", b"v")
        silent = cluster.owners_of("k")[0]
        silent.mood = Mood.SILENT

        answers = await asyncio.gather(*(things.get("k") for _ in range(3)))

        assert [found.values for found in answers] == [[b"v"]] * 3
        assert db.counters.hedges >= 1
        assert not silent.requests(Get)


@in_loop
async def test_with_too_few_owners_in_reach_a_node_coordinates() -> None:
    async with FakeCluster(5) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        for node in cluster.owners_of("k")[:2]:
            await node.kill()

        found = await things.get("k")

        assert found.values == [b"v"]


@pytest.mark.parametrize("options", [{"r": 3}, {"r": 1}, {"n": 2}, {"strict": True}])
@in_loop
async def test_options_of_the_quorum_are_a_nodes_affair(options: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        await db.bucket("things").put("k", b"v")

        found = await db.bucket("things").get("k", **options)

        assert found.values == [b"v"]
        (asked,) = [ask for node in cluster.nodes for ask in node.requests(Get)]
        assert (asked.n, asked.r, asked.strict) == (
            options.get("n", 0),
            options.get("r", 0),
            options.get("strict", False),
        )


@in_loop
async def test_options_of_the_bucket_hold_where_a_call_has_none() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things", r=3)

        await things.get("k")
        await things.get("k", r=1)

        asked = [ask for node in cluster.nodes for ask in node.requests(Get)]
        assert sorted(ask.r for ask in asked) == [1, 3]


@in_loop
async def test_a_read_that_nobody_answers_fails_at_its_deadline() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        for node in cluster.nodes:
            node.mood = Mood.SILENT

        with pytest.raises(everwrite.DeadlineExceeded) as failed:
            await db.bucket("things").get("k", timeout=0.05)

        assert failed.value.outcome == "none"
        assert db.in_flight == 0


@in_loop
async def test_nodes_are_told_less_time_than_the_caller_gave() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        await db.bucket("things").get("k", timeout=2.0)

        asked = [ask.left_ms for node in cluster.nodes for ask in node.requests(Fetch)]
        assert asked == [1900, 1900]


@in_loop
async def test_an_error_of_the_coordinating_node_is_raised_as_it_is() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url, retries=0) as db:
        (node,) = cluster.nodes
        node.reply = lambda asked: [
            Failure(asked.rid, "quorum_not_met", "1 of 2.", "Wait.", "none", 1, 2, 7)
        ]

        with pytest.raises(everwrite.QuorumNotMet, match="1 of 2") as failed:
            await db.bucket("things").get("k")

        error = failed.value
        assert (error.acked, error.required, error.retry_after_ms, error.hint) == (1, 2, 7, "Wait.")


@in_loop
async def test_a_node_that_answers_a_read_with_something_else_is_given_up() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        things = db.bucket("things")
        await things.put("k", b"v")
        mad = cluster.owners_of("k")[0]
        mad.reply = lambda asked: (
            [PutReply(asked.rid, b"", 2, 0, 0, 1)] if isinstance(asked, Fetch | Get) else None
        )

        answers = await asyncio.gather(*(things.get("k") for _ in range(3)))

        assert [found.values for found in answers] == [[b"v"]] * 3
        assert db.counters.losses >= 1


@in_loop
async def test_a_record_that_is_none_is_a_protocol_error_not_an_absent_value() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        (node,) = cluster.nodes
        node.reply = lambda asked: [FetchReply(asked.rid, FOUND, b"\xc1")]

        with pytest.raises(everwrite.ProtocolError):
            await db.bucket("things").get("k")


@in_loop
async def test_a_read_that_its_caller_gave_up_leaves_the_table() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        for node in cluster.nodes:
            node.mood = Mood.SILENT
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await db.bucket("things").get("k")
        for node in cluster.nodes:
            node.mood = Mood.WELL

        await db.bucket("things").put("k", b"v")  # the ticker runs meanwhile
        while db.in_flight:
            await db.ask("status")

        assert db.counters.fallbacks == 0

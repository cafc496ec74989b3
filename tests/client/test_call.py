"""Tries of one request: fail-over, hedges, outcomes, caps (client/call.py)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.client.fake_node import HASTY, STOIC, FakeCluster, Mood, in_loop, until

import everwrite
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import FetchReply, Put, PutReply

IMPOLITE = replace(STOIC, close_s=0.01)
"""Hangs up on nodes that don't read."""


@in_loop
async def test_a_lost_connection_fails_over_at_once_under_the_same_op() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.mood = Mood.DROPS

        await db.bucket("things").put("k", b"v")

        (lost,), (again,) = first.requests(Put), second.requests(Put)
        assert (lost.op, lost.retry) == (again.op, False)
        assert again.retry
        assert db.counters.failovers == 1


@in_loop
async def test_a_put_that_was_carried_out_before_the_connection_broke_is_seen_once() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        things = db.bucket("things")
        first = cluster.owners_of("k")[0]
        broken: list[asyncio.Task[None]] = []

        def carry_out_and_break(asked: Any) -> list[AnyMessage] | None:
            if not isinstance(asked, Put):
                return None
            first.honest_answer(asked)
            broken.append(asyncio.create_task(first.hang_up()))
            return []

        first.reply = carry_out_and_break
        await things.put("k", b"v")

        assert broken
        assert (await things.get("k")).values == [b"v"]


@in_loop
async def test_a_silent_node_is_hedged_and_its_late_answer_dropped() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        things = db.bucket("things")
        first, second = cluster.owners_of("k")[:2]
        first.mood = Mood.SILENT

        assert (await things.put("k", b"v")).retried
        (late,) = first.requests(Put)
        first.mood = Mood.WELL
        first.send(PutReply(late.rid, b"", 2, 0, 0, 1, 2))
        await db.ask("status", node=first.name)

        (hedge,) = second.requests(Put)
        assert hedge.op == late.op
        assert hedge.retry
        assert hedge.timeout_ms < late.timeout_ms
        assert (db.counters.hedges, db.counters.late, db.counters.strays) == (1, 1, 0)


@in_loop
async def test_the_first_node_is_still_listened_to_after_a_hedge() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.mood = Mood.SILENT

        def let_the_first_answer(asked: Any) -> list[AnyMessage]:
            (held,) = first.requests(Put)
            first.send(PutReply(held.rid, b"from the first", 2, 0, 0, 1, 2))
            return []

        second.reply = let_the_first_answer

        stored = await db.bucket("things").put("k", b"v")

        assert stored.context == b"from the first"


@in_loop
async def test_a_node_that_answers_others_gets_more_time_before_a_hedge() -> None:
    timing = everwrite.Timing(tick_s=0.005, hedge_s=0.02, slow_hedge_s=30.0)
    async with (
        FakeCluster(2) as cluster,
        await everwrite.connect(cluster.url, timing=timing) as db,
    ):
        first = cluster.owners_of("k")[0]
        held: list[Put] = []

        def hold_puts(asked: Any) -> list[AnyMessage] | None:
            return held.append(asked) or [] if isinstance(asked, Put) else None

        first.reply = hold_puts
        slow = asyncio.ensure_future(db.bucket("things").put("k", b"v", timeout=0.2))
        while not slow.done():
            await db.ask("status", node=first.name)

        with pytest.raises(everwrite.DeadlineExceeded):
            await slow
        assert len(held) == 1
        assert db.counters.hedges == 0


@in_loop
async def test_a_put_that_nobody_answers_may_have_happened() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        for node in cluster.nodes:
            node.mood = Mood.SILENT

        with pytest.raises(everwrite.DeadlineExceeded) as failed:
            await db.bucket("things").put("k", b"v", timeout=0.05)

        assert failed.value.outcome == "unknown"
        assert db.in_flight == 0


@in_loop
async def test_a_node_that_restarts_gets_the_put_again() -> None:
    async with (
        FakeCluster(1) as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        (node,) = cluster.nodes
        node.mood = Mood.DROPS
        stored = asyncio.ensure_future(db.bucket("things").put("k", b"v"))
        await node.greeted.get()
        await node.greeted.get()  # the connection that replaces the dropped one
        node.mood = Mood.WELL

        await stored

        assert len({asked.op for asked in node.requests(Put)}) == 1
        assert node.requests(Put)[-1].retry


@in_loop
async def test_without_any_node_a_put_surely_did_not_happen() -> None:
    async with (
        FakeCluster(2) as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        things = db.bucket("things")
        for node in cluster.nodes:
            await node.kill()
        await until(lambda: db.counters.losses >= 2)

        with pytest.raises(everwrite.Unreachable, match="refused") as failed:
            await things.put("k", b"v")

        assert failed.value.outcome == "none"


@in_loop
async def test_all_owners_down_a_put_goes_to_the_first_stand_in() -> None:
    async with FakeCluster(4) as cluster, await everwrite.connect(cluster.url) as db:
        owners = cluster.owners_of("k")
        (stand_in,) = set(cluster.nodes) - set(owners)
        for node in owners:
            await node.kill()
        await until(lambda: db.counters.losses >= 3)

        await db.bucket("things").put("k", b"v")

        assert len(stand_in.requests(Put)) == 1


@in_loop
async def test_requests_past_the_cap_are_refused_before_anything_is_sent() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, in_flight_max=2, timing=STOIC) as db,
    ):
        things = db.bucket("things")
        for node in cluster.nodes:
            node.mood = Mood.SILENT
        waiting = [asyncio.ensure_future(things.put(key, b"v")) for key in "ab"]
        await asyncio.sleep(0)

        with pytest.raises(everwrite.Overloaded) as failed:
            await things.put("c", b"v")
        with pytest.raises(everwrite.Overloaded):
            await things.get("c")

        assert failed.value.outcome == "none"
        assert db.in_flight == 2
        for task in waiting:
            task.cancel()


@in_loop
async def test_a_node_that_does_not_read_is_passed_over() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=IMPOLITE) as db,
    ):
        things = db.bucket("things")
        key = cluster.key_of(first := cluster.nodes[0])
        first.mood = Mood.NOT_READING
        waiting = [asyncio.ensure_future(things.put(key, bytes(1 << 20))) for _ in range(20)]
        await asyncio.sleep(0)
        await db.ask("status", node=cluster.nodes[1].name)

        await things.put(key, b"small")

        assert len(cluster.owners_of(key)[1].requests(Put)) == 1
        for task in waiting:
            task.cancel()


@in_loop
async def test_if_no_node_reads_a_put_is_refused() -> None:
    async with (
        FakeCluster(1) as cluster,
        await everwrite.connect(cluster.url, timing=IMPOLITE) as db,
    ):
        things = db.bucket("things")
        cluster.nodes[0].mood = Mood.NOT_READING
        waiting = [asyncio.ensure_future(things.put("k", bytes(1 << 20))) for _ in range(20)]
        for _ in range(3):
            await asyncio.sleep(0)

        with pytest.raises(everwrite.Overloaded):
            await things.put("k", b"small")

        for task in waiting:
            task.cancel()


@in_loop
async def test_closing_ends_what_is_in_flight_with_an_error() -> None:
    async with FakeCluster() as cluster:
        db = await everwrite.connect(cluster.url)
        things = db.bucket("things")
        for node in cluster.nodes:
            node.mood = Mood.SILENT
        put = asyncio.ensure_future(things.put("k", b"v"))
        get = asyncio.ensure_future(things.get("k"))
        await asyncio.sleep(0)

        await db.close()
        await db.close()

        with pytest.raises(everwrite.ClientClosed, match="closed") as failed:
            await put
        assert failed.value.outcome == "unknown"
        assert not failed.value.retryable
        with pytest.raises(everwrite.ClientClosed, match="closed"):
            await get
        with pytest.raises(everwrite.ClientClosed, match="closed"):
            await things.put("k", b"v")
        with pytest.raises(everwrite.ClientClosed, match="closed"):
            await things.get("k")


@in_loop
async def test_a_failed_try_of_a_read_says_nothing_of_writes() -> None:
    async with (
        FakeCluster(1) as cluster,
        await everwrite.connect(cluster.url, retries=0) as db,
    ):
        cluster.nodes[0].mood = Mood.DROPS

        with pytest.raises(everwrite.Unreachable) as failed:
            await db.bucket("things").get("k")

        assert failed.value.outcome == "none"
        assert failed.value.hint.startswith("Try again: other nodes may answer.")


@in_loop
async def test_a_put_answered_with_something_else_goes_to_another_node() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.reply = lambda asked: [FetchReply(asked.rid, 0, b"")]

        await db.bucket("things").put("k", b"v")

        assert second.requests(Put)[0].retry
        assert db.counters.losses == 1

"""Tries of one request that a node refuses: who is asked next, and what the error says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from tests.client.fake_node import HASTY, STOIC, FakeCluster, Mood, in_loop

import everwrite
from everwrite.client.manners import SPREAD
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Failure, Put


def fails_with(
    code: str, outcome: str = "none", retry_after_ms: int = 0
) -> Callable[[Any], list[AnyMessage] | None]:
    """Return a reply for a node that can't take a put."""

    def reply(asked: Any) -> list[AnyMessage] | None:
        if not isinstance(asked, Put):
            return None
        return [Failure(asked.rid, code, "Not now.", "", outcome, 1, 2, retry_after_ms)]

    return reply


def puts(cluster: FakeCluster) -> list[Put]:
    return [ask for node in cluster.nodes for ask in node.requests(Put)]


@pytest.mark.parametrize("code", ["overloaded", "quorum_not_met", "storage_full", "denied"])
@in_loop
async def test_what_one_node_cannot_do_another_is_asked_to(code: str) -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.reply = fails_with(code)

        await db.bucket("things").put("k", b"v")

        (again,) = second.requests(Put)
        assert again.op == first.requests(Put)[0].op


@pytest.mark.parametrize(("outcome", "retry"), [("none", 0), ("partial", 1), ("unknown", 1)])
@in_loop
async def test_a_try_that_may_have_been_carried_out_is_looked_for_by_the_next(
    outcome: str, retry: int
) -> None:
    """And one that surely was not is not: else the next could not say so either."""
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.reply = fails_with("quorum_not_met", outcome)

        await db.bucket("things").put("k", b"v")

        assert second.requests(Put)[0].retry == bool(retry)


@pytest.mark.parametrize("code", ["bad_request", "bad_context", "too_large"])
@in_loop
async def test_a_wrong_request_is_not_tried_again(code: str) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        cluster.owners_of("k")[0].reply = fails_with(code)

        with pytest.raises(everwrite.RequestError) as failed:
            await db.bucket("things").put("k", b"v")

        assert failed.value.code == code
        assert failed.value.outcome == "none"
        assert len(puts(cluster)) == 1


@in_loop
async def test_a_forged_context_is_refused_by_the_node_and_changes_nothing() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        stored = await things.put("k", b"v")
        forged = stored.context[:-1] + b"\x91"

        with pytest.raises(everwrite.BadContext):
            await things.put("k", b"w", context=forged)

        assert (await things.get("k")).values == [b"v"]


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        (["none", "none", "none"], "none"),
        (["partial", "none", "none"], "partial"),
        (["none", "unknown", "partial"], "unknown"),
        (["lost", "none", "none"], "unknown"),
        (["gibberish", "none", "none"], "unknown"),
    ],
)
@in_loop
async def test_a_failed_put_has_the_worst_outcome_of_its_tries(
    outcomes: list[str], worst: str
) -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        for node, outcome in zip(cluster.owners_of("k"), outcomes, strict=True):
            if outcome == "lost":
                node.mood = Mood.DROPS
            node.reply = fails_with("quorum_not_met", outcome)

        with pytest.raises(everwrite.QuorumNotMet) as failed:
            await db.bucket("things").put("k", b"v")

        assert failed.value.outcome == worst
        assert len(puts(cluster)) == 3


@in_loop
async def test_a_refusal_does_not_hide_an_open_try() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.mood = Mood.SILENT
        second.reply = fails_with("bad_context")

        with pytest.raises(everwrite.BadContext) as failed:
            await db.bucket("things").put("k", b"v")

        assert failed.value.outcome == "unknown"


@in_loop
async def test_retries_are_bounded() -> None:
    async with (
        FakeCluster(5) as cluster,
        await everwrite.connect(cluster.url, retries=1, timing=STOIC) as db,
    ):
        for node in cluster.nodes:
            node.reply = fails_with("overloaded")

        with pytest.raises(everwrite.Overloaded):
            await db.bucket("things").put("k", b"v")

        assert len(puts(cluster)) == 2


@in_loop
async def test_a_node_that_refuses_has_its_requests_go_to_the_other_owners() -> None:
    async with (
        FakeCluster(3) as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first = cluster.owners_of("k")[0]
        things = db.bucket("things")
        first.reply = fails_with("overloaded")
        for _ in range(40):
            await things.put("k", b"v")
            await asyncio.sleep(0.01)

        for _ in range(20):
            await things.put("k", b"v")
            await things.get("k")
            await things.get("k", r=1)

        assert db.counters.held_back == 0


@in_loop
async def test_a_stand_in_without_room_for_hints_is_asked_for_as_much_as_before() -> None:
    async with (
        FakeCluster(3) as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first = cluster.owners_of("k")[0]
        first.reply = fails_with("hints_full")

        for _ in range(40):
            await db.bucket("things").put("k", b"v")
            await asyncio.sleep(0.005)

        assert len(first.requests(Put)) == 40


@in_loop
async def test_the_only_node_is_asked_again_after_about_the_time_it_asks_for() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        (node,) = cluster.nodes
        refuse = fails_with("overloaded", retry_after_ms=120)
        node.reply = lambda asked: refuse(asked) if len(node.requests(Put)) == 1 else None
        began = monotonic()  # uvloop's own clock is coarser than the client's

        await db.bucket("things").put("k", b"v")

        assert monotonic() - began >= 0.12 * (1 - SPREAD)
        assert len({asked.op for asked in node.requests(Put)}) == 1

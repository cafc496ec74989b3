"""Values that end: put with a ttl, touch, and what reads say about it (client/bucket.py)."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.client.fake_node import HASTY, FakeCluster, Mood, in_loop

import everwrite
from everwrite.core.messages.requests import Fetch, FetchReply, Get, Put, Touch

HOUR_MS = 3_600_000


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def puts(cluster: FakeCluster) -> list[Put]:
    return [put for node in cluster.nodes for put in node.requests(Put)]


def differ(cluster: FakeCluster, key: str) -> None:
    """Let no two owners agree, so that a node has to read."""
    for node in cluster.owners_of(key):
        node.reply = lambda asked: (
            [FetchReply(asked.rid, 0, b"12345678")] if isinstance(asked, Fetch) else None
        )


# -- what may be said ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "ttl_ms"),
    [
        (1, 1000),
        (1.5, 1500),
        (90, 90_000),
        (timedelta(minutes=30), 1_800_000),
        (timedelta(days=3650), 315_360_000_000),
        (math.inf, 0),
        (None, 0),
    ],
)
@in_loop
async def test_a_ttl_travels_in_milliseconds(ttl: Any, ttl_ms: int) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        await db.bucket("things").put("k", "v", ttl=ttl)

        assert [put.ttl_ms for put in puts(cluster)] == [ttl_ms]


@pytest.mark.parametrize(
    "ttl",
    [
        *(0, -1, 0.999, 315_360_001, 10**400, math.nan, -math.inf),
        *(True, "30m", b"30", Decimal(30), timedelta(0), timedelta(days=4000), [30]),
    ],
)
@in_loop
async def test_an_impossible_ttl_is_refused_before_anything_is_sent(ttl: Any) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        for call in (
            lambda: things.put("k", "v", ttl=ttl),
            lambda: things.touch("k", ttl),
            lambda: things.update("k", lambda _: "v", ttl=ttl),
        ):
            with pytest.raises(everwrite.RequestError) as caught:
                await call()
            assert repr(ttl) in caught.value.message
            assert "1 second to 10 years" in caught.value.hint
            assert caught.value.outcome == "none"
        with pytest.raises(everwrite.RequestError):
            db.bucket("things", ttl=ttl)

        assert not puts(cluster)
        assert not any(node.requests(Touch) for node in cluster.nodes)


@in_loop
async def test_a_buckets_ttl_is_for_every_put_that_says_nothing_else() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        logins = db.bucket("logins", ttl=timedelta(minutes=30))

        await logins.put("a", "v")
        await logins.put("b", "v", ttl=60)
        await logins.put("c", "v", ttl=math.inf)
        await logins.update("d", lambda _: "v")
        await logins.update("e", lambda _: "v", ttl=90)

        found = {put.key: put.ttl_ms for put in puts(cluster)}
        assert sorted(found.values()) == [0, 60_000, 90_000, 1_800_000, 1_800_000]
        assert "ttl=1800" in repr(logins)


@in_loop
async def test_a_delete_has_no_ttl() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        logins = db.bucket("logins", ttl=60)
        await logins.put("a", "v")

        await logins.delete("a")

        assert [(put.value, put.ttl_ms) for put in puts(cluster)] == [(b"v", 60_000), (None, 0)]


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("coordinator", ["client", "node"])
@in_loop
async def test_a_read_says_when_the_value_ends(coordinator: str) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        stored = await things.put("k", "v", ttl=3600)
        await things.put("kept", "v")
        if coordinator == "node":
            differ(cluster, "k")

        found, kept = await things.get("k"), await things.get("kept")

        end = moment(cluster.time_ms + HOUR_MS)
        assert (found.value, found.expires, stored.expires) == ("v", end, end)
        assert found.expires_in == stored.expires_in == timedelta(hours=1)
        assert found.expires is not None
        assert found.expires.tzinfo is UTC
        assert (kept.value, kept.expires, kept.expires_in) == ("v", None, None)


@pytest.mark.parametrize("coordinator", ["client", "node"])
@in_loop
async def test_a_value_is_hidden_from_its_end_on(coordinator: str) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", "v", ttl=3600)
        if coordinator == "node":
            differ(cluster, "k")

        cluster.time_ms += HOUR_MS - 1
        before = await things.get("k")
        cluster.time_ms += 1
        found = await things.get("k")

        assert before.value == "v"
        assert not found
        assert (found.value, found.expires, found.quality.absent) == (None, None, "expired")
        assert sum(len(node.requests(Get)) for node in cluster.nodes) == 2 * (coordinator == "node")


@in_loop
async def test_this_machines_clock_plays_no_part() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        cluster.time_ms = 4_000_000_000_000  # a century from now
        things = db.bucket("things")
        await things.put("k", "v", ttl=1)

        assert (await things.get("k")).value == "v"
        cluster.time_ms += 1000
        assert (await things.get("k")).value is None


@in_loop
async def test_siblings_end_one_by_one_and_the_last_end_is_told() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things", merge=everwrite.union_of_items)
        await things.put("k", ["pen"], ttl=60)
        await things.put("k", ["ink"], ttl=3600)
        both = await things.get("k")
        assert both.expires == moment(cluster.time_ms + HOUR_MS)

        cluster.time_ms += 60_000
        one = await things.get("k")

        assert (both.value, one.value) == (["ink", "pen"], ["ink"])
        assert one.expires == both.expires


@pytest.mark.parametrize("coordinator", ["client", "node"])
@in_loop
async def test_siblings_of_which_one_never_ends_have_no_end(coordinator: str) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things", merge=everwrite.union_of_items)
        await things.put("k", ["pen"], ttl=60)
        await things.put("k", ["ink"])
        if coordinator == "node":
            differ(cluster, "k")

        found = await things.get("k")

        assert (found.value, found.expires) == (["ink", "pen"], None)


@in_loop
async def test_a_replicas_own_copy_hides_what_has_ended() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        await db.bucket("things").put("k", "v", ttl=60)
        before = await db.replicas("things", "k")
        cluster.time_ms += 60_000

        after = await db.replicas("things", "k")

        assert [copy.values for copy in before] == [["v"]] * 3
        assert [(copy.status, copy.values) for copy in after] == [("found", [])] * 3
        assert [copy.record for copy in after] == [copy.record for copy in before]


@in_loop
async def test_a_delete_of_what_has_ended_leaves_no_tombstone() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", "v", ttl=60)
        cluster.time_ms += 60_000

        ended, never = await things.delete("k"), await things.delete("never")

        assert (ended.owners, ended.siblings, never.owners) == (0, 0, 0)
        assert [put.value for put in puts(cluster)] == [b"v"]
        assert (await things.get("k")).quality.absent == "expired"


# -- touch -----------------------------------------------------------------------------------------


@in_loop
async def test_a_touch_moves_the_end_and_makes_no_sibling() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", "v", ttl=60)
        cluster.time_ms += 30_000

        touched = await things.touch("k", 60)
        found = await things.get("k")

        end = moment(cluster.time_ms + 60_000)
        assert (touched.siblings, touched.expires, found.expires) == (1, end, end)
        assert found.values == ["v"]


@in_loop
async def test_a_touch_of_nothing_says_so_and_brings_nothing_back() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("k", "v", ttl=60)
        cluster.time_ms += 60_000

        ended, never = await things.touch("k", 60), await things.touch("other", 60)

        assert (ended.siblings, ended.expires) == (0, None)
        assert never.siblings == 0
        assert not await things.get("k")


@in_loop
async def test_a_touch_uses_the_buckets_ttl_and_needs_one() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        logins = db.bucket("logins", ttl=timedelta(minutes=30), n=2, w=1, dw=0)
        await logins.put("k", "v")

        await logins.touch("k")

        (sent,) = (touch for node in cluster.nodes for touch in node.requests(Touch))
        assert (sent.ttl_ms, sent.n, sent.w, sent.dw) == (1_800_000, 2, 1, 0)
        with pytest.raises(everwrite.RequestError, match="needs a time"):
            await db.bucket("logins").touch("k")
        with pytest.raises(everwrite.RequestError, match="for ever"):
            await logins.touch("k", math.inf)


@pytest.mark.parametrize("mood", [Mood.SILENT, Mood.DROPS])
@in_loop
async def test_a_touch_goes_on_with_another_node(mood: Mood) -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        things = db.bucket("things")
        key = cluster.key_of(cluster.nodes[0])
        await things.put(key, "v", ttl=60)
        cluster.nodes[0].mood = mood

        touched = await things.touch(key, 120)

        sent = [touch for node in cluster.nodes for touch in node.requests(Touch)]
        assert touched.expires == moment(cluster.time_ms + 120_000)
        assert len(sent) == 2
        assert len({touch.op for touch in sent}) == 1
        assert sorted(touch.retry for touch in sent) == [False, True]


@in_loop
async def test_a_touch_that_nobody_answers_may_have_happened() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY, retries=0) as db,
    ):
        for node in cluster.nodes:
            node.mood = Mood.SILENT

        with pytest.raises(everwrite.DeadlineExceeded) as caught:
            await db.bucket("things").touch("k", 60, timeout=0.1)

        assert caught.value.outcome == "unknown"


@pytest.mark.parametrize("key", ["", "k" * 1025, 7, None])
@in_loop
async def test_a_touch_checks_its_key(key: Any) -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        with pytest.raises(everwrite.RequestError):
            await db.bucket("things").touch(key, 60)


# -- blocking and embedded -------------------------------------------------------------------------


def test_the_blocking_client_has_the_same_names() -> None:
    async def serve(cluster: FakeCluster) -> None:
        def use() -> None:
            with everwrite.connect_sync(cluster.url) as db:
                logins = db.bucket("logins", ttl=60)
                stored = logins.put("a", "v", ttl=90)
                touched = logins.touch("a", timedelta(hours=1))
                logins.update("b", lambda _: "v", ttl=timedelta(minutes=2))

                assert stored.expires == moment(cluster.time_ms + 90_000)
                assert touched.expires == moment(cluster.time_ms + HOUR_MS)
                assert logins.get("b").expires == moment(cluster.time_ms + 120_000)
                assert logins.touch("nobody").siblings == 0

        async with cluster:
            await asyncio.to_thread(use)

    asyncio.run(serve(FakeCluster()))

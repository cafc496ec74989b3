"""One connection: frames, handshake, and what becomes of it when things go wrong."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace
from tests.client.fake_node import HASTY, STOIC, FakeCluster, Mood, in_loop, until

import everwrite
from everwrite.core.messages.greeting import Hello, Refused
from everwrite.core.messages.requests import Get, Put, PutReply, Told


@in_loop
async def test_all_messages_of_a_turn_go_out_as_one_frame() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        (node,) = cluster.nodes
        before = node.frames
        things = db.bucket("things")

        await asyncio.gather(*(things.put(f"k{number}", b"v") for number in range(100)))

        assert len(node.requests(Put)) == 100
        assert node.frames == before + 1


@in_loop
async def test_answers_find_their_requests_in_any_order() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        (node,) = cluster.nodes
        held: list[Put] = []

        def answer_backwards(asked: Put) -> list[PutReply]:
            held.append(asked)
            if len(held) < 10:
                return []
            return [PutReply(put.rid, put.value or b"", 1, 0, 0, 1) for put in reversed(held)]

        node.reply = answer_backwards  # type: ignore[assignment]
        things = db.bucket("things")

        stored = await asyncio.gather(*(things.put("k", b"%d" % i) for i in range(10)))

        assert [done.context for done in stored] == [b"%d" % i for i in range(10)]


@in_loop
async def test_values_at_the_limit_travel_together_though_a_frame_is_smaller() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        large = [bytes([number]) * (1 << 20) for number in range(10)]

        await asyncio.gather(*(things.put(f"k{i}", value) for i, value in enumerate(large)))
        found = await asyncio.gather(*(things.get(f"k{i}") for i in range(10)))

        assert [answer.value for answer in found] == large


@in_loop
async def test_the_secret_lets_a_client_in() -> None:
    async with (
        FakeCluster(secret=b"s" * 100) as cluster,
        await everwrite.connect(cluster.url, secret=b"s" * 100) as db,
    ):
        await db.bucket("things").put("k", b"v")

        assert (await db.bucket("things").get("k")).value == b"v"


@in_loop
async def test_the_secret_comes_from_the_environment_if_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERWRITE_SECRET", "s3cret")
    async with FakeCluster(secret=b"s3cret") as cluster, await everwrite.connect(cluster.url) as db:
        assert await db.bucket("things").put("k", b"v")


@pytest.mark.parametrize("mine", [b"", b"wrong"])
@in_loop
async def test_the_wrong_secret_is_denied_before_any_request(mine: bytes) -> None:
    async with FakeCluster(secret=b"right") as cluster:
        with pytest.raises(everwrite.DeniedError, match="secret"):
            await everwrite.connect(cluster.url, secret=mine)

        assert not any(node.asked for node in cluster.nodes)


@in_loop
async def test_a_node_that_refuses_is_quoted() -> None:
    async with FakeCluster(1) as cluster:
        (node,) = cluster.nodes
        node.greeting = Refused("overloaded", "Too many connections.", "Wait.")

        with pytest.raises(everwrite.Unreachable, match="Too many connections"):
            await everwrite.connect(cluster.url)


@in_loop
async def test_a_stranger_that_is_no_node_is_given_up() -> None:
    async with FakeCluster(1) as cluster:
        (node,) = cluster.nodes
        for greeting in (Told(1, b""), Hello(7, 9, b"c" * 16, b"n" * 8, "new", b"n" * 16)):
            node.greeting = greeting

            with pytest.raises(everwrite.ProtocolError):
                await everwrite.connect(cluster.url)


@pytest.mark.scenario(34)
@in_loop
async def test_a_node_that_says_nothing_costs_a_second_at_most() -> None:
    async with FakeCluster(2) as cluster:
        mute, well = cluster.nodes
        mute.mood = Mood.MUTE_AT_HELLO
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            await db.bucket("things").put("k", b"v")

            assert well.requests(Put)
            with pytest.raises(everwrite.Unreachable, match="no answer in"):
                await everwrite.connect(f"127.0.0.1:{mute.port}", timing=HASTY)


@in_loop
async def test_nobody_at_the_address_is_said_so_with_the_address() -> None:
    async with FakeCluster(1) as cluster:
        await cluster.nodes[0].kill()

        with pytest.raises(everwrite.Unreachable, match=rf"{cluster.url}: .*refused"):
            await everwrite.connect(cluster.url)


@in_loop
async def test_a_node_of_another_cluster_is_never_used() -> None:
    async with FakeCluster(2) as cluster, FakeCluster(1) as other:
        other.cluster_id = b"anotherclusterid"
        intruder = other.nodes[0]
        cluster.nodes[1].port, _ = intruder.port, await cluster.nodes[1].kill()
        async with await everwrite.connect(f"127.0.0.1:{cluster.nodes[0].port}") as db:
            for number in range(10):
                await db.bucket("things").put(f"k{number}", b"v")

        assert not intruder.asked


@in_loop
async def test_another_node_at_a_members_address_is_never_used() -> None:
    async with FakeCluster(3) as cluster:
        moved = cluster.nodes[2]
        cluster.members = cluster.nodes[:2]
        await cluster.nodes[1].kill()
        cluster.nodes[1].port = moved.port
        async with await everwrite.connect(f"127.0.0.1:{cluster.nodes[0].port}") as db:
            for number in range(10):
                await db.bucket("things").put(f"k{number}", b"v")

            with pytest.raises(everwrite.Unreachable, match="n3 answers at the address of n2"):
                await db.ask("status", node="n2")

        assert not moved.asked


@pytest.mark.parametrize(
    "garbage",
    [b"\0\0\0\5HTTP/", b"HTTP/1.1 400 Bad\r\n", b"\xff" * 64, b"\0\0\0\2\x91\xc0"],
)
@in_loop
async def test_garbage_ends_the_connection_and_the_request_goes_elsewhere(garbage: bytes) -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.mood = Mood.GARBAGE
        first.garbage = garbage

        await db.bucket("things").put("k", b"v")

        assert second.requests(Put)[0].retry
        assert db.counters.losses == 1


@in_loop
async def test_a_refusal_in_the_middle_ends_the_connection() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, second = cluster.owners_of("k")[:2]
        first.reply = lambda _: [Refused("denied", "No more of you.")]

        await db.bucket("things").put("k", b"v")

        assert second.requests(Put)
        assert db.counters.losses == 1


@in_loop
async def test_a_message_that_is_no_answer_ends_the_connection() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first = cluster.owners_of("k")[0]
        first.reply = lambda asked: [Get(asked.rid, asked.key, 1)]

        await db.bucket("things").put("k", b"v")

        assert db.counters.losses == 1


@in_loop
async def test_answers_to_what_was_never_asked_are_counted_and_dropped() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        cluster.nodes[0].send(PutReply(12345678, b"", 1, 0, 0, 1))

        await db.ask("status", node="n1")

        assert db.counters.strays == 1


@in_loop
async def test_an_answer_from_a_node_that_was_not_asked_counts_for_nothing() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        first, liar = cluster.owners_of("k")[:2]

        def let_the_liar_answer_first(asked: object) -> None:
            assert isinstance(asked, Put)
            liar.send(PutReply(asked.rid, b"a lie", 3, 0, 0, 1))

        first.reply = let_the_liar_answer_first

        stored = await db.bucket("things").put("k", b"v")
        await db.ask("status", node=liar.name)

        assert stored.context != b"a lie"
        assert db.counters.strays == 1


@in_loop
async def test_a_lost_connection_is_opened_again_and_used() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first = cluster.owners_of("k")[0]
        await first.greeted.get()

        await first.hang_up()
        await first.greeted.get()
        await db.ask("status", node=first.name)
        await db.bucket("things").put("k", b"v")

        assert len(first.requests(Put)) == 1


@in_loop
async def test_a_silent_node_is_passed_over_until_its_next_word() -> None:
    timing = replace(HASTY, abandon_s=30.0)
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=timing) as db,
    ):
        things = db.bucket("things")
        first = cluster.owners_of("k")[0]
        first.mood = Mood.SILENT
        asked = -1
        while asked != len(first.requests(Put)):
            asked = len(first.requests(Put))
            await things.put("k", b"v")  # takes a hedge as long as the node is asked

        first.mood = Mood.WELL
        first.send(PutReply(999_999_999, b"", 1, 0, 0, 1))
        await until(lambda: db.counters.strays == 1)
        await things.put("k", b"v")

        assert len(first.requests(Put)) == asked + 1


@pytest.mark.scenario(34)
@in_loop
async def test_a_node_that_stays_silent_gets_a_new_connection() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        first = cluster.owners_of("k")[0]
        await first.greeted.get()
        first.mood = Mood.SILENT

        await db.bucket("things").put("k", b"v")
        await first.greeted.get()

        assert db.counters.losses == 1


@in_loop
async def test_a_slow_answer_does_not_cost_a_healthy_node_its_connection() -> None:
    timing = replace(HASTY, abandon_s=0.06)
    async with (
        FakeCluster(1) as cluster,
        await everwrite.connect(cluster.url, timing=timing) as db,
    ):
        cluster.nodes[0].reply = lambda asked: [] if isinstance(asked, Put) else None

        with pytest.raises(everwrite.DeadlineExceeded):
            await db.bucket("things").put("k", b"v", timeout=0.2)

        assert db.counters.losses == 0


@in_loop
async def test_an_application_that_holds_up_the_loop_is_not_told_of_deadlines_that_were_kept() -> (
    None
):
    timing = replace(HASTY, abandon_s=30.0)
    async with (
        FakeCluster(1) as cluster,
        await everwrite.connect(cluster.url, timing=timing) as db,
    ):
        (node,) = cluster.nodes
        held: list[Put] = []
        node.reply = lambda asked: held.append(asked) or [] if isinstance(asked, Put) else None
        put = asyncio.ensure_future(db.bucket("things").put("k", b"v", timeout=0.5))
        await until(lambda: held)
        node.send(PutReply(held[0].rid, b"in time", 1, 0, 0, 1))

        time.sleep(0.6)  # noqa: ASYNC251 (that is what is tested)

        assert (await put).context == b"in time"


@in_loop
async def test_a_node_is_not_called_silent_while_the_application_holds_up_the_loop() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY) as db,
    ):
        things = db.bucket("things")
        put = asyncio.ensure_future(things.put("k", b"v"))
        get = asyncio.ensure_future(things.get("other"))
        await asyncio.sleep(0)  # both are queued, neither is sent

        time.sleep(0.1)  # noqa: ASYNC251 (that is what is tested)
        await asyncio.gather(put, get)

        assert db.counters.hedges == 0

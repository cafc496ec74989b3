"""A client's whole life: nodes come and go, seeds among them, until none is left that it knew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.client.fake_node import HASTY, STOIC, FakeCluster, FakeNode, in_loop, refreshed, until

import everwrite
from everwrite.client.sync import LoopThread
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Put


def removed(cluster: FakeCluster, node: FakeNode) -> None:
    """Have the cluster go by a list without this node, which stays up."""
    cluster.members = [member for member in cluster.members if member is not node]
    cluster.stamp += 1


async def replaced(cluster: FakeCluster, *, same_ports: bool) -> None:
    """Stop all nodes, and start as many others, as if one after the other had been replaced."""
    olds = list(cluster.nodes)
    cluster.nodes = [FakeNode(cluster, 10 + number) for number in range(len(olds))]
    cluster.members = list(cluster.nodes)
    cluster.stamp += 1
    for old, new in zip(olds, cluster.nodes, strict=True):
        await old.kill()
        new.port = old.port if same_ports else 0
        new.records = old.records
    for new in cluster.nodes:
        await new.start()


# -- nodes go --------------------------------------------------------------------------------------


@in_loop
async def test_an_answer_under_way_from_a_removed_node_is_waited_for() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=STOIC) as db:
        leaver = cluster.owners_of("k")[0]
        held: list[Any] = []

        def hold(asked: Any) -> list[AnyMessage] | None:
            if not isinstance(asked, Put):
                return None
            held.append(asked)
            return []

        leaver.reply = hold
        stored = asyncio.ensure_future(db.bucket("things").put("k", b"v"))
        await until(lambda: held)
        removed(cluster, leaver)
        db._cluster.refresh_soon()
        await refreshed(db, 2)
        for node in cluster.members:  # time enough for a connection to close
            await db.ask("status", node=node.name)
        leaver.reply = None
        leaver.send(leaver.honest_answer(held[0]))

        await stored

        assert (db.counters.failovers, db.counters.losses) == (0, 0)
        assert len(held) == 1


@in_loop
async def test_a_removed_node_that_never_answers_is_hung_up_on_and_another_one_asked() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        leaver = cluster.owners_of("k")[0]
        leaver.reply = lambda asked: [] if isinstance(asked, Put) else None
        stored = asyncio.ensure_future(db.bucket("things").put("k", b"v"))
        await until(lambda: leaver.requests(Put))
        removed(cluster, leaver)
        db._cluster.refresh_soon()

        await stored
        await until(lambda: not leaver.connections)


@pytest.mark.parametrize("retries", [1])
@in_loop
async def test_no_request_fails_after_one_retry_while_all_nodes_are_replaced_in_turn(
    retries: int,
) -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=HASTY, retries=retries) as db,
    ):
        things = db.bucket("things")
        done = 0
        over = False

        async def load(number: int) -> None:
            nonlocal done
            while not over:
                await things.put(f"{number}", done)
                await things.get(f"{number}")
                done += 1

        loads = [asyncio.create_task(load(number)) for number in range(8)]
        for number, old in enumerate(list(cluster.nodes)):
            new = FakeNode(cluster, 10 + number)
            await new.start()
            new.records = dict(old.records)
            cluster.nodes = [node for node in cluster.nodes if node is not old] + [new]
            cluster.members, cluster.stamp = list(cluster.nodes), cluster.stamp + 1
            for node in cluster.nodes:
                for key, record in old.records.items():
                    node.store(key, record)
            await new.greeted.get()
            await until(lambda old=old: not old.connections)  # type: ignore[misc]
            await old.kill()
        before = done
        await until(lambda: done > before + 20)
        over = True
        await asyncio.gather(*loads)

        assert {node.name for node in cluster.nodes if node.connections} == {"n10", "n11", "n12"}


# -- seeds -----------------------------------------------------------------------------------------


@in_loop
async def test_a_client_lives_on_by_its_members_when_its_only_seed_is_gone() -> None:
    async with FakeCluster() as cluster:
        seed, *others = cluster.nodes
        url = f"127.0.0.1:{seed.port}"
        async with await everwrite.connect(url, timing=HASTY) as db:
            things = db.bucket("things")
            for node in others:
                await node.greeted.get()
            removed(cluster, seed)
            await seed.kill()
            await things.put("k", b"1")
            for node in others:  # all connections gone at once: a switch that restarts
                await node.kill()
            await until(lambda: db.counters.losses >= 3)
            for node in others:
                await node.start()

            await things.put("other", b"2")

            assert (await things.get("other")).value == b"2"


@in_loop
async def test_other_nodes_at_the_members_addresses_are_asked_who_is_there_now() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        db._cluster._members._seeds = []  # they are gone as well
        await replaced(cluster, same_ports=True)

        found = await things.get("k")

        assert found.value == b"v"
        for node in cluster.nodes:
            assert (await db.ask("status", node=node.name))["node"]["name"] == node.name


@in_loop
async def test_a_request_waits_for_what_other_nodes_at_the_members_addresses_tell() -> None:
    # It is quick to look for others, and gives up nobody who was found.
    waits = {"suspect_s": 30.0, "abandon_s": 30.0, "dial_s": 30.0, "view_s": 30.0}
    patient = msgspec.structs.replace(HASTY, **waits)
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=patient) as db:
        things = db.bucket("things")
        await things.put("k", b"v")
        db._cluster._members._seeds = []
        await replaced(cluster, same_ports=True)
        held: list[tuple[FakeNode, Any]] = []

        def holding(node: FakeNode) -> Callable[[Any], list[AnyMessage]]:
            def hold(asked: Any) -> list[AnyMessage]:
                held.append((node, asked))
                return []

            return hold

        for node in cluster.nodes:
            node.reply = holding(node)
        asking = asyncio.ensure_future(things.get("k"))
        await until(lambda: len({id(node) for node, _ in held}) == 3)

        failed, _ = await asyncio.wait([asking], timeout=20 * patient.park_s)
        assert not failed, "it looks every park_s whether anybody can be reached"

        for node in cluster.nodes:
            node.reply = None
        for node, asked in held:
            node.send(node.honest_answer(asked))
        assert (await asking).value == b"v"


@in_loop
async def test_a_client_that_slept_through_a_complete_replacement_says_so() -> None:
    async with FakeCluster() as cluster:
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            things = db.bucket("things")
            await things.put("k", b"v")
            await replaced(cluster, same_ports=False)
            await until(lambda: db.counters.losses >= 3)

            for request in (things.get("k"), things.put("k", b"w"), db.ask("status")):
                with pytest.raises(everwrite.Unreachable, match="No node can be reached") as failed:
                    await request
                assert "If all of its nodes were replaced, connect again" in str(failed.value)
                assert failed.value.outcome == "none"

        async with await everwrite.connect(cluster.url) as db:
            assert (await db.bucket("things").get("k")).value == b"v"


@in_loop
async def test_a_client_closes_while_it_asks_a_stranger_who_is_there() -> None:
    async with FakeCluster() as cluster:
        db = await everwrite.connect(cluster.url, timing=HASTY)
        await replaced(cluster, same_ports=True)
        for node in cluster.nodes:
            node.reply = lambda _: []
        await until(lambda: any(node.asked for node in cluster.nodes))

        await db.close()

        await until(lambda: not any(node.connections for node in cluster.nodes))


@in_loop
async def test_a_client_that_is_closed_while_a_seed_is_asked_leaves_no_connection_open() -> None:
    """The answer that it waits for is given up, and its task cancelled, in one turn: so the task
    hears of the end alone, while the connection is in nobody's hands but its own.
    """
    async with FakeCluster() as cluster:
        db = await everwrite.connect(cluster.url, timing=HASTY)
        seed = FakeNode(cluster, 10)
        await seed.start()
        cluster.nodes.append(seed)
        seed.reply = lambda _: []
        db._cluster._members._seeds = [("127.0.0.1", seed.port)]  # that no link leads to
        for node in cluster.nodes[:-1]:
            await node.kill()
        db._cluster.refresh_soon()
        await until(lambda: seed.asked)
        assert seed.connections

        await db.close()

        await until(lambda: not seed.connections)


@in_loop
async def test_the_error_of_a_large_cluster_names_some_of_its_nodes() -> None:
    async with FakeCluster(11) as cluster:
        async with await everwrite.connect(cluster.url, timing=HASTY) as db:
            for node in cluster.nodes:  # each is connected, then
                await db.ask("status", node=node.name)
            for node in cluster.nodes:
                await node.kill()
            await until(lambda: db.counters.losses >= 11)

            with pytest.raises(everwrite.Unreachable, match="; and 3 more") as failed:
                await db.bucket("things").put("k", b"v")

        assert str(failed.value).count("127.0.0.1") == 8


# -- the blocking client ---------------------------------------------------------------------------


def test_the_blocking_client_follows_the_nodes_and_says_when_all_are_gone() -> None:
    thread, cluster = LoopThread("fake-nodes"), FakeCluster(4)
    thread.run(cluster.__aenter__())
    try:
        with everwrite.connect_sync(cluster.url, timing=HASTY) as db:
            things = db.bucket("things")
            things.put("k", "v")
            removed(cluster, cluster.owners_of("k")[0])
            for number in range(20):
                things.put(f"k{number}", number)
            assert things.get("k").value == "v"

            thread.run(replaced(cluster, same_ports=False))

            with pytest.raises(everwrite.Unreachable, match="connect again"):
                things.get("k")
    finally:
        thread.run(cluster.__aexit__())
        thread.stop()

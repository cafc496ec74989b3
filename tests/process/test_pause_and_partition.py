"""Real nodes that hang, and networks that are cut in two: writes go on, and come together after."""

from __future__ import annotations

from os import urandom
from pathlib import Path
from typing import Any

import pytest
from tests.process.clusters import (
    all_hints_home,
    all_owners_agree,
    cluster,
    connect,
    in_loop,
    seen_down,
)
from tests.process.load import BUCKET, Load
from tests.server.nodes import Raw, a_put

from everwrite.cli.devcluster import DevCluster
from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import Failure, PutReply

pytestmark = pytest.mark.process


@pytest.mark.scenario(20)
@in_loop
async def test_a_node_that_hangs_fails_no_request_and_is_brought_up_to_date_after(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made, await connect(made, retries=2) as db:
        async with Load(db) as load:
            await load.more(500)
            made.pause(2)
            await load.more(500)
            await seen_down(made, 1, "n2")
            await load.more(1000)
            await made.resume(2)
            await load.more(500)

        assert load.errors == []
        await all_hints_home(made)
        await all_owners_agree(made, BUCKET, load.acked)
        await load.check(db)


@in_loop
async def test_a_node_that_hangs_for_a_moment_keeps_its_connections(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, await connect(made, retries=2) as db:
        async with Load(db) as load:
            for number in (1, 2, 3):
                made.pause(number)
                await load.more(100)
                await made.resume(number)
                await load.more(100)

        assert load.errors == []
        await all_owners_agree(made, BUCKET, load.acked)
        await load.check(db)


@in_loop
async def test_both_sides_of_a_partition_take_writes_and_both_are_found_after(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        assert await made.partition("n1|n2,n3") == []
        await seen_down(made, 1, "n2")
        await seen_down(made, 2, "n1")
        one = await put_through(made, 1, "alice", b"milk", w=1)
        two = await put_through(made, 2, "alice", b"bread", w=2)
        assert (one.owners, two.owners) == (1, 2)

        assert await made.heal() == []
        await all_hints_home(made)

        await all_owners_agree(made, BUCKET, ["alice"])
        async with await connect(made) as db:
            found = await db.bucket(BUCKET).get("alice", r=3)
        assert sorted(found.values) == [b"bread", b"milk"]


@in_loop
async def test_the_smaller_side_says_that_it_has_no_quorum_and_the_write_comes_home_all_the_same(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        await made.partition("n1|n2,n3")

        failed = await refused_through(made, 1, "alice", b"milk", w=2)

        assert (failed.code, failed.outcome) == ("quorum_not_met", "unknown")
        assert (failed.acked, failed.required) == (1, 2)
        await seen_down(made, 1, "n2")
        await seen_down(made, 1, "n3")
        failed = await refused_through(made, 1, "bob", b"milk", w=2)
        assert (failed.code, failed.outcome) == ("quorum_not_met", "none")

        await made.heal()
        await all_hints_home(made)
        await all_owners_agree(made, BUCKET, ["alice", "bob"])
        async with await connect(made) as db:
            assert (await db.bucket(BUCKET).get("alice", r=3)).values == [b"milk"]
            assert (await db.bucket(BUCKET).get("bob", r=3)).quality.absent == "never"


@in_loop
async def test_a_cut_one_way_loses_nothing_and_heals(tmp_path: Path) -> None:
    """n1 does not hear n2, and n2 hears n1: neither must wait for the other for ever."""
    async with cluster(tmp_path) as made, await connect(made, retries=2) as db:
        async with Load(db) as load:
            await load.more(300)
            assert await made.partition("n2>n1") == []
            await load.more(600)
            await seen_down(made, 1, "n2")
            await load.more(600)
            assert await made.heal() == []
            await load.more(300)

        assert load.errors == []
        await all_hints_home(made)
        await all_owners_agree(made, BUCKET, load.acked)
        await load.check(db)


@in_loop
async def test_under_load_a_partition_fails_no_request_of_clients_that_reach_both_sides(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, nodes=5) as made, await connect(made, retries=2) as db:
        async with Load(db) as load:
            await load.more(300)
            await made.partition("n1,n2|n3,n4,n5")
            await load.more(600)
            await seen_down(made, 1, "n3")
            await seen_down(made, 3, "n1")
            await load.more(600)
            await made.heal()
            await load.more(300)

        assert load.errors == []
        await all_hints_home(made)
        await all_owners_agree(made, BUCKET, load.acked)
        await load.check(db)


@in_loop
async def test_a_cut_holds_for_a_node_that_restarts_meanwhile(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.partition("n1|n2,n3")
        await made.restart(1)
        await seen_down(made, 2, "n1")

        done = await put_through(made, 2, "alice", b"milk", w=2)

        assert (done.owners, done.fallbacks) == (2, 0)
        await made.heal()
        await all_hints_home(made)
        await all_owners_agree(made, BUCKET, ["alice"])


async def answer_through(made: DevCluster, number: int, key: str, value: bytes, w: int) -> Any:
    """Put through one node, whatever it can reach, and return what it answers."""
    async with await Raw.enter(made.node(number).address) as raw:
        name = data_key(BUCKET.encode(), key.encode())
        return await raw.call(a_put(value, name, w=w, op=urandom(12), timeout_ms=2000))


async def put_through(made: DevCluster, number: int, key: str, value: bytes, w: int) -> PutReply:
    reply = await answer_through(made, number, key, value, w)
    assert isinstance(reply, PutReply), reply
    return reply


async def refused_through(made: DevCluster, number: int, key: str, value: bytes, w: int) -> Failure:
    failed = await answer_through(made, number, key, value, w)
    assert isinstance(failed, Failure), failed
    return failed


@in_loop
async def test_a_try_that_lay_in_a_hanging_node_does_not_undo_a_delete(tmp_path: Path) -> None:
    """Another node carried the put out, and it was deleted, before its first try was read."""
    async with cluster(tmp_path) as made, await connect(made, retries=2) as db:
        bucket = db.bucket(BUCKET)
        key = await key_that_goes_first_to(db, "n2")
        made.pause(2)
        await bucket.put(key, "old", timeout=1.0)
        found = await bucket.get(key)
        await bucket.delete(key, context=found.context)
        await made.resume(2)

        # What was sent to the node after it went on is answered after what lay in its socket.
        await db.ask("status", node="n2")
        await all_hints_home(made)

        assert (await bucket.get(key)).values == []


async def key_that_goes_first_to(db: Any, name: str) -> str:
    for number in range(1000):
        located = await db.ask("locate", {"bucket": BUCKET, "key": f"late-{number}"})
        if located["preference"][0]["name"] == name:
            return f"late-{number}"
    raise AssertionError(f"no key goes first to {name}")

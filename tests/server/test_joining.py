"""A node that comes to a cluster, or founds one: who is let in, and when it serves."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    KEY,
    Nodes,
    Raw,
    a_put,
    an_honest_hello,
    contents,
    end,
    eventually,
    still_serves,
    until,
)

import everwrite
from everwrite.cli.devplan import find_base_port
from everwrite.core.errors import (
    DeniedError,
    OtherCluster,
)
from everwrite.core.handshake import NODE_ID_BYTES, NONCE_BYTES, Identity, answer
from everwrite.core.messages.greeting import Hello
from everwrite.core.messages.requests import Failure, Fetch, Get, PutReply
from everwrite.core.wire import FrameReader, encode_frame
from everwrite.server import inquiry
from everwrite.server.rarely import MATTERS_MAX, EachRarely, Rarely


@in_loop
async def test_a_newcomer_to_a_cluster_with_data_comes_in_and_gets_its_share(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            assert isinstance(await raw.call(a_put()), PutReply)

        (late,) = await nodes.grow("late")

        assert late.driver.disk.store.get(b"d" + KEY) is not None
        async with await everwrite.connect(nodes.url()) as db:
            assert [len(copy.values) for copy in await db.replicas("carts", "alice")] == [1, 1]


@in_loop
async def test_a_seed_that_stays_silent_costs_no_file_for_each_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inquiry, "DIAL_S", 0.05)
    hung_up = asyncio.Event()

    class Silent(asyncio.Protocol):
        def connection_lost(self, error: Exception | None) -> None:
            hung_up.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Silent, "127.0.0.1", 0)
    seed = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    me = Identity(name="late", node_id=b"n" * NODE_ID_BYTES)
    asking = loop.create_task(inquiry.ask_cluster((seed,), b"", me))
    try:
        await asyncio.wait_for(hung_up.wait(), 5)
        assert not asking.done()
    finally:
        asking.cancel()
        server.close()


@in_loop
async def test_a_newcomer_with_a_name_that_is_taken_is_refused_and_ends(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (node,) = await nodes.grow("n1")
        before = contents(node)

        with pytest.raises(DeniedError, match="There is a node named 'n1' already") as caught:
            await nodes.start("twin", name="n1", join=(node.address,))

        assert caught.value.hint == "Give each node a name of its own (--name)."
        assert contents(node) == before


@in_loop
async def test_a_newcomer_is_not_turned_away_by_one_that_has_not_heard_that_its_name_is_free(
    tmp_path: Path,
) -> None:
    """A node of this name left while that member was away; another one knows it."""
    me = Identity(name="n1", node_id=b"n" * NODE_ID_BYTES)
    async with Nodes(tmp_path) as nodes:
        (away,) = await nodes.grow("n1")
        knows = await nodes.start("other")

        said = await inquiry.ask_cluster((away.address, knows.address), b"", me)
        with pytest.raises(DeniedError, match="There is a node named 'n1' already"):
            await inquiry.ask_cluster((away.address,), b"", me)

    assert said.cluster_id == knows.node.local.cluster.cluster_id


@in_loop
async def test_a_newcomer_with_another_secret_is_refused_and_ends(tmp_path: Path) -> None:
    async with Nodes(tmp_path, secret=b"open sesame") as nodes:
        (node,) = await nodes.grow("n1")

        with pytest.raises(DeniedError, match="has another secret") as caught:
            await nodes.start("n2", join=(node.address,), secret=b"another")

        assert "EVERWRITE_SECRET" in caught.value.hint
        assert len(node.node.local.members) == 1


@in_loop
async def test_a_node_ends_if_all_whom_it_is_to_join_are_of_another_cluster(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (mine,) = await nodes.grow("n1")
        await nodes.stop("n1")
        other = await nodes.start("other")

        back = await nodes.start("n1", join=(other.address,))
        why = await end(back)

        assert isinstance(why, OtherCluster)
        mine_id, other_id = (each.node.local.cluster.cluster_id.hex() for each in (mine, other))
        assert f"'n1' belongs to cluster everwrite ({mine_id})" in why.message
        assert f"another one: {other.address}" in why.message
        assert why.hint.endswith("Nothing was changed.")
        assert mine_id != other_id
        assert await still_serves(other)


@in_loop
async def test_a_node_that_is_alone_says_so_and_its_writes_are_spoken_of_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        port = find_base_port(1) + 1
        seed = f"127.0.0.1:{port}"

        back = await nodes.start("n1", join=(seed,))

        async def warned() -> bool:
            return f"No node of its cluster answers at {seed}. 'n1' is alone" in caplog.text

        await eventually(warned, "it says that it is alone")
        async with await Raw.enter(back) as raw:
            assert isinstance(await raw.call(a_put()), PutReply)
        other = await nodes.start("other", port=port)
        why = await end(back)
        assert isinstance(why, OtherCluster)
        assert "What was written here meanwhile is in this directory." in why.hint
        assert "Nothing was changed" not in why.hint
        assert await still_serves(other)


@in_loop
async def test_a_node_with_another_one_in_its_cluster_is_not_called_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await nodes.grow("n1", "n2")
        address = one.address
        await nodes.stop("n1")
        await nodes.stop("n2")

        back = await nodes.start("n2", join=(address,))

        async def dialled() -> bool:
            return bool(back.peers._silent)

        await eventually(dialled, "it has looked for n1 in vain")
        assert not [line for line in caplog.messages if line.startswith("alone")]


@in_loop
async def test_a_wrong_address_among_right_ones_ends_no_node(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        one, _ = await nodes.grow("n1", "n2")
        await nodes.stop("n2")
        other = await nodes.start("other")

        back = await nodes.start("n2", join=(other.address, one.address))
        new = await nodes.start("n3", join=(one.address, other.address))
        del nodes.running["other"]
        await nodes.met()
        alone = await nodes.start("n2b", join=(one.address, other.address))
        await nodes.met()

        assert not any(each.failed.done() for each in (back, new, alone))
        await other.stop()


@in_loop
async def test_what_both_sides_hear_of_two_clusters_is_true_of_both(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        one = await nodes.start("n1")
        two = await nodes.start("n2")
        ids = [each.node.local.cluster.cluster_id for each in (one, two)]

        async with await Raw.dial(one) as raw:
            raw.send(an_honest_hello(cluster_id=ids[1], name="n2"))
            refused = await raw.refusal()

        assert refused.message == (
            f"'n2' belongs to cluster {ids[1].hex()}, 'n1' to {ids[0].hex()}."
        )


@in_loop
async def test_a_seed_that_is_not_there_is_told_ever_less_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    asked, ask = 0, inquiry._ask

    async def noted(*args: Any) -> Hello:
        nonlocal asked
        asked += 1
        return await ask(*args)

    monkeypatch.setattr(inquiry, "_ask", noted)
    began = time.monotonic()
    joining = asyncio.ensure_future(Nodes().start("n1", join=("127.0.0.1:1",)))

    await until(lambda: asked >= 5, "it is asked again and again")

    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    lines = [line for line in caplog.messages if line.startswith("no answer yet ")]
    assert 1 <= len(lines) <= 1 + math.log2(1 + time.monotonic() - began)
    assert "seed=127.0.0.1:1:" in lines[0]


def test_what_goes_on_is_due_at_once_and_then_ever_less_often() -> None:
    rarely, each = Rarely(), EachRarely()

    due = [second for second in range(400) if rarely.due(float(second))]

    assert due == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    assert [each.due(what, 5.0) for what in "abab"] == [True, True, False, False]
    assert [each.due(what, 6.0) for what in "ac"] == [True, True]
    for number in range(MATTERS_MAX):
        assert each.due(number, 6.0), "a flood of names is forgotten, and takes no memory"
    assert len(each) <= MATTERS_MAX


@in_loop
async def test_a_node_that_has_not_met_its_cluster_yet_serves_no_client(tmp_path: Path) -> None:
    """With what it took alone it would hold data, and no cluster would have it any more."""
    async with Nodes(tmp_path) as nodes, seed_that_says_hello_only() as seed:
        joiner = await nodes.start("n1", join=(seed,))
        before = contents(joiner)

        async with await Raw.enter(joiner) as raw:
            for request in (a_put(), Get(2, KEY, 1000), Fetch(3, KEY, 1000)):
                failed = await raw.call(request)
                assert isinstance(failed, Failure)
                assert (failed.code, failed.outcome) == ("unavailable", "none")
                assert "does not know its cluster yet" in failed.message
                assert failed.hint.startswith("Nothing was done. Try again in a moment")

        assert not (await nodes.status("n1"))["node"]["ready"]
        assert contents(joiner) == before


@in_loop
async def test_a_node_serves_as_soon_as_it_has_met_its_cluster(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        _, joiner = await nodes.grow("n1", "n2")
        assert (await nodes.status("n2"))["node"]["ready"]

        async with await Raw.enter(joiner) as raw:
            reply = await raw.call(a_put())

        assert isinstance(reply, PutReply)
        assert (reply.owners, reply.required) == (2, 2)


@asynccontextmanager
async def seed_that_says_hello_only() -> AsyncIterator[str]:
    """A node to join that never gets as far as telling its members; gives its address."""
    identity = Identity(
        name="seed",
        cluster_id=b"c" * 16,
        node_id=b"seedseed",
        cluster_name="slow",
        partitions=16,
        replicas=3,
        salt=b"s" * 32,
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader(1 << 20)
        while data := await reader.read(1 << 16):
            for message in frames.feed(data):
                if isinstance(message, Hello):
                    reply = answer(identity, b"", b"n" * NONCE_BYTES, message)
                    writer.write(encode_frame([reply]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@in_loop
async def test_a_node_without_join_founds_a_cluster_and_serves_at_once(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        node = await nodes.start("n1")

        async with await Raw.enter(node) as raw:
            reply = await raw.call(a_put())

        assert isinstance(reply, PutReply)
        assert (reply.owners, reply.required) == (1, 1)

"""One process for each identity: copies and old directories are refused and stop."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    PATIENCE_S,
    Nodes,
    Raw,
    an_honest_hello,
    contents,
    copies,
    end,
    errors,
    eventually,
    rule,
    still_serves,
)

from everwrite.core.errors import EverwriteError, Fenced
from everwrite.core.handshake import refusal
from everwrite.core.messages.greeting import Hello, Refused
from everwrite.core.messages.members import IN, Member, News
from everwrite.core.wire import FrameReader, encode_frame
from everwrite.server import peers
from everwrite.server.fences import fits
from everwrite.server.state import FENCED, NODE, NodeState
from everwrite.server.transport import Connection
from everwrite.storage.store import open_store


def test_only_the_same_start_or_a_later_one_may_take_the_place_of_one_that_is_known() -> None:
    assert fits((1, b"a"), None)
    assert fits((2, b"a"), (2, b"a"))
    assert fits((3, b"b"), (2, b"a"))
    assert not fits((2, b"b"), (2, b"a"))
    assert not fits((1, b"a"), (2, b"a"))


def marked(directory: Path) -> bool:
    """Say whether a stopped node's directory knows that it was refused for good."""
    with open_store(directory, "sqlite") as store:
        return store.get(FENCED) is not None


def start_often(directory: Path, starts: int) -> None:
    """Make a directory look as if its node had been started so often."""
    with open_store(directory, "sqlite") as store:
        data = store.get(NODE)
        assert isinstance(data, bytes)
        state = msgspec.msgpack.decode(data, type=NodeState)
        state.incarnation = starts
        store.write([(NODE, msgspec.msgpack.encode(state))])
        store.sync()


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.scenario(64)
@in_loop
async def test_a_copy_of_a_data_directory_is_refused_by_its_original_and_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two nodes with one id would each take the other's acks for their own."""
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n1")
        await nodes.stop("n1")
        shutil.copytree(tmp_path / "n1", tmp_path / "copy")
        original = await nodes.start("n1")
        before = contents(original)

        copy = await nodes.start("copy", name="n1", join=(original.address,))
        error = await end(copy)

        assert isinstance(error, Fenced)
        assert "Two processes run as node 'n1'" in error.message
        assert "never copy one" in error.hint

        async def said() -> bool:
            return "Two processes run as node 'n1'" in errors(caplog)

        await eventually(said, "the original says so loudly")
        assert contents(original) == before
        assert await still_serves(original)
        assert not original.failed.done()


@pytest.mark.scenario(64)
@in_loop
async def test_a_copy_that_meets_another_member_is_refused_and_stays_out_however_often_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        _, other = await nodes.grow("n1", "n2")
        await nodes.stop("n1")
        shutil.copytree(tmp_path / "n1", tmp_path / "copy")
        original = await nodes.start("n1", join=(other.address,))
        await nodes.met()

        error = await end(await nodes.start("copy", name="n1", join=(other.address,)))
        await nodes.stop("copy")

        assert isinstance(error, Fenced)
        assert "Two processes run as node 'n1'" in errors(caplog)
        for _ in range(2):  # each start would have a higher incarnation
            with pytest.raises(Fenced, match="node was refused: Two processes") as caught:
                await nodes.start("copy", name="n1", join=(other.address,))
            assert "--rejoin-as-new" in caught.value.hint
        assert not original.failed.done()
        await nodes.met()


@in_loop
async def test_a_later_start_waits_without_requests_while_an_earlier_one_is_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a copy, made while its original ran: what it has may be old."""
    async with Nodes(tmp_path) as nodes:
        _, other = await nodes.grow("n1", "n2")
        await nodes.stop("n1")
        shutil.copytree(tmp_path / "n1", tmp_path / "copy")
        original = await nodes.start("n1", join=(other.address,))
        await nodes.met()
        start_often(tmp_path / "copy", 7)

        copy = await nodes.start("copy", name="n1", join=(other.address,))

        async def said() -> bool:
            return "still runs as an earlier start, and is heard" in caplog.text

        await eventually(said, "it is said loudly")
        assert copy.node.doubted
        assert not original.failed.done()
        assert not copy.failed.done()
        await nodes.stop("n1")

        async def let_in() -> bool:
            return not copy.node.doubted

        await eventually(let_in, "it is let in once the earlier one is gone")
        nodes.running["n1"] = nodes.running.pop("copy")
        await nodes.met()


@in_loop
async def test_a_copy_that_comes_again_and_again_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "BACKOFF_MAX_S", 0.05)
    async with Nodes(tmp_path) as nodes:
        _, other = await nodes.grow("n1", "n2")
        await nodes.stop("n1")
        shutil.copytree(tmp_path / "n1", tmp_path / "copy")
        await nodes.start("n1", join=(other.address,))
        await nodes.met()
        start_often(tmp_path / "copy", 7)
        began = time.monotonic()
        copy = await nodes.start("copy", name="n1", join=(other.address,))
        heard, told = [], copy.peers.told

        def hear(connection: Connection, error: EverwriteError) -> None:
            heard.append(error)
            told(connection, error)

        monkeypatch.setattr(copy.peers, "told", hear)

        async def often() -> bool:
            return len(heard) >= 40

        await eventually(often, "the copy is refused often")
        most = 2 * math.ceil(2 + math.log2(1 + time.monotonic() - began))  # two members tell it
        for line in ("connection ended", "connection refused"):
            said = [each for each in caplog.messages if each.startswith(line)]
            assert 1 <= len(said) <= most, said


@pytest.mark.scenario(70)
@in_loop
async def test_a_directory_restored_from_an_old_copy_is_refused_for_good(tmp_path: Path) -> None:
    """It has lost what it acknowledged since, and would count in quorums."""
    async with Nodes(tmp_path) as nodes:
        _, other = await nodes.grow("n1", "n2")
        await nodes.stop("n1")
        shutil.copytree(tmp_path / "n1", tmp_path / "backup")
        for _ in range(2):
            await nodes.start("n1", join=(other.address,))
            await nodes.met()
            await nodes.stop("n1")
        shutil.rmtree(tmp_path / "n1")
        shutil.copytree(tmp_path / "backup", tmp_path / "n1")
        before = copies(tmp_path / "n1")

        error = await end(await nodes.start("n1", join=(other.address,)))
        await nodes.stop("n1")

        assert isinstance(error, Fenced)
        assert "an older copy of the data directory" in error.message
        for _ in range(3):
            with pytest.raises(Fenced, match="an older copy of the data directory"):
                await nodes.start("n1")
        assert copies(tmp_path / "n1") == before


@in_loop
async def test_a_node_that_hears_of_another_life_of_itself_stops_and_may_start_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody refused it: an operator may choose it to be the one that stays."""
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")
        me = one.node.local.members.me
        twin = msgspec.structs.replace(me, life=b"another!", port=1)

        two.node.out.send(one.node.local.me, News([twin], []))
        two.driver.soon()
        error = await end(one)

        assert isinstance(error, Fenced)
        assert "Another process runs as node 'n1'" in error.message
        assert "two processes run as node 'n1'" in errors(caplog)
        await nodes.stop("n1")
        assert not marked(tmp_path / "n1")
        again = await nodes.start("n1", join=(two.address,))
        await nodes.met()
        assert not again.failed.done()


@in_loop
async def test_a_node_that_hears_of_a_later_start_of_itself_stops_for_good(tmp_path: Path) -> None:
    """It is the older copy, and each of its starts has a higher number: without a mark it would
    come in as the newest one before long.
    """
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")
        me = one.node.local.members.me
        later = me.incarnation + 1
        twin = msgspec.structs.replace(me, life=b"another!", port=1, incarnation=later)

        two.node.out.send(one.node.local.me, News([twin], []))
        two.driver.soon()
        error = await end(one)

        assert isinstance(error, Fenced)
        assert f"came as its start number {me.incarnation}, and number {later}" in error.message
        await nodes.stop("n1")
        assert marked(tmp_path / "n1")
        for _ in range(2):
            with pytest.raises(Fenced, match="an older copy of the data directory"):
                await nodes.start("n1", join=(two.address,))


@in_loop
async def test_a_node_says_loudly_that_two_processes_of_another_one_were_heard_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Nodes() as nodes:
        one, two, three = await nodes.grow("n1", "n2", "n3")
        entry = three.node.local.members.me
        twin = msgspec.structs.replace(entry, life=b"another!")

        two.node.out.send(one.node.local.me, News([twin], []))
        two.driver.soon()

        async def said() -> bool:
            return "two processes run as node 'n3'" in errors(caplog)

        await eventually(said, "the copy is spoken of")
        assert not one.failed.done()


# -- whose word counts -----------------------------------------------------------------------------


@in_loop
async def test_a_stranger_that_proves_nothing_cannot_stop_a_node() -> None:
    """Whoever listens where a member was could stop a cluster with one word."""
    heard = asyncio.Event()

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader(1 << 20)
        while data := await reader.read(1 << 16):
            for message in frames.feed(data):
                if isinstance(message, Hello):
                    writer.write(encode_frame([refusal(Fenced("You are out."))]))
                    heard.set()
        writer.close()

    async with Nodes() as nodes, await asyncio.start_server(lie, "127.0.0.1", 0) as server:
        (founder,) = await nodes.grow("n1")
        there = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        node = await nodes.start("n2", join=(founder.address, there))
        await nodes.met()
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()

        await nodes.settled()
        assert not node.failed.done()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"life": b"short", "node_id": b"newcomer"}, "life has an impossible length"),
        ({"life": b"l" * 8}, "is no node's"),
        ({"life": b"l" * 8, "node_id": b"newcomer", "incarnation": -1}, "incarnation -1 is not"),
    ],
)
@in_loop
async def test_a_start_that_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.send(an_honest_hello(**fields))

            refused = await raw.refusal()

        assert refused.code == "protocol"
        assert says in refused.message
        assert await still_serves(node)


@in_loop
async def test_a_peer_that_ends_a_line_with_a_word_is_heard_and_nothing_else_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            await raw.greet(node_id=b"newcomer", life=b"l" * 8, incarnation=1, name="n2")
            raw.send(Refused("overloaded", "Not now."))

            async def said() -> bool:
                return "ended node=n1 by=n2 code=overloaded: Not now." in caplog.text

            await eventually(said, "the reason is logged")
        assert await still_serves(node)
        assert not node.failed.done()


@in_loop
async def test_a_node_that_is_known_by_its_ruling_alone_comes_in_and_its_name_is_taken() -> None:
    """Rulings and entries spread apart: who was ruled in elsewhere must not be kept out here."""
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        ruled = Member(b"newcomer", "n2", "127.0.0.1", 1, "z", 1.0, 0, 0)
        rule(node, ruled, IN)
        async with await Raw.dial(node) as raw:
            raw.send(an_honest_hello(node_id=b"stranger", life=b"l" * 8, incarnation=1, name="n2"))
            assert "a node named 'n2' already" in (await raw.refusal()).message

        async with await Raw.dial(node) as raw:
            await raw.greet(node_id=b"newcomer", life=b"l" * 8, incarnation=1, name="n2")

            async def is_in() -> bool:
                return b"newcomer" in node.driver.lines

            await eventually(is_in, "it has its place")

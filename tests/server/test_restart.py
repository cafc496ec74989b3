"""A node that starts again: who it is, where it is, and what it keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    Nodes,
    Raw,
    a_put,
    eventually,
)
from tests.server.test_fences import start_often

import everwrite
from everwrite.cli.devplan import find_base_port
from everwrite.core.config import STAMP_BITS, STARTS_MAX
from everwrite.core.errors import (
    ConfigError,
)
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import CONFIRMED
from everwrite.server.state import NODE
from everwrite.storage.store import open_store


@in_loop
async def test_a_restart_keeps_identity_cluster_members_and_data(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        before, *_ = await nodes.grow("n1", "n2", "n3")
        async with await everwrite.connect(nodes.url()) as db:
            await db.bucket("carts").put("alice", "milk", w=3)
        me, cluster = before.node.local.members.me, before.node.local.cluster
        await nodes.stop("n1")

        after = await nodes.start("n1", port=me.port)
        await nodes.met()

        again = after.node.local.members.me
        assert (again.node_id, again.name, after.node.local.cluster) == (
            me.node_id,
            me.name,
            cluster,
        )
        assert again.incarnation == me.incarnation + 1
        assert len(after.node.local.members) == 3
        async with await everwrite.connect(after.address) as db:
            assert (await db.bucket("carts").get("alice", r=3)).value == "milk"


@in_loop
async def test_a_start_counts_on_above_a_floor_that_an_earlier_build_gave(tmp_path: Path) -> None:
    """Else every copy that it sends would be older than its own floor, and refused by all."""
    floor = (50 << STAMP_BITS) + 7
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        with open_store(tmp_path / "n1", "sqlite") as store:
            store.write([(CONFIRMED, floor.to_bytes(8, "big"))])

        again = await nodes.start("n1")

        assert again.node.local.members.me.incarnation == 51
        assert again.node.local.stamp > floor


@in_loop
async def test_the_last_start_that_there_can_be_still_counts_and_there_is_none_behind_it(
    tmp_path: Path,
) -> None:
    """Beyond it a stamp has more than 64 bits, and no message could carry it."""
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        start_often(tmp_path / "n1", STARTS_MAX - 1)

        last = await nodes.start("n1")
        assert last.node.local.members.me.incarnation == STARTS_MAX
        assert last.node.local.stamp < 1 << 64
        await nodes.stop("n1")
        before = state_in(tmp_path / "n1")

        with pytest.raises(ConfigError, match="start number 16777216: there are 16777215 at most"):
            await nodes.start("n1")

        assert state_in(tmp_path / "n1") == before
        with open_store(tmp_path / "n1", "sqlite") as store:
            store.write([(NODE, before), (CONFIRMED, b"\xff" * 8)])
        start_often(tmp_path / "n1", 3)
        with pytest.raises(ConfigError, match="what it says was damaged"):
            await nodes.start("n1")


def state_in(directory: Path) -> bytes:
    """Return what a stopped node's directory says of the node."""
    with open_store(directory, "sqlite") as store:
        data = store.get(NODE)
    assert isinstance(data, bytes)
    return data


@pytest.mark.scenario(38)
@in_loop
async def test_all_nodes_may_come_back_at_other_addresses(tmp_path: Path) -> None:
    """What tells a node is its id; where it listens is news that spreads."""
    async with Nodes(tmp_path) as nodes:
        runtimes = await nodes.grow("n1", "n2", "n3")
        ids = sorted(runtime.node.local.me for runtime in runtimes)
        for name in ("n1", "n2", "n3"):
            await nodes.stop(name)

        first = await nodes.start("n1")
        await nodes.start("n2", join=(first.address,))
        await nodes.start("n3", join=(first.address,))
        await nodes.met()

        for runtime in nodes.running.values():
            assert sorted(member.node_id for member in runtime.node.local.members) == ids


@in_loop
async def test_a_node_is_reached_where_it_says_and_not_where_it_listens(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        port = find_base_port(1)
        relay = await relay_to(port)
        there = "{}:{}".format(*relay.sockets[0].getsockname())
        founder = await nodes.start("n1", port=port, advertise=there)
        await nodes.start("n2", join=(there,))
        await nodes.met()
        await nodes.settled()

        answer = await nodes.status("n2")
        async with await everwrite.connect(there) as db:
            stored = await db.bucket("carts").put("alice", "milk", w=2)

        assert founder.address == there
        assert {peer["address"] for peer in answer["nodes"] if peer["name"] == "n1"} == {there}
        assert stored.owners == 2
        relay.close()


@in_loop
async def test_a_node_that_is_told_to_join_itself_by_its_inner_address_does_not(
    tmp_path: Path,
) -> None:
    """One list of addresses for all nodes is what people write."""
    async with Nodes(tmp_path) as nodes:
        port = find_base_port(1)
        founder = await nodes.start("n1")
        mine = await nodes.start(
            "n2",
            port=port,
            advertise=f"localhost:{port}",
            join=(founder.address, f"127.0.0.1:{port}"),
        )
        await nodes.met()

        assert mine.node.ready
        assert not mine.failed.done()


async def relay_to(port: int) -> asyncio.Server:
    """Pass on what comes to another port, as address translation does."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    return await asyncio.start_server(relay, "127.0.0.1", 0)


@in_loop
async def test_a_restart_keeps_the_hints_and_delivers_them(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        runtimes = await nodes.grow("n1", "n2", "n3")
        await nodes.stop("n3")
        async with await everwrite.connect(runtimes[0].address) as db:
            for number in range(20):
                await db.bucket("carts").put(f"{number}", "milk")
        waiting = {name: (await nodes.status(name))["hints"]["waiting"] for name in ("n1", "n2")}
        held = {name: (await nodes.status(name))["hints"]["bytes"] for name in ("n1", "n2")}
        assert sum(waiting.values()) >= 20 and sum(held.values()) > 20 * 30

        for name in ("n1", "n2"):
            port = nodes.running[name].node.local.members.me.port
            await nodes.stop(name)
            await nodes.start(name, port=port)

            async def counted(name: str = name) -> bool:
                return bool((await nodes.status(name))["hints"]["counted"])

            await eventually(counted, "all hints on the disk are counted")
            kept = (await nodes.status(name))["hints"]
            assert kept["bytes"] == held[name]
            assert kept["waiting"] == waiting[name]
            assert kept["by_owner"] == ({"n3": waiting[name]} if waiting[name] else {})
        await nodes.start("n3", port=runtimes[2].node.local.members.me.port)
        await nodes.met()

        async def delivered() -> bool:
            return not sum([(await nodes.status(n))["hints"]["waiting"] for n in nodes.running])

        await eventually(delivered, "all hints are home")
        async with await everwrite.connect(nodes.url()) as db:
            for number in range(20):
                copies = await db.replicas("carts", f"{number}")
                assert len({copy.record for copy in copies}) == 1
                assert [copy.values for copy in copies] == [["milk"]] * 3


@in_loop
async def test_the_name_is_fixed_once_data_is_there(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        node = await nodes.start("n1")
        async with await Raw.enter(node) as raw:
            assert isinstance(await raw.call(a_put()), PutReply)
        await nodes.stop("n1")
        with open_store(tmp_path / "n1", "sqlite") as store:
            before = list(store.scan(b"", b"\xff", 1000))

        with pytest.raises(ConfigError, match="was started with name = 'n1'") as caught:
            await nodes.start("n1", name="other")

        assert caught.value.hint.startswith("Leave out --name")
        with open_store(tmp_path / "n1", "sqlite") as store:
            assert list(store.scan(b"", b"\xff", 1000)) == before


@in_loop
async def test_a_restart_without_zone_weight_and_name_keeps_them(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n1", zone="rack 1", weight=3.0)
        await nodes.stop("n1")

        again = await nodes.start("n1", name="", default_name="elsewhere-7400")

        me = again.node.local.members.me
        assert (me.name, me.zone, me.weight) == ("n1", "rack 1", 3.0)


@in_loop
async def test_a_node_without_others_may_change_zone_and_weight(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n1")
        await nodes.stop("n1")

        again = await nodes.start("n1", zone="rack 2", weight=0.5)

        members = again.node.local.members
        assert (members.me.name, members.me.zone, members.me.weight) == ("n1", "rack 2", 0.5)
        (ruling,) = members.rulings.values()
        assert (ruling.zone, ruling.weight) == ("rack 2", 0.5)


@pytest.mark.parametrize(
    ("what", "given", "kept"), [("zone", "rack 2", "n2"), ("weight", 2.0, 1.0)]
)
@in_loop
async def test_a_members_zone_and_weight_are_kept_and_it_is_told_how_to_change_them(
    what: str, given: object, kept: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They decide which data it owns: another value is an operator's plan, not a restart."""
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2")
        await nodes.stop("n2")

        again = await nodes.start("n2", **{what: given})

        local = again.node.local
        assert getattr(local.members.me, what) == kept
        assert getattr(local.members.rulings[local.me], what) == kept
        assert f"everwrite plan {what}" in caplog.text

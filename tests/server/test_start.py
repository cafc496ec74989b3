"""Starting a node: what is refused with a clear error, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
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
    eventually,
    still_serves,
)

import everwrite
from everwrite.cli.devplan import find_base_port
from everwrite.core.errors import (
    ConfigError,
    DeniedError,
    DirectoryInUse,
    StorageError,
    WrongFormat,
)
from everwrite.core.handshake import NONCE_BYTES, Identity, answer
from everwrite.core.messages import Failure, Fetch, Get, Hello, PutReply, Refused
from everwrite.core.wire import FrameReader, encode_frame
from everwrite.server.settings import ServeOptions
from everwrite.storage.store import open_store


def files(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, but for the lock's note of who held it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "192.168.1.7",
        "example.com",
        "",
        "127.evil.example",
        "localhost.evil.example",
        "::10",
        "::1:2",
    ],
)
def test_an_address_that_others_can_reach_needs_a_secret(host: str) -> None:
    with pytest.raises(ConfigError, match="EVERWRITE_SECRET"):
        ServeOptions(host=host)

    assert ServeOptions(host=host, secret=b"open sesame")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_an_address_of_this_machine_alone_needs_none(host: str) -> None:
    assert ServeOptions(host=host)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"port": -1}, "port = -1 is not possible"),
        ({"port": 65536}, "port = 65536 is not possible"),
        ({"advertise": "0.0.0.0:7400"}, "nobody can connect to that"),
        ({"advertise": "[::]:7400"}, "nobody can connect to that"),
        ({"advertise": "no address"}, "is not an address"),
        ({"weight": 0}, "weight = 0 is not possible"),
        ({"weight": -1.0}, "weight = -1.0 is not possible"),
        ({"weight": float("nan")}, "weight = nan is not possible"),
        ({"weight": float("inf")}, "weight = inf is not possible"),
        ({"name": "x" * 65}, "is not possible"),
        ({"name": "new\nline"}, "is not possible"),
        ({"zone": "esc\x1b[2J"}, "is not possible"),
        ({"cluster_name": "nul\0"}, "is not possible"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_can(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        ServeOptions(**options)

    assert caught.value.hint.startswith("Use ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"partitions": 0}, "partitions = 0 is not possible"),
        ({"partitions": 100}, "partitions = 100 is not possible"),
        ({"partitions": 1 << 17}, "partitions = 131072 is not possible"),
        ({"replicas": 0}, "replicas = 0 is not possible"),
        ({"replicas": 10}, "replicas = 10 is not possible"),
        ({"engine": "magic"}, "There is no storage engine 'magic'"),
        ({"engine": "rocksdb", "data": None}, "needs a data directory"),
        ({"join": ("no address",)}, "'no address' is not an address"),
        ({"join": ("http://127.0.0.1:7400",)}, "'http://127.0.0.1:7400' is not an address"),
        ({"join": ("a..b:7400",)}, r"'a\.\.b:7400' is not an address"),
        ({"join": (".example:7400",)}, r"'\.example:7400' is not an address"),
        ({"join": ("x" * 64 + ".example:7400",)}, "is not an address"),
        ({"join": ("x\u2028y:7400",)}, "is not an address"),
        ({"join": ("nul\0:7400",)}, "is not an address"),
        ({"host": "a..b", "secret": b"s"}, r"host = 'a\.\.b' is not possible"),
        ({"join": ("127.0.0.1:seven",)}, "'127.0.0.1:seven' is not an address"),
        ({"join": ("127.0.0.1:70000",)}, "'127.0.0.1:70000' is not an address"),
        ({"join": ("127.0.0.1:" + "7" * 5000,)}, "is not an address"),
        ({"host": "host.invalid", "secret": b"s"}, "Cannot listen on host.invalid"),
    ],
)
@in_loop
async def test_a_node_with_impossible_settings_does_not_start(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    async with Nodes(tmp_path) as nodes:
        with pytest.raises(ConfigError, match=says) as caught:
            await nodes.start("n1", **options)

        assert caught.value.hint
        assert await nodes.start("n1"), "and the directory is as good as before"


# -- port and directory ----------------------------------------------------------------------------


@in_loop
async def test_a_port_in_use_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (first,) = await nodes.grow("n1")
        port = first.node.local.members.me.port

        with pytest.raises(ConfigError, match=f"Cannot listen on 127.0.0.1:{port}") as caught:
            await nodes.start("n2", port=port)

        assert "Choose another port with --base-port" in caught.value.hint
        assert await still_serves(first)
        second = await nodes.start("n2")
        assert second.node.local.members.me.incarnation == 1, "nothing was started before"


@in_loop
async def test_a_data_directory_in_use_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (first,) = await nodes.grow("n1")
        before = contents(first)

        with pytest.raises(DirectoryInUse, match="is in use by process") as caught:
            await nodes.start("twin", data=tmp_path / "n1")

        assert caught.value.hint
        assert contents(first) == before
        assert await still_serves(first)


@in_loop
async def test_a_directory_of_another_engine_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        before = files(tmp_path)

        with pytest.raises(WrongFormat, match="'sqlite', not 'rocksdb'") as caught:
            await nodes.start("n1", engine="rocksdb")

        assert "--engine sqlite" in caught.value.hint
        assert files(tmp_path) == before


@in_loop
async def test_a_directory_of_a_newer_version_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        manifest = tmp_path / "n1" / "everwrite.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
        before = files(tmp_path)

        with pytest.raises(WrongFormat, match="has format 99, of a newer version") as caught:
            await nodes.start("n1")

        assert caught.value.hint == "Install a newer Everwrite."
        assert files(tmp_path) == before


@in_loop
async def test_somebodys_documents_are_never_taken_for_a_data_directory(tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "thesis.txt").write_text("years of work")
    async with Nodes(tmp_path) as nodes:
        with pytest.raises(WrongFormat, match=r"thesis\.txt"):
            await nodes.start("n1")

    assert [path.name for path in (tmp_path / "n1").iterdir()] == ["thesis.txt"]


@pytest.mark.scenario(11)
@in_loop
async def test_a_node_whose_own_state_is_damaged_does_not_start_as_a_new_one(
    tmp_path: Path,
) -> None:
    """It would found another cluster over its data."""
    async with Nodes(tmp_path) as nodes:
        (node,) = await nodes.grow("n1")
        node.driver.disk.store.engine.write([(b"mnode", b"rotten bytes")])
        await nodes.stop("n1")

        with pytest.raises(StorageError, match="own state 'node' cannot be read") as caught:
            await nodes.start("n1")

        assert caught.value.hint.startswith("Nothing was changed. Restore this directory.")


def lose_the_database(directory: Path) -> None:
    for path in directory.glob("everwrite.sqlite*"):
        path.unlink()


def lose_every_row(directory: Path) -> None:
    lose_the_database(directory)
    with TemporaryDirectory() as other, open_store(Path(other) / "new", "sqlite"):
        shutil.copy(Path(other) / "new" / "everwrite.sqlite", directory)


def lose_rocksdbs_current(directory: Path) -> None:
    (directory / "rocksdb" / "CURRENT").unlink()


@pytest.mark.scenario(70)
@pytest.mark.parametrize(
    ("engine", "lose"),
    [
        ("sqlite", lose_the_database),
        ("sqlite", lose_every_row),
        ("rocksdb", lose_rocksdbs_current),
    ],
    ids=["no database", "an empty database", "no CURRENT"],
)
@in_loop
async def test_a_node_that_lost_its_data_does_not_found_a_new_cluster(
    engine: str, lose: Callable[[Path], None], tmp_path: Path
) -> None:
    async with Nodes(tmp_path, engine=engine) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        lose(tmp_path / "n1")
        before = (tmp_path / "n1" / "everwrite.json").read_bytes()

        with pytest.raises(StorageError, match="has lost its data") as caught:
            await nodes.start("n1")

        assert "Nothing was changed" in caught.value.message
        assert "cannot replace a node under its identity" in caught.value.hint
        assert (tmp_path / "n1" / "everwrite.json").read_bytes() == before


@in_loop
async def test_a_directory_of_a_version_that_named_no_node_still_opens(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (before,) = await nodes.grow("n1")
        me = before.node.local.me
        await nodes.stop("n1")
        manifest = tmp_path / "n1" / "everwrite.json"
        manifest.write_text('{"format":1,"engine":"sqlite"}')

        after = await nodes.start("n1")

        assert after.node.local.me == me
        assert json.loads(manifest.read_text())["node_id"] == me.hex()


# -- restart ---------------------------------------------------------------------------------------


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
        assert sum(waiting.values()) >= 20

        for name in ("n1", "n2"):
            port = nodes.running[name].node.local.members.me.port
            await nodes.stop(name)
            await nodes.start(name, port=port)
            kept = (await nodes.status(name))["hints"]
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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"weight": 2.0}),
        ({}, {"zone": "rack 2"}),
        ({"weight": 2.0}, {"weight": 1.0}),
        ({"zone": "rack 1"}, {"zone": "n1"}),
        ({}, {"name": "other"}),
    ],
)
@in_loop
async def test_zone_weight_and_name_are_fixed_once_data_is_there(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    """Another zone or weight moves ownership, and the data would not follow."""
    async with Nodes(tmp_path) as nodes:
        node = await nodes.start("n1", **first)
        async with await Raw.enter(node) as raw:
            assert isinstance(await raw.call(a_put()), PutReply)
        before = contents(node)
        await nodes.stop("n1")

        (what,) = second
        with pytest.raises(ConfigError, match=f"was started with {what} = ") as caught:
            await nodes.start("n1", **(first | second))

        assert "comes with a later version" in caught.value.hint
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
async def test_a_node_without_data_and_without_others_may_change_zone_and_weight(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n1")
        await nodes.stop("n1")

        again = await nodes.start("n1", zone="rack 2", weight=0.5)

        me = again.node.local.members.me
        assert (me.name, me.zone, me.weight) == ("n1", "rack 2", 0.5)


@in_loop
async def test_a_member_without_data_of_its_own_keeps_zone_and_weight_all_the_same(
    tmp_path: Path,
) -> None:
    """The others may hold some."""
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2")
        await nodes.stop("n2")

        with pytest.raises(ConfigError, match="was started with weight = 1"):
            await nodes.start("n2", weight=2.0)


# -- joining ---------------------------------------------------------------------------------------


@in_loop
async def test_a_newcomer_to_a_cluster_with_data_is_refused_and_ends(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            assert isinstance(await raw.call(a_put()), PutReply)
        before = contents(node)

        with pytest.raises(DeniedError, match=r"'late' is no member.*holds data already") as caught:
            await nodes.start("late", join=(node.address,))

        assert caught.value.hint == "In this version all nodes join before the first write."
        assert contents(node) == before
        assert len(node.node.local.members) == 1
        assert await still_serves(node)


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
async def test_a_newcomer_with_another_secret_is_refused_and_ends(tmp_path: Path) -> None:
    async with Nodes(tmp_path, secret=b"open sesame") as nodes:
        (node,) = await nodes.grow("n1")

        with pytest.raises(DeniedError, match="has another secret") as caught:
            await nodes.start("n2", join=(node.address,), secret=b"another")

        assert "EVERWRITE_SECRET" in caught.value.hint
        assert len(node.node.local.members) == 1


@pytest.mark.scenario(64)
@in_loop
async def test_a_copy_of_a_data_directory_is_refused_by_its_original(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two nodes with one id would each take the other's acks for their own."""
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n1")
        await nodes.stop("n1")
        shutil.copytree(tmp_path / "n1", tmp_path / "copy")
        original = await nodes.start("n1")
        before = contents(original)

        await nodes.start("copy", name="n1", join=(original.address,))

        async def told() -> bool:
            return "copy of its data directory. Give each node a data directory" in caplog.text

        await eventually(told, "the copy is told that it is one")
        assert contents(original) == before
        assert await still_serves(original)


@in_loop
async def test_a_newcomer_is_refused_by_members_that_hold_no_data_themselves(
    tmp_path: Path,
) -> None:
    """Of the first key the cluster holds three copies: the fourth node must know of it, too."""
    async with Nodes(tmp_path) as nodes:
        runtimes = await nodes.grow("n1", "n2", "n3", "n4")
        async with await everwrite.connect(nodes.url()) as db:
            await db.bucket("carts").put("alice", "milk", w=3)
        (empty,) = [node for node in runtimes if not node.driver.disk.store.get(b"d" + KEY)]

        async def refused() -> bool:
            async with await Raw.dial(empty) as raw:
                raw.send(an_honest_hello(node_id=b"newcomer", name="late"))
                return isinstance(await raw.next(), Refused)

        await eventually(refused, "all members know that their cluster holds data")
        with pytest.raises(DeniedError, match="this cluster holds data already"):
            await nodes.start("late", join=(empty.address,))

        views = {(await nodes.status(name))["cluster"]["view"] for name in nodes.running}
        assert len(views) == 1


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

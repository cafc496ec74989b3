"""A database inside this process: one node, no ports, the same API (client/embedded.py)."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import everwrite
from everwrite.server.runtime import start
from everwrite.server.settings import ServeOptions
from everwrite.storage.store import open_store


@pytest.mark.parametrize("engine", ["rocksdb", "sqlite"])
def test_what_was_put_is_there_when_the_directory_is_opened_again(
    tmp_path: Path, engine: str
) -> None:
    with everwrite.open(tmp_path / "data", engine=engine) as db:
        stored = db.bucket("carts").put("alice", ["book"])
    with everwrite.open(tmp_path / "data", engine=engine) as db:
        found = db.bucket("carts").get("alice")

    assert found.value == ["book"]
    assert (stored.owners, stored.durable, stored.required) == (1, 1, 1)
    assert (found.quality.owners, found.quality.required) == (1, 1)


def test_without_a_directory_nothing_is_kept() -> None:
    for _ in range(2):
        with everwrite.open(None, engine="memory", fsync=False) as db:
            assert not db.bucket("carts").get("alice")
            db.bucket("carts").put("alice", "book")


def test_its_view_is_of_one_node_that_serves_everything() -> None:
    with everwrite.open(None, engine="memory", fsync=False) as db:
        view = db.ask("view")
        same = db.ask("view", {"known": view["version"]})

    assert [node["id"] for node in view["members"]] == [node["id"] for node in view["candidates"]]
    assert view["moving"] == {}
    assert same == {"same": view["version"]}


def test_siblings_contexts_and_sessions_work_as_in_a_cluster() -> None:
    with everwrite.open(None, engine="memory") as db:
        carts, session = db.bucket("carts", merge=everwrite.union_of_items), db.session()
        carts.put("alice", ["pen"])
        carts.put("alice", ["ink"], session=session)
        both = carts.get("alice", session=session)
        carts.update("alice", lambda cart: [*cart, "tea"], session=session)
        merged = carts.get("alice", session=session)
        carts.delete("alice", context=merged.context)

        assert sorted(both.values) == [["ink"], ["pen"]]
        assert merged.values == [["ink", "pen", "tea"]]
        assert carts.get("alice").quality.absent == "deleted"


def test_delete_without_a_context_takes_away_what_is_there() -> None:
    with everwrite.open(None, engine="memory") as db:
        carts = db.bucket("carts")
        carts.put("alice", ["pen"])
        carts.put("alice", ["ink"])

        done = carts.delete("alice")

        assert done.siblings == 0
        assert carts.get("alice").quality.absent == "deleted"


def test_delete_with_the_empty_context_takes_nothing_away() -> None:
    with everwrite.open(None, engine="memory") as db:
        carts = db.bucket("carts")
        carts.put("alice", ["pen"])

        carts.delete("alice", context=b"")

        assert carts.get("alice").values == [["pen"]]


def test_a_directory_is_open_in_one_place_at_a_time(tmp_path: Path) -> None:
    with (
        everwrite.open(tmp_path),
        pytest.raises(everwrite.DirectoryInUse, match="use another directory here"),
    ):
        everwrite.open(tmp_path)


def test_an_embedded_database_shows_what_it_is() -> None:
    with everwrite.open(None, engine="memory") as db:
        assert repr(db).startswith("<everwrite.Client: cluster ")
        assert repr(db.bucket("carts")).startswith("<everwrite.Bucket 'carts': merge=None, ")


def test_no_port_is_opened() -> None:
    before = listening_sockets()

    with everwrite.open(None, engine="memory") as db:
        status = db.ask("status")

        assert listening_sockets() == before
        assert status["node"]["address"] == ""


def listening_sockets() -> int:
    """Return how many of this process's descriptors are sockets that take connections."""
    count = 0
    for name in os.listdir("/dev/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                count += one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue  # no socket, or the descriptor of the listing itself
    return count


def test_closing_ends_the_thread_and_lets_the_directory_go(tmp_path: Path) -> None:
    before = threading.active_count()
    db = everwrite.open(tmp_path)

    db.close()
    db.close()

    assert threading.active_count() == before
    with pytest.raises(everwrite.ClientClosed, match="closed"):
        db.bucket("carts").get("alice")
    everwrite.open(tmp_path).close()


def test_the_memory_engine_calls_nothing_durable() -> None:
    with everwrite.open(None, engine="memory") as db:
        carts = db.bucket("carts")

        stored = carts.put("alice", "milk")

        assert (stored.owners, stored.durable) == (1, 0)
        with pytest.raises(everwrite.RequestError, match="keeps data in memory only") as caught:
            carts.put("bob", "milk", dw=1)
        assert caught.value.outcome == "none"
        assert not carts.get("bob")


def test_a_failed_open_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()

    with pytest.raises(everwrite.EverwriteError):
        everwrite.open(tmp_path, engine="abacus")

    assert threading.active_count() == before


def kept(directory: Path) -> list[tuple[bytes, object]]:
    """Return what a node keeps in its directory, of itself and of its data."""
    with open_store(directory) as store:
        return list(store.scan(b"", b"\xff", 1000))


def test_the_directory_of_a_clusters_node_is_refused(tmp_path: Path) -> None:
    async def two_nodes_meet() -> None:
        first = await start(ServeOptions(data=tmp_path / "1", name="n1", port=0, fsync=False))
        second = await start(
            ServeOptions(data=tmp_path / "2", name="n2", port=0, fsync=False, join=(first.address,))
        )
        while len(first.node.local.members) < 2:  # noqa: ASYNC110 (the node has no event for it)
            await asyncio.sleep(0.005)
        await second.stop()
        await first.stop()

    asyncio.run(two_nodes_meet())

    before = kept(tmp_path / "1")
    with pytest.raises(everwrite.ConfigError, match="1 more"):
        everwrite.open(tmp_path / "1")
    assert kept(tmp_path / "1") == before, "name, incarnation, lease: nothing was changed"


def test_many_threads_may_use_one_database() -> None:
    with everwrite.open(None, engine="memory") as db:
        things = db.bucket("things")

        def work(number: int) -> None:
            for turn in range(20):
                things.put(f"{number}-{turn}", turn)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert all(things.get(f"{n}-{turn}").value == turn for n in range(8) for turn in (0, 19))


def test_a_value_at_the_limit_goes_through(tmp_path: Path) -> None:
    with everwrite.open(tmp_path) as db:
        db.bucket("things").put("k", bytes(1 << 20))

        assert len(db.bucket("things").get("k").value) == 1 << 20


def test_both_ways_to_read_say_the_same_of_what_ends() -> None:
    """By default the client coordinates; a strict read is left to the node."""
    with everwrite.open(None, engine="memory") as db:
        things = db.bucket("things", merge=everwrite.union_of_items)
        things.put("hour", ["v"], ttl=3600)
        things.put("mixed", ["kept"])
        things.put("mixed", ["hour"], ttl=3600)
        things.put("second", ["v"], ttl=1)
        things.put("one of two", ["second"], ttl=1)
        things.put("one of two", ["hour"], ttl=3600)
        first = things.put("rewritten", ["first"], ttl=1)
        things.put("rewritten", ["second"], ttl=1, context=first.context)
        things.put("deleted", ["v"], ttl=3600)
        things.delete("deleted")
        while things.get("rewritten"):
            assert things.get("hour")

        said = {}
        for key in ("hour", "mixed", "second", "one of two", "rewritten", "deleted", "never"):
            ours, its = things.get(key), things.get(key, strict=True)
            assert (ours.values, ours.expires) == (its.values, its.expires)
            assert ours.quality.absent == its.quality.absent
            assert bool(ours.context) == bool(its.context)
            said[key] = (ours.values, ours.quality.absent, ours.expires is not None)

    assert said == {
        "hour": ([["v"]], "", True),
        "mixed": ([["kept"], ["hour"]], "", False),
        "second": ([], "expired", False),
        "one of two": ([["hour"]], "", True),
        "rewritten": ([], "expired", False),
        "deleted": ([], "deleted", False),
        "never": ([], "never", False),
    }


def test_a_touch_and_an_update_on_a_real_node() -> None:
    with everwrite.open(None, engine="memory") as db:
        logins = db.bucket("logins", ttl=60)
        logins.put("alice", {"seen": 1})

        touched = logins.touch("alice", 3600)
        shorter = logins.touch("alice")
        found = logins.get("alice")
        logins.update("alice", lambda login: {"seen": login["seen"] + 1})
        updated = logins.get("alice")

        assert touched.expires == shorter.expires == found.expires
        assert found.expires_in is not None
        assert found.expires_in > timedelta(minutes=59)
        assert updated.value == {"seen": 2}
        assert updated.expires_in is not None
        assert updated.expires_in <= timedelta(minutes=1), "an update does not inherit the end"
        with pytest.raises(everwrite.RequestError):
            logins.touch("alice", 0)


@pytest.mark.parametrize("engine", ["rocksdb", "sqlite"])
def test_ends_outlast_a_restart(tmp_path: Path, engine: str) -> None:
    with everwrite.open(tmp_path / "data", engine=engine) as db:
        logins = db.bucket("logins")
        kept = logins.put("hour", "v", ttl=3600)
        logins.put("second", "v", ttl=1)
        logins.put("touched", "v", ttl=60)
        touched = logins.touch("touched", 3600)
        while logins.get("second"):
            assert logins.get("hour")

    with everwrite.open(tmp_path / "data", engine=engine) as db:
        logins = db.bucket("logins")

        assert logins.get("hour").expires == kept.expires
        assert logins.get("touched").expires == touched.expires
        assert logins.get("second").quality.absent == "expired"
        assert logins.touch("second", 3600).siblings == 0


def test_no_path_is_told_in_words_of_python() -> None:
    with pytest.raises(everwrite.ConfigError, match="needs a directory") as refused:
        everwrite.open(None)
    assert "engine='memory'" in refused.value.hint
    assert "--data" not in str(refused.value)


@pytest.mark.parametrize("fsync", ["no", 0, None])
def test_fsync_is_on_or_off(fsync: Any, tmp_path: Path) -> None:
    with pytest.raises(everwrite.ConfigError, match=r"fsync=.* is not possible"):
        everwrite.open(tmp_path, fsync=fsync)


@pytest.mark.parametrize(("path", "says"), [(3, "An int"), ([], "A list")])
def test_what_is_no_path_is_refused_as_that(path: Any, says: str) -> None:
    with pytest.raises(everwrite.ConfigError, match=f"{says} is no path of a data directory"):
        everwrite.open(path)

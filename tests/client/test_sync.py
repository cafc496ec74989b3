"""The blocking client: the async one in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.client.fake_node import HASTY, Mood, background_cluster

import everwrite
from everwrite.client.sync import LoopThread
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Failure, Get


def test_the_blocking_client_does_what_the_async_one_does() -> None:
    with background_cluster() as cluster, everwrite.connect_sync(cluster.url) as db:
        carts, session = db.bucket("carts", merge=everwrite.union_of_items), db.session()

        stored = carts.put("alice", ["pen"], session=session)
        carts.put("alice", ["ink"])
        found = carts.get("alice", session=session)
        carts.update("alice", lambda cart: [*cart, "tea"])
        replicas = db.replicas("carts", "alice")
        carts.delete("alice")

        assert stored.owners == 3
        assert found.value == ["ink", "pen"]
        assert [copy.values for copy in replicas] == [[["ink", "pen", "tea"]]] * 3
        assert carts.get("alice").quality.absent == "deleted"
        assert db.ask("status", node="n2")["node"]["name"] == "n2"
        assert (carts.name, db.counters.strays) == ("carts", 0)


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [(everwrite.Client, everwrite.AsyncClient), (everwrite.Bucket, everwrite.AsyncBucket)],
)
def test_both_clients_have_the_same_names_and_options(blocking: type, asynchronous: type) -> None:
    for name, method in vars(asynchronous).items():
        if name.startswith("_") or name == "in_flight" or not inspect.isfunction(method):
            continue
        theirs = inspect.signature(getattr(blocking, name)).parameters
        assert list(theirs.items()) == list(inspect.signature(method).parameters.items()), name


def test_both_connects_have_the_same_options() -> None:
    ours = inspect.signature(everwrite.connect_sync).parameters
    assert list(ours.items()) == list(inspect.signature(everwrite.connect).parameters.items())


def test_threads_share_the_connections_of_one_client() -> None:
    with background_cluster() as cluster, everwrite.connect_sync(cluster.url) as db:
        things = db.bucket("things")

        def work(number: int) -> list[int]:
            values = []
            for turn in range(20):
                things.put(f"{number}-{turn}", turn)
                values.append(things.get(f"{number}-{turn}").value)
            return values

        with ThreadPoolExecutor(8) as threads:
            read = list(threads.map(work, range(8)))

        assert read == [list(range(20))] * 8
        assert all(node.greeted.qsize() == 1 for node in cluster.nodes)


def test_errors_come_to_the_caller_as_they_are() -> None:
    with (
        background_cluster() as cluster,
        everwrite.connect_sync(cluster.url, timing=HASTY) as db,
    ):
        for node in cluster.nodes:
            node.mood = Mood.SILENT

        with pytest.raises(everwrite.DeadlineExceeded) as failed:
            db.bucket("things").put("k", b"v", timeout=0.05)

        assert failed.value.outcome == "unknown"


def test_a_failed_connect_leaves_no_thread() -> None:
    before = threading.active_count()

    with pytest.raises(everwrite.Unreachable):
        everwrite.connect_sync("127.0.0.1:1")
    with pytest.raises(everwrite.RequestError):
        everwrite.connect_sync("nonsense:port")
    with pytest.raises(everwrite.RequestError, match="An int is no secret"):
        everwrite.connect_sync("127.0.0.1:1", secret=5)  # type: ignore[arg-type]

    assert threading.active_count() == before


@pytest.mark.filterwarnings("error")
def test_an_async_change_is_refused_and_nothing_is_left_unawaited() -> None:
    async def change(_: object) -> str:
        return "new"

    def hidden(old: object) -> object:
        return change(old)

    with background_cluster() as cluster, everwrite.connect_sync(cluster.url) as db:
        things = db.bucket("things")

        for wrong in (change, hidden):
            with pytest.raises(everwrite.RequestError, match="The change is an async function"):
                things.update("k", wrong)
        with pytest.raises(everwrite.RequestError, match="An int is no change"):
            things.update("k", 5)  # type: ignore[arg-type]
        gc.collect()

        assert not things.get("k")


def test_close_ends_the_thread_and_later_calls_say_so() -> None:
    with background_cluster() as cluster:
        before = threading.active_count()
        db = everwrite.connect_sync(cluster.url)
        things = db.bucket("things")

        db.close()
        db.close()

        assert threading.active_count() == before
        with pytest.raises(everwrite.ClientClosed, match="closed") as refused:
            things.get("k")
        assert not refused.value.retryable


def test_the_applications_functions_run_in_its_own_thread() -> None:
    with background_cluster() as cluster, everwrite.connect_sync(cluster.url) as db:
        seen: list[threading.Thread] = []

        def merge(values: list[Any]) -> Any:
            seen.append(threading.current_thread())
            return things.get("other").value or values[0]  # a blocking call is allowed in it

        things = db.bucket("things", merge=merge)
        things.put("k", 1)
        things.put("k", 2)
        things.update("k", lambda value: seen.append(threading.current_thread()) or value)

        assert seen == [threading.current_thread()] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_to_connect_again() -> None:
    with background_cluster(1) as cluster, everwrite.connect_sync(cluster.url) as db:
        things = db.bucket("things")
        child = os.fork()
        if child == 0:
            try:
                things.get("k")
            except everwrite.ClientClosed as error:
                db.close()
                os._exit(7 if "parent" in str(error) and not error.retryable else 1)
            os._exit(2)

        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 7
        things.put("k", b"the parent goes on")


def test_an_interrupted_call_gives_its_request_up() -> None:
    with (
        background_cluster(1) as cluster,
        everwrite.connect_sync(cluster.url, timing=HASTY) as db,
    ):
        things = db.bucket("things")
        main = threading.get_ident()

        def interrupt(_: object) -> list[Any]:
            signal.pthread_kill(main, signal.SIGINT)
            return []

        cluster.nodes[0].reply = interrupt
        # Whoever started the tests may have had the signal ignored, as shells do in the background.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                things.put("k", b"v")
        finally:
            signal.signal(signal.SIGINT, before)
        cluster.nodes[0].reply = None

        things.put("k", b"w")


def test_a_call_from_the_clients_own_thread_does_not_hang() -> None:
    thread = LoopThread("test")

    async def call_again() -> None:
        thread.run(asyncio.sleep(0))

    with pytest.raises(everwrite.RequestError, match="own thread"):
        thread.run(call_again())
    thread.stop()


def test_an_update_without_a_quorum_says_how_to_read_from_fewer() -> None:
    def fails(asked: Any) -> list[AnyMessage] | None:
        if not isinstance(asked, Get):
            return None
        return [Failure(asked.rid, "quorum_not_met", "1 of 2.", "Wait.", "none", 1, 2)]

    async def update(url: str) -> None:
        async with everwrite.connect(url, retries=0) as db:
            await db.bucket("things", r=2).update("k", str)

    with background_cluster(1) as cluster:
        cluster.nodes[0].reply = fails
        with everwrite.connect_sync(cluster.url, retries=0) as db:
            for call in (
                lambda: db.bucket("things", r=2).update("k", str),
                lambda: asyncio.run(update(cluster.url)),
            ):
                with pytest.raises(everwrite.QuorumNotMet, match=r"bucket\('carts', r=1\)"):
                    call()

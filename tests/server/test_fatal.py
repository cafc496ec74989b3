"""A bug of ours ends the node, loudly: it never goes on half dead, and nobody is told a lie."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes, Raw, a_put, end, eventually

from everwrite.core.config import FRAME_BYTES_MAX
from everwrite.core.data.epochs import NUMBER_MAX, Epochs
from everwrite.core.errors import InvariantError
from everwrite.core.local import Request
from everwrite.core.messages.greeting import Proof
from everwrite.core.messages.requests import FOUND, Ask, Failure, FetchReply, PutReply, Told
from everwrite.server import admin, explaining, ring


class Broken(Request):
    """A request that meets a bug when its time comes."""

    def wake(self) -> None:
        raise ZeroDivisionError("a bug in a wake")


def keep_quiet() -> None:
    """Errors that the loop hears of are what these tests are about."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)


@in_loop
async def test_an_error_in_a_wake_ends_the_node_and_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keep_quiet()
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        local = node.node.local

        local.open_request(Broken(), local.now)
        error = await end(node)

        assert isinstance(error, InvariantError)
        assert "a bug in a wake" in error.message
        assert isinstance(error.__cause__, ZeroDivisionError)
        (record,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError


@in_loop
async def test_an_error_in_a_wake_does_not_stop_the_clock() -> None:
    keep_quiet()
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        local = node.node.local
        local.open_request(Broken(), local.now)
        await end(node)
        before = local.now

        async def later() -> bool:
            return local.now > before

        await eventually(later, "the node looks at the time")


@in_loop
async def test_an_error_in_a_tick_ends_the_node() -> None:
    keep_quiet()
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")

        node.node.out.send(node.node.local.me, Proof(b""))  # nobody handles that
        node.driver.soon()

        assert isinstance(await end(node), InvariantError)


@in_loop
async def test_a_broken_invariant_in_a_put_ends_the_node_and_answers_nobody() -> None:
    keep_quiet()
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            local = node.node.local
            local.epochs = Epochs(local.me, NUMBER_MAX + 1, 0)

            raw.send(a_put())

            assert "epoch numbers are not exhausted" in str(await end(node))


# -- a verb that fails is no bug that ends a node --------------------------------------------------


@pytest.mark.parametrize("verb", ["locate", "ring", "explain"])
@in_loop
async def test_an_error_in_a_verb_fails_the_question_and_not_the_node(
    verb: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError("a bug in a verb")

    monkeypatch.setattr(admin.Admin, "locate", broken)
    monkeypatch.setattr(ring.Ring, "_told", broken)
    monkeypatch.setattr(explaining, "voices", broken)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            failure = await raw.call(Ask(1, verb, b'{"bucket": "carts", "key": "alice"}'))

            assert isinstance(failure, Failure)
            assert (failure.code, failure.outcome) == ("internal", "unknown")
            assert f"'{verb}'" in failure.message
            assert "ZeroDivisionError" in failure.message
            assert isinstance(await raw.call(Ask(2, "status", b"{}")), Told)
        assert not node.failed.done()
        (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert f"asked={verb}" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError


# -- a message that cannot be sent -----------------------------------------------------------------


@in_loop
async def test_an_answer_over_the_frame_limit_drops_nothing_else_and_its_client_hears_why() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            await raw.ask("status")
            (place,) = node.driver.lines
            out = node.node.out
            out.send(place, FetchReply(7, FOUND, b"x" * (FRAME_BYTES_MAX + 1)))
            out.send(place, PutReply(9, b"", 1, 0, 1, 1))
            node.driver.soon()

            failure, reply = await raw.next(), await raw.next()

            assert isinstance(failure, Failure)
            assert (failure.rid, failure.code, failure.outcome) == (7, "too_large", "none")
            assert isinstance(reply, PutReply)
            assert (reply.rid, node.driver.dropped) == (9, 1)
            assert isinstance(await raw.call(Ask(1, "status", b"{}")), Told)
            assert not node.failed.done()


@in_loop
async def test_a_message_to_a_peer_over_the_frame_limit_is_dropped_alone() -> None:
    async with Nodes() as nodes:
        one, two = await nodes.grow("n1", "n2")
        before = one.driver.dropped

        one.node.out.send(two.node.local.me, FetchReply(7, FOUND, b"x" * (FRAME_BYTES_MAX + 1)))
        one.driver.soon()

        async def counted() -> bool:
            return one.driver.dropped == before + 1

        await eventually(counted, "the message is dropped")
        await nodes.met()
        assert not one.failed.done()


# -- the disk's threads ----------------------------------------------------------------------------


def no_memory(*_: object) -> None:
    raise MemoryError("no memory for a job")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("job", ["sync", "get_many"])
@in_loop
async def test_an_error_on_the_disks_threads_ends_the_node(job: str, tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (node,) = await nodes.grow("n1")
        disk = node.driver.disk
        setattr(disk.store, job, no_memory)

        if job == "sync":
            disk.sync([])
        else:
            disk.store.may_have = lambda key: True
            disk.read([b"a key"])

        error = await end(node)
        assert isinstance(error.__cause__, MemoryError)

"""Requests to real nodes that cannot be served, and what their senders read about it (P3, P7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, Raw, a_put, contents, still_serves

import everwrite
from everwrite import AsyncClient, EverwriteError
from everwrite.core.data.keys import data_key
from everwrite.core.errors import BadContext, QuorumNotMet, RequestError, TooLarge
from everwrite.core.messages.requests import Ask, Failure, Get, Put, Told


@asynccontextmanager
async def three() -> AsyncIterator[tuple[Nodes, AsyncClient]]:
    """Three nodes in memory, and a client."""
    async with Nodes() as nodes:
        await nodes.grow("n1", "n2", "n3")
        async with await everwrite.connect(nodes.url(), timeout=3) as db:
            yield nodes, db


def everything(nodes: Nodes) -> list[Any]:
    return [contents(runtime) for runtime in nodes.running.values()]


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 4}, "n = 4 is not possible: the cluster keeps 3 copies. Use 1 to 3."),
        ({"w": 4}, "w = 4 is not possible with n = 3. Use 1 to 3."),
        ({"n": 1, "w": 2}, "w = 2 is not possible with n = 1. Use 1 to 1."),
        ({"dw": 4}, "dw = 4 is not possible with n = 3. Use 0 to 3."),
    ],
)
@in_loop
async def test_a_put_with_numbers_over_the_cluster_is_refused(
    options: dict[str, int], says: str
) -> None:
    async with three() as (nodes, db):
        before = everything(nodes)
        carts = db.bucket("carts")

        for attempt in (carts.put("alice", "v", **options), carts.delete("alice", **options)):
            with pytest.raises(RequestError) as caught:
                await attempt
            assert str(caught.value) == says
            assert caught.value.outcome == "none"

        assert everything(nodes) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 4}, "n = 4 is not possible: the cluster keeps 3 copies. Use 1 to 3."),
        ({"r": 4}, "r = 4 is not possible with n = 3. Use 1 to 3."),
        ({"n": 2, "r": 3}, "r = 3 is not possible with n = 2. Use 1 to 2."),
    ],
)
@in_loop
async def test_a_get_with_numbers_over_the_cluster_is_refused(
    options: dict[str, int], says: str
) -> None:
    async with three() as (_, db):
        with pytest.raises(RequestError) as caught:
            await db.bucket("carts").get("alice", **options)

        assert str(caught.value) == says


@in_loop
async def test_a_strict_write_that_needs_an_owner_that_is_down_is_refused_untouched() -> None:
    async with three() as (nodes, _):
        await nodes.stop("n3")
        await nodes.missed("n3")
        before = everything(nodes)

        async with await everwrite.connect(nodes.url()) as db:
            with pytest.raises(QuorumNotMet) as caught:
                await db.bucket("carts").put("alice", "v", w=3, strict=True)

        assert caught.value.outcome == "none"
        assert caught.value.required == 3
        assert everything(nodes) == before


# -- names and sizes -------------------------------------------------------------------------------


@pytest.mark.scenario(76)
@pytest.mark.parametrize(
    ("bucket", "key", "value", "error"),
    [
        ("carts", b"k" * 1025, b"v", TooLarge),
        ("carts", b"", b"v", RequestError),
        ("carts", b"k", b"v" * (1 << 20) + b"v", TooLarge),
        ("b" * 129, b"k", b"v", TooLarge),
        ("", b"k", b"v", RequestError),
        ("car\nts", b"k", b"v", RequestError),
        ("\x1b[2J", b"k", b"v", RequestError),
    ],
)
@in_loop
async def test_what_is_too_large_or_unprintable_is_refused_by_client_and_node_alike(
    bucket: str, key: bytes, value: bytes, error: type[EverwriteError]
) -> None:
    async with three() as (nodes, db):
        before = everything(nodes)

        with pytest.raises(error) as caught:
            await db.bucket(bucket).put(key, value)
        assert caught.value.hint or "the most is" in caught.value.message

        if len(bucket) < 256:
            async with await Raw.enter(nodes.running["n1"]) as raw:
                failed = await raw.call(
                    Put(1, data_key(bucket.encode(), key), value, b"", b"op", 1000)
                )
            assert isinstance(failed, Failure)
            assert failed.outcome == "none"
            assert failed.code in {"too_large", "bad_request", "protocol"}
        assert everything(nodes) == before


@pytest.mark.parametrize("context", [b"garbage", b"\0" * 400_000, b"\0\0\0\1" + b"m" * 16 + b"b"])
@in_loop
async def test_a_context_that_is_none_is_refused(context: bytes) -> None:
    async with three() as (nodes, db):
        carts = db.bucket("carts")
        await carts.put("alice", "v", w=3)
        before = everything(nodes)

        for attempt in (
            carts.put("alice", "new", context=context),
            carts.delete("alice", context=context),
        ):
            with pytest.raises(BadContext) as caught:
                await attempt
            assert caught.value.outcome == "none"

        assert everything(nodes) == before


@in_loop
async def test_the_context_of_another_key_or_cluster_is_refused() -> None:
    async with three() as (nodes, db), Nodes() as others:
        await others.grow("n1")
        carts = db.bucket("carts")
        done = await carts.put("alice", "v", w=3)
        async with await everwrite.connect(others.url()) as elsewhere:
            foreign = await elsewhere.bucket("carts").put("alice", "v")
        before = everything(nodes)

        with pytest.raises(BadContext, match="for this key"):
            await carts.put("bob", "v", context=done.context)
        with pytest.raises(BadContext, match="this cluster"):
            await carts.put("alice", "v", context=foreign.context)

        assert everything(nodes) == before
        assert (await carts.get("alice")).value == "v"


@pytest.mark.scenario(76)
@in_loop
async def test_impossible_fields_of_raw_requests_are_answered_one_by_one() -> None:
    """Each gets its own Failure: one bad request ends no connection."""
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            for request in (
                a_put(op=b""),
                a_put(op=b"o" * 33),
                a_put(n=-1),
                a_put(w=1 << 62),
                a_put(dw=-7),
                a_put(context=b"?"),
                a_put(key=b"no data key"),
                Get(1, b"no data key", 1000),
                Get(1, KEY, 1000, r=1 << 62),
                Get(1, KEY, 1000, seen=b"?"),
            ):
                failed = await raw.call(request)
                assert isinstance(failed, Failure), request
                assert failed.outcome == "none"
                assert failed.message

            assert await raw.ask("status")
        assert await still_serves(node)


# -- administrative verbs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "arguments", "says"),
    [
        (
            "explode",
            {},
            "There is no verb 'explode'. Use one of: explain, glance, heal, hints, locate,",
        ),
        ("locate", {}, "A bucket is needed"),
        ("locate", {"bucket": "b"}, "A key is needed"),
        ("locate", {"bucket": "", "key": "k"}, "The bucket's name is empty."),
        ("locate", {"bucket": "a\nb", "key": "k"}, "has control characters"),
        ("locate", {"bucket": "b", "key": "k" * 1025}, "... has 1025 bytes"),
        ("locate", {"bucket": "b", "key": {"base64": "!"}}, "The key is no valid base64."),
        ("locate", {"bucket": 7, "key": "k"}, "A bucket is needed"),
        ("partition", {"from": ["n9"]}, "There is no node 'n9'. Known: "),
        ("partition", {"from": ["n2"], "direction": "up"}, 'A partition needs "from"'),
        ("partition", {"from": "n2"}, 'A partition needs "from"'),
        ("partition", {"from": [["n2"]]}, "There is no node"),
    ],
)
@in_loop
async def test_a_question_that_cannot_be_answered_gets_a_clear_error(
    verb: str, arguments: dict[str, Any], says: str
) -> None:
    async with three() as (nodes, db):
        with pytest.raises(RequestError) as caught:
            await db.ask(verb, arguments)

        assert says in str(caught.value)
        assert not any(runtime.driver.deaf_to for runtime in nodes.running.values())


@pytest.mark.parametrize(
    "arguments",
    [
        b"no JSON",
        b'{"key": "\xff"}',
        b"[1, 2]",
        b'"text"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff",
        b'{"bucket": "\\ud800", "key": "k"}',
        b'{"bucket": "b", "key": 1e999}',
    ],
    ids=[
        "text",
        "no UTF-8",
        "list",
        "string",
        "deep list",
        "deep map",
        "bytes",
        "surrogate",
        "infinity",
    ],
)
@in_loop
async def test_arguments_that_are_none_get_a_clear_error(arguments: bytes) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            failed = await raw.call(Ask(1, "locate", arguments))

            assert isinstance(failed, Failure)
            assert (failed.code, failed.outcome) == ("bad_request", "none")
            assert await raw.ask("status")


# -- cuts of a development cluster -----------------------------------------------------------------


@in_loop
async def test_cuts_are_denied_unless_the_cluster_is_for_development() -> None:
    async with Nodes(development=False) as nodes:
        await nodes.grow("n1", "n2")
        async with await everwrite.connect(nodes.url()) as db:
            for verb, arguments in (("partition", {"from": ["n2"]}), ("heal", {})):
                with pytest.raises(everwrite.DeniedError) as caught:
                    await db.ask(verb, arguments, node="n1")
                assert "everwrite cluster start" in caught.value.hint

        assert not nodes.running["n1"].driver.deaf_to
        assert not nodes.running["n1"].driver.mute_to


@in_loop
async def test_a_cut_both_ways_holds_until_it_is_healed() -> None:
    async with three() as (nodes, db):
        await db.ask("partition", {"from": ["n2", "n3"]}, node="n1")
        carts = db.bucket("carts")

        async with await Raw.enter(nodes.running["n1"]) as raw:
            failed = await raw.call(a_put(w=2, timeout_ms=1000))
        assert isinstance(failed, Failure)
        assert (failed.code, failed.acked) == ("quorum_not_met", 1)
        assert await carts.put("bob", "v", w=2)

        told = await db.ask("heal", node="n1")
        assert told == {"blocked": []}
        await nodes.met()
        assert (await carts.put("carol", "v", w=3)).owners == 3


@pytest.mark.parametrize("direction", ["in", "out"])
@in_loop
async def test_a_cut_one_way_lets_the_other_way_through(direction: str) -> None:
    async with three() as (nodes, db):
        answer = await db.ask("partition", {"from": ["n2"], "direction": direction}, node="n1")
        assert answer == {"blocked": ["n2"]}
        heard = {name: runtime.driver.frames_in for name, runtime in nodes.running.items()}

        assert (await db.bucket("carts").put("alice", "v", w=2)).owners >= 2

        n1, n2 = nodes.running["n1"], nodes.running["n2"]
        assert (n2.node.local.me in n1.driver.deaf_to) == (direction == "in")
        assert (n2.node.local.me in n1.driver.mute_to) == (direction == "out")
        assert heard["n3"] <= nodes.running["n3"].driver.frames_in


@in_loop
async def test_a_question_that_is_no_text_takes_no_other_with_it() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            raw.send(Ask(1, "view", b'{"a": "\xff\xfe"}'), Ask(2, "view", b"{}"))
            answers = [await raw.next(), await raw.next()]

        assert isinstance(answers[0], Failure)
        assert isinstance(answers[1], Told)

"""DYN.: siblings, contexts, owners, quorums, for Redis clients."""

from __future__ import annotations

import re
from typing import Any

import pytest
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import client_of, one, three

SHORT = re.compile("QUORUM_NOT_MET|DEADLINE_EXCEEDED")

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


def facts(answer: Any) -> dict[str, Any]:
    """Return a map, whichever protocol it came by."""
    if isinstance(answer, list):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    return {name.decode(): value for name, value in answer.items()}


@PROTOCOLS
@in_loop
async def test_siblings_are_read_and_resolved_by_their_context(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        ask = r.execute_command
        assert facts(await ask("DYN.GET", "none")) == {"siblings": [], "context": b""}
        assert facts(await ask("DYN.PUT", "a", "tea"))["siblings"] == 1
        assert facts(await ask("DYN.PUT", "a", "coffee"))["siblings"] == 2
        found = facts(await ask("DYN.GET", "a"))
        assert sorted(found["siblings"]) == [b"coffee", b"tea"]
        assert await r.get("a") == b"coffee"  # as any client: the last one

        written = facts(await ask("DYN.PUT", "a", "both", "CTX", found["context"]))
        assert written["siblings"] == 1
        assert facts(await ask("DYN.GET", "a"))["siblings"] == [b"both"]

        await ask("DYN.PUT", "a", "more", "CTX", written["context"], "EX", 100)
        assert await r.get("a") == b"more"
        assert 95 < await r.ttl("a") <= 100


@PROTOCOLS
@in_loop
async def test_siblings_say_who_wrote_them_and_when(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        await r.execute_command("DYN.PUT", "a", "tea")
        await r.execute_command("DYN.PUT", "a", "coffee", "EX", 100)
        first, second = map(facts, await r.execute_command("DYN.SIBLINGS", "a"))
        assert (first["node"], first["bytes"], first["ends_ms"]) == (b"n1", 3, None)
        assert first["kind"] == b"application/octet-stream"
        assert second["ends_ms"] == second["written_ms"] + 100_000
        assert first["write"] != second["write"]
        now_ms = (await r.time())[0] * 1000
        assert abs(now_ms - first["written_ms"]) < 60_000
        assert await r.execute_command("DYN.SIBLINGS", "none") == []


@in_loop
async def test_data_types_are_told_as_a_whole() -> None:
    async with one() as (_, r):
        await r.hset("h", mapping={"a": 1, "b": 2})
        await r.sadd("s", "x")
        await r.incrby("n", 7)
        assert facts(await r.execute_command("DYN.GET", "h"))["siblings"] == [
            {b"a": b"1", b"b": b"2"}
        ]
        assert facts(await r.execute_command("DYN.GET", "s"))["siblings"] == [[b"x"]]
        assert facts(await r.execute_command("DYN.GET", "n"))["siblings"] == [7]
        kinds = {facts(each)["kind"] for each in await r.execute_command("DYN.SIBLINGS", "h")}
        assert kinds == {b"piece of a register"}


@in_loop
async def test_a_context_of_another_key_or_none_is_refused() -> None:
    async with one() as (_, r):
        await r.set("a", 1)
        context = facts(await r.execute_command("DYN.GET", "a"))["context"]
        for words, why in (
            (("b", "x", "CTX", context), "context"),
            (("a", "x", "CTX", "no base64!"), "no base64url"),
            (("a", "x", "CTX"), "syntax error"),
            (("a", "x", "NX", "1"), "syntax error"),
            (("a", "x", "EX", "0"), "invalid expire time"),
        ):
            with pytest.raises(ResponseError, match=why):
                await r.execute_command("DYN.PUT", *words)
        assert await r.get("a") == b"1"


@PROTOCOLS
@in_loop
async def test_a_key_is_located_and_explained(protocol: int) -> None:
    async with three() as (nodes, _), client_of(nodes.running["n2"], protocol=protocol) as r:
        await r.set("a", "tea")
        rows = [facts(each) for each in await r.execute_command("DYN.LOCATE", "a")]
        assert sorted(row["name"] for row in rows) == [b"n1", b"n2", b"n3"]
        assert {row["role"] for row in rows} == {b"owner"}

        told = facts(await r.execute_command("DYN.EXPLAIN", "a"))
        assert (told["bucket"], told["key"], told["asked"]) == (b"redis:0", b"a", b"n2")
        order = [facts(each)["node"] for each in told["preference"]]
        assert order == [row["name"] for row in rows]
        assert facts(told["read"])["r"] == 2
        await r.execute_command("DYN.CONSISTENCY", "R", 1)
        assert facts(facts(await r.execute_command("DYN.EXPLAIN", "a"))["read"])["r"] == 1


@in_loop
async def test_the_bucket_that_is_explained_is_that_of_its_time() -> None:
    async with one() as (_, r):
        pipe = r.pipeline(transaction=False)
        pipe.execute_command("DYN.EXPLAIN", "a")
        pipe.execute_command("SELECT", 3)
        pipe.execute_command("DYN.EXPLAIN", "a")
        first, _, second = await pipe.execute()
        assert (facts(first)["bucket"], facts(second)["bucket"]) == (b"redis:0", b"redis:3")


@in_loop
async def test_keys_that_are_no_text_are_explained_too() -> None:
    async with one() as (_, r):
        told = facts(await r.execute_command("DYN.EXPLAIN", b"\xff\x00"))
        assert told["key"] == b"\xff\x00"


@in_loop
async def test_a_connection_chooses_how_many_nodes_it_asks() -> None:
    async with three() as (nodes, (r, other, _)):
        async with r.client() as mine:
            ask = mine.execute_command
            assert facts(await ask("DYN.CONSISTENCY")) == {"r": 0, "w": 0}
            assert await ask("DYN.CONSISTENCY", "W", 3, "R", 1) == b"OK"
            assert facts(await ask("DYN.CONSISTENCY")) == {"r": 1, "w": 3}
            await mine.set("a", 1)
            await nodes.stop("n3")
            with pytest.raises(ResponseError, match=SHORT):
                await mine.incr("a")
            assert await ask("DYN.CONSISTENCY", "W", 0) == b"OK"
            assert facts(await ask("DYN.CONSISTENCY")) == {"r": 1, "w": 0}
            assert await mine.set("b", 1)
            await ask("DYN.CONSISTENCY", "R", 3)
            with pytest.raises(ResponseError, match=SHORT):
                await mine.get("a")
            assert await ask("RESET") in (b"RESET", "RESET")
            assert facts(await ask("DYN.CONSISTENCY")) == {"r": 0, "w": 0}
        assert await other.get("b") == b"1"  # theirs is as it was


@in_loop
async def test_numbers_that_cannot_be_are_refused() -> None:
    async with one() as (_, r):
        for words, why in (
            (("R", 4), "R and W are 1 to 3"),
            (("R", -1), "R and W are 1 to 3"),
            (("W", "x"), "not an integer"),
            (("N", 1), "syntax error"),
            (("R",), "syntax error"),
        ):
            with pytest.raises(ResponseError, match=why):
                await r.execute_command("DYN.CONSISTENCY", *words)
        assert facts(await r.execute_command("DYN.CONSISTENCY")) == {"r": 0, "w": 0}

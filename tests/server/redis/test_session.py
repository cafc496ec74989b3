"""What a connection wrote is known to whoever carries out what it asks next: seen by what the core
is asked. That it matters is shown in tests/core/request/test_over.py.
"""

from __future__ import annotations

import pytest
from tests.client.fake_node import in_loop
from tests.server.redis.asked import note_asked
from tests.server.redis.redis_api import one, raw
from tests.server.redis.test_requests import packed

from everwrite.core.data.context import verify
from everwrite.core.errors import EverwriteError, Overloaded
from everwrite.core.messages.requests import Get, Put
from everwrite.server.redis.command import Request
from everwrite.server.redis.place import Call, RedisPlace
from everwrite.server.redis.session import SEEN_S
from everwrite.server.runtime import Runtime

SET, GET = packed(b"SET", b"cart", b"1"), packed(b"GET", b"cart")


def knows(runtime: Runtime, message: Request) -> bool:
    """Say whether a message names a write."""
    assert isinstance(message, Get | Put)
    known = message.seen if isinstance(message, Get) else message.context
    seen = verify(runtime.node.local.context_key, message.key, known)
    return bool(seen.clock or seen.dots)


@in_loop
async def test_reads_and_writes_of_a_key_carry_what_the_connection_wrote_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = note_asked(monkeypatch)
    async with one() as (runtime, _):
        other = packed(b"GET", b"other") + packed(b"SET", b"other", b"1")
        await raw(runtime, SET + GET + SET + packed(b"INCR", b"cart") + other)

        assert [knows(runtime, each) for each in asked] == [False, True, True, True, False, False]

        asked.clear()
        await raw(runtime, GET + SET)
        assert [knows(runtime, each) for each in asked] == [False, False], "another has not"


@in_loop
async def test_it_is_forgotten_once_all_owners_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = note_asked(monkeypatch)
    async with one() as (runtime, client):
        assert runtime.redis is not None
        front = runtime.redis.front
        async with client.client() as alone:
            await alone.set("cart", "1")
            now = front.now
            front.now = lambda: now() + SEEN_S + 1  # type: ignore[method-assign]
            await alone.set("cart", "2")
            await alone.get("cart")

        puts = [each for each in asked if isinstance(each, Put)]
        assert [knows(runtime, each) for each in puts] == [False, False]
        assert knows(runtime, asked[-1]), "the second is known"


@in_loop
async def test_what_was_written_of_a_command_that_failed_is_known_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = RedisPlace.ask

    def refuse(place: RedisPlace, message: Request, call: Call, at: int = -1) -> None:
        if isinstance(message, Put) and message.value == b"refused":
            error: EverwriteError = Overloaded("It is full.", hint="")
            place._loop.call_soon(call.heard, at, error)
        else:
            ask(place, message, call, at)

    monkeypatch.setattr(RedisPlace, "ask", refuse)
    asked = note_asked(monkeypatch)
    async with one() as (runtime, _):
        mset = packed(b"MSET", b"cart", b"1", b"other", b"refused")

        found = await raw(runtime, mset + GET + packed(b"GET", b"other"))

        first, *rest = found.splitlines()
        assert first.startswith(b"-OVERLOADED It is full. A part of the command was done. ")
        assert rest == [b"$1", b"1", b"$-1"]
        assert [knows(runtime, each) for each in asked] == [False, False, True, False]


@in_loop
async def test_what_is_remembered_counts_and_goes_while_the_connection_is_idle() -> None:
    async with one() as (runtime, client):
        assert runtime.redis is not None
        front = runtime.redis.front
        async with client.client() as alone:
            await alone.ping()
            (served,) = (each for each in front.connections.values() if not each.session.kept)
            before = served.kept_bytes
            for _ in range(2):
                await alone.set("k" * 1000, "1")
            once = served.kept_bytes - before
            assert 1000 < once < 2000
            await alone.set("q" * 1000, "1")
            assert served.kept_bytes - before == pytest.approx(2 * once, rel=0.1)

            served.look(front.now())
            assert served.kept_bytes > before
            served.look(front.now() + SEEN_S + 1)
            assert served.kept_bytes == before

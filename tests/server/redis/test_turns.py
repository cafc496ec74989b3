"""No command holds the loop: what is to be told waits for later turns, what works long rests, and
equal reads are one. Seen by the order in which things come to pass.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.stdlib import BoundLogger
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import one

from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.errors import EverwriteError
from everwrite.core.local import Local
from everwrite.core.messages.requests import Get, GetReply, Quality
from everwrite.core.types.pieces import Added, Element, Written, encode
from everwrite.server.driver import Driver
from everwrite.server.redis import patterns, place, shown
from everwrite.server.redis.front import Front
from everwrite.server.redis.hub import Hub
from everwrite.server.redis.pipeline import Pipeline
from everwrite.server.redis.place import (
    HEAVY_IN_CORE_MAX,
    HEAVY_PIECES,
    IN_CORE_MAX,
    RedisPlace,
)
from everwrite.server.redis.replies import Problem
from everwrite.server.redis.session import Session
from everwrite.server.turns import Turns

QUALITY = Quality(3, 0, 2)


class Asking:
    """Somebody who asks, and notes what it hears."""

    def __init__(self, owner: str, events: list[str]) -> None:
        self.owner = owner
        self._events = events

    def heard(self, at: int, reply: object) -> None:
        failed = "!" if isinstance(reply, EverwriteError) else ""
        self._events.append(f"{self.owner}{at}{failed}")


class Clock:
    """The running loop, by whose time it becomes later when a test says so."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.call_soon = loop.call_soon
        self._now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> SimpleNamespace:
        self._due.append((self._now + delay, callback))
        return SimpleNamespace(cancel=self._due.clear)

    def forward(self, seconds: float) -> None:
        """Let it be later, and do what is due by then."""
        self._now += seconds
        due, self._due = self._due, []
        for at, callback in due:
            if at <= self._now:
                callback()
            else:
                self._due.append((at, callback))


def a_place(clock: Clock | None = None) -> tuple[RedisPlace, list[Get]]:
    """Return a place, and what the core gets of it."""
    core: list[Get] = []
    driver = SimpleNamespace(
        loop=clock or asyncio.get_running_loop(),
        log=None,
        attach_front=lambda _: 1,
        detach=lambda _: None,
        arrived=lambda _, messages: core.extend(messages),
    )
    return RedisPlace(cast(Driver, driver), 1000), core


def a_front(mine: RedisPlace) -> Front:
    """Return a front that has this place, and nobody who may publish."""
    return Front(
        mine,
        cast(Hub, None),
        b"",
        cast(Local, None),
        asyncio.get_running_loop(),
        port=0,
        welcome=lambda _: True,
        parted=lambda _: None,
        turns=cast(Turns, SimpleNamespace(took_from_guest=lambda _: None)),
        broken=lambda _: None,
        log=cast(BoundLogger, None),
    )


def read(mine: RedisPlace, key: bytes) -> Get:
    return Get(mine.next_rid(), key, 0)


def reply(to: Get, size: int = 1) -> GetReply:
    return GetReply(to.rid, [(0, b"")] * size, b"", QUALITY)


@in_loop
async def test_once_the_time_of_a_turn_is_over_each_connection_hears_in_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "TURN_S", 0.0)  # over after each
    mine, core = a_place()
    events: list[str] = []
    a, b = Asking("a", events), Asking("b", events)
    for number, who in enumerate((a, a, a, b)):
        mine.ask(read(mine, b"%d" % number), who, number)
    await asyncio.sleep(0)
    mine.send([reply(each) for each in core])
    while len(events) < 7:
        events.append("|")
        await asyncio.sleep(0)
    assert events == ["a0", "|", "a1", "|", "b3", "|", "a2"]
    mine.close()


@in_loop
async def test_the_commands_of_a_connection_have_one_turn_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "TURN_S", 0.0)  # over after each
    mine, core = a_place()
    front = a_front(mine)
    events: list[str] = []
    a, b = (
        Pipeline(front, Session(front, number, ""), functools.partial(events.append, name))
        for number, name in enumerate("ab")
    )
    for key in (b"0", b"1", b"2"):
        a.add([b"GET", key])
    b.add([b"GET", b"3"])
    await asyncio.sleep(0)
    mine.send([reply(each, 0) for each in core])
    while len(events) < 7:
        events.append("|")
        await asyncio.sleep(0)
    assert events == ["a", "|", "a", "|", "b", "|", "a"]
    assert (a.answers(), b.answers()) == (b"$-1\r\n" * 3, b"$-1\r\n")
    mine.close()


@in_loop
async def test_equal_reads_that_wait_are_one_and_a_later_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "TURN_S", 60.0)  # all is told in one
    mine, core = a_place()
    events: list[str] = []
    who = Asking("a", events)
    for number, key in enumerate((b"k", b"k", b"other", b"k")):
        mine.ask(read(mine, key), who, number)
    await asyncio.sleep(0)
    assert [each.key for each in core] == [b"k", b"other"]

    mine.ask(read(mine, b"k"), who, 4)  # the first has begun: it may not see what was written since
    await asyncio.sleep(0)
    assert [each.key for each in core] == [b"k", b"other", b"k"]

    mine.send([reply(core[0])])
    assert events == ["a0", "a1", "a3"]
    mine.send([reply(each) for each in core[1:]])
    assert events == ["a0", "a1", "a3", "a2", "a4"]
    assert not mine.under_way
    mine.close()


@pytest.mark.parametrize("lost", [False, True])
@in_loop
async def test_a_read_that_others_share_is_theirs_when_who_asked_first_waited_too_long(
    lost: bool,
) -> None:
    clock = Clock()
    mine, core = a_place(clock)
    events: list[str] = []
    a, b, others = Asking("a", events), Asking("b", events), Asking("", [])
    for number in range(IN_CORE_MAX):
        mine.ask(read(mine, b"%d" % number), others)
    mine.ask(read(mine, b"k"), a, 0)
    clock.forward(2)
    for number in (1, 2):
        mine.ask(read(mine, b"k"), b, number)
    await asyncio.sleep(0)
    assert len(core) == IN_CORE_MAX

    clock.forward(1.5)
    await asyncio.sleep(0)
    assert events == ["a0!"]
    assert [each.key for each in core[IN_CORE_MAX:]] == [b"k"]

    if lost:
        clock.forward(2)
        assert events == ["a0!", "b1!", "b2!"]
    else:
        mine.send([reply(core[-1])])
        assert events == ["a0!", "b1", "b2"]
    assert not mine.under_way

    core.clear()
    for number in range(2 * IN_CORE_MAX):
        mine.ask(read(mine, b"%d" % number), others)
    await asyncio.sleep(0)
    assert len(core) == IN_CORE_MAX  # all that waited has left its room
    mine.close()


@in_loop
async def test_a_read_whose_reply_is_lost_ends_each_that_share_it_in_its_time_and_makes_room() -> (
    None
):
    clock = Clock()
    mine, core = a_place(clock)
    events: list[str] = []
    who = Asking("a", events)
    mine.ask(read(mine, b"k"), who, 0)
    clock.forward(2)
    mine.ask(read(mine, b"k"), who, 1)
    await asyncio.sleep(0)
    assert len(core) == 1

    clock.forward(1.5)
    assert events == ["a0!"]
    mine.send([reply(core.pop())])  # of whom nobody waits for it any more
    assert events == ["a0!"]
    clock.forward(2)
    assert events == ["a0!", "a1!"]

    for number in range(2 * IN_CORE_MAX):
        mine.ask(read(mine, b"%d" % number), who)
    await asyncio.sleep(0)
    assert len(core) == IN_CORE_MAX
    mine.close()


@in_loop
async def test_while_replies_are_large_few_messages_are_with_the_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "TURN_S", 60.0)  # all is told in one
    mine, core = a_place()
    who = Asking("a", [])
    mine.ask(read(mine, b"large"), who)
    await asyncio.sleep(0)
    mine.send([reply(core.pop(), HEAVY_PIECES + 1)])
    for number in range(100):
        mine.ask(read(mine, b"%d" % number), who)
    await asyncio.sleep(0)
    assert len(core) == HEAVY_IN_CORE_MAX
    mine.close()


@in_loop
async def test_others_are_answered_while_a_set_is_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patterns, "REST_WORK", 0)  # a rest before each name
    async with one() as (_, client):
        await client.sadd("set", *range(500))
        scan = asyncio.ensure_future(client.sscan("set", match="1*"))
        pings = 0
        while not scan.done():
            await client.ping()
            pings += 1
        assert len((await scan)[1]) == 111
        assert pings > 3


@in_loop
async def test_a_set_that_is_named_many_times_is_asked_and_joined_once() -> None:
    async with one() as (_, client):
        await client.sadd("a", "x", "y")
        await client.sadd("b", "y", "z")
        assert await client.sunion(["a", "b", "a", "a"]) == {b"x", b"y", b"z"}
        assert await client.sinter(["a", "b", "a"]) == {b"y"}
        assert await client.sdiff(["a", "b", "b"]) == {b"x"}
        assert await client.sdiff(["a", "b", "a"]) == set()
        assert await client.sintercard(3, ["a", "a", "b"]) == 1


# -- a part of a hash, or of a set -----------------------------------------------------------------

RAW = [b"a", b"ab", b"\xff", b"b" * 40]
NAMES = st.sampled_from(["a", "ab", b"\xff", "b" * 40])
PATHS = st.one_of(st.lists(NAMES, min_size=1, max_size=1), st.lists(NAMES, min_size=0, max_size=2))
FIELDS = st.one_of(
    st.builds(Written, st.lists(NAMES, min_size=1, max_size=1), st.just((0, b"7"))),
    st.builds(Added, st.lists(NAMES, min_size=1, max_size=1), st.integers(1, 3)),
)
ANY = st.one_of(
    FIELDS,
    st.builds(Written, PATHS, st.just((0, b"v"))),
    st.builds(Added, PATHS, st.integers(1, 3)),
    st.builds(Element, PATHS, NAMES),
)
PIECES = st.one_of(
    st.lists(FIELDS, max_size=6),
    st.lists(st.builds(Element, st.just([]), NAMES), max_size=6),
    st.lists(ANY, max_size=5),
)


def outcome(run: Any) -> Any:
    try:
        return run()
    except Problem as problem:
        return str(problem)


@given(PIECES, st.booleans())
def test_a_part_is_what_it_is_of_the_whole(pieces: list[Any], plain: bool) -> None:
    values = [(KIND_PIECE, encode(each)) for each in pieces] + [(0, b"plain")] * plain
    marks = [(b"n", at, at % 3) for at in range(len(values))]
    told = GetReply(1, values, b"", QUALITY, marks=marks)

    def picked(names: list[bytes]) -> list[bytes | None]:
        there = shown.fields_in(told, names)
        return [there.get(name) for name in names]

    def of_whole(names: list[bytes]) -> list[bytes | None]:
        there = shown.strings_in(told)
        return [there.get(name) for name in names]

    for names in ([RAW[0]], [RAW[1]], RAW):
        assert outcome(lambda: picked(names)) == outcome(lambda: of_whole(names))  # noqa: B023
    assert outcome(lambda: shown.count_in_hash(told)) == outcome(
        lambda: len(shown.strings_in(told))
    )
    assert outcome(lambda: shown.count_in_set(told)) == outcome(lambda: len(shown.set_in(told)))
    assert outcome(lambda: shown.in_set(told, RAW)) == outcome(
        lambda: [each in shown.set_in(told) for each in RAW]
    )

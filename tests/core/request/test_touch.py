"""Versions with an end: minted once, hidden everywhere at once, and touched without a trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.data import context, versions
from everwrite.core.data.keys import data_key
from everwrite.core.expiry.clock import Clock
from everwrite.core.messages.requests import (
    BUSY,
    REFUSED,
    SYNC_YES,
    Failure,
    Fetch,
    FetchReply,
    GetReply,
    PutReply,
    Store,
    StoreReply,
    Touch,
)

MINUTE = 60_000
OTHER = data_key(b"carts", b"bob")


def send_touch(world: World, node: bytes, ttl_ms: int, **options: Any) -> int:
    client = world._client()
    fields = {"key": KEY, "op": b"touch%d" % client, "timeout_ms": TIMEOUT_MS}
    touch = Touch(rid=client, ttl_ms=ttl_ms, **{**fields, **options})
    world.nodes[node].receive(client, touch)
    return client


def touched(world: World, node: bytes, ttl_ms: int, **options: Any) -> PutReply:
    client = send_touch(world, node, ttl_ms, **options)
    world.run()
    reply: PutReply = world.reply(client, PutReply)
    return reply


def refused(world: World, node: bytes, ttl_ms: int) -> Failure:
    client = send_touch(world, node, ttl_ms)
    world.run()
    return world.failure(client)


def time_ms(world: World, node: bytes) -> int:
    local = world.nodes[node].local
    local.now = world.now
    return local.time_ms


def ends(world: World, node: bytes) -> list[int]:
    return [each.expires for each in world.record(node).siblings]


def shown(reply: GetReply) -> list[bytes]:
    return [value for _, value in reply.values]


# -- puts ------------------------------------------------------------------------------------------


def test_a_put_with_a_ttl_ends_at_one_time_on_all_replicas() -> None:
    world = World(3)
    a, b, c = world.order()

    reply = world.put(a, b"v", ttl_ms=MINUTE)

    assert reply.ends == time_ms(world, a) + MINUTE
    assert ends(world, a) == ends(world, b) == ends(world, c) == [reply.ends]
    assert world.record(a).siblings[0].pure


def test_a_read_tells_the_end_and_hides_the_value_from_then_on() -> None:
    world = World(3)
    a, b, _c = world.order()
    end = world.put(a, b"v", ttl_ms=MINUTE).ends

    before = world.get(b)
    world.advance(MINUTE - 20)
    last = world.get(b)
    world.advance(20)
    after = world.get(b)

    assert (shown(before), before.ends) == ([b"v"], [end])
    assert shown(last) == [b"v"]
    assert (shown(after), after.quality.absent) == ([], "expired")
    assert after.context == b""  # nothing is to be superseded: a put after it is pure


def test_a_client_that_reads_a_replica_is_told_by_which_time_to_hide() -> None:
    world = World(3)
    a, b, _c = world.order()
    end = world.put(a, b"v", ttl_ms=MINUTE).ends
    world.advance(MINUTE)

    client = world._client()
    world.nodes[b].receive(client, Fetch(client, KEY, TIMEOUT_MS))
    world.run()
    reply: FetchReply = world.reply(client, FetchReply)

    assert reply.time_ms >= end
    assert versions.live(versions.decode(reply.record), reply.time_ms) == []
    assert reply.context == b""


def test_a_put_over_what_has_ended_is_pure_again() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    world.advance(MINUTE)

    world.put(a, b"w", ttl_ms=MINUTE, context=world.get(a).context)

    assert all(each.pure for each in world.record(a).siblings)
    assert shown(world.get(a)) == [b"w"]


def test_a_key_that_is_put_again_each_time_it_has_ended_never_has_too_many_siblings() -> None:
    world = World(3)
    a, _b, c = world.order()
    most = 0

    for _ in range(80):
        world.put(a, b"v", ttl_ms=1_000, context=world.get(a).context)
        most = max(most, len(world.record(c).siblings))
        world.advance(2_000)

    assert most == 8


def test_a_put_over_what_lives_is_not_pure() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)

    world.put(a, b"w", ttl_ms=MINUTE, context=world.get(a).context)

    assert [each.pure for each in world.record(a).siblings] == [False]


def test_a_session_asks_no_more_for_what_it_saw_and_has_ended() -> None:
    world = World(3)
    a, b, c = world.order()
    seen = world.put(a, b"v", ttl_ms=MINUTE).context
    world.advance(MINUTE)
    for node in (a, b, c):  # as if it were purged
        world.disk[node].clear()
        world.nodes[node].local.records.forget([b"d" + KEY])

    reply = world.get(b, seen=seen)

    assert (shown(reply), reply.quality.absent) == ([], "never")


@pytest.mark.parametrize("ttl_ms", [-1, 1, 999, 315_360_000_001, 1 << 62])
def test_a_time_to_live_that_cannot_be_is_refused(ttl_ms: int) -> None:
    world = World(3)
    a, *_ = world.order()

    assert world.refused_put(a, b"v", ttl_ms=ttl_ms).code == "bad_request"
    assert refused(world, a, ttl_ms).code == "bad_request"


def test_a_delete_has_no_end_and_a_touch_needs_one() -> None:
    world = World(3)
    a, *_ = world.order()

    assert world.refused_put(a, None, ttl_ms=MINUTE).code == "bad_request"
    assert refused(world, a, 0).code == "bad_request"


def test_a_retry_of_a_put_that_was_retired_meanwhile_is_not_a_misuse() -> None:
    world = World(3, expiry_slot_ms=100, expiry_margin_ms=100)
    a, *_ = world.order()
    world.put(a, b"other")
    world.put(a, b"v", ttl_ms=1_000, op=b"same")
    world.advance(3_000)
    assert world.values(a) == [b"other", None]

    reply = world.put(a, b"v", ttl_ms=1_000, op=b"same", retry=True)

    assert reply.owners >= 2
    assert world.values(a) == [b"other", None]


def test_a_node_that_does_not_know_the_time_gives_nothing_an_end_and_hides_nothing() -> None:
    """It was restarted with a clock that is wrong by years, and hears nobody who is right."""
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    world.put(a, b"for ever", key=OTHER)
    world.nodes[a].local.clock = Clock(world.now, world.now + 1_000 * MINUTE, 3)

    assert world.refused_put(a, b"w", ttl_ms=MINUTE).code == "unavailable"
    assert refused(world, a, MINUTE).code == "unavailable"
    assert world.refused_get(a).code == "unavailable"
    client = world._client()
    world.nodes[a].receive(client, Fetch(client, KEY, TIMEOUT_MS))
    world.run()
    assert world.reply(client, FetchReply).status == BUSY
    assert shown(world.get(a, key=OTHER)) == [b"for ever"]
    assert shown(world.get(b)) == [b"v"]
    assert shown(world.get(c)) == [b"v"]


def test_a_node_that_does_not_know_the_time_holds_no_session_for_over() -> None:
    """Else it would answer without what the session has written, by a clock that is far ahead."""
    world = World(3)
    a, _b, c = world.order()
    world.lose = lambda source, target, message: c in (source, target)
    done = world.put(a, b"v", ttl_ms=MINUTE, w=2)
    known = world.nodes[c].local.clock
    world.nodes[c].local.clock = Clock(world.now, world.now + 1_000 * MINUTE, 3)

    client = world.send_get(c, r=1, seen=done.context)
    world.advance(TIMEOUT_MS + 100)
    assert world.failure(client).code == "stale_session"

    world.nodes[c].local.clock = known
    world.advance(2 * MINUTE)
    client = world.send_get(c, r=1, seen=done.context)
    world.advance(TIMEOUT_MS + 100)
    assert shown(world.reply(client, GetReply)) == []


# -- touches ---------------------------------------------------------------------------------------


def test_a_touch_raises_the_end_everywhere_and_makes_no_sibling() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    clock = world.record(a).clock

    reply = touched(world, b, 10 * MINUTE)

    assert (reply.siblings, reply.ends) == (1, time_ms(world, b) + 10 * MINUTE)
    assert reply.owners >= 2
    for node in (a, b, c):
        assert ends(world, node) == [reply.ends]
        assert world.record(node).clock == clock


def test_a_touch_never_shortens() -> None:
    world = World(3)
    a, b, _c = world.order()
    end = world.put(a, b"v", ttl_ms=10 * MINUTE).ends

    assert touched(world, b, MINUTE).ends == end
    assert ends(world, a) == [end]


def test_of_two_touches_at_once_the_longest_wins() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)

    send_touch(world, a, 5 * MINUTE)
    send_touch(world, b, 7 * MINUTE)
    send_touch(world, c, 3 * MINUTE)
    world.run()

    longest = time_ms(world, a) + 7 * MINUTE
    assert [ends(world, node) for node in (a, b, c)] == [[longest]] * 3


def test_a_touch_of_what_has_no_end_changes_nothing() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"v")
    before = dict(world.disk[b])

    reply = touched(world, b, MINUTE)

    assert (reply.siblings, reply.ends) == (1, 0)
    assert world.disk[b] == before


def test_a_touch_of_what_is_not_there_says_so_and_writes_nothing() -> None:
    world = World(3)
    a, *_ = world.order()

    assert touched(world, a, MINUTE).siblings == 0
    assert not any(world.disk.values())


def test_a_touch_of_what_has_ended_does_not_bring_it_back() -> None:
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    world.advance(MINUTE)

    assert touched(world, a, 10 * MINUTE).siblings == 0
    assert shown(world.get(a)) == []


def test_a_touch_that_few_can_answer_does_not_say_that_nothing_is_there() -> None:
    world = World(3)
    a, b, c = world.order()
    world.kill(b, c)

    failure = refused(world, a, MINUTE)

    assert failure.code == "quorum_not_met"


def test_a_touch_looks_around_before_it_says_that_nothing_is_there() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: isinstance(message, Store) and target == c
    world.put(a, b"v", ttl_ms=MINUTE)
    assert ends(world, c) == []

    reply = touched(world, c, 5 * MINUTE)

    assert reply.siblings == 1
    assert ends(world, c) == ends(world, b) == [reply.ends]


def test_a_touch_lengthens_what_stands_at_a_replica_not_only_what_its_coordinator_has() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"old", ttl_ms=MINUTE)
    world.lose = lambda source, target, message: isinstance(message, Store) and target == c
    world.put(a, b"new", ttl_ms=MINUTE, context=world.get(a).context)
    world.lose = lambda source, target, message: False
    assert world.values(c) == [b"old"]

    end = touched(world, c, 5 * MINUTE).ends

    assert world.values(a) == world.values(b) == [b"new"]
    assert ends(world, a) == ends(world, b) == [end]


def test_a_touch_needs_w_acks() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    world.kill(b, c)

    assert refused(world, a, MINUTE).code == "quorum_not_met"


def test_a_touch_through_a_node_that_is_no_replica_is_handed_on() -> None:
    world = World(4)
    a, _b, _c, d = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)

    reply = touched(world, d, 5 * MINUTE)

    assert reply.stale_view
    assert ends(world, a) == [reply.ends]


def test_a_stand_in_keeps_the_touch_for_an_owner_that_is_down() -> None:
    world = World(4)
    a, _b, c, d = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    world.kill(c)

    end = touched(world, a, 5 * MINUTE).ends
    assert world.hint(d)[0] == [c]
    world.start(c)
    world.until(lambda: ends(world, c) == [end])


def test_a_touch_gives_out_no_context() -> None:
    """Who touches has seen nothing of what stands there, and must not supersede it."""
    world = World(3)
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)

    assert context.verify(b"k" * 32, KEY, touched(world, a, MINUTE).context).clock == {}


def test_a_touch_with_an_end_that_no_version_can_have_is_refused() -> None:
    world = World()
    a, b = world.order()[:2]
    world.put(a, b"v", ttl_ms=MINUTE, w=3)
    # Each knows something of its own, so their join is made anew, and touched.
    other = versions.encode(versions.Record({b"\xff" * 16: 1}, []))
    before = ends(world, b)

    for rid, end in ((7, versions.END_MAX_MS), (8, -1)):
        world.nodes[b].receive(a, Store(rid, KEY, other, 0, SYNC_YES, touch=end))
        world.run()

        assert StoreReply(rid, REFUSED, False) in world.messages(StoreReply, to=a)
        assert ends(world, b) == before


# -- a put that was minted twice -------------------------------------------------------------------


@given(st.integers(0, 5 * MINUTE), st.sampled_from([0, 30_000, 20 * MINUTE]), st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_try_that_finds_its_put_twice_tells_until_when_readers_are_shown_it(
    apart_ms: int, touch_ms: int, other_first: bool
) -> None:
    """The first copy by its dot may be the one that ends first, or that has ended already."""
    ttl_ms, world = 3 * MINUTE, World(3)
    a, b, c = world.order()
    one, two = (b, a) if other_first else (a, b)
    world.lose = lambda source, target, message: True
    world.send_put(one, b"v", op=b"once", w=1, ttl_ms=ttl_ms)
    world.run()
    world.lose = lambda source, target, message: False
    world.kill(one)
    world.advance(apart_ms)
    world.put(two, b"v", op=b"once", retry=True, ttl_ms=ttl_ms)
    world.start(one)
    world.get(c, r=3)  # brings both copies to all
    world.run()
    touch_end = touched(world, c, touch_ms).ends if touch_ms else 0

    done = world.put(c, b"v", op=b"once", retry=True, ttl_ms=ttl_ms)

    assert len(world.record(c).siblings) == 2
    assert done.ends == max(ends(world, c))
    assert touch_end in (0, done.ends)
    assert world.get(c, r=3).ends == [done.ends]
    world.advance(done.ends - time_ms(world, c) - 1)
    assert world.get(c, r=3).values == [(0, b"v")]
    world.advance(1)
    assert world.get(c, r=3).values == []

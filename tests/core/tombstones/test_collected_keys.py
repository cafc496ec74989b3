"""A key whose tombstone was collected: it may be put anew, and sessions remember it."""

from __future__ import annotations

from tests.core.tombstones.test_collect import CYCLE_MS, copies, deleted, world_of
from tests.core.world import KEY

from everwrite.core.data import versions
from everwrite.core.data.context import combine
from everwrite.core.messages.requests import Fetch, Store
from everwrite.core.messages.tombstones import Reap
from everwrite.core.records import OWN

# -- a key that is put anew ------------------------------------------------------------------------


def test_a_put_with_the_context_of_a_collected_tombstone_is_one_value_under_a_fresh_epoch() -> None:
    world = world_of()
    context = deleted(world)
    a, b, c, _d = world.order()
    before = {version.actor for version in world.record(a).siblings}
    world.advance(CYCLE_MS)
    assert copies(world) == 0

    world.put(a, b"new", context=context, w=3)

    for node in (a, b, c):
        (version,) = world.record(node).siblings
        assert version.value == b"new"
        assert version.actor not in before
        assert versions.covers(world.record(node).clock, *next((each, 1) for each in before))


def test_a_put_without_a_context_outlives_an_old_tombstone() -> None:
    """The tombstone comes back from an owner that missed the reap: it kills nothing new."""
    world = world_of()
    deleted(world)
    a, b, c, _d = world.order()
    world.lose = lambda source, target, message: (
        isinstance(message, Reap) and bool(message.items) and target == c
    )
    world.until(lambda: OWN + KEY not in world.disk[a])
    world.lose = lambda source, target, message: False
    assert world.values(c) == [None]

    world.put(b, b"new", w=3)

    assert world.get(c, r=3).values == [(0, b"new")]
    world.advance(3 * CYCLE_MS)
    assert world.get(a, r=3).values == [(0, b"new")]


def test_a_retry_of_a_put_whose_tombstone_was_collected_is_not_minted_again() -> None:
    world = world_of()
    a = world.order()[0]
    put = world.put(a, b"old", op=b"first", w=3)
    world.put(a, None, context=put.context, w=3)
    world.advance(CYCLE_MS)
    assert copies(world) == 0

    failure = world.refused_put(a, b"old", op=b"first", retry=True)

    assert failure.outcome == "unknown"
    assert copies(world) == 0


# -- sessions --------------------------------------------------------------------------------------


def test_a_session_that_saw_the_key_reads_that_it_is_gone() -> None:
    world = world_of(5)
    context = deleted(world)
    a, e = world.order()[0], world.order()[4]
    world.advance(CYCLE_MS)
    assert copies(world) == 0

    assert world.get(a, seen=context).quality.absent == "never"
    assert world.get(e, seen=context).values == []


def test_a_session_that_saw_both_lives_of_a_key_reads_the_second() -> None:
    world = world_of(5)
    context = deleted(world)
    a, b = world.order()[:2]
    world.advance(CYCLE_MS)
    world.put(a, b"new")

    seen = combine((context, world.get(a).context))

    assert world.get(b, seen=seen).values == [(0, b"new")]


def test_a_session_is_not_told_that_its_write_is_gone_while_a_stand_in_has_it() -> None:
    world = world_of(5)
    deleted(world)
    a, b, c, d, _e = world.order()
    world.advance(CYCLE_MS)
    world.kill(a, b, c)
    put = world.put(d, b"mine", w=2)
    world.lose = lambda source, target, message: isinstance(message, Store)
    world.start(a, b, c)

    assert world.get(a, seen=put.context, timeout_ms=5_000).values == [(0, b"mine")]


def test_a_session_fails_as_stale_while_somebody_is_down_who_may_know() -> None:
    world = world_of(5)
    context = deleted(world)
    a, e = world.order()[0], world.order()[4]
    world.advance(CYCLE_MS)
    world.kill(e)

    assert world.refused_get(a, seen=context).code == "stale_session"


def test_a_session_read_whose_time_is_over_asks_nobody_more() -> None:
    world = world_of(5, down_after_ms=100_000, gray_after_ms=100_000)
    context = deleted(world)
    a, b = world.order()[:2]
    world.advance(CYCLE_MS)
    world.silent.add(b)
    client = world.send_get(a, seen=context, timeout_ms=500)
    world.advance(480)
    world.sent.clear()

    world.advance(40)

    assert world.failure(client).code == "stale_session"
    assert world.messages(Fetch) == []

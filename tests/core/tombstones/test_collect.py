"""Tombstones: they go when all have confirmed twice that nothing older can come, and not before."""

from __future__ import annotations

from typing import Any

from tests.core.hints.test_hints import keys_of
from tests.core.world import KEY, World

from everwrite.core.copies import TOMBSTONES
from everwrite.core.messages.requests import SYNC_YES, Store
from everwrite.core.messages.tombstones import Confirm, Reap
from everwrite.core.records import FLOORS, HINT, OWN
from everwrite.core.tombstones.confirm import (
    ALIVE,
    DIFFERS,
    DOWN,
    HINT_KEPT,
    NO_ROOM,
    OTHER_VIEW,
    UNREADABLE_HERE,
)

LIFE_MS = 2_000
CYCLE_MS = 3 * LIFE_MS
"""A pass, both confirmations, and time to spare."""


def world_of(nodes: int = 4, **knobs: Any) -> World:
    """Return a cluster in which a tombstone lives for seconds."""
    # Beside requests, and soon after a start, it would be held to a few slices a second.
    fast = {"store_life_ms": LIFE_MS, "collect_every_ms": 100, "collect_retry_ms": 500}
    knobs = {"pace": False, **knobs}
    world = World(nodes, **{**fast, **knobs})
    world.advance(1000)  # they hear what time it is
    return world


def deleted(world: World, key: bytes = KEY) -> bytes:
    """Put and delete a key on all its owners; return the context of the delete."""
    a = world.order(key)[0]
    put = world.put(a, b"old", key=key, w=3)
    return world.put(a, None, key=key, context=put.context, w=3).context


def copies(world: World, key: bytes = KEY) -> int:
    """Return on how many disks there is anything of a key."""
    prefixes = (OWN, HINT, TOMBSTONES)
    return sum(prefix + key in disk for disk in world.disk.values() for prefix in prefixes)


def reasons(world: World, key: bytes = KEY) -> set[int]:
    """Return why the tombstone of a key is still there, as its leader sees it."""
    reason = world.nodes[world.order(key)[0]].collect.reasons.get(key)
    return {reason[0]} if reason else set()


def stale(world: World, key: bytes = KEY) -> Store:
    """Return a copy of a value that was just read off a disk, on its way to an owner."""
    a = world.order(key)[0]
    record = world.disk[a][OWN + key][8:]
    return Store(0, key, record, 0, SYNC_YES, sent_ms=world.nodes[a].local.stamp)


def late_copy(world: World) -> Store:
    """Put and delete a key; return a copy of the value that was read off a disk before, and is late
    on its way to an owner.
    """
    a = world.order()[0]
    world.put(a, b"old", w=3)
    late = stale(world)
    world.put(a, None, context=world.get(a).context, w=3)
    return late


# -- gone ------------------------------------------------------------------------------------------


def test_a_tombstone_that_all_confirm_twice_is_gone_from_every_disk() -> None:
    world = world_of()
    deleted(world)
    assert copies(world) == 6  # three owners, each with its entry

    world.advance(CYCLE_MS)

    assert copies(world) == 0
    a = world.order()[0]
    assert world.nodes[a].local.counters.tombstones_collected == 1
    assert world.get(a).quality.absent == "never"


def test_a_tombstone_stays_for_twice_the_life_of_a_message() -> None:
    world = world_of()
    deleted(world)

    world.advance(2 * LIFE_MS)

    assert copies(world) == 6


def test_hundreds_of_tombstones_go_with_two_questions_to_each_member() -> None:
    world = world_of()
    keys = keys_of(world, 200)
    for key in keys:
        deleted(world, key)
    world.sent.clear()

    world.advance(CYCLE_MS)

    assert not any(copies(world, key) for key in keys)
    assert len(world.messages(Confirm)) <= 2 * 3 * 2  # two pages' worth at most


def test_every_member_has_the_floor_on_its_disk_before_a_copy_goes() -> None:
    world = world_of(5)
    deleted(world)
    floors: list[bool] = []

    def look() -> None:
        if copies(world) < 6:
            floors.append(all(FLOORS in world.state[node] for node in world.ids))

    world.watch = look
    world.advance(CYCLE_MS)

    assert copies(world) == 0
    assert floors and all(floors)


# -- what speaks against it ------------------------------------------------------------------------


def test_one_member_that_is_down_stops_it_for_as_long_as_it_is_down() -> None:
    world = world_of(5)
    deleted(world)
    e = world.order()[4]  # no owner, no stand-in
    world.kill(e)

    world.advance(10 * CYCLE_MS)
    assert copies(world) == 6
    assert world.nodes[world.order()[0]].collect.down() == e

    world.start(e)
    world.advance(CYCLE_MS)
    assert copies(world) == 0


def test_a_node_that_was_away_for_a_year_brings_nothing_back() -> None:
    world = world_of()
    a, _b, c, _d = world.order()
    put = world.put(a, b"old", w=3)
    world.kill(c)
    world.put(a, None, context=put.context)
    world.advance(5 * CYCLE_MS)
    assert world.values(c) == [b"old"]

    world.start(c)
    world.advance(2 * CYCLE_MS)

    assert world.values(c) == []
    assert copies(world) == 0
    assert world.get(c).quality.absent == "never"


def test_doomstone_a_hint_for_the_key_stops_it_and_never_kills_what_is_put_anew() -> None:
    """All owners have the tombstone, and a stand-in could bring it home once more, later."""
    world = world_of(5)
    deleted(world)
    a, _b, c, _d, e = world.order()
    old = stale(world)
    world.lose = lambda source, target, message: (
        isinstance(message, Store) and source == e and target == c
    )
    hint = Store(0, KEY, old.record, 0, SYNC_YES, hint_for=c, sent_ms=old.sent_ms)
    world.nodes[e].receive(a, hint)
    world.run()

    world.advance(3 * CYCLE_MS)
    assert copies(world) == 7
    assert world.nodes[a].collect.reasons.get(KEY, ())[:2] == (HINT_KEPT, e)

    world.put(a, b"new")
    world.lose = lambda source, target, message: False
    world.advance(3 * CYCLE_MS)
    assert world.hint(e) == ([], [])
    assert world.get(c, r=3).values == [(0, b"new")]


def test_a_hint_that_came_and_went_between_the_confirmations_begins_it_anew() -> None:
    world = world_of(5)
    deleted(world)
    a, _b, c, _d, e = world.order()
    world.advance(500)
    leader = world.nodes[a].collect
    assert leader.waits_ms(KEY) > 0
    old = stale(world)
    world.nodes[e].receive(a, Store(0, KEY, old.record, 0, SYNC_YES, c, sent_ms=old.sent_ms))
    world.run()
    world.advance(1000)  # it is delivered
    assert world.hint(e) == ([], [])

    world.advance(2 * LIFE_MS)
    assert copies(world) == 6

    world.advance(CYCLE_MS)
    assert copies(world) == 0


def test_an_owner_with_another_copy_speaks_against_it() -> None:
    world = world_of()
    a, b, c, _d = world.order()
    put = world.put(a, b"old", w=3)
    world.lose = lambda source, target, message: isinstance(message, Store) and target == c
    world.send_put(a, None, context=put.context)
    world.run()
    assert world.values(c) == [b"old"]
    world.advance(300)

    assert reasons(world) & {DIFFERS, ALIVE, HINT_KEPT}
    assert world.values(b) == [None]


def test_a_copy_that_cannot_be_read_speaks_against_it() -> None:
    world = world_of()
    deleted(world)
    b = world.order()[1]
    world.kill(b)
    world.broken.add((b, OWN + KEY))
    world.start(b)

    world.advance(500)

    assert OWN + KEY in world.disk[b]
    assert reasons(world) == {UNREADABLE_HERE}


def test_a_copy_that_rots_after_both_confirmations_goes_all_the_same() -> None:
    world = world_of()
    deleted(world)
    b = world.order()[1]

    def lose(source: bytes, target: object, message: object) -> bool:
        if target == b and isinstance(message, Reap) and message.items:
            records = world.nodes[b].local.records
            records._young.pop(OWN + KEY, None)
            records._old.pop(OWN + KEY, None)
            world.rotten.add((b, OWN + KEY))
        return False

    world.lose = lose
    world.advance(CYCLE_MS)

    assert copies(world) == 0


def test_a_value_written_between_the_confirmations_stays() -> None:
    world = world_of()
    context = deleted(world)
    a, b = world.order()[:2]
    world.advance(500)
    assert world.nodes[a].collect.waits_ms(KEY) > 0

    world.put(b, b"new", context=context)
    world.advance(3 * CYCLE_MS)

    assert world.get(a).values == [(0, b"new")]
    assert world.values(a) == [b"new"]


def test_a_value_written_while_the_copies_go_stays() -> None:
    """The reap comes to an owner that has the new value by then."""
    world = world_of()
    deleted(world)
    a, b, c, _d = world.order()
    held: list[tuple[bytes, Reap]] = []

    def lose(source: bytes, target: object, message: object) -> bool:
        if isinstance(message, Reap) and message.items and target == c:
            held.append((source, message))
            return True
        return False

    world.lose = lose
    world.until(lambda: bool(held))
    world.put(b, b"new")  # b has nothing of the key any more, c has the tombstone
    for source, message in held:
        world.nodes[c].receive(source, message)
    world.run()
    assert b"new" in world.values(c)
    world.advance(3 * CYCLE_MS)

    assert world.get(a, r=3).values == [(0, b"new")]


def test_members_that_know_of_other_members_speak_against_it() -> None:
    world = world_of()
    deleted(world)
    a, b = world.order()[:2]
    right = world.nodes[b].confirmations.view
    world.nodes[b].confirmations.view = lambda: b"another"  # type: ignore[method-assign]
    world.advance(CYCLE_MS)
    assert copies(world) == 6
    assert reasons(world) == {OTHER_VIEW}

    world.nodes[b].confirmations.view = right  # type: ignore[method-assign]
    world.advance(CYCLE_MS)
    assert copies(world) == 0
    assert world.nodes[a].collect.reasons == {}


def test_a_member_that_restarts_between_the_confirmations_begins_it_anew() -> None:
    world = world_of()
    deleted(world)
    a, _b, c, _d = world.order()
    world.advance(500)
    assert world.nodes[a].collect.waits_ms(KEY) > 0

    world.kill(c)
    world.start(c)
    world.advance(2 * LIFE_MS)
    assert copies(world) == 6

    world.advance(CYCLE_MS)
    assert copies(world) == 0


def test_a_confirmation_waits_for_the_disk() -> None:
    world = world_of()
    deleted(world)
    d = world.order()[3]
    world.unsynced.add(d)

    world.advance(2 * CYCLE_MS)

    assert copies(world) == 6
    assert world.nodes[world.order()[0]].collect.waiting == 0


def test_a_confirmation_waits_for_reads_that_are_parked() -> None:
    world = world_of()
    deleted(world)
    b = world.order()[1]
    world.kill(b)
    world.start(b)
    world.unread.add(b)
    world.advance(2 * CYCLE_MS)
    assert copies(world) == 6

    world.unread.discard(b)
    world.advance(2 * CYCLE_MS)
    assert copies(world) == 0


def test_at_the_cap_of_watched_keys_a_member_does_not_confirm() -> None:
    world = world_of(collect_watched_max=1)
    first, second = keys_of(world, 2)
    deleted(world, first)
    deleted(world, second)

    world.advance(1000)

    assert reasons(world, first) | reasons(world, second) == {NO_ROOM}
    world.advance(2 * CYCLE_MS)
    assert copies(world, first) + copies(world, second) == 0


def test_a_leader_that_restarts_finds_its_queue_on_the_disk() -> None:
    world = world_of()
    deleted(world)
    a = world.order()[0]
    world.advance(500)

    world.kill(a)
    world.start(a)
    world.advance(2 * CYCLE_MS)

    assert copies(world) == 0


def test_when_the_leader_goes_down_halfway_the_reason_names_who_is_down() -> None:
    world = world_of(5)
    deleted(world)
    a, _b, c = world.order()[:3]
    world.silent.add(c)  # hangs: nobody is told
    world.advance(3000)

    assert DOWN in reasons(world) or world.nodes[a].collect.down() == c

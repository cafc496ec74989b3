"""Tombstones: they go when all have confirmed twice that nothing older can come, and not before."""

from __future__ import annotations

from typing import Any

from tests.core.hints.test_hints import keys_of
from tests.core.world import KEY, World

from everwrite.core.copies import TOMBSTONES
from everwrite.core.data import versions
from everwrite.core.data.context import combine
from everwrite.core.data.epochs import EPOCH_BLOCK
from everwrite.core.expiry.clock import Clock
from everwrite.core.messages.requests import REFUSED, SYNC_YES, Fetch, Store, StoreReply
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
    fast = {"store_life_ms": LIFE_MS, "collect_every_ms": 100, "collect_retry_ms": 500}
    world = World(nodes, **{**fast, **knobs})
    world.advance(1000)  # they hear what time it is
    return world


class Wrong(Clock):
    """A clock of the day that nobody can talk out of its mistake."""

    __slots__ = ("off_by_ms",)

    off_by_ms: int

    def time_ms(self, now: int) -> int:
        return now + self.off_by_ms


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


# -- what comes too late ---------------------------------------------------------------------------


def test_a_copy_that_was_long_on_its_way_is_not_taken() -> None:
    world = world_of()
    a, b = world.order()[:2]
    late = late_copy(world)
    world.advance(2 * CYCLE_MS)
    assert copies(world) == 0

    world.nodes[b].receive(a, late)
    world.run()
    world.advance(CYCLE_MS)

    assert copies(world) == 0
    assert world.nodes[b].local.counters.stale_refused == 1


def test_a_hint_that_was_long_on_its_way_is_not_kept() -> None:
    world = world_of(5)
    a, _b, c, _d, e = world.order()
    late = late_copy(world)
    world.advance(2 * CYCLE_MS)

    late = Store(7, KEY, late.record, 0, SYNC_YES, c, sent_ms=late.sent_ms)
    world.nodes[e].receive(a, late)
    world.run()
    world.advance(CYCLE_MS)

    assert copies(world) == 0
    assert StoreReply(7, REFUSED, False) in world.messages(StoreReply, to=a)


def test_what_was_read_before_a_collection_is_refused_after_a_restart_too() -> None:
    world = world_of()
    a, b = world.order()[:2]
    late = late_copy(world)
    world.advance(2 * CYCLE_MS)
    world.kill(b)
    world.start(b)

    world.nodes[b].receive(a, late)
    world.run()

    assert OWN + KEY not in world.disk[b]


def test_what_was_read_before_a_disk_went_back_in_time_is_refused_after_a_collection() -> None:
    """Simulator, seed 31166: a lost disk took the lease of epochs with it, by which the count went.
    Then floors were too low for what had been sent before.
    """
    world = world_of()
    a, b = world.order()[:2]
    world.kill(a)
    world.leased[a] = 9 * EPOCH_BLOCK
    world.start(a)
    world.put(a, b"old", w=3)
    late = stale(world)
    world.kill(a)
    world.leased[a] = 1
    world.start(a)
    world.put(a, None, context=world.get(a).context, w=3)
    world.advance(2 * CYCLE_MS)
    assert copies(world) == 0

    world.nodes[b].receive(a, late)
    world.run()
    world.advance(CYCLE_MS)

    assert copies(world) == 0
    assert world.nodes[b].local.counters.stale_refused == 1


def test_a_node_whose_disk_went_back_in_time_sends_copies_that_are_taken() -> None:
    """The others know floors of its former count, and its new one begins above them."""
    world = world_of()
    a, b, c, _d = world.order()
    world.kill(a)
    world.leased[a] = 9 * EPOCH_BLOCK
    world.start(a)
    deleted(world)
    world.advance(2 * CYCLE_MS)
    assert copies(world) == 0
    world.kill(a)
    world.leased[a] = 1
    world.start(a)

    assert world.put(a, b"new", w=3).owners == 3

    assert [world.values(node) for node in (a, b, c)] == [[b"new"]] * 3


def test_clocks_that_are_years_apart_neither_stop_it_nor_make_it_unsafe() -> None:
    world = world_of()
    a, b = world.order()[:2]
    year_ms = 365 * 86_400_000
    for years, node in enumerate(world.ids):
        clock = world.nodes[node].local.clock = Wrong(world.now, world.now)
        clock.off_by_ms = years * year_ms
    late = late_copy(world)

    world.advance(CYCLE_MS)

    assert copies(world) == 0
    world.nodes[b].receive(a, late)
    world.run()
    assert copies(world) == 0


def test_what_is_on_its_way_while_a_tombstone_goes_is_taken() -> None:
    """A floor lies in the past: no write that goes on meanwhile is refused for it."""
    world = world_of()
    deleted(world)
    a = world.order()[0]
    key = keys_of(world, 1)[0]
    for number in range(CYCLE_MS // 20):
        world.put(a, b"%d" % number, key=key, context=world.get(a, key=key).context)
        world.advance(20)

    assert copies(world) == 0
    assert not any(world.nodes[node].local.counters.stale_refused for node in world.ids)


def test_a_read_that_began_before_the_delete_repairs_nothing_afterwards() -> None:
    """The classic hole: what a read has heard is as old as the read."""
    world = world_of(down_after_ms=100_000, gray_after_ms=100_000)
    a, b, c, d = world.order()
    world.put(a, b"old", w=3)
    began = world.nodes[d].local.stamp
    sent: list[Store] = []

    def lose(source: bytes, target: object, message: object) -> bool:
        if isinstance(message, Store) and message.repair:
            sent.append(message)
        return False

    world.lose = lose
    del world.disk[c][OWN + KEY]
    world.nodes[c].local.records.forget([OWN + KEY])
    world.get(b, r=3)
    world.run()

    assert sent and all(began <= store.sent_ms <= began + 10 for store in sent)


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

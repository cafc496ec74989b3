"""What was read off a disk before a collection, and comes when all is gone, brings nothing back."""

from __future__ import annotations

from tests.core.hints.test_hints import keys_of
from tests.core.tombstones.test_collect import CYCLE_MS, copies, deleted, late_copy, stale, world_of
from tests.core.world import KEY, World

from everwrite.core.data.epochs import EPOCH_BLOCK
from everwrite.core.expiry.clock import Clock
from everwrite.core.messages.requests import REFUSED, SYNC_YES, Store, StoreReply
from everwrite.core.records import OWN


class Wrong(Clock):
    """A clock of the day that nobody can talk out of its mistake."""

    __slots__ = ("off_by_ms",)

    off_by_ms: int

    def time_ms(self, now: int) -> int:
        return now + self.off_by_ms


def assert_refused(world: World, late: Store, *, of: bytes, at: bytes) -> None:
    """A copy that comes when all have forgotten its key is not taken, and is counted."""
    world.nodes[at].receive(of, late)
    world.run()
    world.advance(CYCLE_MS)

    assert copies(world) == 0
    assert world.nodes[at].local.counters.stale_refused == 1


def test_a_copy_that_was_long_on_its_way_is_not_taken() -> None:
    world = world_of()
    a, b = world.order()[:2]
    late = late_copy(world)
    world.advance(2 * CYCLE_MS)
    assert copies(world) == 0

    assert_refused(world, late, of=a, at=b)


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

    assert_refused(world, late, of=a, at=b)


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

"""The horizon: what has ended goes on every owner in the same way, and nothing brings it back."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from tests.core.request.test_touch import MINUTE, shown, time_ms, touched
from tests.core.world import KEY, World

from everwrite.core.copies import ENDS, TOMBSTONES
from everwrite.core.data.keys import data_key
from everwrite.core.expiry.expiry import UNSURE
from everwrite.core.messages.requests import Store
from everwrite.core.records import HINT, OWN

SLOT_MS = 1_000
MARGIN_MS = 500
LATER_MS = 2 * SLOT_MS + MARGIN_MS


def world_of(nodes: int = 3, **knobs: Any) -> World:
    """Return a world whose slots and margins are short."""
    return World(nodes, expiry_slot_ms=SLOT_MS, expiry_margin_ms=MARGIN_MS, **knobs)


def listed(world: World, node: bytes, prefix: bytes = ENDS) -> list[bytes]:
    return [key for key in world.disk[node] if key.startswith(prefix)]


def horizons(world: World, node: bytes) -> set[int]:
    expiry = world.nodes[node].expiry
    return {expiry.horizon(partition) for partition in range(world.cluster.partitions)}


def purge(world: World, ms: int = 0) -> None:
    """Let time pass until what ends within ``ms`` is purged everywhere."""
    world.advance(ms + LATER_MS)


# -- the list of ends ------------------------------------------------------------------------------


def test_each_copy_is_listed_once_under_the_slot_of_its_next_end() -> None:
    world = world_of()
    a, b, c = world.order()

    end = world.put(a, b"v", ttl_ms=MINUTE).ends

    slot = (end - end % SLOT_MS).to_bytes(6, "big")
    assert [listed(world, node) for node in (a, b, c)] == [[ENDS + slot + KEY]] * 3


def test_a_touch_moves_the_entry() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)

    end = touched(world, b, 2 * MINUTE).ends

    slot = (end - end % SLOT_MS).to_bytes(6, "big")
    assert listed(world, a) == listed(world, b) == [ENDS + slot + KEY]


def test_what_has_no_end_is_listed_nowhere() -> None:
    world = world_of()
    a, *_ = world.order()
    world.put(a, b"v")
    assert list(world.disk[a]) == [OWN + KEY]

    world.put(a, b"w", ttl_ms=MINUTE, context=world.get(a).context)
    world.put(a, b"x", context=world.get(a).context)
    assert list(world.disk[a]) == [OWN + KEY]


def test_a_delete_stands_among_the_tombstones_until_somebody_puts_again() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.put(a, b"v")
    world.put(a, None, context=world.get(a).context)
    since = world.disk[b][TOMBSTONES + KEY]
    assert int.from_bytes(since, "big") == time_ms(world, b)

    world.advance(100)
    world.put(b, None)  # a sibling without a value: still nothing but tombstones
    assert world.disk[b][TOMBSTONES + KEY] == since
    world.put(a, b"w", context=world.get(a).context)
    assert not listed(world, a, TOMBSTONES) and not listed(world, b, TOMBSTONES)


# -- the walk --------------------------------------------------------------------------------------


def test_what_has_ended_is_gone_everywhere_and_leaves_nothing() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=5_000)

    world.advance(5_000)
    assert world.values(a) == [b"v"]  # hidden, and there for the length of a slot and a margin
    purge(world)

    assert [world.disk[node] for node in (a, b, c)] == [{}, {}, {}]
    assert world.get(b).quality.absent == "never"
    assert {node.local.counters.purged for node in world.nodes.values()} == {1}


def test_what_was_touched_in_time_stays() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=5_000)
    world.advance(4_000)
    touched(world, b, 20_000)

    purge(world, 1_000)
    assert [world.values(node) for node in (a, b, c)] == [[b"v"]] * 3
    purge(world, 20_000)
    assert not any(world.disk.values())


def test_what_superseded_a_value_leaves_a_tombstone() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.put(a, b"v")
    world.put(a, b"w", ttl_ms=2_000, context=world.get(a).context)

    purge(world, 2_000)

    assert world.values(a) == world.values(b) == [None]
    assert listed(world, b) == []
    assert len(listed(world, b, TOMBSTONES)) == 1
    assert world.get(b).quality.absent == "expired"


def test_a_sibling_that_has_ended_loses_its_value_beside_one_that_has_not() -> None:
    world = world_of()
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.put(a, b"w", ttl_ms=20_000)

    purge(world, 2_000)
    assert world.values(a) == [b"w", None]
    purge(world, 20_000)
    assert not any(world.disk.values())


def test_a_key_that_was_purged_goes_on_under_a_new_actor() -> None:
    """What was minted is forgotten, so its dots must never be minted again."""
    world = world_of()
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    before = set(world.record(a).clock)
    purge(world, 2_000)

    world.put(a, b"w", ttl_ms=2_000)

    assert not before & set(world.record(a).clock)


def test_many_keys_of_many_slots_go_in_pages() -> None:
    world = world_of()
    a = world.ids[0]
    for number in range(200):
        key = data_key(b"s", b"%d" % number)
        world.put(a, b"v", key=key, ttl_ms=1_000 + 37 * number)
    world.put(a, b"v", key=data_key(b"s", b"stays"))

    purge(world, 1_000 + 37 * 200)
    assert [len(world.disk[node]) for node in world.ids] == [1, 1, 1]
    assert {node.local.counters.purged for node in world.nodes.values()} == {200}


def test_the_walk_reads_what_is_not_in_memory() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.kill(a, b, c)
    world.start(a, b, c)

    purge(world, 2_000)

    assert not any(world.disk.values())


# -- the horizon -----------------------------------------------------------------------------------


def test_before_the_first_walk_the_horizon_is_unsure() -> None:
    assert horizons(World(3), World(3).ids[0]) == {UNSURE}


def test_all_nodes_come_to_the_same_horizon() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2_000)

    purge(world, 2_000)

    (horizon,) = horizons(world, a)
    assert horizon % SLOT_MS == 0 and horizon > 0
    assert horizons(world, b) == horizons(world, c) == {horizon}


def test_the_horizon_is_unsure_while_its_walk_is_under_way() -> None:
    world = world_of()
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    purge(world)
    world.unread.add(a)

    world.advance(SLOT_MS)
    assert horizons(world, a) == {UNSURE}
    world.unread.clear()
    world.advance(SLOT_MS)
    assert UNSURE not in horizons(world, a)


def test_after_a_start_the_horizon_is_unsure_until_all_that_ended_is_gone() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.kill(a)
    world.advance(1_000)
    world.unread.add(a)
    world.start(a)
    world.advance(5_000)
    assert horizons(world, a) == {UNSURE}
    assert world.values(a) == [b"v"]

    world.unread.clear()
    world.advance(1_000)
    assert world.values(a) == []
    world.advance(SLOT_MS)
    assert horizons(world, a) == horizons(world, b)


def test_a_stale_copy_that_comes_after_the_purge_is_not_kept() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    stale = world.disk[a][OWN + KEY][8:]
    purge(world, 2_000)

    world.nodes[b].receive(a, Store(0, KEY, stale, 0, 0))
    world.run()

    assert not world.disk[b]


def test_an_owner_that_was_away_purges_what_it_missed_and_brings_nothing_back() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.kill(c)
    purge(world, 2_000)
    assert world.values(a) == [] and world.values(c) == [b"v"]

    world.start(c)
    assert shown(world.get(b)) == []
    world.advance(LATER_MS)

    assert not any(world.disk.values())


def test_a_hint_that_has_ended_on_the_way_leaves_nothing_with_its_owner() -> None:
    world = world_of(4)
    a, _b, c, d = world.order()
    world.kill(c)
    world.put(a, b"v", ttl_ms=2_000)
    purge(world, 2_000)
    assert world.hint(d)[0] == [c]

    world.start(c)
    world.advance(2 * LATER_MS)

    assert not listed(world, d, HINT)
    assert not any(world.disk.values())


def test_copies_that_differ_only_in_what_has_ended_are_no_reason_to_repair() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.kill(c)
    purge(world, 2_000)
    world.unread.add(c)
    world.start(c)
    world.unread.clear()

    world.get(a)
    world.get(b)

    assert not any(node.local.counters.read_repairs for node in world.nodes.values())


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_purge_that_cannot_be_written_is_done_later() -> None:
    world = world_of()
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.full.add(a)
    purge(world, 2_000)
    assert world.values(a) == [b"v"]
    local = world.nodes[a].local
    assert world.nodes[a].expiry.horizon(local.routes.placement.partition_of(KEY)) == UNSURE

    world.full.clear()
    world.advance(3_000)
    assert not world.disk[a]


def test_a_record_that_cannot_be_read_now_is_purged_later() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.kill(a, b, c)
    world.start(a, b, c)
    world.broken.add((a, OWN + KEY))
    purge(world, 2_000)
    assert world.values(a) == [b"v"] and world.values(b) == []

    world.broken.clear()
    world.advance(3_000)
    assert not world.disk[a]


def test_records_that_the_disk_will_not_give_hold_up_only_their_own_partitions() -> None:
    world = world_of()
    a, b, _c = world.order()
    keys = [data_key(b"s", b"%d" % number) for number in range(300)]
    for key in keys:
        world.put(a, b"v", key=key, ttl_ms=2_000)
    local = world.nodes[a].local
    partition_of = local.routes.placement.partition_of
    kept = {p for p in range(world.cluster.partitions) if p % 2}
    bad = {OWN + key for key in keys if partition_of(key) in kept}
    assert len(bad) > 64
    local.records.forget(bad)
    world.broken = {(a, key) for key in bad}

    purge(world, 2_000)
    assert {key for key in world.disk[a] if key[:1] == OWN} == bad
    (horizon,) = horizons(world, b)
    for partition in range(world.cluster.partitions):
        assert world.nodes[a].expiry.horizon(partition) == (
            UNSURE if partition in kept else horizon
        )

    world.broken.clear()
    purge(world)
    assert not world.disk[a]
    assert horizons(world, a) == horizons(world, b)


def test_a_damaged_record_does_not_stop_the_walk() -> None:
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    world.kill(a, b, c)
    world.start(a, b, c)
    world.rotten.add((a, OWN + KEY))

    purge(world, 2_000)

    assert listed(world, a) == []
    assert UNSURE not in horizons(world, a)


def test_a_damaged_copy_that_has_ended_with_all_others_goes_and_is_listed_no_more() -> None:
    world = world_of(mend_every_ms=200)
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=5_000)
    world.put(a, b"w", ttl_ms=9_000)
    world.kill(b)  # so nobody can mend it
    world.nodes[a].local.records.forget([OWN + KEY])
    world.rotten.add((a, OWN + KEY))

    purge(world, 5_000)
    assert listed(world, a)  # half of it lives on
    assert world.nodes[a].quarantine.since
    purge(world, 9_000)
    assert world.disk[a] == world.disk[c] == {}
    assert not world.nodes[a].quarantine.since

    world.start(b)
    world.advance(LATER_MS)
    assert not any(world.disk.values())
    assert UNSURE not in horizons(world, a)


def test_a_damaged_copy_that_superseded_a_value_stays_until_others_mend_it() -> None:
    world = world_of(mend_every_ms=200)
    a, b, _c = world.order()
    world.put(a, b"v")
    world.put(a, b"w", ttl_ms=2_000, context=world.get(a).context)
    world.kill(b)
    world.nodes[a].local.records.forget([OWN + KEY])
    world.rotten.add((a, OWN + KEY))
    purge(world, 2_000)
    assert (a, OWN + KEY) in world.rotten and len(listed(world, a)) == 1

    world.start(b)
    world.until(lambda: not world.nodes[a].quarantine.since)
    assert world.values(a) == [None]
    purge(world)
    assert not listed(world, a)


def test_a_stale_entry_does_no_harm() -> None:
    world = world_of()
    a, *_ = world.order()
    world.put(a, b"v", ttl_ms=MINUTE)
    world.disk[a][ENDS + (0).to_bytes(6, "big") + KEY] = b""
    world.disk[a][ENDS + (0).to_bytes(6, "big") + data_key(b"no", b"body")] = b""

    purge(world)

    assert world.values(a) == [b"v"]
    assert len(listed(world, a)) == 1


def test_another_length_of_slots_finds_what_was_listed_by_the_one_before() -> None:
    for before_ms, then_ms in ((8_000, SLOT_MS), (300, SLOT_MS)):
        world = World(3, expiry_slot_ms=before_ms, expiry_margin_ms=MARGIN_MS)
        world.put(world.ids[0], b"v", ttl_ms=10_000)
        world.config = replace(world.config, expiry_slot_ms=then_ms)
        world.kill(*world.ids)
        world.start(*world.ids)

        world.advance(9_000)
        assert world.values(world.order()[0]) == [b"v"]
        purge(world, 1_000)
        assert not any(world.disk.values())


def test_a_node_whose_own_clock_jumps_purges_and_hides_nothing_before_its_time() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.advance(2_000)  # they have told each other what time it is
    world.put(a, b"v", ttl_ms=5 * MINUTE)
    world.watch = lambda: world.nodes[a].local.clock.own(world.now, world.now + 10 * MINUTE)

    world.advance(4 * MINUTE)

    assert world.values(a) == [b"v"]
    assert shown(world.get(a)) == shown(world.get(b)) == [b"v"]


def test_nothing_is_purged_while_the_time_is_not_sure() -> None:
    """With a minority of the members nobody can say what time it is: what has ended is hidden, and
    stays on the disk.
    """
    world = world_of()
    a, b, c = world.order()
    world.put(a, b"v", ttl_ms=2 * MINUTE)
    world.kill(b, c)

    world.advance(3 * MINUTE)
    assert world.values(a) == [b"v"]
    assert shown(world.get(a, r=1)) == []
    world.start(b, c)
    world.advance(10_000)
    assert not any(world.disk.values())


def test_a_copy_that_is_gone_before_it_comes_is_not_written() -> None:
    world = world_of()
    a, b, _c = world.order()
    world.put(a, b"v", ttl_ms=2_000)
    stale = world.disk[a][OWN + KEY][8:]
    purge(world, 2_000)

    world.nodes[b].receive(a, Store(0, KEY, stale, 0, 0))

    assert OWN + KEY not in world.nodes[b].local.out.writes

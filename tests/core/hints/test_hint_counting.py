"""After a start the hints on the disk are counted while the node serves."""

from __future__ import annotations

import pytest
from tests.core.hints.test_hints import keys_of
from tests.core.world import World

from everwrite.core.hints.hints import RECOUNTED_AT_ONCE
from everwrite.core.messages.requests import Fetch, FetchReply, Store
from everwrite.core.records import HINT, OWN


def kept(count: int, **knobs: int) -> tuple[World, bytes, bytes, list[bytes]]:
    """Return a world with so many hints on one node for another; both are down."""
    world = World(5, **knobs)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    keys = sorted(keys_of(world, count))
    for key in keys:
        world.put(a, b"v", key=key)
        world.advance(1000)
    world.kill(d)
    return world, c, d, keys


def begin(world: World, node: bytes) -> None:
    """Start a node whose disk does not answer yet."""
    world.unread |= {node}
    world.start(node)


def test_all_that_was_known_before_a_stop_is_known_after_it() -> None:
    world, c, d, _keys = kept(7, slice_keys=2)
    before = world.nodes[d].hints
    (was,) = before.deliveries.targets()
    oldest = before.waiting[c].oldest
    assert was.oldest_ms >= 6000

    world.start(d)
    hints = world.nodes[d].hints

    assert hints.whole and hints.notes == 7 == hints.kept.flow.restored
    assert hints.kept.bytes == before.kept.bytes
    assert hints.waiting[c].oldest == oldest
    (now,) = hints.deliveries.targets()
    assert now == was._replace(oldest_ms=now.oldest_ms) and now.oldest_ms >= was.oldest_ms


def test_a_start_does_not_wait_for_the_count() -> None:
    world, _c, d, keys = kept(3)
    begin(world, d)
    hints = world.nodes[d].hints

    assert not hints.whole and hints.notes == 0
    assert all(hints.may_be_kept(key) for key in keys), "nothing is taken for absent"
    a = world.order()[0]
    world.nodes[d].receive(a, Fetch(77, keys[0], 1000))
    world.run()
    assert world.messages(FetchReply, to=a)[-1:] != [77]

    world.unread.clear()
    world.run()
    (answer,) = [reply for reply in world.messages(FetchReply, to=a) if reply.rid == 77]
    assert answer.record and answer.fallback, "the copy was found on the disk"
    assert hints.whole and hints.notes == 3


def test_a_hint_that_comes_before_its_key_was_counted_is_counted_once() -> None:
    world, c, d, keys = kept(3)
    a, b = world.order()[:2]
    world.kill(b)
    begin(world, d)
    newer = world.disk[a][OWN + keys[1]][8:]
    world.nodes[d].receive(a, Store(0, keys[1], newer, 0, 0, hint_for=c))
    world.nodes[d].receive(a, Store(0, keys[2], newer, 0, 0, hint_for=b))
    world.run()

    world.unread.clear()
    world.run()

    hints = world.nodes[d].hints
    assert hints.whole and hints.notes == 4
    assert sorted(hints.owners_of[keys[2]]) == sorted([b, c])
    stands = sum(len(key) + len(world.disk[d][key]) for key in world.disk[d] if key[:1] == HINT)
    assert hints.kept.bytes == stands


def test_a_hint_that_goes_while_its_slice_is_read_stays_gone() -> None:
    world, c, d, keys = kept(3, slice_keys=2)
    world.start(d)
    world.kill(d)
    slices: list[object] = []
    scan = World._scan

    def late(self: World, me: bytes, asked: object) -> None:
        """What was read comes after all that had happened meanwhile."""
        if me != d or slices:
            scan(self, me, asked)  # type: ignore[arg-type]
            return
        slices.append(asked)
        hints = self.nodes[d].hints
        for key in keys[:1]:
            hints.counting.touched.add(key)  # type: ignore[union-attr]
        scan(self, me, asked)  # type: ignore[arg-type]

    world._scan = late.__get__(world)  # type: ignore[method-assign]
    world.start(d)

    assert slices and world.nodes[d].hints.notes == 2
    assert c in world.nodes[d].hints.waiting


def test_the_caps_count_what_was_found_and_what_came_meanwhile() -> None:
    world, c, d, keys = kept(3, hints_max=3)
    a = world.order()[0]
    extra = keys_of(world, 6)[-1]
    record = world.disk[a][OWN + keys[0]][8:]
    begin(world, d)
    world.nodes[d].receive(a, Store(0, extra, record, 0, 0, hint_for=c))
    world.unread.clear()
    world.run()
    hints = world.nodes[d].hints
    assert hints.notes == 4 and hints.early == 1, "what was not counted yet could not be known"

    world.nodes[d].receive(a, Store(0, keys_of(world, 7)[-1], record, 0, 0, hint_for=c))
    world.run()
    assert hints.notes == 4, "but from then on it holds"


@pytest.mark.parametrize("damage", ["rotten", "broken"])
def test_a_hint_that_cannot_be_read_does_not_end_the_count(damage: str) -> None:
    world, _c, d, keys = kept(3, slice_keys=1)
    getattr(world, damage).add((d, HINT + keys[0]))
    world.start(d)
    world.advance(3000)
    hints = world.nodes[d].hints
    if damage == "broken":
        assert not hints.whole, "the disk would not say what is there"
        assert hints.may_be_kept(keys[0])
        world.broken.clear()
        world.advance(3000)
        assert hints.notes == 3
    else:
        assert keys[0] in hints.rotten and hints.may_be_kept(keys[0])
        assert hints.notes == 2
    assert hints.whole


def test_a_pass_recounts_some_of_many_and_leaves_room_for_clients() -> None:
    world, _c, d, _keys = kept(1)
    world.start(d)
    world.advance(3000)
    node = world.nodes[d]
    for key in keys_of(world, 3 * RECOUNTED_AT_ONCE):
        node.hints.uncertain[key] = None
    world.unread |= {d}

    node.hints.deliver()
    assert node.local.records.parked_count == RECOUNTED_AT_ONCE
    node.hints.deliver()
    assert len(node.hints.uncertain) == 3 * RECOUNTED_AT_ONCE
    assert node.local.records.parked_count == 2 * RECOUNTED_AT_ONCE, "and others the next time"

    world.unread.clear()
    world.advance(3000)
    assert not node.hints.uncertain


def test_a_node_that_has_not_counted_yet_does_not_leave() -> None:
    world, _c, d, _keys = kept(3)
    begin(world, d)

    local = world.nodes[d].local
    local.keeps = local.serves = 0
    assert not world.nodes[d].moves._is_empty()


def test_no_hint_is_written_while_somebody_waits_for_it_to_be_read() -> None:
    world, c, d, keys = kept(1)
    begin(world, d)
    node, other = world.nodes[d], keys_of(world, 9)[-1]
    assert other not in keys
    late = Store(5, other, b"", 1000, 0, hint_for=c)
    assert node.local.records.park(HINT + other, world.order()[0], late, node.local.now)
    node.hints.counting = None  # it ends meanwhile, and has found none

    assert node.hints.may_be_kept(other), "who comes now waits too"
    node.local.records.loaded(HINT + other, None)
    assert not node.hints.may_be_kept(other)

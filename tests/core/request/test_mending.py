"""Reads for the sake of repair: no client waits for them, and one copy is known beforehand."""

from __future__ import annotations

from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.data import versions
from everwrite.core.messages import Get
from everwrite.core.records import HINT
from everwrite.core.repair.kept import split_hint


def test_a_read_that_asks_its_own_node_twice_gives_back_what_it_held() -> None:
    """A read for the sake of repair knows the copy kept here, and may ask for it as a spare."""
    world = World(4)
    a, _b, c, d = world.order()
    world.kill(c)
    world.put(a, b"v", w=3)
    kept = world.disk[d][HINT + KEY]
    world.lose = lambda source, target, message: source == d
    world.start(c)

    world.nodes[d].reads.mend(Get(0, KEY, TIMEOUT_MS, forwarded=True), split_hint(kept)[2])
    world.advance(2 * TIMEOUT_MS)

    assert world.nodes[d].local.counters.hedges > 0
    assert world.nodes[d].local.held_bytes == 0


def test_a_key_is_mended_by_one_read_at_a_time_and_takes_no_room_from_clients() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    record = versions.encode(world.record(a))
    world.silent |= {b, c}
    node = world.nodes[a]
    mend = Get(0, KEY, TIMEOUT_MS, forwarded=True)

    node.reads.mend(mend, record)
    node.reads.mend(mend, record)

    assert len(node.local.requests) == node.local.background == 1
    world.silent.clear()
    world.advance(2 * TIMEOUT_MS)
    assert len(node.local.requests) == node.local.background == 0

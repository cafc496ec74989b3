"""Reads for the sake of repair: no client waits for them, and one copy is known beforehand."""

from __future__ import annotations

from tests.core.world import KEY, TIMEOUT_MS, World

from everwrite.core.data import versions
from everwrite.core.hints.kept import split_hint
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Get, Store, StoreReply
from everwrite.core.outbox import Place
from everwrite.core.records import HINT, OWN


def test_a_read_that_asks_its_own_node_twice_gives_back_what_it_held() -> None:
    """A read for the sake of repair knows the copy kept here, and may ask for it as a spare."""
    world = World(4)
    a, _b, c, d = world.order()
    world.kill(c)
    world.put(a, b"v", w=3)
    kept = world.disk[d][HINT + KEY]
    world.lose = lambda source, target, message: source == d
    world.start(c)

    mend = Get(0, KEY, TIMEOUT_MS, forwarded=True)
    world.nodes[d].reads.mend(mend, split_hint(kept)[2], world.nodes[d].local.stamp)
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

    node.reads.mend(mend, record, node.local.stamp)
    node.reads.mend(mend, record, node.local.stamp)

    assert len(node.local.requests) == node.local.background == 1
    world.silent.clear()
    world.advance(2 * TIMEOUT_MS)
    assert len(node.local.requests) == node.local.background == 0


def test_what_is_mended_with_a_copy_that_was_read_before_is_as_old_as_that_copy() -> None:
    """A hint is given up by its owner, whose own copy is damaged, long after it was read."""
    world = World(4, down_after_ms=100_000)
    a, _b, c, d = world.order()
    world.put(a, b"v", w=3)
    world.kill(c)
    world.put(a, b"w", context=world.get(a).context, w=3)
    assert world.hint(d)[0] == [c]
    world.rotten.add((c, OWN + KEY))
    came: list[tuple[bytes, StoreReply]] = []

    def lose(source: bytes, target: Place, message: Message) -> bool:
        late = source == c and target == d and isinstance(message, StoreReply) and not came
        if late:
            came.append((source, message))
        return late

    world.lose = lose
    world.start(c)
    world.until(lambda: bool(came))
    world.sent.clear()
    read_ms = world.nodes[d].local.stamp
    world.now += 300
    world.nodes[d].local.now = world.now
    world.nodes[d].receive(*came[0])
    world.run()

    mended = [store for store in world.messages(Store, to=c) if store.repair]
    assert mended and all(store.sent_ms <= read_ms for store in mended)
    assert world.values(c) == [b"w"]

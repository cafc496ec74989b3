"""Who comes back says how many copies it takes, and gets no more."""

from __future__ import annotations

import pytest
from tests.core.hints.test_hints import keys_of, stored_for
from tests.core.world import World

from everwrite.core.messages.hints import AskRoom, Room
from everwrite.core.messages.requests import Store


def loaded(count: int, **knobs: int) -> tuple[World, bytes, bytes]:
    """Return a world with so many hints on one node for another, which is down."""
    world = World(5, **knobs)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    for key in keys_of(world, count):
        world.put(a, b"v" * 100, key=key)
    world.advance(3000)
    world.sent.clear()
    return world, c, d


@pytest.mark.scenario(57)
def test_no_more_copies_go_than_their_owner_has_room_for() -> None:
    world, c, d = loaded(30)
    world.lose = lambda source, target, message: isinstance(message, Room) and source == c
    world.start(c)
    assert stored_for(world, c) == [], "nobody sends unasked"
    (asked,) = world.messages(AskRoom, to=c)
    assert asked.notes == 30 and asked.bytes == world.nodes[d].hints.kept.bytes

    world.nodes[d].receive(c, Room(asked.rid, 5))
    world.run()

    assert len(stored_for(world, c)) == 5
    assert world.nodes[d].hints.notes == 25
    assert len(world.messages(AskRoom, to=c)) == 2, "and then it asks anew"


@pytest.mark.scenario(57)
def test_an_owner_that_is_busy_says_when_to_ask_again() -> None:
    world, c, d = loaded(10, hint_retry_ms=60_000)
    world.dead.discard(c)
    world._boot(c, run=world.now)
    local = world.nodes[c].local
    local.held_bytes = local.config.held_bytes_max
    world.meet()
    assert stored_for(world, c) == []
    (answer,) = world.messages(Room, to=d)
    assert answer.notes == 0 and 0 < answer.wait_ms <= 1000
    (target,) = world.nodes[d].hints.deliveries.targets()
    assert target.waits_for == "room: it is busy"

    local.held_bytes = 0
    world.advance(2000)

    assert world.nodes[d].hints.notes == 0


def test_room_that_nobody_asked_for_is_no_room() -> None:
    world, c, d = loaded(10)
    world.lose = lambda source, target, message: isinstance(message, Room)
    world.start(c)
    (asked,) = world.messages(AskRoom, to=c)

    world.nodes[d].receive(c, Room(asked.rid + 1, 5))
    world.nodes[d].receive(world.order()[0], Room(asked.rid, 5))
    world.run()
    assert stored_for(world, c) == []

    world.nodes[d].receive(c, Room(asked.rid, 2))
    world.nodes[d].receive(c, Room(asked.rid, 2))
    world.run()
    assert len(stored_for(world, c)) == 2, "an answer counts once"


def test_room_is_void_after_a_while() -> None:
    world, c, d = loaded(3, hint_retry_ms=1000)
    world.lose = lambda source, target, message: isinstance(message, Room)
    world.start(c)
    (asked,) = world.messages(AskRoom, to=c)
    world.nodes[d].receive(c, Room(asked.rid, 100))
    world.run()
    assert world.nodes[d].hints.notes == 0
    way = world.nodes[d].hints.deliveries._way(c)
    assert way.room == 97
    world.sent.clear()
    world.advance(2000)
    world.lose = lambda source, target, message: False

    other = keys_of(world, 4)[3]
    record = world.disk[c][b"d" + keys_of(world, 1)[0]][8:]
    world.nodes[d].receive(world.order()[0], Store(0, other, record, 0, 0, hint_for=c))
    world.advance(1000)

    assert len(world.messages(AskRoom, to=c)) == 1, "it asks before it brings more"
    assert world.nodes[d].hints.notes == 0


def test_an_owner_that_does_not_say_is_asked_again_after_a_while() -> None:
    world, c, d = loaded(3, hint_retry_ms=1000, down_after_ms=60_000)
    world.lose = lambda source, target, message: isinstance(message, AskRoom)
    world.start(c)
    world.advance(5000)

    assert 2 <= len(world.messages(AskRoom, to=c)) <= 3
    assert stored_for(world, c) == []
    world.lose = lambda source, target, message: False
    world.advance(3000)
    assert world.nodes[d].hints.notes == 0


def test_large_copies_go_a_few_at_a_time() -> None:
    world, c, d = loaded(10, hint_batch_bytes=400)
    world.unsynced |= {c}
    world.start(c)
    first = len(stored_for(world, c))
    assert 1 <= first <= 2

    world.unsynced.clear()
    world.advance(3000)
    assert world.nodes[d].hints.notes == 0


def test_the_room_is_shared_by_all_who_ask() -> None:
    world = World(5, hint_batch=10)
    c, *keepers = world.ids
    owner = world.nodes[c]
    world.advance(3000)
    world.sent.clear()
    for number, keeper in enumerate(keepers):
        owner.receive(keeper, AskRoom(number, 1000, 1_000_000))
    world.run()

    given = [answer.notes for keeper in keepers for answer in world.messages(Room, to=keeper)]
    assert given == [20, 10, 6, 5], "together about two batches"


def test_a_slow_disk_gets_fewer_copies() -> None:
    world = World(5, hint_batch=100)
    c, d = world.ids[:2]
    world.advance(3000)
    world.nodes[c].local.disk_ms = 500
    world.sent.clear()

    world.nodes[c].receive(d, AskRoom(1, 1000, 1_000_000))
    world.run()

    (answer,) = world.messages(Room, to=d)
    assert answer.notes == 10

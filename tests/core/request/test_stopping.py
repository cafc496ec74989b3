"""A coordinator that is told to stop: what it owes to owners that are late is with somebody, or on
its own disk, before it is gone. Nobody else knows of it.
"""

from __future__ import annotations

import pytest
from tests.core.request.test_put_quorum import silence
from tests.core.world import World

from everwrite.core.config import NodeConfig
from everwrite.core.messages.requests import STORED, PutReply, StoreReply


def hand_on(world: World, node: bytes) -> None:
    world.nodes[node].local.now = world.now
    world.nodes[node].hand_on()
    world.run()


def leave(world: World, node: bytes) -> None:
    """End a process in good order."""
    world.nodes[node].local.now = world.now
    world.nodes[node].leave()
    world.run()
    world.kill(node)


def test_a_put_that_was_answered_gets_a_stand_in_before_its_coordinator_stops() -> None:
    world = World(4)
    a, _b, c, d = world.order()
    silence(world, c)
    world.put(a, b"v", w=2)
    assert world.nodes[a].owes

    hand_on(world, a)

    assert world.hint(d) == ([c], [b"v"])
    assert not world.nodes[a].owes
    leave(world, a)
    assert world.hint(a) == ([], []), "who has it need not keep it"


def test_a_put_that_is_answered_while_its_coordinator_stops_waits_for_nobody_late() -> None:
    world = World(4)
    a, b, c, d = world.order()
    silence(world, b, c)
    client = world.send_put(a, b"v", w=2)
    world.run()
    hand_on(world, a)
    assert world.nodes[a].owes

    (rid,) = world.nodes[a].local.requests
    world.nodes[a].receive(b, StoreReply(rid, STORED, True))
    world.advance(3 * NodeConfig().spare_after_ms)

    assert world.reply(client, PutReply)
    assert world.hint(d)[0] == [c]
    assert not world.nodes[a].owes


def test_with_nobody_to_stand_in_the_coordinator_takes_a_hint_with_it() -> None:
    world = World(3)
    a, _b, c = world.order()
    silence(world, c)
    world.put(a, b"v", w=2)

    hand_on(world, a)
    leave(world, a)

    assert world.hint(a) == ([c], [b"v"])
    world.silent.clear()
    world.start(a)
    world.advance(5000)
    assert world.values(c) == [b"v"]
    assert world.hint(a) == ([], [])


def test_what_the_stand_in_does_not_take_in_time_is_kept() -> None:
    world = World(4)
    a, _b, c, d = world.order()
    silence(world, c, d)
    world.put(a, b"v", w=2)

    hand_on(world, a)
    assert world.nodes[a].owes
    leave(world, a)

    assert world.hint(a) == ([c], [b"v"])


def test_a_put_that_was_not_answered_leaves_hints_for_all_who_have_not_taken_it() -> None:
    """Its client hears that the connection broke: the write may have happened, and so it must be
    brought to all.
    """
    world = World(3)
    a, b, c = world.order()
    silence(world, b, c)
    client = world.send_put(a, b"v", w=3)
    world.run()

    leave(world, a)

    assert world.answers[client] == []
    assert set(world.hint(a)[0]) == {b, c}


@pytest.mark.parametrize("retry", [False, True])
def test_who_is_stopping_begins_nothing_more(retry: bool) -> None:
    world = World(3)
    a, *_ = world.order()
    hand_on(world, a)

    client = world.send_put(a, b"v", retry=retry)
    world.send_get(a)
    world.run()

    failed = world.failure(client)
    assert (failed.code, failed.message[:25]) == ("unavailable", "This node is stopping, an")
    assert not world.disk[a]
    assert not world.nodes[a].local.requests


def test_what_other_nodes_ask_is_done_to_the_last() -> None:
    """They would have to find out that it stops, and there is nothing yet by which they could."""
    world = World(4)
    a, b, _c, d = world.order()
    hand_on(world, a)

    assert world.put(b, b"v", w=3).owners == 3
    silence(world, b)
    assert world.put(d, b"w", w=2).owners == 2  # handed on to the first owner
    leave(world, a)

    assert world.hint(a)[0] == [b]

"""Hints for a node that owns their keys no more go to those who do."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.core.hints.test_hints import keys_of
from tests.core.world import KEY, World

from everwrite.core.messages.members import REMOVED
from everwrite.core.records import OWN


def holders(world: World, value: bytes, key: bytes = KEY) -> set[bytes]:
    """Return the nodes that run and have a value as owners of its key."""
    return {
        node for node in world.ids if node not in world.dead and value in world.values(node, key)
    }


def owners(world: World, key: bytes = KEY) -> set[bytes]:
    running = next(node for node in world.ids if node not in world.dead)
    placement = world.nodes[running].local.routes.placement
    return set(placement.owners(placement.partition_of(key)))


def notes(world: World) -> int:
    return sum(world.nodes[node].hints.notes for node in world.ids if node not in world.dead)


@pytest.mark.scenario(53)
def test_the_hints_of_a_removed_member_go_to_the_new_owners() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    keys = keys_of(world, 5)
    world.kill(c)
    for key in keys:
        world.put(a, b"v", key=key)
    flow = world.nodes[d].hints.kept.flow
    assert notes(world) == 5

    world.rule(a, c, REMOVED)
    world.until(lambda: notes(world) == 0)

    assert c not in owners(world)
    for key in keys:
        assert holders(world, b"v", key) >= owners(world, key)
    assert flow.turned == 5 and flow.left == 0
    assert world.nodes[d].hints.kept.bytes == 0


@pytest.mark.scenario(53)
def test_a_member_that_is_removed_while_the_keeper_of_its_hints_is_down() -> None:
    world = World(5)
    a, b, c, d, _e = world.order()
    world.kill(c)
    world.put(a, b"only here", w=1)
    assert world.hint(d) == ([c], [b"only here"])
    world.kill(d)
    for node in (a, b):  # the keeper's copy is the last one
        world.disk[node].pop(OWN + KEY, None)
        world.nodes[node].local.records.forget([OWN + KEY])
    world.rule(a, c, REMOVED)
    world.advance(5000)

    world.start(d)
    world.until(lambda: notes(world) == 0)

    assert c not in owners(world)
    assert holders(world, b"only here") >= owners(world)


@pytest.mark.scenario(53)
def test_a_keeper_that_is_down_for_good_in_the_middle_of_turning_goes_on_after_its_start() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    keys = keys_of(world, 300)
    world.kill(c)
    for key in keys:
        world.put(a, b"v", key=key)
    world.rule(a, c, REMOVED)
    hints = world.nodes[d].hints
    world.until(lambda: 0 < hints.kept.flow.turned < 300)
    world.kill(d)
    world.advance(1000)

    world.start(d)
    world.until(lambda: notes(world) == 0, 120_000)

    for key in keys:
        assert holders(world, b"v", key) >= owners(world, key)


def test_a_note_that_is_turned_is_as_old_as_it_was() -> None:
    world = World(5)
    a, _b, c, d, e = world.order()
    world.kill(c, e)
    world.put(a, b"v")
    since = world.nodes[d].hints.waiting[c].oldest
    world.advance(20_000)
    world.lose = lambda source, target, message: e in (source, target)

    world.rule(a, c, REMOVED)
    world.until(lambda: c not in world.nodes[d].hints.waiting)

    left = world.nodes[d].hints.waiting
    assert left and all(waiting.oldest == since for waiting in left.values())
    assert left.keys() <= owners(world)


def test_turning_many_is_done_in_many_ticks() -> None:
    world = World(5, hint_batch=8)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    for key in keys_of(world, 40):
        world.put(a, b"v", key=key)
    turned = []

    def watch() -> None:
        turned.append(world.nodes[d].hints.kept.flow.turned)

    world.watch = watch
    world.rule(a, c, REMOVED)
    world.until(lambda: world.nodes[d].hints.kept.flow.turned == 40)

    steps = [after - before for before, after in pairwise(turned)]
    assert max(steps) <= 8

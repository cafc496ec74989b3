"""Exchanges that are broken off: whatever goes wrong, the next one goes on, and nothing is lost."""

from __future__ import annotations

import pytest
from tests.core.moving.towns import KEYS
from tests.core.repair.differing import agree, at_rest, copies, counted, lose, town, write
from tests.core.world import World

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import FOUND, Store
from everwrite.core.messages.trees import Differing, Entries, Rooted, Roots, Summed, Sums
from everwrite.core.outbox import Place
from everwrite.core.records import OWN

STEPS: list[tuple[type[Message], int]] = [
    (Roots, 1),
    (Rooted, 1),
    (Sums, 1),
    (Summed, 1),
    (Sums, 2),
    (Summed, 2),
    (Entries, 1),
    (Differing, 1),
    (Store, 1),
    (Entries, 2),
    (Differing, 2),
]


def unlike() -> World:
    """Return two owners that both lack something, and give it to each other in several steps."""
    world = town(nodes=2, replicas=2, leaf_bits=4, slice_keys=3, repair_keys=3)
    lose(world, world.ids[0], *KEYS[::3])
    lose(world, world.ids[1], *KEYS[1::3])
    return world


@pytest.mark.parametrize(("kind", "count"), STEPS)
def test_a_message_that_is_lost_at_any_step_costs_time_only(
    kind: type[Message], count: int
) -> None:
    world = unlike()
    left = [count]

    def lost(source: bytes, target: Place, message: Message) -> bool:
        if isinstance(message, kind):
            left[0] -= 1
            return left[0] == 0
        return False

    world.lose = lost
    world.until(lambda: agree(world), 120_000)
    at_rest(world)

    assert left[0] <= 0
    assert all(len(copies(world, node)) == len(KEYS) for node in world.ids)


@pytest.mark.parametrize("side", [0, 1])
def test_a_disk_that_takes_no_writes_ends_the_exchange_and_a_later_one_succeeds(side: int) -> None:
    world = unlike()
    world.full.add(world.ids[side])
    world.advance(20_000)
    assert not agree(world)
    for node in world.ids:
        assert len(world.nodes[node].local.requests) <= 20

    world.full.clear()
    world.until(lambda: agree(world), 120_000)
    at_rest(world)


@pytest.mark.parametrize("side", [0, 1])
def test_a_range_that_a_disk_does_not_give_ends_the_exchange(side: int) -> None:
    world = unlike()
    node = world.ids[side]
    hidden = {(node, OWN + key) for key in copies(world, node)}
    world.broken |= hidden
    world.advance(10_000)
    assert not agree(world)

    world.broken.clear()
    world.until(lambda: agree(world), 120_000)
    at_rest(world)


def test_a_peer_that_hangs_holds_up_no_other_peer() -> None:
    world = town()
    first, second, third = world.ids
    lose(world, first, *KEYS[:5])
    world.silent.add(second)

    world.until(lambda: copies(world, first).keys() == copies(world, third).keys())

    world.silent.clear()
    world.meet()
    world.until(lambda: agree(world))
    at_rest(world)


def test_an_answer_that_comes_twice_changes_nothing() -> None:
    world = unlike()

    def again() -> None:
        for source, target, message in list(world.sent):
            if isinstance(message, (Rooted, Summed, Differing)) and target not in world.dead:
                assert isinstance(target, bytes)
                world.nodes[target].receive(source, message)
        world.sent.clear()

    world.sent.clear()
    world.watch = again
    world.until(lambda: agree(world), 120_000)
    world.watch = lambda: None
    at_rest(world)

    assert all(len(copies(world, node)) == len(KEYS) for node in world.ids)


def test_a_peer_that_gives_what_is_no_record_is_not_believed() -> None:
    world = town(nodes=2, replicas=2)
    write(world, world.ids[0], KEYS[0], b"here")
    before = {node: copies(world, node) for node in world.ids}

    def garble(source: bytes, target: Place, message: Message) -> bool:
        if isinstance(message, Differing) and message.items:
            assert isinstance(target, bytes)
            wrong = [(key, b"\xc1") for key, _ in message.items]
            bad = Differing(message.rid, FOUND, wrong, message.wanted)
            world.nodes[target].receive(source, bad)
            return True
        return False

    world.lose = garble
    world.advance(3_000)

    assert {node: copies(world, node) for node in world.ids} == before
    assert any(counted(world, node).broken_off for node in world.ids)


@pytest.mark.parametrize("who", ["asks", "answers"])
@pytest.mark.parametrize(("kind", "count"), STEPS)
def test_a_node_that_restarts_at_any_step_ends_it_and_the_next_exchange_goes_on(
    kind: type[Message], count: int, who: str
) -> None:
    world = unlike()
    left = [count]
    victim: list[bytes] = []

    def see(source: bytes, target: Place, message: Message) -> bool:
        if isinstance(message, kind) and not victim:
            left[0] -= 1
            if left[0] == 0:
                assert isinstance(target, bytes)
                asks = isinstance(message, (Roots, Sums, Entries, Store)) == (who == "asks")
                victim.append(source if asks else target)
        return False

    def strike() -> None:
        if len(victim) == 1:
            victim.append(b"struck")
            world.kill(victim[0])

    world.lose, world.watch = see, strike
    world.until(lambda: len(victim) == 2)
    world.advance(500)
    world.start(victim[0])

    world.until(lambda: agree(world), 120_000)
    at_rest(world)

    assert all(len(copies(world, node)) == len(KEYS) for node in world.ids)

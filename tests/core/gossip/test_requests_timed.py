"""A peer whose requests take much longer than those of others is found to be slow by them."""

from __future__ import annotations

from tests.core.world import World

from everwrite.core.messages.requests import Fetch, FetchReply, Store, StoreReply


def samples(world: World, node: bytes, peer: bytes) -> tuple[int, float]:
    """Return how many answers of a peer were timed in this round, and for how long in all."""
    took = world.nodes[node].detector._slowness.pace(peer).took
    return took.count, took.total


def calm_world() -> World:
    """Return a world in which a round of pings has just ended, and none ends soon."""
    return World(4, ping_every_ms=400_000, down_after_ms=4_000_000, gossip_every_ms=4_000_000)


def test_the_answers_of_owners_to_puts_and_gets_are_timed() -> None:
    world = calm_world()
    a, b, c, _ = world.order()
    before = samples(world, a, b)[0]
    world.put(a, b"v", w=3)
    world.get(a, r=3)

    assert samples(world, a, b)[0] == before + 2
    assert samples(world, a, c)[0] == before + 2


def test_an_answer_that_never_comes_is_timed_too() -> None:
    world = calm_world()
    a, b, c, d = world.order()
    world.lose = lambda source, target, message: target == c and isinstance(message, Store)
    first = samples(world, a, c)
    world.send_put(a, b"v", w=2)
    world.run()
    assert samples(world, a, c) == first
    world.advance(300)

    count, total = samples(world, a, c)
    assert count == first[0] + 1 and total - first[1] >= 100
    assert samples(world, a, d)[0] == 0, "a stand-in is asked later: that is not its fault"
    assert samples(world, a, b)[1] < 100


def test_an_answer_to_something_else_says_nothing_of_speed() -> None:
    world = calm_world()
    a, b, _c, d = world.order()
    before = samples(world, a, b), samples(world, a, d)

    world.nodes[a].receive(b, StoreReply(4711, 3, False))
    world.nodes[a].receive(d, FetchReply(4711, 0, b""))
    assert world.messages(Fetch) == []
    assert (samples(world, a, b), samples(world, a, d)) == before

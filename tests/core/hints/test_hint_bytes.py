"""The cap by bytes: what would go over it is refused, one that grows too, and the put says so."""

from __future__ import annotations

import pytest
from tests.core.hints.test_hints import keys_of
from tests.core.world import KEY, World

from everwrite.core.messages.requests import REFUSED, Store, StoreReply
from everwrite.core.records import HINT, OWN


def on_disk(world: World, node: bytes) -> int:
    """Return how many bytes the hints on a node's disk take."""
    disk = world.disk[node]
    return sum(len(key) + len(payload) for key, payload in disk.items() if key[:1] == HINT)


def test_what_is_counted_is_what_stands_on_the_disk() -> None:
    world = World(5)
    a, _b, c, d, _e = world.order()
    world.kill(c)
    for number, key in enumerate(keys_of(world, 5)):
        world.put(a, b"v" * (100 * number + 1), key=key)

    kept = world.nodes[d].hints.kept
    assert kept.bytes == kept.waiting[c].bytes == on_disk(world, d) > 1000
    (target,) = world.nodes[d].hints.deliveries.targets()
    assert (target.owner, target.notes, target.bytes) == (c, 5, kept.bytes)


@pytest.mark.scenario(54)
def test_a_hint_that_does_not_fit_any_more_goes_to_another_node() -> None:
    world = World(5, hints_bytes_max=1500)
    a, _b, c, d, e = world.order()
    first, second = keys_of(world, 2)
    world.kill(c)
    world.put(a, b"v" * 1000, key=first, w=3)

    done = world.put(a, b"v" * 1000, key=second, w=3)

    assert (done.owners, done.fallbacks) == (2, 1)
    assert world.hint(d, second) == ([], [])
    assert world.hint(e, second) == ([c], [b"v" * 1000])
    assert world.nodes[d].local.counters.hints_refused == 1
    assert on_disk(world, d) <= 1500


@pytest.mark.scenario(54)
def test_a_hint_that_grows_over_the_cap_is_refused_and_what_was_kept_stays() -> None:
    world = World(4, hints_bytes_max=1500)
    a, _b, c, d = world.order()
    world.kill(c)
    seen = world.put(a, b"small", w=3).context

    failed = world.refused_put(a, b"v" * 2000, w=3, context=seen)

    assert (failed.code, failed.acked, failed.required) == ("quorum_not_met", 2, 3)
    assert world.hint(d) == ([c], [b"small"])
    assert world.nodes[d].hints.kept.bytes == on_disk(world, d) < 1500

    world.start(c)
    world.advance(5000)
    assert world.hint(d) == ([], []), "what was kept went home"


def test_a_hint_that_shrinks_is_taken_at_the_cap() -> None:
    world = World(4, hints_bytes_max=1200)
    a, _b, c, d = world.order()
    world.kill(c)
    seen = world.put(a, b"v" * 1050, w=3).context
    room = 1200 - world.nodes[d].hints.kept.bytes
    assert 0 <= room < 200

    done = world.put(a, b"small", w=3, context=seen)

    assert done.fallbacks == 1
    assert world.hint(d) == ([c], [b"small"])
    assert world.nodes[d].hints.kept.bytes == on_disk(world, d) < 400


def test_a_sibling_that_does_not_fit_is_refused_after_a_look_at_what_is_there() -> None:
    world = World(4, hints_bytes_max=1500)
    a, _b, c, d = world.order()
    world.kill(c)
    world.put(a, b"v" * 1000, w=3)
    other = World(4)
    other.put(other.order()[1], b"x" * 1000)
    sibling = other.disk[other.order()[1]][OWN + KEY][8:]
    world.sent.clear()

    world.nodes[d].receive(a, Store(77, KEY, sibling, 0, 0, hint_for=c))
    world.run()

    assert world.messages(StoreReply, to=a) == [StoreReply(77, REFUSED, False)]
    assert world.hint(d) == ([c], [b"v" * 1000])


def test_a_node_that_could_only_stand_in_refuses_the_put_and_says_how_full_it_is() -> None:
    world = World(5, hints_bytes_max=1500)
    *owners, d, e = world.order()
    first, second = keys_of(world, 2)
    world.kill(*owners, e)
    world.put(d, b"v" * 1000, key=first, w=1)
    kept = world.nodes[d].hints.kept.bytes

    failed = world.refused_put(d, b"v" * 1000, key=second, w=1)

    assert (failed.code, failed.outcome) == ("hints_full", "none")
    assert f"{kept} bytes" in failed.message
    assert failed.hint and failed.retry_after_ms
    assert world.nodes[d].hints.kept.bytes == on_disk(world, d) == kept


def test_what_went_home_makes_room() -> None:
    world = World(4, hints_bytes_max=1500)
    a, _b, c, d = world.order()
    first, second = keys_of(world, 2)
    world.kill(c)
    world.put(a, b"v" * 1000, key=first, w=3)
    world.start(c)
    world.advance(2000)
    assert world.nodes[d].hints.kept.bytes == 0
    world.kill(c)

    assert world.put(a, b"v" * 1000, key=second, w=3).fallbacks == 1

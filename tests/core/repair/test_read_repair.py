"""Read repair: after the answer, owners that lag get what they lack, and nobody else gets anything
(Dynamo 4.5).
"""

from __future__ import annotations

import pytest
from tests.core.world import KEY, World

from everwrite.core.messages.requests import Store
from everwrite.core.records import OWN


def forget(world: World, *nodes: bytes) -> None:
    """Let nodes read the key from their disks again."""
    for node in nodes:
        world.nodes[node].local.records.forget([OWN + KEY])


def lagging(world: World) -> tuple[bytes, bytes, bytes]:
    """Return the owners of the key; the third has missed the second of two writes."""
    a, b, c = world.order()[:3]
    first = world.put(a, b"old", w=3)
    world.lose = lambda source, target, message: target == c
    world.put(a, b"new", w=2, context=first.context)
    world.lose = lambda source, target, message: False
    world.sent.clear()
    return a, b, c


def test_a_stale_owner_gets_what_it_lacks_and_the_others_get_nothing() -> None:
    world = World(3)
    a, b, c = lagging(world)

    world.get(b, r=2)

    assert [target for _, target, m in world.sent if isinstance(m, Store)] == [c]
    assert world.values(c) == [b"new"]
    assert world.disk[c][OWN + KEY][8:] == world.disk[a][OWN + KEY][8:]
    assert world.nodes[b].local.counters.read_repairs == 1


def test_an_owner_that_has_nothing_gets_the_copy() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target == c
    world.put(a, b"v", w=2)
    world.lose = lambda source, target, message: False

    world.get(b, r=2)

    assert world.values(c) == [b"v"]


def test_siblings_that_owners_hold_apart_come_together_on_all() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: True
    for node, value in ((a, b"1"), (b, b"2"), (c, b"3")):
        world.put(node, value, w=1)
    world.lose = lambda source, target, message: False

    world.get(b, r=3)

    assert [world.values(node) for node in (a, b, c)] == [[b"1", b"2", b"3"]] * 3
    assert len({world.disk[node][OWN + KEY][8:] for node in (a, b, c)}) == 1


def test_where_all_owners_agree_nothing_is_sent() -> None:
    world = World(3)
    a, b, _c = world.order()
    world.put(a, b"v", w=3)
    world.sent.clear()

    world.get(b, r=2)
    world.advance(500)

    assert not world.messages(Store)


def test_an_owner_that_answers_after_the_client_got_its_answer_is_repaired_too() -> None:
    world = World(3)
    _a, b, c = lagging(world)
    world.unread |= {c}
    forget(world, c)
    world.get(b, r=2)
    assert world.values(c) == [b"old"]

    world.unread.clear()
    world.run()

    assert world.values(c) == [b"new"]


def test_an_owner_that_stays_silent_does_not_keep_the_others_from_their_repair() -> None:
    world = World(3)
    a, b, c = lagging(world)
    world.silent |= {a}

    world.get(b, r=2)
    world.advance(200)

    assert world.values(c) == [b"new"]
    assert world.nodes[b].local.requests == {}


def test_a_corrupt_copy_is_replaced_by_what_the_others_have() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    world.rotten.add((c, OWN + KEY))
    forget(world, c)

    world.get(b, r=2)
    world.run()

    assert (c, OWN + KEY) not in world.rotten
    assert world.values(c) == [b"v"]


@pytest.mark.parametrize("missing", ["silent", "rotten"])
def test_a_corrupt_copy_is_left_as_it_is_while_another_owner_is_missing(missing: str) -> None:
    """What it held beyond the others' join may be on the one that is missing, or nowhere else."""
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    world.rotten.add((c, OWN + KEY))
    if missing == "rotten":
        world.rotten.add((a, OWN + KEY))
    else:
        world.silent.add(a)
    forget(world, a, c)

    world.get(b, r=1)
    world.advance(300)
    assert (c, OWN + KEY) in world.rotten
    assert not [m for m in world.messages(Store, to=c) if m.repair]

    world.silent.clear()
    world.rotten.discard((a, OWN + KEY))
    forget(world, a, c)
    world.meet()
    world.get(b, r=1)
    world.run()
    assert (c, OWN + KEY) not in world.rotten


def test_a_read_with_a_smaller_n_does_not_replace_a_corrupt_copy() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    world.rotten.add((b, OWN + KEY))
    forget(world, b)
    world.silent.add(c)

    world.get(a, n=2, r=1)
    world.advance(300)

    assert (b, OWN + KEY) in world.rotten


def test_a_hint_that_comes_home_does_not_replace_a_corrupt_copy() -> None:
    world = World(5, hint_retry_ms=500)
    a, _b, c, d, _e = world.order()
    done = world.put(a, b"v1", w=3)
    world.kill(c)
    world.put(a, b"v2", w=3, context=done.context)
    world.rotten.add((c, OWN + KEY))
    world.silent.add(a)

    world.start(c)
    world.advance(1000)
    assert (c, OWN + KEY) in world.rotten
    assert world.hint(d) == ([c], [b"v2"]), "it stays until the owner can take it"

    world.silent.clear()
    world.meet()
    world.advance(3000)
    assert world.values(c) == [b"v2"], "the keeper of the hint has had the others' join made"
    assert world.hint(d) == ([], [])


def test_a_copy_that_the_disk_will_not_give_is_not_written_over() -> None:
    """It may be whole, and hold what nobody else has."""
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    before = world.disk[c][OWN + KEY]
    world.broken.add((c, OWN + KEY))
    forget(world, c)
    world.lose = lambda source, target, message: False

    world.get(b, r=2)
    world.run()

    assert world.disk[c][OWN + KEY] == before


def test_an_ordinary_put_does_not_replace_a_corrupt_copy() -> None:
    """The rest of the record would be lost without a trace; only a join of others replaces it."""
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v1", w=3)
    world.rotten.add((c, OWN + KEY))
    forget(world, c)

    done = world.put(a, b"v2", w=2)

    assert done.owners == 2
    assert (c, OWN + KEY) in world.rotten
    assert world.nodes[c].local.counters.unreadable == 1
    assert b in world.ids


@pytest.mark.parametrize("down", [0, 1])
def test_stand_ins_are_not_repaired(down: int) -> None:
    world = World(5)
    a, _b, c, d, e = world.order()
    world.kill(c)
    world.put(a, b"v", w=3)
    world.kill(*([d] if down else []))
    world.sent.clear()

    world.get(a, r=2)
    world.advance(300)

    assert not [m for m in world.messages(Store) if not m.hint_for]
    assert world.disk[e] == {}


def test_a_tombstone_is_repaired_like_any_version() -> None:
    world = World(3)
    a, b, c = world.order()
    first = world.put(a, b"v", w=3)
    world.lose = lambda source, target, message: target == c
    world.put(a, None, w=2, context=first.context)
    world.lose = lambda source, target, message: False

    assert world.get(b, r=3).quality.absent == "deleted"

    assert world.values(c) == [None]

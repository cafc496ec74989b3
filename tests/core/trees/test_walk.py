"""The walk over the disk: wrong leaves are made anew, and damage is found, and mended."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.core.world import KEY, World

from everwrite.core.data.keys import data_key
from everwrite.core.records import HINT, OWN
from everwrite.core.trees.quarantine import SPOILT

DAY_MS = 86_400_000
CYCLE_MS = 10_000


def world_of(nodes: int = 3, **knobs: int) -> World:
    return World(nodes, **{"scrub_cycle_ms": CYCLE_MS, "mend_every_ms": 200, **knobs})


def tree_is_right(world: World, node: bytes) -> bool:
    """Say whether a node's tree is whole, and what its disk has."""
    trees = world.nodes[node].local.trees
    return not trees.wrong and leaves_are_right(world, node, range(trees.size))


def leaves_are_right(world: World, node: bytes, leaves: Iterable[int]) -> bool:
    """Say whether these leaves of a node's tree are what its disk has."""
    trees = world.nodes[node].local.trees
    sums = [0] * trees.size
    for key, payload in world.disk[node].items():
        if key[:1] == OWN and (node, key) not in world.rotten:
            sums[trees.leaf_of(key[1:])] += trees.entry(key[1:], payload[8:])
    return all(trees.leaf(leaf) == sums[leaf] % (1 << 64) for leaf in leaves)


def fill(world: World, count: int = 40) -> list[bytes]:
    keys = [data_key(b"carts", b"%d" % number) for number in range(count)]
    for key in keys:
        world.put(world.ids[0], b"v" + key, key=key)
    return keys


def rot(world: World, node: bytes, key: bytes) -> None:
    """Damage an own copy; nothing of it is in memory."""
    world.rotten.add((node, OWN + key))
    world.nodes[node].local.records.forget([OWN + key])


def test_owners_of_the_same_copies_have_the_same_roots() -> None:
    world = world_of()
    fill(world)
    world.advance(1000)

    a, b, c = (world.nodes[node].local.trees for node in world.ids)
    assert all(tree_is_right(world, node) for node in world.ids)
    assert all(a.root(p) == b.root(p) == c.root(p) for p in range(16))
    assert any(a.root(p) for p in range(16))


def test_a_node_that_was_killed_makes_its_tree_anew_while_it_serves() -> None:
    world = world_of(walk_keys=3, walk_keys_idle=3)
    a, _, _ = world.ids
    fill(world)
    world.kill(a)
    world.start(a)
    assert not tree_is_right(world, a)
    assert world.put(a, b"more").owners

    world.until(lambda: tree_is_right(world, a))
    assert world.nodes[a].walk.leaves_made >= world.nodes[a].local.trees.size


def test_what_is_written_while_the_disk_is_read_counts_in_the_leaf_made_anew() -> None:
    world = world_of(walk_keys=5, walk_keys_idle=5)
    a, _, _ = world.ids
    keys = fill(world)
    world.kill(a)
    world.start(a)
    for number, key in enumerate(keys):
        world.unread = {a} if number % 2 else set()
        world.put(world.ids[1], b"again", key=key, context=world.get(a, key=key).context)
        world.advance(20)
    world.unread = set()

    world.until(lambda: tree_is_right(world, a))


@pytest.mark.scenario(59)
def test_a_damaged_copy_does_not_stop_a_rebuild_and_is_mended() -> None:
    world = world_of()
    a, _, _ = world.ids
    keys = fill(world)
    world.kill(a)
    world.rotten.add((a, OWN + keys[7]))
    world.start(a)
    world.until(lambda: not world.nodes[a].local.trees.wrong)
    assert world.nodes[a].quarantine.found_ever == 1

    world.until(lambda: not world.rotten)
    world.until(lambda: tree_is_right(world, a))
    assert world.values(a, keys[7]) == [b"v" + keys[7]]


@pytest.mark.scenario(11)
def test_the_scrub_finds_what_nobody_reads_and_has_it_mended_within_a_cycle() -> None:
    world = world_of()
    a, _, _ = world.ids
    keys = fill(world)
    rot(world, a, keys[3])

    world.advance(2 * CYCLE_MS)
    assert not world.rotten
    assert world.values(a, keys[3]) == [b"v" + keys[3]]
    assert world.nodes[a].quarantine.mended == 1
    assert world.nodes[a].local.trees.mismatches == 0
    assert tree_is_right(world, a)


def test_a_damaged_copy_that_memory_still_has_is_written_anew_without_a_word_to_others() -> None:
    world = world_of()
    a, _, _ = world.ids
    keys = fill(world)
    world.rotten.add((a, OWN + keys[3]))

    world.advance(2 * CYCLE_MS)
    assert not world.rotten
    assert world.nodes[a].local.records.rewritten == 1
    assert world.nodes[a].quarantine.found_ever == 0
    assert tree_is_right(world, a)


def test_a_damaged_copy_stays_listed_while_an_owner_is_down_and_is_never_taken_for_absent() -> None:
    world = world_of()
    a, b, _ = world.ids
    keys = fill(world)
    world.kill(b)
    rot(world, a, keys[3])

    world.advance(3 * CYCLE_MS)
    assert list(world.nodes[a].quarantine.since) == [keys[3]]
    assert world.state[a][SPOILT + keys[3]]
    assert (a, OWN + keys[3]) in world.rotten

    world.start(b)
    world.until(lambda: not world.rotten)
    world.until(lambda: not world.nodes[a].quarantine.since)
    assert SPOILT + keys[3] not in world.state[a]


def test_a_copy_that_nobody_else_has_is_kept_damaged_as_it_is() -> None:
    world = world_of(1, replicas=1)
    (a,) = world.ids
    world.put(a, b"only here")
    rot(world, a, KEY)

    world.advance(3 * CYCLE_MS)
    assert (a, OWN + KEY) in world.rotten
    assert OWN + KEY in world.disk[a]
    assert list(world.nodes[a].quarantine.since) == [KEY]


def test_what_is_known_to_be_damaged_is_read_again_and_counts_once() -> None:
    world = world_of(1, replicas=1, scrub_cycle_ms=DAY_MS)
    (a,) = world.ids
    node = world.nodes[a]
    world.put(a, b"only here")
    rot(world, a, KEY)

    assert node.unreadable(OWN + KEY, "damaged", corrupt=True)
    world.advance(50 * 200)

    assert node.local.counters.unreadable == 1
    assert node.quarantine.knows(OWN + KEY) and not node.quarantine.knows(HINT + KEY)
    assert not node.unreadable(OWN + KEY, "damaged", corrupt=True), "this is no news"
    assert node.unreadable(OWN + KEY, "input/output error", corrupt=False)


def test_a_read_that_meets_damage_lists_it_and_leaves_it_out_of_the_tree() -> None:
    world = world_of(scrub_cycle_ms=DAY_MS)
    a, b, _ = world.ids
    fill(world)
    world.put(a, b"v")
    world.kill(b)
    rot(world, a, KEY)
    world.get(a, r=1)

    assert list(world.nodes[a].quarantine.since) == [KEY]
    world.until(lambda: tree_is_right(world, a))


def test_a_read_from_before_the_damage_that_comes_after_its_leaf_was_counted_spoils_no_sum() -> (
    None
):
    world = world_of()
    a, b, _ = world.ids
    keys = fill(world)
    disk_key = OWN + keys[3]
    world.nodes[a].local.records.forget([disk_key])
    world.unread.add(a)
    world.send_put(b, b"new", key=keys[3], timeout_ms=60_000)
    world.run()
    assert world.nodes[a].local.records.is_awaited(disk_key)

    read = world.disk[a][disk_key]
    world._waiting_reads[a].clear()
    world.unread.clear()
    world.rotten.add((a, disk_key))
    world.until(lambda: world.nodes[a].quarantine.knows(disk_key))
    world.nodes[a].loaded(disk_key, read)
    world.run()

    trees = world.nodes[a].local.trees
    assert b"new" in world.values(a, keys[3])
    assert leaves_are_right(world, a, filter(trees.is_right, range(trees.size)))
    world.until(lambda: tree_is_right(world, a))


def test_what_was_lost_without_a_word_is_counted_and_the_tree_says_so() -> None:
    world = world_of()
    a, b, _ = world.ids
    keys = fill(world)
    del world.disk[a][OWN + keys[3]]
    partition = world.nodes[a].local.routes.placement.partition_of(keys[3])

    world.until(lambda: world.nodes[a].local.trees.mismatches == 1)
    roots = [world.nodes[node].local.trees.root(partition) for node in (a, b)]
    assert roots[0] != roots[1]


def test_a_scrub_goes_on_where_the_last_life_left_it() -> None:
    world = world_of()
    a, _, _ = world.ids
    fill(world)
    world.advance(CYCLE_MS // 2)
    walk = world.nodes[a].walk
    assert 0 < walk.scrub_leaf < world.nodes[a].local.trees.size
    before = walk.scrub_leaf
    world.kill(a)
    world.start(a)

    assert world.nodes[a].walk.scrub_leaf == before
    world.advance(CYCLE_MS)
    assert world.nodes[a].walk.cycle_ended_ms > 0


@pytest.mark.scenario(10)
def test_a_leaf_that_cannot_be_read_stays_wrong_and_holds_up_no_other() -> None:
    world = world_of()
    a, _, _ = world.ids
    keys = fill(world)
    bad = world.nodes[a].local.trees.leaf_of(keys[5])
    world.kill(a)
    world.broken = {(a, OWN + keys[5])}
    world.start(a)
    trees, walk = world.nodes[a].local.trees, world.nodes[a].walk

    world.until(lambda: trees.wrong == 1)
    assert not trees.is_right(bad)
    assert walk.unreadable == 1

    world.broken = set()
    world.until(lambda: tree_is_right(world, a))
    assert not walk.unreadable


@pytest.mark.scenario(10)
def test_many_leaves_side_by_side_that_cannot_be_read_stop_neither_rebuild_nor_scrub() -> None:
    world = world_of(leaf_bits=6)
    a, _, _ = world.ids
    keys = fill(world, 250)
    trees = world.nodes[a].local.trees
    bad = {leaf for leaf in range(5, 45) if any(trees.leaf_of(key) == leaf for key in keys)}
    assert len(bad) > 30
    world.kill(a)
    world.broken = {(a, OWN + key) for key in keys if trees.leaf_of(key) in bad}
    world.start(a)
    trees, walk = world.nodes[a].local.trees, world.nodes[a].walk

    world.advance(60_000)
    assert {leaf for leaf in range(trees.size) if not trees.is_right(leaf)} == bad
    assert walk.unreadable == len(bad)
    assert walk.cycle_ended_ms

    world.broken = set()
    world.until(lambda: tree_is_right(world, a))
    assert not walk.unreadable


def test_leaves_that_cannot_be_read_are_tried_ever_less_often_until_another_is_in_doubt() -> None:
    world = world_of(leaf_bits=6)
    a, _, _ = world.ids
    keys = fill(world)
    world.kill(a)
    world.broken = {(a, OWN + keys[5])}
    world.start(a)
    trees = world.nodes[a].local.trees
    world.advance(600_000)
    world.broken = set()

    world.advance(10_000)
    assert trees.wrong == 1
    trees.doubt((trees.leaf_of(keys[5]) + 7) % trees.size)
    world.until(lambda: tree_is_right(world, a))


def test_a_batch_that_is_not_written_is_in_no_tree() -> None:
    world = world_of()
    a, _, _ = world.ids
    keys = fill(world)
    world.full = {a}
    world.send_put(world.ids[1], b"new", key=keys[0])
    world.run()
    world.full = set()

    assert tree_is_right(world, a)


def test_hints_are_no_part_of_a_tree() -> None:
    world = World(4)
    a, _, _, d = world.order()
    world.kill(a)
    world.put(world.order()[1], b"v")

    assert HINT + KEY in world.disk[d]
    assert all(world.nodes[d].local.trees.root(p) == 0 for p in range(16))


def keeping(world: World) -> bytes:
    """Have a stand-in keep a copy for an owner that is down; return the stand-in."""
    a, b, _, d = world.order()
    world.kill(a)
    world.put(b, b"v")
    return d


def test_the_scrub_finds_a_damaged_hint_which_is_never_taken_for_absent() -> None:
    world = world_of(4)
    d = keeping(world)
    world.rotten.add((d, HINT + KEY))
    world.nodes[d].local.records.forget([HINT + KEY])

    world.advance(2 * CYCLE_MS)
    assert list(world.nodes[d].hints.rotten) == [KEY]
    assert world.nodes[d].hints.may_be_kept(KEY)


def test_a_damaged_hint_that_memory_still_has_is_written_anew_and_goes_home() -> None:
    world = world_of(4)
    d = keeping(world)
    world.rotten.add((d, HINT + KEY))

    world.advance(2 * CYCLE_MS)
    assert not world.rotten
    world.start(world.order()[0])
    world.until(lambda: not world.nodes[d].hints.notes)
    assert world.values(world.order()[0]) == [b"v"]

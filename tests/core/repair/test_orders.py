"""Repairs that somebody asked for: done at once, and over only when all pairs were the same."""

from __future__ import annotations

from tests.core.moving.towns import KEYS, partition
from tests.core.repair.differing import agree, copies, counted, lose, moved, town, write
from tests.core.world import World

from everwrite.core.repair.orders import FORGET_MS, ORDERS_MAX, Order, Orders

SELDOM = {"repair_every_ms": 600_000, "repair_round_ms": 3_600_000}
"""Nothing is compared unless somebody asks."""


def order(world: World, node: bytes, partitions: list[int], leaf: int | None = None) -> Order:
    given = world.nodes[node].repairs.order(partitions, leaf)
    assert given is not None
    return given


def through(world: World, *orders: Order) -> None:
    world.until(lambda: not any(order.left for order in orders), 120_000)


def test_an_order_for_everything_is_done_at_once_and_says_what_was_moved() -> None:
    world = town(**SELDOM)
    lose(world, world.ids[0], *KEYS[:7])
    world.advance(5_000)
    assert not agree(world)
    begun = world.now

    orders = [order(world, node, list(range(16))) for node in world.ids]
    through(world, *orders)

    assert agree(world)
    assert world.now - begun < 10_000
    assert sum(each.keys for each in orders) == 7
    assert [each.agreed for each in orders] == [32, 32, 32]


def test_an_order_for_one_partition_leaves_the_others_alone() -> None:
    world = town(**SELDOM)
    first = world.ids[0]
    number = partition(world, KEYS[0])
    inside = [key for key in KEYS if partition(world, key) == number]
    outside = [key for key in KEYS if partition(world, key) != number]
    lose(world, first, *inside, outside[0])

    through(world, order(world, first, [number]))

    assert set(inside) <= copies(world, first).keys()
    assert outside[0] not in copies(world, first)


def test_an_order_for_one_key_looks_at_its_leaf_only() -> None:
    world = town(**SELDOM)
    first, second, _ = world.ids
    trees = world.nodes[first].local.trees
    key = KEYS[0]
    other = next(each for each in KEYS if trees.leaf_of(each) != trees.leaf_of(key))
    lose(world, first, key, other)
    write(world, second, key, b"lonely")

    orders = [order(world, node, [partition(world, key)], trees.leaf_of(key)) for node in world.ids]
    through(world, *orders)

    assert copies(world, first)[key] == copies(world, second)[key]
    assert other not in copies(world, first)
    assert sum(each.keys for each in orders) >= 2


def test_an_order_says_which_peer_it_waits_for_and_goes_on_when_that_is_back() -> None:
    world = town(**SELDOM)
    first, second, third = world.ids
    lose(world, first, *KEYS[:3])
    world.silent.add(second)
    world.advance(3_000)

    given = order(world, first, list(range(16)))
    world.until(lambda: len(given.left) == 16)
    world.advance(1_000)

    assert {peer for _, peer in given.left} == {second}
    assert set(given.left.values()) == {"the peer is down"}
    assert copies(world, first).keys() == copies(world, third).keys()

    world.silent.clear()
    world.meet()
    through(world, given)


def test_an_order_for_what_this_node_does_not_own_is_done_at_once() -> None:
    world = town(nodes=5, **SELDOM)
    placement = world.nodes[world.ids[0]].local.routes.placement
    number = next(p for p in range(16) if world.ids[0] not in placement.owners(p))

    assert not order(world, world.ids[0], [number]).left


def test_more_orders_than_a_node_takes_are_refused_until_others_are_forgotten() -> None:
    world = town(**SELDOM)
    world.silent.add(world.ids[1])
    world.advance(3_000)
    repairs = world.nodes[world.ids[0]].repairs
    given = [repairs.order([0], None) for _ in range(ORDERS_MAX)]
    assert all(given)

    assert repairs.order([0], None) is None
    world.advance(FORGET_MS + 1_000)
    assert repairs.order([0], None) is not None
    assert given[0] is not None and repairs.ordered(given[0].number) is None


def test_an_order_is_forgotten_once_somebody_has_seen_that_it_is_done() -> None:
    world = town(**SELDOM)
    given = order(world, world.ids[0], [3])
    through(world, given)
    repairs = world.nodes[world.ids[0]].repairs

    assert repairs.ordered(given.number) is given
    assert repairs.ordered(given.number) is None


def test_orders_on_a_cluster_that_agrees_move_nothing() -> None:
    world = town(**SELDOM)
    through(world, *(order(world, node, list(range(16))) for node in world.ids))

    assert moved(world) == 0
    assert sum(counted(world, node).exchanges for node in world.ids) == 0


def test_the_numbers_of_a_run_are_not_those_of_the_run_before() -> None:
    before, after = Orders(salt=7), Orders(salt=8)
    old = before.give([(0, b"peer")], None, 0)
    assert old is not None

    assert after.give([(1, b"peer")], None, 0) is not None
    assert after.look(old.number, 0) is None

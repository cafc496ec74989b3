"""What owners do not compare, and what no exchange tells."""

from __future__ import annotations

import pytest
from tests.core.moving.towns import KEYS
from tests.core.repair.differing import (
    agree,
    copies,
    lose,
    said,
    still,
    town,
)
from tests.core.world import World

from everwrite.core.messages.requests import NOT_HERE
from everwrite.core.messages.trees import (
    DIFFERENT,
    NOT_WHOLE,
    OTHER_HORIZON,
    OTHER_SHAPE,
    Differing,
    Entries,
    Rooted,
    Roots,
    Summed,
    Sums,
)


def reasons(world: World) -> set[str]:
    found = {row[3].why for node in world.ids for row in world.nodes[node].repairs.rows()}
    return found - {""}


def no_exchange(world: World) -> None:
    world.advance(5_000)
    assert not agree(world)
    assert not [row for row in said(world) if isinstance(row[2], (Sums, Entries))]


def test_trees_of_another_shape_are_not_compared() -> None:
    world = town()
    lose(world, world.ids[0], KEYS[0])
    world.nodes[world.ids[0]].local.trees.shape = b"another!"

    world.sent.clear()
    world.advance(5_000)

    assert not copies(world, world.ids[0]).get(KEYS[0])
    assert "the peer's trees are of another format" in reasons(world)
    asked = [row for row in said(world) if world.ids[0] in row[:2]]
    assert {type(row[2]) for row in asked} == {Roots, Rooted}


def test_a_tree_that_is_not_whole_is_neither_compared_nor_asked_for() -> None:
    world = town(nodes=2, replicas=2)
    first, second = world.ids
    lose(world, first, KEYS[0])
    trees = world.nodes[first].local.trees
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trees), "whole", lambda self, partition: self is not trees)
        world.sent.clear()
        no_exchange(world)
        assert not world.messages(Roots, to=second)
        assert "the peer's tree is being made anew" in reasons(world)

    world.until(lambda: agree(world))


def test_trees_at_different_horizons_are_not_compared_until_they_are_equal() -> None:
    world = town(nodes=2, replicas=2)
    first, _ = world.ids
    lose(world, first, KEYS[0])
    repairs = world.nodes[first].repairs
    there = repairs.horizon
    for horizon in (lambda _: 64_000, lambda _: -1):
        repairs.horizon = horizon
        world.sent.clear()
        no_exchange(world)
    assert "the peer has retired other expired versions" in reasons(world)

    repairs.horizon = there
    world.until(lambda: agree(world))


def test_an_exchange_ends_where_the_horizon_moves_on_its_way() -> None:
    world = town(nodes=2, replicas=2, repair_settle_ms=1_000)
    first, second = world.ids
    lose(world, first, KEYS[0])
    world.until(lambda: any(world.nodes[node].repairs.running for node in world.ids))
    there = [world.nodes[node].repairs.horizon for node in world.ids]
    world.nodes[second].repairs.horizon = lambda _: 64_000

    world.advance(3_000)

    assert not world.messages(Entries)
    assert not world.nodes[first].repairs.running
    for node, horizon in zip(world.ids, there, strict=True):
        world.nodes[node].repairs.horizon = horizon
    world.until(lambda: agree(world))


def test_owners_agree_though_the_time_is_never_sure_since_most_nodes_are_away() -> None:
    world = town(nodes=5, repair_round_ms=1_000)
    first, second = next(
        (one, other)
        for one in world.ids
        for other in world.ids
        if one < other and len(shared(world, one, other)) >= 8
    )
    world.kill(*(node for node in world.ids if node not in (first, second)))
    world.start(first, second)
    world.kill(*(node for node in world.ids if node not in (first, second, *world.dead)))
    lost = shared(world, first, second)[:8]
    lose(world, first, *lost)
    assert not world.nodes[first].local.clock.sure

    world.until(lambda: all(key in copies(world, first) for key in lost), 120_000)

    assert world.nodes[first].repairs.horizon(0) < 0


def shared(world: World, one: bytes, other: bytes) -> list[bytes]:
    placement = world.nodes[one].local.routes.placement
    owners = {key: placement.owners(placement.partition_of(key)) for key in KEYS}
    return [key for key in KEYS if one in owners[key] and other in owners[key]]


def test_only_owners_that_serve_a_partition_compare_it() -> None:
    world = town(nodes=5)
    world.advance(5_000)
    placement = world.nodes[world.ids[0]].local.routes.placement
    compared = set()
    for source, target, message in world.sent:
        if isinstance(message, Roots):
            for number, _, _ in message.roots:
                assert {source, target} <= set(placement.owners(number))
                compared.add((number, frozenset((source, target))))
    assert len(compared) == 3 * placement.partitions


def test_a_node_that_does_not_serve_a_partition_answers_nothing_about_it() -> None:
    world = still(town())
    first, second, _ = world.ids
    node = world.nodes[second]
    node.local.serves &= ~1
    node.local.refresh()
    shape = node.local.trees.shape
    for question in (
        Roots(1, shape, [(0, 0, 5), (99, 0, 5), (-1, 0, 5)]),
        Sums(2, 0, shape, 0, 1, [(0, 1)]),
        Sums(3, 99, shape, 0, 1, [(0, 1)]),
        Entries(4, 0, shape, 0, [], []),
    ):
        node.receive(first, question)
    answers = node.out.sends[first]

    assert answers == [
        Rooted(1, [NOT_HERE] * 3),
        Summed(2, NOT_HERE, []),
        Summed(3, NOT_HERE, []),
        Differing(4, NOT_HERE, [], []),
    ]


@pytest.mark.parametrize(
    ("width", "spans"),
    [(0, [(0, 1)]), (1, [(0, 17)]), (1, [(-1, 2)]), (16, [(1, 1)]), (1, [(0, 0)]), (-1, [(0, 1)])],
)
def test_sums_beyond_a_partition_are_not_given(width: int, spans: list[tuple[int, int]]) -> None:
    world = still(town())
    first, second, _ = world.ids
    node = world.nodes[second]
    node.receive(first, Sums(2, 0, node.local.trees.shape, 0, width, spans))

    assert node.out.sends[first] == [Summed(2, NOT_HERE, [])]


def test_a_peer_gets_no_copy_from_outside_the_partition_that_it_asks_for() -> None:
    world = still(town())
    first, second, _ = world.ids
    node = world.nodes[second]
    start, end = node.local.trees.first_key(16), node.local.trees.first_key(32)
    before, behind = node.local.trees.first_key(15), node.local.trees.first_key(33)
    for number, ranges in enumerate(
        [[(before, end)], [(start, behind)], [(end, behind)], [(end, start)], [(start, start)]]
    ):
        node.receive(first, Entries(number, 1, node.local.trees.shape, 0, ranges, []))
        assert node.out.sends.pop(first) == [Differing(number, NOT_HERE, [], [])]
    assert not node.out.scans


def test_what_is_said_of_other_shapes_and_horizons_has_its_name() -> None:
    world = still(town())
    first, second, _ = world.ids
    node = world.nodes[second]
    shape = node.local.trees.shape
    node.receive(first, Roots(1, b"another!", [(0, 0, 5)]))
    node.receive(first, Roots(2, shape, [(0, 64_000, 5), (0, 0, 5)]))
    node.receive(first, Sums(3, 0, b"another!", 0, 1, [(0, 1)]))
    node.receive(first, Sums(4, 0, shape, 64_000, 1, [(0, 1)]))
    node.local.trees.doubt(0)
    node.receive(first, Roots(5, shape, [(0, 0, 5)]))

    assert node.out.sends[first] == [
        Rooted(1, [OTHER_SHAPE]),
        Rooted(2, [OTHER_HORIZON, DIFFERENT]),
        Summed(3, OTHER_SHAPE, []),
        Summed(4, OTHER_HORIZON, []),
        Rooted(5, [NOT_WHOLE]),
    ]

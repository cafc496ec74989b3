"""Anti-entropy between owners: what differs comes to agree, and nothing else moves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.moving.towns import KEYS, partition
from tests.core.repair.differing import (
    agree,
    at_rest,
    copies,
    counted,
    lose,
    moved,
    said,
    still,
    supersede,
    town,
    write,
)
from tests.core.world import World

from everwrite.core.data import versions
from everwrite.core.messages.requests import FOUND, NOT_HERE, SYNC_YES, Store
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
from everwrite.core.records import OWN

# -- what differs is repaired ----------------------------------------------------------------------


def test_what_an_owner_lost_comes_back_once_and_nothing_else_moves() -> None:
    world = town()
    lost = KEYS[:9]
    whole = {node: copies(world, node) for node in world.ids}
    lose(world, world.ids[0], *lost)
    world.sent.clear()

    world.until(lambda: agree(world))
    at_rest(world)

    assert {node: copies(world, node) for node in world.ids} == whole
    assert moved(world) == len(lost)


def test_each_side_gets_what_it_lacks_and_what_both_wrote_is_merged() -> None:
    world = town()
    first, second, third = world.ids
    lose(world, first, KEYS[0], KEYS[1])
    lose(world, second, KEYS[2])
    write(world, first, KEYS[3], b"here", 1)
    write(world, second, KEYS[3], b"there", 2)
    write(world, third, KEYS[3], b"elsewhere", 3)
    together = versions.EMPTY
    for node in world.ids:
        together = versions.merge(together, world.record(node, KEYS[3]))

    world.until(lambda: agree(world))
    at_rest(world)

    assert all(world.record(node, KEYS[3]) == together for node in world.ids)
    assert len(together.siblings) == 4
    assert all(len(copies(world, node)) == len(KEYS) for node in world.ids)


def test_a_record_that_covers_the_other_one_goes_one_way() -> None:
    world = town()
    first, second, third = world.ids
    for node in (first, third):
        supersede(world, node, KEYS[0], b"newer")
    assert world.values(first, KEYS[0]) == [b"newer"]

    world.until(lambda: agree(world))
    at_rest(world)

    assert world.values(second, KEYS[0]) == [b"newer"]
    assert moved(world) == 1


def test_a_delete_that_an_owner_missed_reaches_it_and_no_value_comes_back() -> None:
    world = town()
    supersede(world, world.ids[0], KEYS[0], None)

    world.until(lambda: agree(world))
    at_rest(world)

    assert all(world.values(node, KEYS[0]) == [None] for node in world.ids)


def test_an_owner_that_lost_everything_is_filled_up_by_the_others() -> None:
    world = town(repair_keys=4, slice_keys=4)
    node = world.ids[1]
    lose(world, node, *copies(world, node))

    world.until(lambda: agree(world), 120_000)
    at_rest(world)

    assert len(copies(world, node)) == len(KEYS)
    assert moved(world) == len(KEYS)


@pytest.mark.parametrize("side", [0, 1, 2])
def test_a_damaged_copy_that_an_exchange_meets_is_made_whole_by_all_others(side: int) -> None:
    world = town()
    node, key = world.ids[side], KEYS[0]
    good = copies(world, node)[key]
    world.nodes[node].local.records.forget([OWN + key])
    world.rotten.add((node, OWN + key))
    trees = world.nodes[node].local.trees
    leaf = trees.leaf_of(key)  # what is made anew leaves out what cannot be read
    trees._change(leaf, OWN + key, trees.entry(key, good), 0)

    world.until(lambda: (node, OWN + key) not in world.rotten)

    assert copies(world, node)[key] == good


def test_what_differs_only_for_a_moment_is_on_its_way_and_is_not_looked_into() -> None:
    world = town(repair_settle_ms=400)
    first, second, third = world.ids
    key = KEYS[0]
    record = copies(world, first)[key]
    lose(world, first, key)
    world.until(lambda: world.messages(Summed) != [])
    world.nodes[second].out.send(first, Store(0, key, record, 0, SYNC_YES))
    world.run()

    at_rest(world)

    assert agree(world)
    assert moved(world) == 0
    assert not world.messages(Entries)
    assert sum(counted(world, node).exchanges for node in (first, second, third)) > 0


# -- what is never compared ------------------------------------------------------------------------


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


# -- a tree that is out of step --------------------------------------------------------------------


def spoil(world: World, node: bytes, key: bytes) -> int:
    """Put a leaf out of step with the disk; return which."""
    trees = world.nodes[node].local.trees
    leaf: int = trees.leaf_of(key)
    trees._change(leaf, OWN + key, 0, 5)
    return leaf


@pytest.mark.parametrize("side", [0, 1])
def test_a_leaf_that_differs_while_no_key_does_is_made_anew_on_both_sides(side: int) -> None:
    world = town(nodes=2, replicas=2)
    before = {node: copies(world, node) for node in world.ids}
    doubted: list[tuple[bytes, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        for node in world.ids:
            trees = world.nodes[node].local.trees
            patch.setattr(
                type(trees),
                "doubt",
                lambda self, leaf: doubted.append((_owner(world, self), leaf)),
            )
        leaf = spoil(world, world.ids[side], KEYS[0])
        world.until(lambda: len(doubted) >= 2)

    assert set(doubted[:2]) == {(node, leaf) for node in world.ids}
    assert {node: copies(world, node) for node in world.ids} == before
    assert moved(world) == 0


def _owner(world: World, trees: Any) -> bytes:
    return next(node for node in world.ids if world.nodes[node].local.trees is trees)


def test_doubts_of_leaves_that_are_not_of_the_compared_partition_are_ignored() -> None:
    world = town()
    first, second, _ = world.ids
    trees = world.nodes[second].local.trees
    doubts = [-1, 16, 255, 1 << 40]
    world.nodes[second].receive(first, Roots(1, trees.shape, [(0, 0, 5)], doubts))

    assert trees.wrong == 0


# -- at rest ---------------------------------------------------------------------------------------


def test_a_cluster_at_rest_says_roots_only_and_repairs_nothing() -> None:
    world = town(repair_every_ms=2_000, repair_round_ms=60_000)
    world.advance(60_000)
    world.sent.clear()

    world.advance(600_000)

    messages = [row[2] for row in said(world)]
    assert {type(message) for message in messages} == {Roots, Rooted}
    size = sum(len(msgspec.msgpack.encode(message)) for message in messages)
    assert size <= 600 * 10 * len(world.ids)  # ten bytes each second and node
    assert all(counted(world, node).exchanges == 0 for node in world.ids)
    shown = world.nodes[world.ids[0]].repairs.rows()
    assert len(shown) == 2 * 16
    assert all(world.now - row[2] <= 61_000 for row in shown)


def test_each_pair_of_owners_compares_each_partition_in_every_round() -> None:
    world = town()
    world.advance(4_000)
    for node in world.ids:
        for _, _, agreed_ms, _, _ in world.nodes[node].repairs.rows():
            assert world.now - agreed_ms <= 2 * 2_000 + 500


# -- bounds ----------------------------------------------------------------------------------------


def test_keys_of_two_partitions_are_gone_through_at_a_time() -> None:
    world = town()
    lose(world, world.ids[0], *KEYS)
    most: list[int] = []

    def look() -> None:
        for node in world.ids:
            running = world.nodes[node].repairs.running
            assert len(running) <= 16
            most.append(sum(exchange.reads for exchange in running.values()))
            assert world.nodes[node].repairs.answers.answering <= 4

    world.watch = look
    world.until(lambda: agree(world), 120_000)

    assert max(most) == 2


def test_a_leaf_of_many_keys_is_compared_in_pieces() -> None:
    world = town(nodes=2, replicas=2, leaf_bits=4, slice_keys=3, repair_keys=3)
    first, second = world.ids
    lose(world, first, *KEYS[::2])
    lose(world, second, *KEYS[1::4])

    world.until(lambda: agree(world), 120_000)
    at_rest(world)

    assert (
        max(
            len(message.entries)
            for message in world.messages(Entries) or [Entries(0, 0, b"", 0, [], [])]
        )
        <= 6
    )
    assert len(copies(world, first)) == len(copies(world, second)) == len(KEYS)


def test_no_answer_holds_more_than_a_slice_and_a_record() -> None:
    world = town(nodes=2, replicas=2, leaf_bits=4, slice_bytes=300)
    first, _ = world.ids
    lose(world, first, *KEYS)
    world.until(lambda: agree(world), 240_000)

    for answer in world.messages(Differing):
        assert sum(len(key) + len(record) for key, record in answer.items[:-2]) <= 300


def test_an_exchange_that_takes_too_long_ends_and_another_one_goes_on() -> None:
    world = town(nodes=2, replicas=2, leaf_bits=4, slice_keys=1, repair_keys=1, repair_session_ms=1)
    first, _ = world.ids
    lose(world, first, *KEYS)
    world.sent.clear()

    world.until(lambda: agree(world), 240_000)

    assert sum(counted(world, node).exchanges for node in world.ids) > 16
    assert all(answer.status == FOUND for answer in world.messages(Differing))


def test_leaves_beyond_those_of_one_exchange_are_left_to_the_next() -> None:
    world = town(nodes=2, replicas=2, repair_leaves=1)
    first, _ = world.ids
    lose(world, first, *KEYS)

    world.until(lambda: agree(world), 240_000)
    at_rest(world)

    assert moved(world) == len(KEYS)


@pytest.mark.parametrize("lost", [1, 6, 24, 48])
def test_what_is_moved_is_in_proportion_to_what_differs(lost: int) -> None:
    world = town()
    node = world.ids[0]
    size = sum(len(key) + len(copies(world, node)[key]) for key in KEYS[:lost])
    lose(world, node, *KEYS[:lost])
    partitions = {partition(world, key) for key in KEYS[:lost]}
    world.sent.clear()

    world.until(lambda: agree(world), 120_000)

    taken = sum(len(msgspec.msgpack.encode(message)) for _, _, message in said(world))
    assert taken <= 3 * size + (64 << 10) * len(partitions) / 32
    assert moved(world) == lost


# -- any difference whatever -----------------------------------------------------------------------

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(range(3)),
        st.sampled_from(KEYS[:12]),
        st.sampled_from(["lose", "write"]),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES)
def test_owners_come_to_agree_on_the_join_of_all_that_any_of_them_has(
    changes: list[tuple[int, bytes, str]],
) -> None:
    world = town(nodes=3, slice_keys=2, repair_keys=2)
    for number, (at, key, what) in enumerate(changes):
        node = world.ids[at]
        if what == "write":
            write(world, node, key, b"value %d" % number, number + 1)
        elif OWN + key in world.disk[node]:
            lose(world, node, key)
    joined = {
        key: record for key in KEYS for record in [_join(world, key)] if record != versions.EMPTY
    }

    world.until(lambda: agree(world), 60_000)

    for node in world.ids:
        found = {key: versions.decode(record) for key, record in copies(world, node).items()}
        assert found == joined


def _join(world: World, key: bytes) -> versions.Record:
    joined = versions.EMPTY
    for node in world.ids:
        joined = versions.merge(joined, world.record(node, key))
    return joined

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
    supersede,
    town,
    write,
)
from tests.core.world import World

from everwrite.core.data import versions
from everwrite.core.messages.requests import FOUND, SYNC_YES, Store
from everwrite.core.messages.trees import (
    Differing,
    Entries,
    Rooted,
    Roots,
    Summed,
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

"""Placement: distinct nodes and zones, even loads, little movement, one answer for everybody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.cluster.laws import (
    loads_are_balanced,
    movement,
    nodes,
    order_of_input_is_irrelevant,
    owners_are_distinct,
    zones_are_distinct,
)
from tests.core.cluster.plain import plain_preference, plain_shares

from everwrite.core.cluster.placement import Candidate, Placing, fair_shares, place
from everwrite.core.data.keys import data_key, hash_of
from everwrite.core.errors import ConfigError

members = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([1.0, 1.0, 1.0, 0.5, 2.0, 7.0])),
    min_size=1,
    max_size=12,
).map(
    lambda dealt: [
        Candidate(number.to_bytes(8, "little"), f"zone-{zone}", weight)
        for number, (zone, weight) in enumerate(dealt, 1)
    ]
)


# -- who owns --------------------------------------------------------------------------------------


@given(members, st.sampled_from([1, 16, 64]), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_owners_are_distinct_nodes_in_distinct_zones_while_there_are_enough(
    some: list[Candidate], q: int, n: int
) -> None:
    owners_are_distinct(place, some, q, n)
    zones_are_distinct(place, some, q, n)


def test_replicas_are_capped_by_the_number_of_nodes() -> None:
    assert place(nodes(2), 16, 3).replicas == 2
    assert place(nodes(1), 16, 3).owners(0) == (nodes(1)[0].node_id,)


def test_a_zone_of_one_node_owns_everything_where_each_partition_needs_it() -> None:
    some = [Candidate(b"only-one", "a"), *nodes(6, zones=2)]

    placement = place(some, 64, 3)

    assert len(placement.owned()[b"only-one"]) == 64
    loads_are_balanced(place, some, 64, 3)


def test_two_zones_share_three_copies_two_to_one() -> None:
    some = nodes(6, zones=2)

    zones_are_distinct(place, some, 256, 3)
    loads_are_balanced(place, some, 256, 3)


# -- the same as ever ------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 9), st.sampled_from("aabc")),
        min_size=1,
        max_size=30,
        unique_by=lambda dealt: dealt[0],
    ),
    st.sampled_from([(1.0, 1.0, 1.0), (1.0, 2.0, 0.5), (1000.0, 1.0, 3.0), (5e-324, 1e300, 1.0)]),
    st.sampled_from([1, 2, 16, 64, 256]),
    st.integers(1, 5),
)
@settings(max_examples=50, deadline=None)
def test_it_is_to_a_partition_what_the_plain_rule_says(
    dealt: list[tuple[bytes, int, str]], weights: tuple[float, ...], q: int, n: int
) -> None:
    some = [
        Candidate(node, f"zone-{zone}", weights["abc".index(kind)]) for node, zone, kind in dealt
    ]

    placement = place(some, q, n)

    assert placement.preference == plain_preference(some, q, n)
    shares = fair_shares(placement.candidates, q, placement.replicas)
    assert shares == plain_shares(placement.candidates, q, placement.replicas)


@pytest.mark.slow
@pytest.mark.parametrize(("zones", "weights"), [(5, (1,)), (100, (1,)), (7, (1, 2, 0.5))])
def test_a_hundred_nodes_and_4096_partitions_are_what_the_plain_rule_says(
    zones: int, weights: tuple[float, ...]
) -> None:
    some = nodes(100, zones=zones, weights=weights)

    assert place(some, 4096, 3).preference == plain_preference(some, 4096, 3)


def test_equal_scores_go_to_the_lower_partition_and_then_to_the_lower_node() -> None:
    some = nodes(40, weights=(5e-324,))  # so light that most of their scores are one number

    assert place(some, 256, 3).preference == plain_preference(some, 256, 3)


def test_in_steps_it_is_the_same_and_no_step_is_much_of_it() -> None:
    some = nodes(64, zones=5)
    placing = Placing(some, 1024, 3)
    steps = 0
    while placing.made is None:
        placing.step()
        steps += 1

    assert placing.made == place(some, 1024, 3)
    assert steps > 64  # one for the scores of each node, and those that give the places


# -- how much --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "q"), [(5, 256), (6, 256), (9, 256), (17, 1024), (40, 1024)])
def test_equal_nodes_own_at_most_1_06_times_the_mean(count: int, q: int) -> None:
    for seed in range(5):
        loads = [len(owned) for owned in place(nodes(count, seed=seed), q, 3).owned().values()]

        assert max(loads) * count / (q * 3) <= 1.06


@pytest.mark.slow
def test_a_hundred_equal_nodes_own_at_most_1_06_times_the_mean() -> None:
    loads = [len(owned) for owned in place(nodes(100), 1024, 3).owned().values()]

    assert max(loads) * 100 / (1024 * 3) <= 1.06


@pytest.mark.parametrize(("count", "zones"), [(9, 3), (8, 4), (10, 4), (7, 3), (12, 5), (6, 2)])
def test_loads_are_balanced_over_zones_of_any_size(count: int, zones: int) -> None:
    for seed in range(5):
        loads_are_balanced(place, nodes(count, zones=zones, seed=seed), 256, 3)


@given(members, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_no_members_make_the_caps_fail_by_more_than_a_few(some: list[Candidate], n: int) -> None:
    """Heavy nodes in small zones leave the last partitions little choice; zones win then."""
    placement = place(some, 64, n)
    shares = fair_shares(placement.candidates, 64, placement.replicas)

    assert sum(shares) == pytest.approx(64 * placement.replicas)
    for node, share in zip(placement.candidates, shares, strict=True):
        assert len(placement.owned()[node.node_id]) <= share * 1.05 + 6


@pytest.mark.parametrize("weights", [(1, 2), (1, 1, 4), (0.5, 1, 1.5, 2), (3, 3, 3)])
def test_nodes_own_in_proportion_to_their_weight(weights: tuple[float, ...]) -> None:
    some = nodes(12, weights=weights)
    placement = place(some, 1024, 3)
    total = sum(node.weight for node in some)

    for node in some:
        share = 1024 * 3 * node.weight / total
        assert len(placement.owned()[node.node_id]) == pytest.approx(share, rel=0.12)
    loads_are_balanced(place, some, 1024, 3)


def test_a_node_owns_a_partition_at_most_once_however_heavy_it_is() -> None:
    some = nodes(5, weights=(1000, 1, 1, 1, 1))

    assert fair_shares(some, 256, 3) == pytest.approx([256, 128, 128, 128, 128])
    loads_are_balanced(place, some, 256, 3)


@pytest.mark.parametrize("weights", [(1e-300, 1e300), (5e-324, 1.0), (1, 1 + 1e-12)])
def test_extreme_weights_still_give_a_placement(weights: tuple[float, ...]) -> None:
    owners_are_distinct(place, nodes(6, weights=weights), 64, 3)
    zones_are_distinct(place, nodes(6, weights=weights, zones=4), 64, 3)


@pytest.mark.parametrize("count", [3, 5, 8])
def test_the_first_owners_who_coordinate_puts_are_balanced_too(count: int) -> None:
    for seed in range(5):
        firsts = Counter(ranked[0] for ranked in place(nodes(count, seed=seed), 256, 3).preference)

        assert max(firsts.values()) * count / 256 <= 1.15


# -- what moves ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_join_and_a_leave_move_at_most_1_3_times_the_optimum() -> None:
    join, leave = movement(place, [5, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20], 256, 3)

    assert 0.9 < join <= 1.3
    assert 0.9 < leave <= 1.3


@pytest.mark.slow
def test_a_large_cluster_with_enough_partitions_moves_little_too() -> None:
    join, leave = movement(place, [30, 45, 60], 4096, 3)

    assert 0.9 < join <= 1.3
    assert 0.9 < leave <= 1.3


# -- one answer for one member list ----------------------------------------------------------------


@given(members, st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_members_is_irrelevant(some: list[Candidate], n: int) -> None:
    order_of_input_is_irrelevant(place, some, 16, n)


def test_the_placement_is_the_same_in_every_process() -> None:
    """Python salts its own hashes anew in each process; nothing here may depend on them."""
    program = (
        "from everwrite.core.cluster.placement import *\n"
        "nodes = {Candidate(b'node%04d' % i, f'z{i % 4}', 1 + i % 3) for i in range(9)}\n"
        "p = place(nodes, 64, 3)\n"
        "print(p.digest.hex(), p.preference)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "31337")
    }

    assert len(told) == 1


def test_the_placement_is_the_same_on_every_machine_and_in_every_version() -> None:
    """A change here moves data in every cluster: it needs a new number of the algorithm."""
    some = [Candidate(b"node%04d" % i, f"zone-{i % 4}", 1 + i % 2) for i in range(7)]

    placement = place(some, 16, 3)

    owners = b" ".join(
        b"".join(node[-1:] for node in ranked[:3]) for ranked in placement.preference
    )
    assert placement.digest.hex() == "28cfcb9391ab505f"
    assert owners.startswith(b"524 032 143 653 614 502 136 423 ")


def test_the_digest_says_whether_anything_differs() -> None:
    some = nodes(4)
    base = place(some, 16, 3).digest
    heavier = [Candidate(some[0].node_id, some[0].zone, 2.0), *some[1:]]
    moved = [Candidate(some[0].node_id, "elsewhere"), *some[1:]]

    others = [
        place(some[:3], 16, 3),
        place(some, 32, 3),
        place(some, 16, 2),
        place(heavier, 16, 3),
        place(moved, 16, 3),
    ]

    assert len(base) == 8
    assert len({base, *(other.digest for other in others)}) == 6
    assert place([Candidate(n.node_id, n.zone, 1) for n in some], 16, 3).digest == base


@pytest.mark.parametrize("q", [1, 2, 256, 65536])
def test_partitions_are_equal_slices_of_the_ring(q: int) -> None:
    placement = place(nodes(1), q, 1)
    for i in range(200):
        key = data_key(b"bucket", b"%d" % i)

        assert placement.partition_of(key) == hash_of(key) * q >> 64
    assert placement.partition_of(b"\xff" * 12) == q - 1
    assert placement.partition_of(b"\0" * 12) == 0


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0, -1, 3, 100, 1 << 17])
def test_a_number_of_partitions_that_is_no_power_of_two_is_refused(q: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        place(nodes(3), q, 3)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_positive_number_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="weight"):
        place([*nodes(2), Candidate(b"node0000", "z", weight)], 16, 3)


@pytest.mark.parametrize("node_id", [b"", b"short", b"much too long"])
def test_a_node_id_of_another_length_is_refused(node_id: bytes) -> None:
    with pytest.raises(ConfigError, match="bytes"):
        place([Candidate(node_id, "z")], 16, 3)


def test_a_node_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        place([*nodes(3), nodes(3)[1]], 16, 3)


def test_no_nodes_or_no_replicas_are_refused() -> None:
    with pytest.raises(ConfigError, match="no node"):
        place([], 16, 3)
    with pytest.raises(ConfigError, match="replicas"):
        place(nodes(3), 16, 0)

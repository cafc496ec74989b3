"""Why a node stands where it stands: the reasons are those by which the placement was made."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.cluster.laws import nodes
from tests.core.cluster.test_placement import members

from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.cluster.reasons import ranking, reasons


@given(members, st.sampled_from([1, 16, 64]), st.integers(1, 5), st.data())
@settings(max_examples=100, deadline=None)
def test_the_ranking_is_the_one_that_the_placement_went_by(
    some: list[Candidate], q: int, n: int, data: st.DataObject
) -> None:
    placement = place(some, q, n)
    partition = data.draw(st.integers(0, q - 1))
    first, *others = placement.owners(partition)
    ranked = ranking(placement, partition)

    assert [node for node in ranked if node in others] == others
    rest = placement.preference[partition][placement.replicas :]
    assert [node for node in ranked if node not in (first, *others)] == list(rest)


@given(members, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_each_place_has_a_reason_that_is_true(some: list[Candidate], n: int) -> None:
    placement = place(some, 64, n)
    owned = placement.owned()
    zones = {node.node_id: node.zone for node in some}
    for partition in range(0, 64, 7):
        owners = placement.owners(partition)
        found = reasons(placement, partition)

        assert list(found) == list(placement.preference[partition])
        assert sorted(reason.rank for reason in found.values()) == list(range(1, len(some) + 1))
        for node, reason in found.items():
            assert (node in owners) == (reason.why in ("drawn", "first of fewer"))
            if reason.why == "first of fewer":
                assert node == owners[0]
            if reason.why == "zone":
                assert zones[node] in {zones[owner] for owner in owners}
            if reason.why == "full":
                assert owned[node]


def test_a_node_whose_zone_has_a_copy_is_passed_over_for_that() -> None:
    placement = place(nodes(6, zones=3), 64, 3)

    whys = {
        reason.why for partition in range(64) for reason in reasons(placement, partition).values()
    }

    assert "zone" in whys

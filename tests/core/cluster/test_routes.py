"""Where requests go: through what nodes hold, and through who is up."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.cluster.holdings import (
    FILLS,
    NONE,
    SERVES,
    all_bits,
    bits,
    packed,
    partitions_in,
)
from everwrite.core.cluster.liveness import Liveness
from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.cluster.routes import Route, Routes

PARTITIONS = 4
NODES = [bytes((number,)) * 8 for number in range(1, 8)]


@dataclass(frozen=True)
class Case:
    """Nodes that are ruled in, nodes that are not and may serve yet, and what each serves."""

    count: int
    replicas: int
    serves: dict[bytes, int]
    up: frozenset[bytes]
    n: int

    def routes(self, me: bytes = NODES[0], serves: dict[bytes, int] | None = None) -> Routes:
        ruled = [Candidate(node, node.hex()) for node in NODES[: self.count]]
        liveness = Liveness(1000)
        for node in sorted(self.up - {me}):
            liveness.heard(node, 0)
        routes = Routes(me, place(ruled, PARTITIONS, self.replicas), liveness)
        routes.hold(self.serves if serves is None else serves)
        return routes


def key_of(partition: int) -> bytes:
    return (partition << 62).to_bytes(8, "big") + b"key"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 6))
    replicas = draw(st.integers(1, 4))
    held = st.integers(0, (1 << PARTITIONS) - 1)
    serves = {node: draw(held) for node in NODES if draw(st.booleans())}
    up = frozenset(node for node in NODES if draw(st.booleans())) | {NODES[0]}
    return Case(count, replicas, serves, up, draw(st.integers(0, min(count, replicas))))


def each_route(case: Case) -> list[tuple[int, Routes, Route]]:
    routes = case.routes()
    return [(p, routes, routes.route(key_of(p), case.n)) for p in range(PARTITIONS)]


@given(cases())
def test_a_request_goes_to_distinct_nodes_that_are_up_n_at_most(case: Case) -> None:
    for _, routes, route in each_route(case):
        n = case.n or routes.placement.replicas
        asked = [node for node, _ in route.targets]
        assert len(set(asked)) == len(asked) <= n
        assert set(asked) <= case.up
        assert not set(asked) & set(route.spares)


@given(cases())
def test_n_nodes_are_asked_or_named_as_those_who_are_missing(case: Case) -> None:
    for partition, routes, route in each_route(case):
        n = case.n or routes.placement.replicas
        there, filling, others = routes.serving(partition)
        possible = min(n, len(there) + max(len(filling), len(others)))
        assert len(route.targets) + len(route.unheld) == possible == n


@given(cases())
def test_only_nodes_that_serve_a_partition_count_as_its_owners(case: Case) -> None:
    for partition, _, route in each_route(case):
        for owner in route.owners:
            assert case.serves.get(owner, 0) >> partition & 1


@given(cases())
def test_a_route_is_whole_exactly_where_n_nodes_serve(case: Case) -> None:
    for partition, routes, route in each_route(case):
        n = case.n or routes.placement.replicas
        serving = sum(held >> partition & 1 for held in case.serves.values())
        assert route.whole == (len(route.owners) == n) == (min(serving, n) == n)


@given(cases())
def test_an_owner_that_fills_up_is_asked_as_a_stand_in_and_counts_as_none(case: Case) -> None:
    for partition, routes, route in each_route(case):
        _, filling, _ = routes.serving(partition)
        for node, owner in route.targets:
            if node in filling:
                assert owner
        assert not set(filling) & set(route.owners)


@given(cases())
def test_owners_that_fill_up_take_copies_without_a_vote_while_they_are_up(case: Case) -> None:
    for partition, routes, route in each_route(case):
        _, filling, _ = routes.serving(partition)
        for_itself = {node for node, owner in route.targets if node == owner}
        missing = {owner for _, owner in route.targets} | set(route.unheld)
        assert set(route.late) <= set(filling) - for_itself
        for node in filling:
            if node in case.up and node != NODES[0]:
                assert node in for_itself | set(route.late) | missing


@given(cases())
def test_who_is_displaced_keeps_the_place_of_an_owner_that_does_not_serve(case: Case) -> None:
    for partition, routes, _ in each_route(case):
        there, filling, others = routes.serving(partition)
        owners = routes.placement.owners(partition)
        route = routes.route(key_of(partition), 0)
        place = list(others)
        expected = [
            node if node in there else place.pop(0) for node in owners if node in there or place
        ]
        assert list(route.owners) == expected
        assert sorted(there + filling) == sorted(owners)
        assert not set(others) & set(owners)


@given(cases())
def test_at_rest_the_owners_are_asked_as_if_nothing_had_ever_moved(case: Case) -> None:
    """All owners serve; whoever else still does is left alone."""
    owned = case.routes().placement.owned()
    serves = {
        node: case.serves.get(node, 0) | all_bits(owned.get(node, ()))
        for node in {*owned, *case.serves}
    }
    routes = case.routes(serves=serves)
    for partition in range(PARTITIONS):
        n = case.n or routes.placement.replicas
        preference = routes.placement.preference[partition]

        route = routes.route(key_of(partition), case.n)

        plain = Route(preference, n, NODES[0], set(case.up))
        for slot in Route.__slots__:
            assert getattr(route, slot) == getattr(plain, slot), slot
        assert route.owners == preference[:n]
        assert route.whole and not route.late
        assert routes.settled(partition)


@given(cases(), st.sampled_from(NODES))
def test_each_node_knows_what_it_is_to_each_partition(case: Case, me: bytes) -> None:
    routes = case.routes(me)
    for partition in range(PARTITIONS):
        serves = case.serves.get(me, 0) >> partition & 1
        owns = me in routes.placement.owners(partition)
        role = routes.role(key_of(partition))
        assert role == (SERVES if serves else FILLS if owns else NONE)
        assert routes.takes(me, key_of(partition)) == bool(serves or owns)
        assert routes.owned >> partition & 1 == owns
        assert routes.partition_of(key_of(partition)) == partition


@given(cases())
def test_all_nodes_that_know_the_same_ask_the_same_owners(case: Case) -> None:
    for partition in range(PARTITIONS):
        one, other = (case.routes(me).route(key_of(partition), case.n) for me in NODES[:2])
        assert (one.owners, one.whole, one.first) == (other.owners, other.whole, other.first)


@given(cases())
def test_a_route_is_made_anew_when_somebody_comes_goes_or_holds_another_thing(case: Case) -> None:
    routes = case.routes()
    for partition in range(PARTITIONS):
        routes.route(key_of(partition), case.n)
    owned = routes.placement.owned()

    routes.hold({node: all_bits(held) for node, held in owned.items()})

    for partition in range(PARTITIONS):
        assert routes.route(key_of(partition), 0).owners == routes.placement.owners(partition)


@given(st.sets(st.integers(0, 300)))
def test_a_bitmap_holds_the_partitions_that_were_put_into_it(partitions: set[int]) -> None:
    data = packed(all_bits(partitions))

    assert partitions_in(bits(data)) == sorted(partitions)
    assert bits(data + b"\0\0") == bits(data)
    assert not data or data[-1]

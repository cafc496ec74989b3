"""What every placement must hold, as functions of the placing function that they judge."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import mean

from everwrite.core.cluster.placement import LOAD_EPS, Candidate, Placement, fair_shares

Place = Callable[[Iterable[Candidate], int, int], Placement]


def nodes(
    count: int, *, zones: int = 0, weights: Sequence[float] = (1.0,), seed: int = 0
) -> list[Candidate]:
    """Return nodes with random ids: each in a zone of its own, or dealt out to so many zones."""
    chance = random.Random(seed)
    return [
        Candidate(
            chance.randbytes(8),
            f"zone-{i % zones if zones else i}",
            weights[i % len(weights)],
        )
        for i in range(count)
    ]


def owners_are_distinct(place: Place, members: Sequence[Candidate], q: int, n: int) -> None:
    """Each partition has min(n, nodes) owners, and each node is in its list once."""
    placement = place(members, q, n)
    everyone = sorted(node.node_id for node in members)
    assert placement.replicas == min(n, len(members))
    assert len(placement.preference) == placement.partitions == q
    for partition, ranked in enumerate(placement.preference):
        assert sorted(ranked) == everyone
        assert placement.owners(partition) == ranked[: placement.replicas]


def zones_are_distinct(place: Place, members: Sequence[Candidate], q: int, n: int) -> None:
    """Owners are in distinct zones while there are enough, and else spread as evenly as can be."""
    placement = place(members, q, n)
    zone_of = {node.node_id: node.zone for node in members}
    sizes = Counter(zone_of.values())
    for partition in range(q):
        copies = Counter(zone_of[node] for node in placement.owners(partition))
        assert len(copies) == min(placement.replicas, len(sizes))
        for zone, size in sizes.items():
            assert copies[zone] == size or copies[zone] >= max(copies.values()) - 1


def loads_are_balanced(place: Place, members: Sequence[Candidate], q: int, n: int) -> None:
    """No node owns more than (1 + eps) fair shares, to the next whole partition."""
    placement = place(members, q, n)
    shares = fair_shares(placement.candidates, q, placement.replicas)
    owned = placement.owned()
    assert sum(len(partitions) for partitions in owned.values()) == q * placement.replicas
    for node, share in zip(placement.candidates, shares, strict=True):
        assert len(owned[node.node_id]) <= max(1 + share, share * (1 + LOAD_EPS))


def order_of_input_is_irrelevant(
    place: Place, members: Sequence[Candidate], q: int, n: int
) -> None:
    """Any order of the same members gives the same placement and digest."""
    first = place(members, q, n)
    for seed in range(3):
        shuffled = random.Random(seed).sample(members, len(members))
        assert place(shuffled, q, n) == first


def moved(before: Placement, after: Placement) -> int:
    """Return how many copies have a new owner."""
    return sum(
        len(set(after.owners(partition)) - set(before.owners(partition)))
        for partition in range(before.partitions)
    )


def movement(place: Place, counts: Sequence[int], q: int, n: int) -> tuple[float, float]:
    """Return the mean movement of a join and of a leave, as multiples of the optimum.

    A join can do no better than to fill the new node's share, a leave than to move what it owned.
    """
    joins, leaves = [], []
    for seed, count in enumerate(counts):
        members = nodes(count + 1, seed=seed)
        small, large = place(members[:-1], q, n), place(members, q, n)
        joins.append(moved(small, large) / (q * n / (count + 1)))
        leaves.append(moved(large, small) / len(large.owned()[members[-1].node_id]))
    return mean(joins), mean(leaves)

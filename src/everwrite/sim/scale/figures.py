"""The arithmetic behind the tables: ranks, imbalance, and how little a change could move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from everwrite.core.cluster.placement import Placement, fair_shares


def rank(values: Sequence[float], share: float) -> float:
    """Return the least value that is not below this share of all (nearest rank).

    >>> rank([1, 2, 3, 4], 0.5), rank([1, 2, 3, 4], 0.99)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def imbalance(loads: Sequence[float]) -> float:
    """Return the busiest over the mean: 1 is perfect.

    >>> imbalance([1, 1, 2, 0])
    2.0
    """
    return max(loads) * len(loads) / sum(loads)


def load_of_shares(placement: Placement) -> list[float]:
    """Return for each node how many partitions it owns, as a multiple of its fair share."""
    shares = fair_shares(placement.candidates, placement.partitions, placement.replicas)
    owned = placement.owned()
    return [
        len(owned[node.node_id]) / share
        for node, share in zip(placement.candidates, shares, strict=True)
    ]


def copies_moved(before: Placement, after: Placement) -> int:
    """Return how many copies have a new owner: what has to be sent over the network."""
    return sum(
        len(set(after.owners(partition)) - set(before.owners(partition)))
        for partition in range(before.partitions)
    )


def least_moved(before: Placement, after: Placement) -> float:
    """Return how many copies any placement must move: who comes has to be given its fair share,
    and what those owned who leave has to go elsewhere.
    """
    old = {node.node_id for node in before.candidates}
    shares = fair_shares(after.candidates, after.partitions, after.replicas)
    given = sum(
        share
        for node, share in zip(after.candidates, shares, strict=True)
        if node.node_id not in old
    )
    stay = {node.node_id for node in after.candidates}
    orphaned = sum(
        len(partitions) for node, partitions in before.owned().items() if node not in stay
    )
    return max(given, orphaned)


def spread(counts: Mapping[int, int]) -> list[tuple[int, float]]:
    """Return each value with its share of all, in the order of the values."""
    total = sum(counts.values())
    return [(value, count / total) for value, count in sorted(counts.items())]

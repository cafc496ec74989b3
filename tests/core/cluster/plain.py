"""The placement as plainly as it can be said: all pairs in one sort, all places in that order.

``core/cluster/placement.py`` comes to the same in steps and looks at a few of the pairs only. What
it returns must never change by a partition: nodes of two versions would each go by their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import xxhash

from everwrite.core.cluster.placement import LOAD_EPS, Candidate

_ROUNDING = 1e-6
_LEVEL_MAX = 2.0**1000
_LOW = (1 << 32) - 1
_UNIT = 2.0**-32
_hash = xxhash.xxh3_64_intdigest
_log = math.log


def plain_preference(
    candidates: Sequence[Candidate], partitions: int, replicas: int
) -> list[tuple[bytes, ...]]:
    """Return all nodes in the order in which each partition prefers them."""
    nodes = tuple(sorted(candidates, key=lambda node: node.node_id))
    copies = min(replicas, len(nodes))
    order = _by_score(nodes, partitions)
    rankings: list[list[int]] = [[] for _ in range(partitions)]
    for partition, node in order:
        rankings[partition].append(node)
    shares = plain_shares(nodes, partitions, copies)
    owners = _assign(nodes, order, rankings, shares, copies)
    firsts = _first_owners(order, owners, _caps(shares, 1 / copies))
    return [
        tuple(nodes[i].node_id for i in _in_order(ranking, chosen, first))
        for ranking, chosen, first in zip(rankings, owners, firsts, strict=True)
    ]


def plain_shares(nodes: Sequence[Candidate], partitions: int, replicas: int) -> list[float]:
    """Return how many partitions each node should own: in proportion to weight, within bounds."""
    bounds = _zone_bounds(nodes, replicas)
    heaviest = max(node.weight for node in nodes)
    inside: dict[str, Counter[float]] = {zone: Counter() for zone in bounds}
    for node in nodes:
        inside[node.zone][node.weight / heaviest] += 1

    def zone_share(zone: str, level: float) -> float:
        least, most = bounds[zone]
        here = _filled(inside[zone], level, partitions)
        return min(partitions * most, max(partitions * least, here))

    def all_shares(level: float) -> float:
        return math.fsum(zone_share(zone, level) for zone in inside)

    level = _level(all_shares, partitions * replicas)
    local = {
        zone: _level(partial(_filled, weights, bound=partitions), zone_share(zone, level))
        for zone, weights in inside.items()
    }
    return [min(partitions, local[node.zone] * (node.weight / heaviest)) for node in nodes]


def _filled(weights: Mapping[float, int], level: float, bound: int) -> float:
    # All nodes must agree: fsum is exact; the built-in sum rounds in another way since Python 3.12.
    # Most nodes weigh the same: each weight is looked at once, with how often it is there.
    return math.fsum(min(bound, level * weight) * count for weight, count in weights.items())


def _level(rises: Callable[[float], float], total: float) -> float:
    """Return the least level (to the last bit) at which a rising function reaches the total."""
    low, high = 0.0, 1.0
    while rises(high) < total - _ROUNDING and high < _LEVEL_MAX:
        low, high = high, high * 2
    while low < (middle := (low + high) / 2) < high:
        if rises(middle) < total:
            low = middle
        else:
            high = middle
    return high


def _caps(shares: Sequence[float], part: float = 1) -> list[int]:
    """Return the most that each node may take of this part of its fair share, never below it."""
    return [
        max(
            1,
            math.ceil(share * part - _ROUNDING),
            math.floor(share * part * (1 + LOAD_EPS) + _ROUNDING),
        )
        for share in shares
    ]


def _zone_bounds(nodes: Sequence[Candidate], replicas: int) -> dict[str, tuple[int, int]]:
    """Return the least and the most copies of a partition in each zone: as even as can be."""
    sizes = Counter(node.zone for node in nodes)
    most = 1
    while sum(min(most, size) for size in sizes.values()) < replicas:
        most += 1
    return {zone: (min(most - 1, size), min(most, size)) for zone, size in sorted(sizes.items())}


def _by_score(nodes: Sequence[Candidate], partitions: int) -> list[tuple[int, int]]:
    """Return all pairs of a partition and a node's index, the highest score first."""
    count = len(nodes)
    scores = [0.0] * (partitions * count)
    tails = [partition.to_bytes(4, "big") for partition in range(partitions)]
    for i, node in enumerate(nodes):
        weight = -node.weight
        hashes = [_hash(node.node_id + tail) for tail in tails]
        ranked = sorted(range(partitions), key=hashes.__getitem__)
        for rank, partition in enumerate(ranked):
            # At most 49 bits, so exact; never 0 or 1, where the logarithm has no use for us.
            u = (rank + ((hashes[partition] & _LOW) + 0.5) * _UNIT) / partitions
            scores[partition * count + i] = weight / _log(u)
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    return [divmod(pair, count) for pair in order]


class _Plan:
    """Who owns what while places are given: for each partition its owners and zones so far."""

    def __init__(
        self, nodes: Sequence[Candidate], shares: Sequence[float], partitions: int, replicas: int
    ) -> None:
        bounds = _zone_bounds(nodes, replicas)
        numbers = {zone: number for number, zone in enumerate(bounds)}
        self.zones = [numbers[node.zone] for node in nodes]
        self.bounds = list(bounds.values())
        self.caps = [min(partitions, cap) for cap in _caps(shares)]
        self.loads = [0] * len(nodes)
        self.owners: list[list[int]] = [[] for _ in range(partitions)]
        self.copies = [[0] * len(bounds) for _ in range(partitions)]
        """Copies of each partition in each zone."""
        self.spare = [replicas - sum(least for least, _ in self.bounds)] * partitions
        """Places of each partition that are not kept for a zone that must have one."""

    def fits(self, partition: int, node: int) -> bool:
        """Say whether the partition may take this node, as far as nodes and zones go."""
        zone = self.zones[node]
        least, most = self.bounds[zone]
        copies = self.copies[partition][zone]
        if copies >= most or (copies >= least and not self.spare[partition]):
            return False
        return node not in self.owners[partition]

    def give(self, partition: int, node: int) -> None:
        self.owners[partition].append(node)
        self._count(partition, node, 1)

    def take(self, partition: int, node: int) -> None:
        self.owners[partition].remove(node)
        self._count(partition, node, -1)

    def _count(self, partition: int, node: int, change: int) -> None:
        zone = self.zones[node]
        before = self.copies[partition][zone]
        self.loads[node] += change
        self.copies[partition][zone] = before + change
        if max(before, before + change) > self.bounds[zone][0]:
            self.spare[partition] -= change


def _assign(
    nodes: Sequence[Candidate],
    order: Sequence[tuple[int, int]],
    rankings: Sequence[Sequence[int]],
    shares: Sequence[float],
    replicas: int,
) -> list[list[int]]:
    """Return the owners of each partition, by index."""
    plan = _Plan(nodes, shares, len(rankings), replicas)
    loads, caps, owners = plan.loads, plan.caps, plan.owners
    # Who must own everything comes first: others would take places that its zone needs for it.
    full = len(rankings) - _ROUNDING
    everywhere = [node for node, share in enumerate(shares) if share >= full]
    for partition in range(len(rankings)):
        for node in everywhere:
            plan.give(partition, node)
    for partition, node in order:
        if loads[node] < caps[node] and plan.fits(partition, node):
            plan.give(partition, node)
    for partition, ranking in enumerate(rankings):
        while len(owners[partition]) < replicas:
            _make_room(plan, rankings, partition)
            able = [i for i in ranking if plan.fits(partition, i)]
            plan.give(partition, min(able, key=lambda i: max(0, loads[i] + 1 - caps[i]) / caps[i]))
    return owners


def _make_room(plan: _Plan, rankings: Sequence[Sequence[int]], partition: int) -> None:
    """Let a node that this partition could take give up another, which a node with room takes.

    The last partitions may find that those who have room own them already, or share a zone with
    their owners. Nothing happens if no exchange helps; then the zones win over the cap.
    """
    for full in (i for i in rankings[partition] if plan.fits(partition, i)):
        for other in (p for p, owners in enumerate(plan.owners) if full in owners):
            plan.take(other, full)
            for node in rankings[other]:
                if plan.loads[node] < plan.caps[node] and node != full and plan.fits(other, node):
                    plan.give(other, node)
                    return
            plan.give(other, full)


def _first_owners(
    order: Sequence[tuple[int, int]], owners: Sequence[Sequence[int]], caps: Sequence[int]
) -> list[int]:
    """Return the first owner of each partition: of its owners the best with room under this cap."""
    firsts = [-1] * len(owners)
    loads = [0] * len(caps)
    for partition, node in order:
        if firsts[partition] < 0 and loads[node] < caps[node] and node in owners[partition]:
            firsts[partition] = node
            loads[node] += 1
    for partition, first in enumerate(firsts):
        if first < 0:
            firsts[partition] = min(owners[partition], key=lambda i: (loads[i] / caps[i], i))
            loads[firsts[partition]] += 1
    return firsts


def _in_order(ranking: Sequence[int], owners: Sequence[int], first: int) -> list[int]:
    """Return all nodes as the partition prefers them: its first owner, the others, the rest."""
    return [
        first,
        *(node for node in ranking if node in owners and node != first),
        *(node for node in ranking if node not in owners),
    ]

"""Placement by numbers: how even it is, how much a join or a leave moves, how long it takes.

Three layouts: each node in a zone of its own, three zones, ten zones with nodes of weight 1/2, 1
and 2. Load is counted in fair shares (core/cluster/placement.py), so that for equal nodes it is
max/mean; movement in multiples of the least that any placement must move.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean
from typing import NamedTuple

from everwrite.core.cluster.placement import Candidate, Placement, place
from everwrite.sim.scale.figures import copies_moved, imbalance, least_moved, load_of_shares

REPLICAS = 3
PAIRS_MAX = 2_000_000
"""Nodes x partitions: beyond, one placement takes over 4 s and half a gigabyte. Such sizes are left
out, and so are those with fewer partitions than nodes, which leave nodes with nothing to own.
"""


class Layout(NamedTuple):
    """How nodes differ."""

    name: str
    zones: int
    """0: each node has its own."""
    weights: tuple[float, ...]


LAYOUTS = (
    Layout("own zones", 0, (1.0,)),
    Layout("3 zones", 3, (1.0,)),
    Layout("10 zones weighted", 10, (0.5, 1.0, 2.0)),
)


class Balance(NamedTuple):
    """A row of ``placement``: means over seeds, but for ``worst``."""

    layout: str
    nodes: int
    partitions: int
    replicas: int
    seeds: int
    partitions_per_node: float
    load_max_over_fair: float
    load_max_over_fair_worst: float
    coordinator_max_over_mean: float
    """Of the weights that nodes have: the busiest as first owner."""
    join_moved_over_least: float
    leave_moved_over_least: float
    join_moved_share_of_data: float


class Duration(NamedTuple):
    """A row of ``placement_time``: the least of all seeds. It depends on the machine."""

    nodes: int
    partitions: int
    place_cpu_s: float


class _Sample(NamedTuple):
    load: float
    first: float
    join: float
    leave: float
    share: float
    seconds: float


def measure_placement(
    nodes: Sequence[int],
    partitions: Sequence[int],
    seeds: Callable[[int], int],
    *,
    layouts: Sequence[Layout] = LAYOUTS,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Balance], list[Duration]]:
    """Place ``seeds(nodes x partitions)`` clusters of each size and layout."""
    balance: list[Balance] = []
    durations: list[Duration] = []
    for layout in layouts:
        for count in nodes:
            for q in partitions:
                if count * q > PAIRS_MAX or q < count:
                    continue
                samples = [_sample(layout, count, q, seed) for seed in range(seeds(count * q))]
                balance.append(_summed_up(layout, count, q, samples))
                if layout is layouts[0]:
                    durations.append(Duration(count, q, min(each.seconds for each in samples)))
                say(f"placement: {layout.name}, {count} nodes, {q} partitions")
    return balance, durations


def cluster(layout: Layout, count: int, seed: int) -> list[Candidate]:
    """Return so many nodes, with ids by chance."""
    rng = random.Random(f"{seed}/placement")
    return [
        Candidate(
            rng.randbytes(8),
            f"zone-{i % layout.zones if layout.zones else i}",
            layout.weights[i % len(layout.weights)],
        )
        for i in range(count)
    ]


def _sample(layout: Layout, count: int, partitions: int, seed: int) -> _Sample:
    members = cluster(layout, count + 1, seed)
    began = time.process_time()
    small = place(members[:-1], partitions, REPLICAS)
    seconds = time.process_time() - began
    large = place(members, partitions, REPLICAS)
    moved = copies_moved(small, large)
    return _Sample(
        max(load_of_shares(small)),
        first_imbalance(small),
        moved / max(1, least_moved(small, large)),
        copies_moved(large, small) / max(1, least_moved(large, small)),
        moved / (partitions * small.replicas),
        seconds,
    )


def first_imbalance(placement: Placement) -> float:
    """Return the busiest over the mean as first owners, weights considered: 1 is perfect."""
    firsts = Counter(ranked[0] for ranked in placement.preference)
    return imbalance([firsts[node.node_id] / node.weight for node in placement.candidates])


def _summed_up(layout: Layout, count: int, partitions: int, samples: Sequence[_Sample]) -> Balance:
    return Balance(
        layout.name,
        count,
        partitions,
        REPLICAS,
        len(samples),
        partitions * REPLICAS / count,
        mean(each.load for each in samples),
        max(each.load for each in samples),
        mean(each.first for each in samples),
        mean(each.join for each in samples),
        mean(each.leave for each in samples),
        mean(each.share for each in samples),
    )

"""Placement along random histories: nodes come and go and change, one after the other.

A history begins with so many nodes and goes on for ``STEPS`` changes, half of them joins as long as
the cluster is not much larger than it was, else leaves: nodes come and go around one size. Where a
layout has weights and zones, every fourth change is of a weight or a zone. Before and after each
change the placement is computed, as each node would, and it is counted

    moved   copies that have a new owner, over the least that any placement must move
    load    the fullest node over its fair share: max/mean for equal nodes

A node owns whole partitions, so where it owns few the fullest has at least the next whole number:
``load_bound`` is 1.06 or that, whichever is more. Movement is judged by the mean over a history, as
data is moved, and shown by its 99th percentile as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import msgspec

from everwrite.core.cluster.placement import Candidate, Placement, fair_shares, place
from everwrite.sim.scale.figures import copies_moved, least_moved, load_of_shares, rank
from everwrite.sim.scale.rings import LAYOUTS, REPLICAS, Layout, cluster

STEPS = 12
MOVED_BOUND = 1.3
LOAD_BOUND = 1.06


class Moved(NamedTuple):
    """A row of ``placement_histories``: all histories of one layout and size together."""

    layout: str
    nodes: int
    partitions: int
    copies_per_node: float
    histories: int
    joins: int
    join_moved_over_least: float
    """All that joins moved over all that they had to."""
    join_moved_p99: float
    join_within: str
    """Whether that is at most 1.3."""
    leaves: int
    leave_moved_over_least: float
    load_max_over_fair: float
    """The worst of all placements."""
    load_bound: float
    load_within: str


class _Step(NamedTuple):
    kind: str
    moved: int
    least: float
    load: float
    bound: float


def measure_histories(
    nodes: Sequence[int],
    partitions: Sequence[int],
    histories: Callable[[int], int],
    *,
    layouts: Sequence[Layout] = LAYOUTS,
    say: Callable[[str], None] = lambda _: None,
) -> list[Moved]:
    """Go through ``histories(nodes x partitions)`` of each layout and size."""
    rows = []
    for layout in layouts:
        for q in partitions:
            for count in nodes:
                runs = [history(layout, count, q, seed) for seed in range(histories(count * q))]
                rows.append(_summed_up(layout, count, q, runs))
                say(f"histories: {layout.name}, {count} nodes, {q} partitions")
    return rows


def history(layout: Layout, count: int, partitions: int, seed: int) -> list[_Step]:
    """Go through one history."""
    rng = random.Random(f"{seed}/history {layout.name} {count} {partitions}")
    members = cluster(layout, count, seed)
    before = place(members, partitions, REPLICAS)
    steps = []
    for number in range(STEPS):
        kind, members = _change(rng, layout, members, count, number)
        after = place(members, partitions, REPLICAS)
        steps.append(
            _Step(
                kind,
                copies_moved(before, after),
                least_moved(before, after),
                max(load_of_shares(after)),
                _load_bound(after),
            )
        )
        before = after
    return steps


def _change(
    rng: random.Random, layout: Layout, members: list[Candidate], count: int, number: int
) -> tuple[str, list[Candidate]]:
    if len(layout.weights) > 1 and number % 4 == 3:
        on = rng.randrange(len(members))
        changed = list(members)
        if rng.random() < 0.5:
            weight = rng.choice(layout.weights)
            changed[on] = msgspec.structs.replace(members[on], weight=weight)
        else:
            changed[on] = msgspec.structs.replace(members[on], zone=rng.choice(members).zone)
        return "change", changed
    away = len(members) - count
    if rng.random() < 0.5 - 0.15 * away or len(members) <= REPLICAS:
        fresh = rng.randrange(1 << 30)
        zone = f"zone-{fresh % layout.zones if layout.zones else fresh}"
        newcomer = Candidate(rng.randbytes(8), zone, rng.choice(layout.weights))
        return "join", [*members, newcomer]
    gone = rng.randrange(len(members))
    return "leave", [*members[:gone], *members[gone + 1 :]]


def _load_bound(placement: Placement) -> float:
    """Return what the fullest node may own over its fair share: at least one whole partition."""
    shares = fair_shares(placement.candidates, placement.partitions, placement.replicas)
    return max(LOAD_BOUND, *(ceil(share - 1e-6) / share for share in shares))


def _summed_up(layout: Layout, count: int, partitions: int, runs: Sequence[list[_Step]]) -> Moved:
    steps = [step for each in runs for step in each]
    joins = [step for step in steps if step.kind == "join"]
    leaves = [step for step in steps if step.kind == "leave"]
    moved = sum(each.moved for each in joins) / sum(each.least for each in joins)
    worst = max(steps, key=lambda step: step.load / step.bound)
    return Moved(
        layout.name,
        count,
        partitions,
        partitions * REPLICAS / count,
        len(runs),
        len(joins),
        moved,
        rank([each.moved / each.least for each in joins], 0.99),
        "yes" if moved <= MOVED_BOUND else "no",
        len(leaves),
        sum(each.moved for each in leaves) / sum(each.least for each in leaves),
        worst.load,
        worst.bound,
        "yes" if worst.load <= worst.bound + 1e-9 else "no",
    )

"""Placement: which nodes own a partition, as a pure function of the member list.

No ring is agreed on or shipped: nodes that know the same members compute the same placement, so
gossip has only to spread members. Each partition ranks all nodes by weighted rendezvous score,

    score = -weight / ln(u),   u in (0, 1) from the rank of xxh3_64(node_id + partition) among
                               those of this node's other partitions

so a node that comes or goes changes only the places that it takes or leaves. Ranks give all nodes
the same draws, each in an order of its own: that takes two thirds of the variance out of what they
would own by score alone, and the cap below has less to correct. Still the luck of the draw would
give some nodes 1.2 times their share, so the places are given in the order of the scores of all
nodes and partitions, the highest first, and a node takes a partition if

    it does not own it yet             always: N owners are N nodes;
    the partition wants its zone       while there are enough zones, no two owners share one; then
                                       the copies are spread over zones as evenly as can be;
    it owns less than its cap          (1 + eps) x its fair share; zones win over the cap.

A partition that finds no taker gets a node from one that can do with another (``_make_room``).
The first owner coordinates the puts of its partition, so that place has a cap of its own; the other
owners follow in the order of scores, then all other nodes as fallbacks.

The fair share is in proportion to weight, with two bounds: a node owns a partition at most once,
and a zone can take no more copies of it than the rule above lets it ("water-filling": who would be
over a bound is held there, and the rest is shared by the others).

It is made in steps of a few milliseconds (``Placing``). What comes out must never change: nodes
of two versions would each go by their own, unless ``_ALGORITHM`` says that it is another one.

Costs: partitions x nodes hashes and logarithms, and a sort of the few pairs that get places: 2 ms
for 256 x 5, 0.2 s for 1024 x 100; 200 bytes for each pair while it is made.
Source: Dynamo 4.2, 4.3, 6.2 (strategy 3: Q equal partitions). Differs: a computed ring in place of
chosen tokens needs no ring state and no agreement; the cap is that of consistent hashing with
bounded loads (Mirrokni 2018).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, pairwise
from typing import Any

import msgspec
import xxhash

from everwrite.core.errors import ConfigError

NODE_ID_BYTES = 8
PARTITIONS_MAX = 1 << 16

LOAD_EPS = 0.06
"""Load above the fair share that a node may have: the more, the less moves."""

_ROUNDING = 1e-6
"""Shares are sums of floats: this much below a whole number is that number."""

_LEVEL_MAX = 2.0**1000
_RUN = 4096
"""Pairs of a node and a partition in one step: a few milliseconds."""
_SAMPLES = 64
"""Scores of each node by which the runs are made: enough for runs of about one length."""
_LOW = (1 << 32) - 1
_UNIT = 2.0**-32
_ALGORITHM = 2
"""Part of the digest: nodes that place in another way never take each other's view for theirs."""

_Kind = tuple[Any, ...]
"""What zones have in common: the bounds of their copies, and which weights are there how often."""

_hash = xxhash.xxh3_64_intdigest
_log = math.log


class Candidate(msgspec.Struct, frozen=True):
    """A node that may own partitions."""

    node_id: bytes
    zone: str
    weight: float = 1.0


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns what. Made by ``place`` only; equal digests are equal placements."""

    partitions: int
    replicas: int
    """Owners of each partition: as configured, or all nodes if there are fewer."""
    candidates: tuple[Candidate, ...]
    """In the order of their node ids."""
    preference: list[tuple[bytes, ...]]
    """For each partition all nodes in order of preference; the first ``replicas`` own it."""
    digest: bytes
    shift: int
    """Bits to drop from the first two bytes of a data key to get its partition."""

    def partition_of(self, data_key: bytes) -> int:
        """Return the partition of a data key: the top bits of its hash."""
        return int.from_bytes(data_key[:2], "big") >> self.shift

    def owners(self, partition: int) -> tuple[bytes, ...]:
        """Return the owners of a partition, the preferred one first."""
        return self.preference[partition][: self.replicas]

    def owned(self) -> dict[bytes, list[int]]:
        """Return the partitions that each node owns, in ascending order."""
        held: dict[bytes, list[int]] = {node.node_id: [] for node in self.candidates}
        for partition, ranked in enumerate(self.preference):
            for node_id in ranked[: self.replicas]:
                held[node_id].append(partition)
        return held


def place(candidates: Iterable[Candidate], partitions: int, replicas: int) -> Placement:
    """Return the placement of these nodes; the order in which they are given makes no difference.

    ConfigError for a number of partitions that is no power of two, for no nodes, and for ids or
    weights that cannot be.
    """
    return _placed(_checked(candidates, partitions, replicas), partitions, replicas)


@lru_cache(maxsize=2)
def _placed(nodes: tuple[Candidate, ...], partitions: int, replicas: int) -> Placement:
    # All nodes of one process (a simulated cluster) come to the same: it is made once for them.
    placing = Placing(nodes, partitions, replicas)
    while placing.made is None:
        placing.step()
    return placing.made


class Placing:
    """A placement that is made in steps of a few milliseconds: the same as ``place`` returns."""

    def __init__(self, candidates: Iterable[Candidate], partitions: int, replicas: int) -> None:
        self.nodes = _checked(candidates, partitions, replicas)
        self.made: Placement | None = None
        """None until the last step is done."""
        self._steps = _placing(self.nodes, partitions, replicas)

    def step(self) -> None:
        """Do the next step, if there is one."""
        try:
            next(self._steps)
        except StopIteration as end:
            self.made = self.made or end.value


def _placing(
    nodes: tuple[Candidate, ...], partitions: int, replicas: int
) -> Generator[None, None, Placement]:
    copies = min(replicas, len(nodes))
    shares = fair_shares(nodes, partitions, copies)
    yield
    scores, columns = yield from _scored(nodes, partitions)
    rankings = yield from _rankings(scores, partitions)
    runs = _runs(columns, scores, partitions)
    owners = yield from _assign(_Plan(nodes, shares, partitions, copies), runs, rankings)
    firsts = _first_owners(owners, scores, _caps(shares, 1 / copies))
    yield
    ids = [node.node_id for node in nodes]
    preference: list[tuple[bytes, ...]] = []
    rows = max(1, _RUN // len(nodes))
    for partition, ranking in enumerate(rankings):
        ranked = _in_order(ranking, owners[partition], firsts[partition])
        preference.append(tuple([ids[node] for node in ranked]))
        if partition % rows == 0:
            yield
    return Placement(
        partitions=partitions,
        replicas=copies,
        candidates=nodes,
        preference=preference,
        digest=_digest(nodes, partitions, replicas),
        shift=17 - partitions.bit_length(),
    )


def fair_shares(nodes: Sequence[Candidate], partitions: int, replicas: int) -> list[float]:
    """Return how many partitions each node should own: in proportion to weight, within bounds."""
    bounds = zone_bounds(nodes, replicas)
    heaviest = max(node.weight for node in nodes)
    inside: dict[str, Counter[float]] = {zone: Counter() for zone in bounds}
    for node in nodes:
        inside[node.zone][node.weight / heaviest] += 1
    # Most zones are alike: what holds for one kind is found out once. The sums are those over all.
    kind_of = {zone: (bounds[zone], *sorted(inside[zone].items())) for zone in bounds}
    kinds = {kind: inside[zone] for zone, kind in kind_of.items()}
    often = Counter(kind_of.values())

    def zone_share(kind: _Kind, level: float) -> float:
        limits: tuple[int, int] = kind[0]
        least, most = limits
        here = _filled(kinds[kind], level, partitions)
        return min(partitions * most, max(partitions * least, here))

    def all_shares(level: float) -> float:
        each = ([zone_share(kind, level)] * times for kind, times in often.items())
        return math.fsum(chain.from_iterable(each))

    level = _level(all_shares, partitions * replicas)
    local = {
        kind: _level(partial(_filled, weights, bound=partitions), zone_share(kind, level))
        for kind, weights in kinds.items()
    }
    return [min(partitions, local[kind_of[node.zone]] * (node.weight / heaviest)) for node in nodes]


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


def zone_bounds(nodes: Sequence[Candidate], replicas: int) -> dict[str, tuple[int, int]]:
    """Return the least and the most copies of a partition in each zone: as even as can be."""
    sizes = Counter(node.zone for node in nodes)
    most = 1
    while sum(min(most, size) for size in sizes.values()) < replicas:
        most += 1
    return {zone: (min(most - 1, size), min(most, size)) for zone, size in sorted(sizes.items())}


def _scored(
    nodes: Sequence[Candidate], partitions: int
) -> Generator[None, None, tuple[list[float], list[list[int]]]]:
    """Return the scores of all pairs of a node and a partition, by the number of the pair: node x
    partitions + partition; and each node's pairs, the one with its lowest score first.
    """
    scores: list[float] = []
    columns: list[list[int]] = []
    tails = [partition.to_bytes(4, "big") for partition in range(partitions)]
    for i, node in enumerate(nodes):
        weight, node_id = -node.weight, node.node_id
        hashes = [_hash(node_id + tail) for tail in tails]
        ranked = sorted(range(partitions), key=hashes.__getitem__)
        column = [0.0] * partitions
        for rank, partition in enumerate(ranked):
            # At most 49 bits, so exact; never 0 or 1, where the logarithm has no use for us.
            u = (rank + ((hashes[partition] & _LOW) + 0.5) * _UNIT) / partitions
            column[partition] = weight / _log(u)
        scores += column
        first = i * partitions
        pairs = [first + partition for partition in ranked]
        pairs.sort(key=scores.__getitem__)  # they are, unless a logarithm is a last bit off
        columns.append(pairs)
        yield
    return scores, columns


def _rankings(scores: Sequence[float], partitions: int) -> Generator[None, None, list[list[int]]]:
    """Return the indexes of all nodes for each partition, the highest score first."""
    nodes = range(len(scores) // partitions)
    rankings = []
    rows = max(1, _RUN // len(nodes))
    for partition in range(partitions):
        row = scores[partition::partitions]
        rankings.append(sorted(nodes, key=row.__getitem__, reverse=True))
        if partition % rows == 0:
            yield
    return rankings


def _runs(
    columns: Sequence[Sequence[int]], scores: Sequence[float], partitions: int
) -> Iterator[list[int]]:
    """Go through all pairs, the highest score first, in runs of about ``_RUN``: made one by one,
    since mostly all places are given long before the last.
    """
    score = scores.__getitem__
    every = max(1, partitions // _SAMPLES)
    sample = sorted(score(pair) for column in columns for pair in column[every // 2 :: every])
    count = max(1, len(scores) // _RUN)
    ends = [len(column) for column in columns]
    for k in range(count - 1, -1, -1):
        least = sample[k * len(sample) // count]
        run: list[int] = []
        for i, column in enumerate(columns):
            start = bisect_left(column, least, 0, ends[i], key=score) if k else 0
            run += column[start : ends[i]]
            ends[i] = start
        _sort(run, scores, partitions)
        yield run


def _sort(pairs: list[int], scores: Sequence[float], partitions: int) -> None:
    """Sort pairs, the highest score first; of equals the lower partition, then the lower node."""
    pairs.sort(key=scores.__getitem__, reverse=True)
    if len({scores[pair] for pair in pairs}) < len(pairs):
        pairs.sort(key=lambda pair: divmod(pair, partitions)[::-1])
        pairs.sort(key=scores.__getitem__, reverse=True)


class _Plan:
    """Who owns what while places are given: for each partition its owners and zones so far."""

    def __init__(
        self, nodes: Sequence[Candidate], shares: Sequence[float], partitions: int, replicas: int
    ) -> None:
        bounds = zone_bounds(nodes, replicas)
        numbers = {zone: number for number, zone in enumerate(bounds)}
        self.replicas = replicas
        self.zones = [numbers[node.zone] for node in nodes]
        self.bounds = list(bounds.values())
        self.caps = [min(partitions, cap) for cap in _caps(shares)]
        # Who must own everything comes first: others would take places that its zone needs for it.
        full = partitions - _ROUNDING
        self.everywhere = [node for node, share in enumerate(shares) if share >= full]
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
    plan: _Plan, runs: Iterator[list[int]], rankings: Sequence[Sequence[int]]
) -> Generator[None, None, list[list[int]]]:
    """Return the owners of each partition, by index."""
    partitions, replicas = len(rankings), plan.replicas
    loads, caps, owners = plan.loads, plan.caps, plan.owners
    for partition in range(partitions):
        for node in plan.everywhere:
            plan.give(partition, node)
    left = partitions * (replicas - len(plan.everywhere))
    for run in runs:
        if not left:
            break
        yield
        for pair in run:
            node, partition = divmod(pair, partitions)
            if loads[node] < caps[node] and plan.fits(partition, node):
                plan.give(partition, node)
                left -= 1
    for partition, ranking in enumerate(rankings):
        while len(owners[partition]) < replicas:
            yield from _make_room(plan, rankings, partition)
            able = [i for i in ranking if plan.fits(partition, i)]
            plan.give(partition, min(able, key=lambda i: max(0, loads[i] + 1 - caps[i]) / caps[i]))
    return owners


def _make_room(
    plan: _Plan, rankings: Sequence[Sequence[int]], partition: int
) -> Generator[None, None, None]:
    """Let a node that this partition could take give up another, which a node with room takes.

    The last partitions may find that those who have room own them already, or share a zone with
    their owners. Nothing happens if no exchange helps; then the zones win over the cap.
    """
    for full in (i for i in rankings[partition] if plan.fits(partition, i)):
        yield
        for other in (p for p, owners in enumerate(plan.owners) if full in owners):
            plan.take(other, full)
            for node in rankings[other]:
                if plan.loads[node] < plan.caps[node] and node != full and plan.fits(other, node):
                    plan.give(other, node)
                    return
            plan.give(other, full)


def _first_owners(
    owners: Sequence[Sequence[int]], scores: Sequence[float], caps: Sequence[int]
) -> list[int]:
    """Return the first owner of each partition: of its owners the best with room under this cap."""
    partitions = len(owners)
    firsts = [-1] * partitions
    loads = [0] * len(caps)
    pairs = [node * partitions + p for p, chosen in enumerate(owners) for node in chosen]
    _sort(pairs, scores, partitions)
    for pair in pairs:
        node, partition = divmod(pair, partitions)
        if firsts[partition] < 0 and loads[node] < caps[node]:
            firsts[partition] = node
            loads[node] += 1
    for partition, first in enumerate(firsts):
        if first < 0:
            firsts[partition] = min(owners[partition], key=lambda i: (loads[i] / caps[i], i))
            loads[firsts[partition]] += 1
    return firsts


def _in_order(ranking: Sequence[int], owners: Sequence[int], first: int) -> list[int]:
    """Return all nodes as the partition prefers them: its first owner, the others, the rest."""
    rest = list(ranking)
    for node in owners:
        rest.remove(node)
    others = [node for node in owners if node != first]
    return [first, *sorted(others, key=ranking.index), *rest]


def _checked(
    candidates: Iterable[Candidate], partitions: int, replicas: int
) -> tuple[Candidate, ...]:
    """Return the nodes in canonical order, or raise ConfigError."""
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ConfigError(
            f"{partitions} partitions are not possible.",
            hint=f"Use a power of two up to {PARTITIONS_MAX}.",
        )
    if replicas < 1:
        raise ConfigError(f"{replicas} replicas are not possible.", hint="Use 1 or more.")
    nodes = tuple(sorted(candidates, key=lambda node: node.node_id))
    if not nodes:
        raise ConfigError("There is no node to place partitions on.", hint="Give one or more.")
    for node in nodes:
        if len(node.node_id) != NODE_ID_BYTES:
            raise ConfigError(
                f"The node id {node.node_id.hex()!r} has {len(node.node_id)} bytes.",
                hint=f"A node id has {NODE_ID_BYTES}.",
            )
        if not (math.isfinite(node.weight) and node.weight > 0):
            raise ConfigError(
                f"The weight {node.weight} of node {node.node_id.hex()} is not possible.",
                hint="Use a number above 0; 1 is usual.",
            )
    for one, other in pairwise(nodes):
        if one.node_id == other.node_id:
            raise ConfigError(
                f"The node id {one.node_id.hex()} is there twice.",
                hint="Was a data directory copied? Each node needs its own.",
            )
    return nodes


def _digest(nodes: Sequence[Candidate], partitions: int, replicas: int) -> bytes:
    members = [(node.node_id, node.zone, float(node.weight)) for node in nodes]
    return xxhash.xxh3_64_digest(
        msgspec.msgpack.encode((_ALGORITHM, partitions, replicas, members))
    )
